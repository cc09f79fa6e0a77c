//! Everything that is simulated: one true clock, the cloud, the API server, two controller processes with their own
//! clocks, caches and beliefs, and requests that are still on their way. When something happens is the schedule's
//! affair, how a call goes the view's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fota::api::{FirmwareRollout, FirmwareRolloutStatus, Signature};
use fota::cloud::model::Response;
use fota::cloud::{Call, Clocks, Cloud, Faults};
use fota::controller::memory::Memory;
use fota::ota::{Operation, Quota};
use fota::rollout::observed::{Account, Trouble};
use jiff::Timestamp;

use super::checker::{Checker, Known};
use super::chooser::Chooser;
use super::coverage::Visits;
use super::event::{Event, Place};
use super::scene::{KEYS, SCENE_START, Scene};
use super::server::Server;

/// How much faster devices live.
const SPEED: i64 = 60;
/// How long a Lease is promised after its last renewal.
const LEASE_MS: i64 = 30_000;
/// Its owner counts a little less.
const OWN_LEASE_MS: i64 = 27_000;
const RENEW_MS: i64 = 4_000;
/// How long a Secret that was read is believed.
pub const SECRET_LIFE_MS: i64 = 10_000;
/// Two processes, each with a task that passes and one that polls.
pub const PROCESSES: usize = 2;
pub const TASKS: usize = 2 * PROCESSES;

/// Where a task stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Slot {
    /// When it goes on, by the true clock.
    pub ready: i64,
    /// Where it yielded; none: it sleeps.
    pub place: Option<Place>,
    /// Whether something new ends its sleep.
    pub wakes: bool,
    /// What happens to the call that it is in.
    pub event: Option<Event>,
}

/// What a process believes of the Lease.
#[derive(Debug, Clone, Copy, Default)]
pub struct Belief {
    /// Until when it is the owner, by its monotonic clock.
    pub until: Option<i64>,
    /// Counts its ownerships.
    pub term: u64,
    /// The renewal that it saw last, and when, by its monotonic clock.
    saw: (u64, i64),
    renewed: i64,
    /// It cannot reach the API server for renewals before this, by the true clock.
    pub blocked: i64,
}

/// One controller process.
#[derive(Debug)]
pub struct Process {
    /// Counts its lives.
    pub life: u32,
    /// None: it is dead until this.
    pub dead_until: Option<i64>,
    /// It stands still until this.
    pub frozen_until: i64,
    /// How much of the true time its monotonic clock missed.
    missed: i64,
    /// What its wall clock is off.
    pub wall_offset: i64,
    /// Its watch brings nothing before this.
    pub watch_held: i64,
    /// The version that its watch has brought.
    seen: usize,
    /// The version that its own write returned.
    pub overlay: Option<(usize, Arc<FirmwareRollout>)>,
    pub memory: Arc<Memory>,
    pub lease: Belief,
    /// The account as it was last read, and when.
    pub account: Option<(i64, Result<Account, Trouble>)>,
    pub quota: Quota,
    /// It has other defaults than the one before.
    pub other_defaults: bool,
}

impl Process {
    fn new(life: u32, seen: usize) -> Self {
        Self {
            life,
            dead_until: None,
            frozen_until: 0,
            missed: 0,
            wall_offset: 0,
            watch_held: 0,
            seen,
            overlay: None,
            memory: Arc::new(Memory::default()),
            lease: Belief { saw: (u64::MAX, 0), ..Belief::default() },
            account: None,
            quota: Quota::default(),
            other_defaults: false,
        }
    }
}

/// A request that arrives later.
#[derive(Debug)]
pub struct Late {
    pub due: i64,
    pub what: Sent,
}

/// A request without anybody who waits for its answer.
#[derive(Debug)]
pub enum Sent {
    Call { process: usize, call: Call },
    Status { based_on: Box<FirmwareRollout>, status: Box<FirmwareRolloutStatus> },
    Finalizer { based_on: Box<FirmwareRollout>, present: bool },
}

/// What strikes one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    None,
    Error,
    Throttle,
}

/// All of it.
pub struct State {
    /// Milliseconds since the beginning, by the true clock.
    pub now: i64,
    pub scene: Scene,
    pub cloud: Cloud,
    pub server: Server,
    pub processes: Vec<Process>,
    pub slots: [Slot; TASKS],
    pub late: Vec<Late>,
    pub chooser: Chooser,
    pub checker: Checker,
    pub visits: Visits,
    /// What happened, for a person; none: nobody reads it.
    pub story: Option<Vec<String>>,
    /// The key that the Secret holds, and how many of the first ones work no more.
    pub key: usize,
    pub revoked: usize,
    pub account_there: bool,
    /// Keys under which a tag was shown: what the OTAAccount's status remembers.
    pub echoed: BTreeSet<String>,
    /// Whether the list of devices was edited.
    pub relisted: bool,
    /// How often the object was applied anew.
    pub objects: u32,
    /// Commands given so far: each has a value of its own.
    pub commands: u32,
    /// When something was last written, created or cancelled.
    pub stirred: i64,
    /// Renewals of the Lease, and who holds it: process and life.
    renewals: u64,
    pub holder: Option<(usize, u32)>,
    base: Instant,
}

impl State {
    pub fn new(scene: Scene, chooser: Chooser, base: Instant, told: bool) -> Self {
        let mut state = Self {
            now: 0,
            cloud: scene.cloud(),
            server: Server::new(scene.rollout(1)),
            processes: (0..PROCESSES).map(|_| Process::new(1, 0)).collect(),
            slots: [Slot::default(); TASKS],
            late: Vec::new(),
            chooser,
            checker: Checker::new(&scene),
            visits: Visits::default(),
            story: told.then(Vec::new),
            key: 0,
            revoked: 0,
            account_there: true,
            echoed: BTreeSet::new(),
            relisted: false,
            objects: 1,
            commands: 0,
            stirred: 0,
            renewals: 0,
            holder: None,
            base,
            scene,
        };
        if state.scene.echoed {
            state.echoed.insert(digest(0));
        }
        // The first one owns the Lease when the story begins.
        state.holder = Some((0, 1));
        state.processes[0].lease.until = Some(OWN_LEASE_MS);
        state.processes[0].lease.term = 1;
        state
    }

    /// Tells what happens, if somebody listens.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>10.3} s  {}", self.now as f64 / 1000.0, line()));
        }
    }

    pub fn timestamp(&self) -> Timestamp {
        at(self.now)
    }

    pub fn clocks(&self) -> Clocks {
        Clocks { wall: self.timestamp(), fleet: at(self.now * SPEED) }
    }

    /// A process's wall clock.
    pub fn wall(&self, process: usize) -> Timestamp {
        at(self.now + self.processes[process].wall_offset)
    }

    /// A process's monotonic clock, in milliseconds.
    pub fn monotonic(&self, process: usize) -> i64 {
        self.now - self.processes[process].missed
    }

    /// The same as the quota counts it.
    pub fn instant(&self, process: usize) -> Instant {
        self.base + millis(self.monotonic(process))
    }

    /// Milliseconds of the true clock until an instant of a process's monotonic one.
    pub fn until(&self, process: usize, instant: Instant) -> i64 {
        i64::try_from(instant.saturating_duration_since(self.instant(process)).as_millis()).unwrap_or(i64::MAX)
    }

    /// How much longer a process believes that it owns the Lease.
    pub fn leadership(&self, process: usize) -> Option<Duration> {
        let left = self.processes[process].lease.until? - self.monotonic(process);
        (left > 0).then(|| millis(left))
    }

    /// The object as a process has it.
    pub fn seen(&mut self, process: usize) -> Option<Arc<FirmwareRollout>> {
        let Process { seen, overlay, other_defaults, .. } = &mut self.processes[process];
        let cached = self.server.at(*seen);
        let object = match overlay {
            Some((version, own)) if *version > *seen && cached.is_some() => Some(own.clone()),
            _ => {
                *overlay = None;
                cached
            }
        };
        // Another version of the operator reads into an unset field what its own default says: as if it were written.
        match object {
            Some(object) if *other_defaults => {
                let mut object = (*object).clone();
                let delivery = object.spec.delivery.get_or_insert_default();
                delivery.maximum_per_minute = delivery.maximum_per_minute.or(Some(500));
                Some(Arc::new(object))
            }
            object => object,
        }
    }

    /// What the watch brings, unless it hangs.
    pub fn deliver(&mut self, process: usize) {
        let newest = self.server.newest();
        let process = &mut self.processes[process];
        if self.now >= process.watch_held {
            process.seen = newest;
        }
    }

    /// The account as the API server has it.
    pub fn account(&self) -> Result<Account, Trouble> {
        if !self.account_there {
            let message = "there is no OTAAccount account in namespace heating".to_owned();
            return Err(Trouble { reason: "AccountNotFound", message, stalled: false });
        }
        Ok(Account {
            endpoint: "http://cloud".to_owned(),
            region: None,
            instance_id: None,
            access_key: digest(self.key),
            principal: digest(self.key),
            signature: Signature::V3,
            edition: fota::api::account::Edition::Current,
            list_lag: self.scene.list_lag,
            unlisted: self.scene.unlisted,
            replay: self.scene.replay,
            tag_echoed: self.echoed.contains(&digest(self.key)),
        })
    }

    /// The access key that a process calls with.
    pub fn key_of(&self, process: usize) -> &'static str {
        let known = self.processes[process].account.as_ref().and_then(|(_, account)| account.as_ref().ok());
        let key = known.and_then(|account| (0..KEYS.len()).find(|n| digest(*n) == account.access_key));
        KEYS[key.unwrap_or(self.key)]
    }

    /// A call arrives at the cloud.
    pub fn perform(&mut self, process: usize, call: &Call, strike: Strike) -> Response {
        self.cloud.set_faults(Faults {
            error_rate: if strike == Strike::Error { 1.0 } else { 0.0 },
            throttle_rate: if strike == Strike::Throttle { 1.0 } else { 0.0 },
            list_lag_ms: self.scene.lag_ms,
            ..Faults::default()
        });
        let clocks = self.clocks();
        let response = self.cloud.handle(call, clocks);
        let operation = self.cloud.calls().last().and_then(|entry| Operation::from_name(&entry.operation));
        let Some(operation) = operation else { return response };
        self.checker.within_quota(process, self.now, operation);
        let cancels = matches!(operation, Operation::CancelOTATaskByJob | Operation::CancelOTAStrategyByJob);
        if operation.creates() || cancels {
            let entry = self.cloud.calls().last().unwrap().clone();
            self.stirred = self.stirred.max(self.now);
            let told = entry.code.clone().unwrap_or_else(|| "accepted".to_owned());
            let job = entry.job_id.clone().unwrap_or_default();
            let tag = entry.params.get("Tag.1.Value").map(|t| format!(" tag {t}")).unwrap_or_default();
            self.say(|| format!("process {process}: cloud: {operation} {job}{tag}: {told}"));
            let object = self.server.current().cloned();
            self.checker.called(&entry, object.as_deref(), &self.cloud);
        }
        response
    }

    /// A status arrives at the API server.
    pub fn apply_status(
        &mut self,
        based_on: &FirmwareRollout,
        status: &FirmwareRolloutStatus,
    ) -> Result<Arc<FirmwareRollout>, fota::controller::world::WriteError> {
        let old = self.server.current().cloned();
        let written = self.server.write_status(based_on, status)?;
        self.stirred = self.stirred.max(self.now);
        let clocks = self.clocks();
        self.cloud.tick(clocks);
        if let Some(old) = old {
            let key = digest(self.key);
            let account = Known { key: &key, echoed: self.echoed.contains(&key) };
            self.checker.wrote(self.now, &old, status, &self.cloud, account);
            if self.story.is_some() {
                let (before, after) = (super::story::summary(old.status.as_ref()), super::story::summary(Some(status)));
                self.say(|| format!("status: {before}  ->  {after}"));
            }
        }
        Ok(written)
    }

    /// Our finalizer comes or goes.
    pub fn apply_finalizer(
        &mut self,
        based_on: &FirmwareRollout,
        present: bool,
    ) -> Result<Arc<FirmwareRollout>, fota::controller::world::WriteError> {
        let written = self.server.set_finalizer(based_on, present)?;
        self.stirred = self.stirred.max(self.now);
        self.say(|| format!("finalizer {}", if present { "added" } else { "removed" }));
        if self.server.current().is_none() {
            let clocks = self.clocks();
            self.cloud.tick(clocks);
            self.checker.gone(&written, &self.cloud);
        }
        Ok(written)
    }

    /// What was on its way and has arrived.
    pub fn arrive(&mut self) {
        while let Some(position) = self.late.iter().position(|late| late.due <= self.now) {
            let Late { what, .. } = self.late.remove(position);
            match what {
                Sent::Call { process, call } => {
                    self.say(|| format!("a late request of process {process} arrives"));
                    self.perform(process, &call, Strike::None);
                }
                Sent::Status { based_on, status } => {
                    let result = self.apply_status(&based_on, &status).map(drop);
                    self.say(|| format!("a late status arrives: {result:?}"));
                }
                Sent::Finalizer { based_on, present } => {
                    let result = self.apply_finalizer(&based_on, present).map(drop);
                    self.say(|| format!("a late change of the finalizer arrives: {result:?}"));
                }
            }
        }
    }

    /// Keeps the Lease going: its owner renews, the other one takes what was not renewed in time.
    pub fn elect(&mut self) {
        let holder = self.holder.map(|(process, _)| process);
        let order = if holder == Some(1) { [1, 0] } else { [0, 1] };
        for process in order {
            let mono = self.monotonic(process);
            let this = &mut self.processes[process];
            if this.lease.until.is_some_and(|until| until <= mono) {
                this.lease.until = None;
                this.memory = Arc::new(Memory::default());
            }
            if this.dead_until.is_some() || this.frozen_until > self.now || this.lease.blocked > self.now {
                continue;
            }
            if self.holder == Some((process, this.life)) {
                let lost = this.lease.until.is_none();
                if lost || mono - this.lease.renewed >= RENEW_MS {
                    self.renewals += 1;
                    this.lease.renewed = mono;
                    this.lease.until = Some(mono + OWN_LEASE_MS);
                    if lost {
                        self.gain(process);
                    }
                }
                continue;
            }
            if this.lease.saw.0 != self.renewals {
                this.lease.saw = (self.renewals, mono);
            }
            if self.holder.is_none() || mono - this.lease.saw.1 >= LEASE_MS {
                self.take_lease(process);
            }
        }
    }

    /// A process becomes the owner.
    pub fn take_lease(&mut self, process: usize) {
        let mono = self.monotonic(process);
        self.renewals += 1;
        let this = &mut self.processes[process];
        this.lease.until = Some(mono + OWN_LEASE_MS);
        this.lease.renewed = mono;
        self.holder = Some((process, this.life));
        self.say(|| format!("process {process} owns the Lease"));
        self.gain(process);
    }

    fn gain(&mut self, process: usize) {
        let this = &mut self.processes[process];
        this.lease.term += 1;
        // What was known may be older than what somebody else has done since.
        this.memory = Arc::new(Memory::default());
        self.wake(process);
    }

    /// Ends the sleep of a process's passes.
    pub fn wake(&mut self, process: usize) {
        let slot = &mut self.slots[process * 2];
        if slot.wakes {
            slot.ready = slot.ready.min(self.now);
        }
    }

    /// Ends the sleep of a process's polls, no sooner than a poll may follow another.
    pub fn hurry(&mut self, process: usize, least: i64) {
        let slot = &mut self.slots[process * 2 + 1];
        if slot.wakes {
            slot.ready = slot.ready.min((self.now + least).max(self.now));
        }
    }

    /// A process dies. Its requests that are on their way live on.
    pub fn kill(&mut self, process: usize, for_ms: i64) {
        let life = self.processes[process].life + 1;
        let other_defaults = self.processes[process].other_defaults;
        let wall_offset = self.processes[process].wall_offset;
        let newest = self.server.newest();
        let dead_until = Some(self.now + for_ms);
        self.processes[process] = Process { dead_until, other_defaults, wall_offset, ..Process::new(life, newest) };
        for slot in &mut self.slots[process * 2..process * 2 + 2] {
            *slot = Slot { ready: self.now + for_ms, ..Slot::default() };
        }
    }

    /// A process stands still, and its monotonic clock with it.
    pub fn freeze(&mut self, process: usize, for_ms: i64) {
        let this = &mut self.processes[process];
        this.frozen_until = self.now + for_ms;
        this.missed += for_ms;
        // Before it goes on nobody can say that it rests.
        self.stirred = self.stirred.max(self.now + for_ms);
    }
}

/// Digest of the nth access key.
pub fn digest(key: usize) -> String {
    format!("digest-of-{}", KEYS[key])
}

/// An instant, in milliseconds since the beginning.
pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(SCENE_START + ms).unwrap()
}

pub fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
