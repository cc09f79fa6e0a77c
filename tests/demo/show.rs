//! What the demo prints: one line per change, which reads as well in a log as on a terminal.
//!
//! No cursor is ever moved. Colours only on a terminal, and not where `NO_COLOR` is set.

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
        format!("{bar} {:>4}/{:<4}", share.done, share.total)
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
        let bar_width = if self.width < 90 { 20 } else { 30 };
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
    shown: FirmwareRolloutStatus,
    /// Decided devices of the running stage when its line was last printed.
    decided: i64,
}

impl Follower {
    /// Prints the changes from the last status to this one.
    pub fn show(&mut self, screen: &Screen, status: &FirmwareRolloutStatus) -> Result<()> {
        let old = std::mem::replace(&mut self.shown, status.clone());
        let phase = status.phase.filter(|phase| Some(*phase) != old.phase);
        if let Some(phase) = phase.filter(|phase| !ended(*phase)) {
            screen.note("phase", &screen.tint(Tint::Strong, &phase.to_string()))?;
        }
        for stage in &status.stages {
            let before = old.stages.iter().find(|s| s.name == stage.name);
            let (share, counted) = share(stage);
            let news = match before {
                Some(before) if before.state == stage.state => self.progress(status, &old, stage, counted),
                _ => {
                    self.decided = counted.decided();
                    true
                }
            };
            if news {
                screen.stage(&stage.name, &share, stage.state, &why(status, stage))?;
            }
        }
        // Waiting for something before any stage began.
        if status.stages.is_empty()
            && let Some(next) = status.next.as_ref().filter(|next| old.next.as_ref() != Some(next))
        {
            screen.note("waits", &next.because)?;
        }
        if let Some(phase) = phase.filter(|phase| ended(*phase)) {
            let tint = if phase == Phase::Completed { Tint::Good } else { Tint::Bad };
            screen.note("phase", &screen.tint(tint, &phase.to_string()))?;
        }
        Ok(())
    }

    /// Whether a stage that stayed where it was has news: another reason to wait, or a fifth of its devices.
    fn progress(
        &mut self,
        status: &FirmwareRolloutStatus,
        old: &FirmwareRolloutStatus,
        stage: &StageStatus,
        counted: Ledger,
    ) -> bool {
        if status.step.as_deref() != Some(stage.name.as_str()) || stage.ended_at.is_some() {
            return false;
        }
        let word = |s: &FirmwareRolloutStatus| s.next.as_ref().map(|n| n.reason.clone());
        let stride = (counted.decided() - self.decided) * 100 >= counted.exposed() * STRIDE_PERCENT;
        let news = word(status) != word(old) || (stride && counted.decided() > self.decided);
        if news {
            self.decided = counted.decided();
        }
        news
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
