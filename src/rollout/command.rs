//! Commands by annotation: which are new, and what each does to a status. A value acts once; it is remembered in
//! `status.handled`, so that re-syncs and restarts repeat nothing. How a command's effect is carried out never comes in.

use crate::api::status::{FirmwareRolloutStatus, Phase, StageState, StageStatus};
use crate::api::{ABORT, ADOPT, FirmwareRollout, PAUSE, RESUME, RETRY};

use super::stage;

/// Longest value of a command that is kept.
const LONGEST: usize = 128;

/// A person's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Go on after a pause.
    Resume,
    /// Start and promote nothing.
    Pause,
    /// Try again what failed, was aborted or refused.
    Retry,
    /// Cancel what is pending and start nothing more.
    Abort,
    /// Take a job for the claim's.
    Adopt,
}

impl Command {
    /// In the order in which they are obeyed when several are new at once: the one that holds back comes last.
    pub const ALL: [Self; 5] = [Self::Adopt, Self::Resume, Self::Retry, Self::Pause, Self::Abort];

    /// Its annotation.
    pub const fn annotation(self) -> &'static str {
        match self {
            Self::Resume => RESUME,
            Self::Pause => PAUSE,
            Self::Retry => RETRY,
            Self::Abort => ABORT,
            Self::Adopt => ADOPT,
        }
    }

    /// Its name in `status.handled`.
    pub fn name(self) -> &'static str {
        self.annotation().rsplit('/').next().unwrap_or_default()
    }

    /// Its value, if it is a new one.
    pub fn fresh(self, rollout: &FirmwareRollout, status: &FirmwareRolloutStatus) -> Option<String> {
        let annotations = rollout.metadata.annotations.as_ref()?;
        // As it stands there: a value acts once.
        let value: String = annotations.get(self.annotation())?.trim().chars().take(LONGEST).collect();
        (!value.is_empty() && status.handled.get(self.name()) != Some(&value)).then_some(value)
    }
}

/// Starts another attempt of what failed or was aborted.
pub fn renew(status: &mut FirmwareRolloutStatus) {
    status.phase = Some(Phase::Pending);
    status.gate = None;
    for entry in &mut status.stages {
        if matches!(entry.state, StageState::Failed | StageState::Aborted) {
            again(entry);
        }
    }
}

/// Starts another attempt of a stage.
pub fn again(entry: &mut StageStatus) {
    entry.state = StageState::Pending;
    entry.attempt += 1;
    entry.reason = None;
    entry.message = None;
    entry.ended_at = None;
    entry.soaking_since = None;
    entry.refusal = None;
}

/// Stops a run: the stage that it is in ends as aborted, unless a claim has to be resolved first.
pub fn abort(status: &mut FirmwareRolloutStatus) {
    status.phase = Some(Phase::Aborted);
    for entry in &mut status.stages {
        if stage::legal(entry.state, StageState::Aborted) {
            entry.state = StageState::Aborted;
            entry.reason = Some("Aborted".to_owned());
            entry.soaking_since = None;
        }
    }
}
