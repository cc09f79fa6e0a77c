//! What other people and things do to the world: users, administrators, clocks, the network between replicas. Faults of
//! one call never come in.

use fota::api::status::Phase;
use fota::api::{ABORT, FirmwareRollout, ORPHAN, PAUSE, RESUME, RETRY};
use fota::cloud::Call;
use fota::ota::Operation;
use jiff::Timestamp;

use super::event::Event;
use super::scene::{KEYS, PACKAGES, STRANGER};
use super::state::{PROCESSES, State, at};

const MINUTE_MS: i64 = 60_000;

impl State {
    /// Carries an event out that is no fault of a call. `process`: whom it strikes, where it strikes one.
    pub fn act(&mut self, event: Event, process: usize) {
        match event {
            Event::StaleWatch30s => self.processes[process].watch_held = self.now + MINUTE_MS / 2,
            Event::StaleWatch10m => self.processes[process].watch_held = self.now + 10 * MINUTE_MS,
            Event::ClockPlus50s => self.processes[process].wall_offset += 50_000,
            Event::ClockPlus90s => self.processes[process].wall_offset += 90_000,
            Event::ClockMinus90s => self.processes[process].wall_offset -= 90_000,
            Event::ClockPlus1h => self.processes[process].wall_offset += 60 * MINUTE_MS,
            Event::ClockMinus1h => self.processes[process].wall_offset -= 60 * MINUTE_MS,
            Event::ClockRight => self.processes[process].wall_offset = 0,
            Event::LoseLease => self.processes[process].lease.blocked = self.now + 2 * MINUTE_MS,
            Event::StealLease => {
                let thief = (process + 1) % PROCESSES;
                let able = self.processes[thief].dead_until.is_none() && self.processes[thief].frozen_until <= self.now;
                if able && self.holder.is_none_or(|(holder, _)| holder != thief) {
                    self.take_lease(thief);
                }
            }
            Event::RotateKey => self.key = (self.key + 1).min(KEYS.len() - 1),
            Event::RevokeKey => {
                self.key = (self.key + 1).min(KEYS.len() - 1);
                self.revoked = self.key;
            }
            Event::AccountGone => self.account_there = false,
            Event::AccountBack => self.account_there = true,
            Event::Upgrade => {
                self.processes[process].other_defaults ^= true;
                self.kill(process, 3_000);
            }
            Event::Suspend => self.edit(|object| object.spec.suspend = Some(true)),
            Event::Unsuspend => self.edit(|object| object.spec.suspend = None),
            Event::Pause => self.command(PAUSE),
            Event::Resume => self.command(RESUME),
            Event::Abort => self.command(ABORT),
            Event::Retry => self.command(RETRY),
            Event::NewFirmware => self.edit(|object| {
                let now = object.spec.firmware.id.as_deref();
                let next = PACKAGES.iter().position(|p| Some(*p) == now).map_or(0, |n| (n + 1) % PACKAGES.len());
                object.spec.firmware.id = Some(PACKAGES[next].to_owned());
            }),
            Event::OldFirmware => self.edit(|object| object.spec.firmware.id = Some(PACKAGES[0].to_owned())),
            Event::EditSteps => {
                self.checker.edited();
                self.relisted = !self.relisted;
                self.edit(|object| {
                    for step in object.spec.gray.iter_mut().flatten() {
                        step.percent = step.percent.map(|_| fota::api::Percent::whole(60));
                        let delivery = step.delivery.get_or_insert_default();
                        delivery.maximum_per_minute = Some(delivery.maximum_per_minute.map_or(50, |rate| rate + 1));
                    }
                    if let Some(full) = &mut object.spec.full {
                        let delivery = full.delivery.get_or_insert_default();
                        delivery.maximum_per_minute = Some(delivery.maximum_per_minute.map_or(50, |rate| rate + 1));
                    }
                });
            }
            Event::AddStep => self.edit(|object| {
                let gray = object.spec.gray.get_or_insert_default();
                if gray.iter().any(|step| step.name == "broad") {
                    return;
                }
                let mut gate = object.spec.full.as_ref().and_then(|full| full.gate.clone()).unwrap_or_default();
                gate.decided_percent = None;
                gray.push(fota::api::rollout::GrayStep {
                    name: "broad".to_owned(),
                    percent: Some(fota::api::Percent::whole(80)),
                    devices: None,
                    devices_from: None,
                    group: None,
                    gate: Some(gate),
                    delivery: None,
                });
            }),
            Event::RemoveSteps => {
                self.checker.edited();
                self.edit(|object| object.spec.gray = None);
            }
            Event::ConsoleCancel => {
                let flags = ["CancelQueuedTask", "CancelNotifiedTask", "CancelUnconfirmedTask", "CancelInProgressTask"];
                self.meddle(false, |state, job| {
                    let given = [("JobId", job)].into_iter().chain(flags.map(|flag| (flag, "true")));
                    let params = given.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                    for operation in [Operation::CancelOTAStrategyByJob, Operation::CancelOTATaskByJob] {
                        let clocks = state.clocks();
                        state.cloud.handle(&Call::unsigned(STRANGER, operation, &params, None), clocks);
                    }
                });
            }
            Event::ConsoleRemove => self.meddle(true, |state, job| state.cloud.forget_job(job)),
            Event::Orphan => self.annotate(ORPHAN, "true".to_owned()),
            Event::Delete => self.delete(),
            Event::Recreate if self.server.current().is_none() => {
                self.objects += 1;
                let mut object = self.scene.rollout(self.objects);
                let created: Timestamp = at(self.now);
                object.metadata.creation_timestamp = serde_json::from_value(created.to_string().into()).ok();
                self.server.put(object);
                self.tell_all();
            }
            _ => {}
        }
    }

    /// Somebody does something to the youngest job that the status has recorded.
    fn meddle(&mut self, gone: bool, act: impl FnOnce(&mut Self, &str)) {
        let status = self.server.current().and_then(|object| object.status.as_ref());
        let job =
            status.and_then(|s| s.stages.iter().flat_map(|stage| &stage.jobs).next_back()).map(|job| job.id.clone());
        let Some(job) = job else { return };
        act(self, &job);
        self.checker.meddled(&job, gone);
        self.say(|| format!("somebody changed job {job} in the console"));
        self.stirred = self.stirred.max(self.now);
    }

    /// Something that a user's tools write; the watches tell of it.
    fn edit(&mut self, change: impl FnOnce(&mut FirmwareRollout)) {
        self.server.edit(change);
        self.stirred = self.stirred.max(self.now);
        self.tell_all();
    }

    pub fn annotate(&mut self, name: &str, value: String) {
        self.edit(|object| {
            object.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value);
        });
    }

    /// A command that was not given before.
    pub fn command(&mut self, name: &str) {
        self.commands += 1;
        let value = format!("word-{}", self.commands);
        self.checker.commanded(name);
        self.annotate(name, value);
    }

    fn delete(&mut self) {
        if self.server.current().is_none() {
            return;
        }
        let now: Timestamp = at(self.now);
        self.edit(|object| {
            if object.metadata.deletion_timestamp.is_none() {
                object.metadata.deletion_timestamp = serde_json::from_value(now.to_string().into()).ok();
            }
        });
        if self.server.current().is_none() {
            self.checker.gone_unseen();
        }
    }

    fn tell_all(&mut self) {
        for process in 0..PROCESSES {
            self.wake(process);
            self.hurry(process, super::process::LEAST_GAP_MS);
        }
    }

    /// Everything that was wrong is put right, as administrators and users do sooner or later.
    pub fn heal(&mut self) {
        for process in 0..PROCESSES {
            let this = &mut self.processes[process];
            (this.wall_offset, this.watch_held, this.lease.blocked) = (0, 0, 0);
        }
        let object = self.server.current().cloned();
        let deleting = object.as_ref().is_some_and(|o| o.metadata.deletion_timestamp.is_some());
        if !self.account_there {
            if deleting && self.scene.orphans {
                self.act(Event::Orphan, 0);
            } else {
                self.account_there = true;
            }
        }
        if let Some(object) = object.filter(|_| !deleting) {
            if self.scene.wide && object.status.as_ref().is_some_and(|s| s.phase == Some(Phase::Failed)) {
                self.act(Event::Retry, 0);
            }
            if object.spec.suspend == Some(true) {
                self.act(Event::Unsuspend, 0);
            }
            if object.status.as_ref().is_some_and(|s| s.paused) {
                self.act(Event::Resume, 0);
            }
        }
        self.tell_all();
    }
}
