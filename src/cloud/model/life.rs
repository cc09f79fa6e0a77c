//! What happens as the fleet clock moves: jobs start, push and finish; devices take updates, fail, hang, keep silent.
//!
//! Here belong the events and what each device's fate is. Fates are drawn per (seed, device, job), so that they do not
//! depend on the order in which anything is asked. No wall clock comes in.

use super::devices::DeviceId;
use super::jobs::{Course, JobStatus, Reason, Task, TaskStatus};
use super::random::Random;
use super::world::World;

/// From a job's start, or a task's new one, to the push: what was just made shows QUEUED.
pub(super) const FIRST_PUSH_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60_000;
/// Steps in which spread-out task creation proceeds.
const CREATION_STEPS: usize = 10;

/// Domains of random streams.
const FATE: u64 = 0xFA7E;
const RECONNECT: u64 = 0x4EC0;
const ASK: u64 = 0xA5C;

/// Something that is due at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A scheduled job's time has come.
    Start { job: u32 },
    /// A scheduled job's finish time has come.
    Finish { job: u32 },
    /// More tasks of a job appear.
    Create { job: u32, count: usize },
    /// A job may push to more devices.
    Push { job: u32 },
    /// An offline device that a job sought is back.
    Reconnect { job: u32, task: u32 },
    /// A device reports its first progress.
    Begin { job: u32, task: u32 },
    /// A failed attempt is tried again.
    Retry { job: u32, task: u32, attempt: u8 },
    /// An attempt ends.
    End { job: u32, task: u32, attempt: u8 },
    /// The time of a task's run is up.
    Timeout { job: u32, task: u32, run: u8 },
    /// A device asks for an update that is not pushed.
    Ask { job: u32, task: u32 },
    /// A device joins its product.
    Join { device: DeviceId },
    /// The devices of a group of the fleet file report a version.
    Report { group: u32, report: u32 },
}

/// What a device does with a job's push.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fate {
    silent: bool,
    course: Course,
    reason: Reason,
    /// From push to first progress.
    delay_ms: i64,
    /// From push to end.
    duration_ms: i64,
}

impl World {
    /// Lets one event happen.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Start { job } => self.start(job),
            Event::Finish { job } => self.finish(job),
            Event::Create { job, count } => self.create_some(job, count),
            Event::Push { job } => self.push(job),
            Event::Reconnect { job, task } => self.reconnect(job, task),
            Event::Begin { job, task } => self.begin(job, task),
            Event::Retry { job, task, attempt } => self.retry(job, task, attempt),
            Event::End { job, task, attempt } => self.end(job, task, attempt),
            Event::Timeout { job, task, run } => {
                let open = |t: &Task| !t.status.terminal() && t.run == run;
                if self.job(job).and_then(|j| j.tasks.get(task)).is_some_and(open) {
                    self.set_status(job, task, TaskStatus::Failed, Reason::Timeout);
                }
            }
            Event::Ask { job, task } => self.ask(job, task),
            Event::Join { device } => self.join(device),
            Event::Report { group, report } => self.report_of_group(group, report),
        }
    }

    fn status(&self, job: u32, task: u32) -> Option<TaskStatus> {
        Some(self.job(job)?.tasks.get(task)?.status)
    }

    /// Creates a new job's tasks, at once or in steps.
    pub(super) fn begin_creation(&mut self, number: u32) {
        let all = self.job(number).map_or(0, |job| job.pending.len());
        let spread_ms = (self.switches.creation_spread_seconds * 1000.0) as i64;
        if spread_ms <= 0 {
            return self.create_some(number, all);
        }
        let each = all.div_ceil(CREATION_STEPS);
        for (step, _) in (1_i64..).zip((0..all).step_by(each.max(1))) {
            let at = self.now + spread_ms * step / i64::try_from(CREATION_STEPS).unwrap_or(1);
            self.schedule(at, Event::Create { job: number, count: each });
        }
    }

    pub(super) fn create_some(&mut self, number: u32, count: usize) {
        let ended = |world: &Self| world.job(number).is_none_or(|job| job.status.ended());
        for _ in 0..count {
            if ended(self) {
                return;
            }
            self.create_task(number);
        }
        self.settle_job(number);
        self.wake_push(number, FIRST_PUSH_MS);
    }

    fn start(&mut self, number: u32) {
        let now = self.now;
        let Some(job) = self.job_mut(number) else { return };
        if job.status != JobStatus::Planned {
            return;
        }
        (job.status, job.started, job.modified) = (JobStatus::InProgress, Some(now), now);
        self.wake_push(number, FIRST_PUSH_MS);
    }

    fn finish(&mut self, number: u32) {
        let Some(job) = self.job_mut(number) else { return };
        if job.status.ended() {
            return;
        }
        job.pending.clear();
        let open = TaskStatus::ALL.into_iter().filter(|s| !s.terminal());
        let tasks: Vec<u32> = open.flat_map(|s| job.tasks.in_status(s)).collect();
        // The job ends first, so that its own end is not taken for a cancel of all its tasks.
        self.end_job(number, self.switches.schedule_finished_job);
        for task in tasks {
            self.set_status(number, task, TaskStatus::Canceled, Reason::ScheduleFinished);
        }
    }

    /// Makes sure that a running job pushes what it has to push.
    pub(super) fn wake_push(&mut self, number: u32, after_ms: i64) {
        let Some(job) = self.job_mut(number) else { return };
        if job.pushes() && !job.pushing && job.tasks.count(TaskStatus::Queued) > 0 {
            job.pushing = true;
            let at = self.now + after_ms;
            self.schedule(at, Event::Push { job: number });
        }
    }

    /// Pushes to as many devices as the present minute allows, and comes back in the next one if some are left.
    fn push(&mut self, number: u32) {
        let now = self.now;
        let Some(job) = self.job_mut(number) else { return };
        job.pushing = false;
        if !job.pushes() {
            return;
        }
        let pushed = job.policy.need_push;
        if now - job.window.0 >= MINUTE_MS {
            job.window = (now, 0);
        }
        let allowance = job.policy.maximum_per_minute;
        loop {
            let Some(job) = self.job_mut(number) else { return };
            if job.window.1 >= allowance {
                break;
            }
            let task = match job.late.pop_front() {
                Some(task) => task,
                None if (job.cursor as usize) < job.tasks.len() => {
                    job.cursor += 1;
                    job.cursor - 1
                }
                None => break,
            };
            let Some(device) = job.tasks.get(task).filter(|t| t.status == TaskStatus::Queued).map(|t| t.device) else {
                continue;
            };
            if self.devices.get(device).is_some_and(|d| d.online) {
                if !pushed {
                    self.await_question(number, task, device);
                    continue;
                }
                if let Some(job) = self.job_mut(number) {
                    job.window.1 += 1;
                }
                self.notify(number, task, device);
            } else if let Some(minutes) = self.switches.reconnect_minutes {
                let after = Random::of([self.seed, RECONNECT, u64::from(device), u64::from(number)]).unit() * minutes;
                self.schedule(now + ms(after), Event::Reconnect { job: number, task });
            }
        }
        let Some(job) = self.job_mut(number) else { return };
        if !job.late.is_empty() || (job.cursor as usize) < job.tasks.len() {
            job.pushing = true;
            let next = job.window.0 + MINUTE_MS;
            self.schedule(next, Event::Push { job: number });
        }
    }

    fn reconnect(&mut self, number: u32, task_number: u32) {
        let Some(job) = self.job_mut(number) else { return };
        let Some(task) = job.tasks.get(task_number) else { return };
        let device = task.device;
        if task.status == TaskStatus::Queued {
            job.late.push_back(task_number);
        }
        if let Some(device) = self.devices.get_mut(device) {
            device.online = true;
        }
        self.wake_push(number, 0);
    }

    /// A device that nothing is pushed to asks sooner or later, if it is of that kind.
    fn await_question(&mut self, number: u32, task: u32, device: DeviceId) {
        let Some(within) = self.devices.group(device).and_then(|group| group.traits.asks_within) else { return };
        let after = Random::of([self.seed, ASK, u64::from(device), u64::from(number)]).unit() * within;
        self.schedule(self.now + ms(after), Event::Ask { job: number, task });
    }

    fn ask(&mut self, number: u32, task: u32) {
        let pushes = self.job(number).is_some_and(|job| job.pushes());
        if pushes
            && self.status(number, task) == Some(TaskStatus::Queued)
            && let Some(device) = self.job(number).and_then(|j| j.tasks.get(task)).map(|t| t.device)
        {
            self.notify(number, task, device);
        }
    }

    fn notify(&mut self, number: u32, task: u32, device: DeviceId) {
        self.set_status(number, task, TaskStatus::Notified, Reason::None);
        let run = self.job(number).and_then(|j| j.tasks.get(task)).map_or(0, |t| t.run);
        let Some(fate) = self.fate(number, device, run) else { return };
        if !fate.silent {
            // The end is fixed at the push, for faults may change the rates before it comes.
            if let Some(task) = self.job_mut(number).and_then(|j| j.tasks.get_mut(task)) {
                task.ends = task.modified + fate.duration_ms;
                task.course = fate.course;
            }
            self.schedule(self.now + fate.delay_ms, Event::Begin { job: number, task });
        }
    }

    fn begin(&mut self, number: u32, task_number: u32) {
        if self.status(number, task_number) != Some(TaskStatus::Notified) {
            return;
        }
        let now = self.now;
        let Some(job) = self.job_mut(number) else { return };
        let Some(task) = job.tasks.get_mut(task_number) else { return };
        task.began = now;
        let (ends, hangs, attempt) = (task.ends, task.course == Course::Hangs, task.attempt);
        let (timeout, run) = (task.timeout_minutes, task.run);
        self.set_status(number, task_number, TaskStatus::InProgress, Reason::None);
        if !hangs {
            self.schedule(ends, Event::End { job: number, task: task_number, attempt });
        }
        if timeout > 0 {
            let at = now + i64::from(timeout) * MINUTE_MS;
            self.schedule(at, Event::Timeout { job: number, task: task_number, run });
        }
    }

    fn end(&mut self, number: u32, task_number: u32, attempt: u8) {
        let now = self.now;
        let Some(job) = self.job_mut(number) else { return };
        let retry = job.policy.retry;
        let Some(task) = job.tasks.get_mut(task_number) else { return };
        if task.status != TaskStatus::InProgress || task.attempt != attempt {
            return;
        }
        if task.course == Course::Succeeds {
            return self.set_status(number, task_number, TaskStatus::Succeeded, Reason::None);
        }
        match retry {
            // The status stays as it is while a retry is pending.
            Some(retry) if attempt.saturating_sub(task.run) < retry.count => {
                let at = now + i64::from(retry.interval) * MINUTE_MS;
                self.schedule(at, Event::Retry { job: number, task: task_number, attempt });
            }
            _ => {
                let (device, run) = (task.device, task.run);
                let reason = self.fate(number, device, run).map_or(Reason::UpgradeFailed, |f| f.reason);
                self.set_status(number, task_number, TaskStatus::Failed, reason);
            }
        }
    }

    fn retry(&mut self, number: u32, task_number: u32, attempt: u8) {
        let now = self.now;
        let Some(task) = self.job(number).and_then(|j| j.tasks.get(task_number)) else { return };
        if task.status != TaskStatus::InProgress || task.attempt != attempt {
            return;
        }
        let Some(fate) = self.fate(number, task.device, task.run) else { return };
        let Some(task) = self.job_mut(number).and_then(|j| j.tasks.get_mut(task_number)) else { return };
        task.attempt = task.attempt.saturating_add(1);
        (task.began, task.ends) = (now + fate.delay_ms, now + fate.duration_ms);
        let (ends, attempt) = (task.ends, task.attempt);
        self.schedule(ends, Event::End { job: number, task: task_number, attempt });
    }

    /// What a device does in a run of its task. Rates in force now decide, the draws themselves never change.
    fn fate(&self, number: u32, device: DeviceId, run: u8) -> Option<Fate> {
        let job = self.job(number)?;
        let package = self.package(job.firmware)?;
        let group = &self.devices.group(device)?.traits;
        let rate = |fault: Option<f64>, package: Option<f64>, group| fault.or(package).unwrap_or(group);
        let silent_rate = rate(self.faults.silent_rate, package.traits.silent_rate, group.silent_rate);
        let failure_rate = rate(self.faults.failure_rate, package.traits.failure_rate, group.failure_rate);
        let mut draw = Random::of(
            [self.seed, FATE, u64::from(device), u64::from(number)].into_iter().chain((run > 0).then_some(run.into())),
        );
        let silent = draw.unit() < silent_rate;
        let hangs = draw.unit() < group.hang_rate;
        let fails = draw.unit() < failure_rate;
        let [least, most] = group.minutes;
        // Failures take the upper half of the range: they arrive later than successes.
        let duration_ms = ms(draw.between(if fails { (least + most) / 2.0 } else { least }, most)).max(2);
        let delay_ms = (draw.between(1.0, 10.0) * 1000.0) as i64;
        let reason = match draw.below(5) {
            0 => Reason::UpgradeFailed,
            1 => Reason::VerifyFailed,
            2 => Reason::FlashFailed,
            3 => Reason::WrongVersion,
            _ => Reason::DownloadFailed,
        };
        let peak = u8::try_from(50 + draw.below(40)).unwrap_or(50);
        let course = match (hangs, fails) {
            (true, _) => Course::Hangs,
            (false, true) => Course::Fails(peak),
            (false, false) => Course::Succeeds,
        };
        Some(Fate { silent, course, reason, delay_ms: delay_ms.min(duration_ms / 2), duration_ms })
    }
}

/// Fleet minutes in milliseconds.
pub(super) fn ms(minutes: f64) -> i64 {
    (minutes * 60_000.0) as i64
}
