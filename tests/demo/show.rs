//! What the demo prints: one line per change, which reads as well in a log as on a terminal.
//!
//! No cursor is ever moved. Colours only on a terminal, and not where `NO_COLOR` is set.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Instant;

use fota::api::FirmwareRolloutStatus;
use fota::api::status::{Ledger, Phase, StageState, StageStatus};

use super::bar::{Share, cut};
use super::harness::Result;

/// Columns where nobody says how many there are.
const WIDTH: usize = 110;
/// Columns before the bar: time, stage, two spaces each.
const MARGIN: usize = 19;
/// A stage's line is printed again when so much more of it is decided.
const STRIDE_PERCENT: i64 = 20;

/// Colours, by what they say.
#[derive(Debug, Clone, Copy)]
pub enum Tint {
    Plain,
    Good,
    Bad,
    Quiet,
    Strong,
}

/// Standard output.
pub struct Screen {
    started: Instant,
    width: usize,
    terminal: bool,
    colours: bool,
}

impl Screen {
    pub fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = env::var("COLUMNS").ok().and_then(|n| n.parse().ok()).or_else(|| columns().filter(|_| terminal));
        let width: usize = width.unwrap_or(WIDTH);
        Self { started: Instant::now(), width: width.clamp(60, 160), terminal, colours: terminal && !no_colour }
    }

    /// Time since the demo began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// A line. Fails when nobody reads any more.
    pub fn line(&self, text: &str) -> Result<()> {
        Ok(writeln!(io::stdout(), "{text}")?)
    }

    /// A line with the time and a word on what it is about.
    pub fn note(&self, about: &str, text: &str) -> Result<()> {
        self.line(&format!("{:>6.1}s  {about:<9}  {text}", self.seconds()))
    }

    /// The text in a colour, if there are colours.
    pub fn tint(&self, tint: Tint, text: &str) -> String {
        let code = match tint {
            _ if !self.colours => return text.to_owned(),
            Tint::Plain => return text.to_owned(),
            Tint::Good => "32",
            Tint::Bad => "31",
            Tint::Quiet => "2",
            Tint::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The bar, and how many of how many.
    fn bar(&self, share: &Share) -> String {
        let width = if self.width < 90 { 10 } else { 20 };
        let parts = share.parts(width);
        let cells = [(Tint::Good, "█"), (Tint::Bad, "x"), (Tint::Plain, "▒"), (Tint::Quiet, "░")];
        let bar: String = cells.iter().zip(parts).map(|((t, cell), n)| self.tint(*t, &cell.repeat(n))).collect();
        // Until the job is read, nobody knows how many there are.
        let total = if share.total > 0 { share.total.to_string() } else { "–".to_owned() };
        format!("{bar} {:>4} / {total:<4}", share.done)
    }

    fn stage(&self, name: &str, share: &Share, state: StageState, text: &str) -> Result<()> {
        let tint = match state {
            StageState::Passed | StageState::Skipped => Tint::Good,
            StageState::Failed => Tint::Bad,
            _ => Tint::Plain,
        };
        let state = format!("{:<8}", state.to_string());
        let bar = self.bar(share);
        // A log may be as wide as it likes; on a terminal a line is one line.
        let bar_width = if self.width < 90 { 22 } else { 32 };
        let room = self.width.saturating_sub(MARGIN + bar_width + 12);
        let text = if self.terminal { cut(text, room) } else { text.to_owned() };
        self.note(name, &format!("{bar}  {}  {text}", self.tint(tint, &state)))
    }
}

/// The terminal's width, from the program that knows: asking the kernel takes `unsafe`.
fn columns() -> Option<usize> {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1)?.parse().ok().filter(|n| *n > 0)
}

/// Prints what is new in each status.
#[derive(Debug, Default)]
pub struct Follower {
    phase: Option<Phase>,
    /// What was last printed of each stage, and how many of its devices were decided then.
    shown: BTreeMap<String, (StageState, String, i64)>,
    waits: String,
}

impl Follower {
    /// Prints the changes from the last status to this one.
    pub fn show(&mut self, screen: &Screen, status: &FirmwareRolloutStatus) -> Result<()> {
        let phase = status.phase.filter(|phase| Some(*phase) != self.phase);
        self.phase = status.phase;
        for stage in &status.stages {
            if let Some(phase) = phase
                && !ended(phase)
                && status.step.as_ref() == Some(&stage.name)
            {
                screen.note("phase", &screen.tint(Tint::Strong, &phase.to_string()))?;
            }
            let (share, counted) = share(stage);
            let text = why(status, stage);
            let news = self.shown.get(&stage.name).is_none_or(|(state, said, decided)| {
                let more = (counted.decided() - decided) * 100;
                // Late devices of a stage that is over are in the ledger at the end.
                let stride = more > 0 && more >= counted.exposed() * STRIDE_PERCENT;
                *state != stage.state || (stage.ended_at.is_none() && (*said != text || stride))
            });
            if news {
                screen.stage(&stage.name, &share, stage.state, &text)?;
                self.shown.insert(stage.name.clone(), (stage.state, text, counted.decided()));
            }
        }
        // Waiting for something before any stage began.
        let waits = status.next.as_ref().filter(|_| status.stages.is_empty());
        let waits = waits.map(|next| next.because.clone()).unwrap_or_default();
        if !waits.is_empty() && waits != self.waits {
            screen.note("waits", &waits)?;
        }
        self.waits = waits;
        if let Some(phase) = phase.filter(|phase| ended(*phase)) {
            let tint = if phase == Phase::Completed { Tint::Good } else { Tint::Bad };
            screen.note("phase", &screen.tint(tint, &phase.to_string()))?;
        }
        Ok(())
    }
}

/// Whether a run goes no further by itself.
pub fn ended(phase: Phase) -> bool {
    matches!(phase, Phase::Completed | Phase::Failed)
}

/// A stage's devices, over all its jobs.
fn share(stage: &StageStatus) -> (Share, Ledger) {
    let mut sum = Ledger::default();
    for counts in stage.jobs.iter().filter_map(|job| job.counts) {
        sum.at_target += counts.at_target;
        sum.in_progress += counts.in_progress;
        sum.notified += counts.notified;
        sum.silent += counts.silent;
        sum.queued += counts.queued;
        sum.failed += counts.failed;
        sum.timed_out += counts.timed_out;
        sum.conflict += counts.conflict;
        sum.cancelled += counts.cancelled;
    }
    let failed = sum.failed + sum.timed_out;
    (Share { done: sum.at_target, failed, open: sum.open(), total: sum.exposed() }, sum)
}

/// Why a stage is where it is.
fn why(status: &FirmwareRolloutStatus, stage: &StageStatus) -> String {
    if let Some(message) = &stage.message {
        return message.clone();
    }
    let job = stage.jobs.last();
    match stage.state {
        StageState::Passed => {
            let (share, counted) = share(stage);
            let failed = format!("{} failed", share.failed);
            let left = counted.queued + counted.cancelled;
            if left > 0 { format!("{failed}, {left} never reached") } else { failed }
        }
        StageState::Running if job.is_some_and(|job| job.counts.is_none()) => {
            let id = job.map(|job| job.id.as_str()).unwrap_or_default();
            match job.and_then(|job| job.sent_percent) {
                Some(percent) => format!("job {id}, GrayPercent {percent}"),
                None => format!("job {id}"),
            }
        }
        _ => {
            let because = status.next.as_ref().map(|next| next.because.as_str()).unwrap_or_default();
            let name = format!("stage {} ", stage.name);
            because.strip_prefix(&name).unwrap_or(because).to_owned()
        }
    }
}
