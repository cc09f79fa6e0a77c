//! Another attempt of a stage that failed or was aborted: what it waits for, and which devices it takes.

use super::*;
use crate::sabotage::{Bad, on};

/// What an attempt of a stage takes.
pub(super) enum Taken {
    /// What the spec declares.
    Declared,
    /// Named devices, and which part of those that are retried they are.
    Retried(Box<Stage>, i32),
    /// Nothing yet: it waits.
    Nothing(Decision),
}

impl<'a> Draft<'a> {
    /// What the attempt before left, until it is cancelled: its policy, and its pending tasks. It comes before everything
    /// else: they keep a verification from ending, devices busy, and another policy from being made.
    pub(super) fn left_by_earlier_attempt(&self, index: usize) -> Option<Decision> {
        let entry = self.status.stages.get(index)?;
        // Between two parts the first ones run already: only what was there before the first is drained.
        if entry.jobs.iter().all(|j| j.attempt == entry.attempt) || retry::list(entry).is_some() {
            return None;
        }
        let because = format!("the pending tasks of stage {}'s earlier attempt are being cancelled", entry.name);
        let earlier = entry.jobs.iter().filter(|j| entry.kind == StageKind::Dynamic && j.attempt < entry.attempt);
        if let Some(act) = self.ending(earlier.map(|j| &j.id)) {
            return Some((act, Situation::waiting("Draining", because)));
        }
        match self.drain(Some(&entry.name), Pending::All) {
            Drain::Done => None,
            Drain::Wait => Some(wait("Draining", because)),
            Drain::Cancel(id) => Some((Act::Cancel(id, Pending::All), Situation::waiting("Draining", because))),
        }
    }

    /// What an attempt takes: another one than the first names the devices that are left.
    pub(super) fn taken(&mut self, next: &Stage, index: usize) -> Result<Taken, Ended> {
        let Some(entry) = self.status.stages.get(index).cloned() else { return Ok(Taken::Declared) };
        if entry.attempt == 1 || on(Bad::RetryDrawsAgain) || entry.jobs.iter().all(|j| j.attempt == entry.attempt) {
            return Ok(Taken::Declared);
        }
        let name = &next.name;
        let list = retry::list(&entry).cloned();
        let of = retry::retried_jobs(&entry);
        if of.is_empty() {
            return Ok(Taken::Declared);
        }
        if let Some(gone) = entry.jobs.iter().find(|j| j.gone && of.iter().any(|id| id.as_str() == j.id)) {
            let because = format!(
                "job {} of stage {name}'s earlier attempt is not known to the cloud any more, and with it the names of \
                 the devices to retry: bring new firmware instead",
                gone.id
            );
            return Ok(Taken::Nothing(stall("ExternalChange", because)));
        }
        let Some(unfinished) = self.observed.unfinished.as_ref().filter(|u| u.of == of) else {
            let because = format!("the devices that stage {name} has to retry are being listed");
            return Ok(Taken::Nothing(self.unread("Counting", because)));
        };
        let names = retry::names(unfinished, list.as_ref().and_then(|l| l.until).map(|t| t.0));
        match (&list, claim::device_list(&names)) {
            (Some(list), devices) if devices.as_ref() != Some(&list.devices) => {
                let because = format!(
                    "the tasks of stage {name}'s earlier attempt changed while its devices were being retried: \
                     annotate with {ABORT}, then {RETRY}, to take them as they are now"
                );
                return Ok(Taken::Nothing(stall("RetryListChanged", because)));
            }
            (Some(_), _) => {}
            (None, None) => {
                let open: i64 = entry.jobs.iter().filter_map(|j| j.counts).map(|c| c.open()).sum();
                if open > 0 {
                    let because = format!("stage {name} waits for the devices that its earlier attempt still updates");
                    return Ok(Taken::Nothing(wait("Counting", because)));
                }
                let because = "every device of the earlier attempt is at the target".to_owned();
                self.end(index, StageState::Passed, Some("NothingLeft"), Some(because), None);
                return Err(Ended);
            }
            (None, Some(_)) if names.len() > retry::NAMES_PER_JOB * retry::MOST_PARTS => {
                let because = format!(
                    "stage {name} has {} devices to retry, and one attempt takes at most {}: bring new firmware instead",
                    names.len(),
                    retry::NAMES_PER_JOB * retry::MOST_PARTS
                );
                return Ok(Taken::Nothing(stall("RetryTooLarge", because)));
            }
            (None, Some(devices)) => {
                let parts = names.len().div_ceil(retry::NAMES_PER_JOB);
                if let Err(because) = bounds::room(&self.status, &entry, parts, true) {
                    return Ok(Taken::Nothing(stall("StatusFull", because)));
                }
                let until = unfinished.names.iter().filter_map(|(_, at)| *at).max().map(Time);
                let attempt = entry.attempt;
                self.edit(index, |s| s.retries.push(RetryList { attempt, devices, until }));
            }
        }
        let part = i32::try_from(retry::parts_done(&entry)).unwrap_or(i32::MAX).saturating_add(1);
        let devices = retry::part(&names, part);
        let target = Target { devices, ..Target::of(StageKind::Devices) };
        let stage = Stage { target, ..next.clone() };
        Ok(Taken::Retried(Box::new(stage), part))
    }

    /// The names that a claim's call takes, in order: the spec's, those of the list that it names, or those that the
    /// attempt retries.
    pub(super) fn devices_of(&self, claim: &Claim) -> Vec<String> {
        let entry = self.status.stages.iter().find(|s| s.name == claim.stage);
        if let Some(entry) = entry.filter(|s| retry::list(s).is_some()) {
            return retry::claimed_part(entry, claim.part, self.observed.unfinished.as_ref()).unwrap_or_default();
        }
        let target = self.plan.iter().find(|s| s.name == claim.stage).map(|s| &s.target);
        match target.map(|target| (target, &target.devices_from)) {
            Some((_, Some(from))) => self.names(from).map(<[String]>::to_vec).unwrap_or_default(),
            Some((target, None)) => target.devices.clone(),
            None => Vec::new(),
        }
    }

    /// The next part of an attempt that has not all its jobs yet.
    pub(super) fn next_part(&mut self, index: usize) -> Option<Decision> {
        let entry = self.status.stages.get(index)?;
        if retry::parts_done(entry) >= retry::parts(entry) {
            return None;
        }
        let name = entry.name.clone();
        // Every part of an attempt reaches its devices in the same way.
        let edits: Vec<Edit> = self.edits(&name).into_iter().filter(|e| *e != Edit::Targets).collect();
        let next = self.plan.iter().find(|s| s.name == name).filter(|_| edits.is_empty()).cloned();
        let Some(next) = next else {
            let because = format!(
                "spec.{} was edited between two jobs of stage {name}: put it back, or annotate with {ABORT}, then {RETRY}",
                self.fields(&name, &edits)
            );
            return Some(stall("EditedMeanwhile", because));
        };
        self.start(&next, index).ok()
    }
}
