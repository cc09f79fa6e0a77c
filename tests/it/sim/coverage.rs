//! Which places were reached, what happened there, and how the rollout stood then. What a place is never comes in.

use std::fmt::Write as _;

use fota::api::FirmwareRollout;
use fota::api::status::{Phase, StageState};

use super::event::{Event, Place, Point};

/// How a rollout stands when something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    New,
    Pending,
    Claimed,
    Sent,
    Running,
    Soaking,
    Between,
    Completed,
    Failed,
    Aborted,
    Deleting,
    Gone,
}

impl Standing {
    pub const ALL: [Self; 12] = [
        Self::New,
        Self::Pending,
        Self::Claimed,
        Self::Sent,
        Self::Running,
        Self::Soaking,
        Self::Between,
        Self::Completed,
        Self::Failed,
        Self::Aborted,
        Self::Deleting,
        Self::Gone,
    ];

    pub fn of(object: Option<&FirmwareRollout>) -> Self {
        let Some(object) = object else { return Self::Gone };
        if object.metadata.deletion_timestamp.is_some() {
            return Self::Deleting;
        }
        let Some(status) = &object.status else { return Self::New };
        if let Some(claim) = &status.claim {
            return if claim.sent { Self::Sent } else { Self::Claimed };
        }
        match status.phase {
            Some(Phase::Completed) => return Self::Completed,
            Some(Phase::Failed) => return Self::Failed,
            Some(Phase::Aborted) => return Self::Aborted,
            _ => {}
        }
        match status.stages.last().map(|s| s.state) {
            None => Self::New,
            Some(StageState::Pending) => Self::Pending,
            Some(StageState::Running) => Self::Running,
            Some(StageState::Soaking) => Self::Soaking,
            _ => Self::Between,
        }
    }
}

/// What one schedule reached.
#[derive(Debug, Clone)]
pub struct Visits {
    passed: [[u32; Standing::ALL.len()]; Place::COUNT],
    happened: Vec<(Place, Event, Standing)>,
}

impl Default for Visits {
    fn default() -> Self {
        Self { passed: [[0; Standing::ALL.len()]; Place::COUNT], happened: Vec::new() }
    }
}

impl Visits {
    pub fn note(&mut self, place: Place, event: Option<Event>, standing: Standing) {
        self.passed[place.index()][standing as usize] += 1;
        if let Some(event) = event {
            self.happened.push((place, event, standing));
        }
    }
}

/// What many schedules reached.
#[derive(Debug, Clone)]
pub struct Coverage {
    passed: Vec<u64>,
    happened: Vec<u64>,
}

const STANDINGS: usize = Standing::ALL.len();
const EVENTS: usize = Event::ALL.len();

impl Default for Coverage {
    fn default() -> Self {
        Self { passed: vec![0; Place::COUNT * STANDINGS], happened: vec![0; Place::COUNT * STANDINGS * EVENTS] }
    }
}

impl Coverage {
    pub fn add(&mut self, visits: &Visits) {
        for (place, row) in visits.passed.iter().enumerate() {
            for (standing, count) in row.iter().enumerate() {
                self.passed[place * STANDINGS + standing] += u64::from(*count);
            }
        }
        for (place, event, standing) in &visits.happened {
            self.happened[(place.index() * STANDINGS + *standing as usize) * EVENTS + *event as usize] += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.passed.iter_mut().zip(&other.passed) {
            *ours += theirs;
        }
        for (ours, theirs) in self.happened.iter_mut().zip(&other.happened) {
            *ours += theirs;
        }
    }

    fn places() -> impl Iterator<Item = Place> {
        Point::ALL.iter().flat_map(|point| [Place::before(*point), Place::after(*point)])
    }

    /// How many of the combinations of a reached place, a standing and an event that can happen there did happen; and
    /// how many there are.
    pub fn share(&self) -> (usize, usize) {
        let (mut hit, mut all) = (0, 0);
        for place in Self::places() {
            for standing in 0..STANDINGS {
                let at = place.index() * STANDINGS + standing;
                if self.passed[at] == 0 {
                    continue;
                }
                for event in Event::ALL.iter().filter(|event| place.takes(**event)) {
                    all += 1;
                    hit += usize::from(self.happened[at * EVENTS + *event as usize] > 0);
                }
            }
        }
        (hit, all)
    }

    /// A table: places down, standings across; each cell how many of the possible events happened there, of how many.
    pub fn table(&self) -> String {
        let mut text = format!("{:24}", "");
        for standing in Standing::ALL {
            _ = write!(text, "{:>10}", format!("{standing:?}"));
        }
        text.push('\n');
        for place in Self::places() {
            let possible: Vec<_> = Event::ALL.iter().filter(|event| place.takes(**event)).collect();
            let row: Vec<String> = (0..STANDINGS)
                .map(|standing| {
                    let at = place.index() * STANDINGS + standing;
                    if self.passed[at] == 0 {
                        return "-".to_owned();
                    }
                    let hit = possible.iter().filter(|e| self.happened[at * EVENTS + ***e as usize] > 0).count();
                    format!("{hit}/{}", possible.len())
                })
                .collect();
            if row.iter().all(|cell| cell == "-") {
                _ = writeln!(text, "{place:24}never reached");
                continue;
            }
            _ = write!(text, "{place:24}");
            for cell in row {
                _ = write!(text, "{cell:>10}");
            }
            text.push('\n');
        }
        text
    }

    /// Events that never happened anywhere.
    pub fn missing(&self) -> Vec<Event> {
        let happened =
            |event: &Event| (0..Place::COUNT * STANDINGS).any(|at| self.happened[at * EVENTS + *event as usize] > 0);
        Event::ALL.iter().copied().filter(|event| !happened(event)).collect()
    }
}
