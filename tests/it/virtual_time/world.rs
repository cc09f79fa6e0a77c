//! A world of one rollout: two clocks moved by hand, the pure cloud, and an API server that keeps one object.
//!
//! Rules that must hold at every write and every create are checked right here, where they happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fota::api::rollout::DevicesFrom;
use fota::api::{
    FINALIZER, FirmwareRollout, FirmwareRolloutStatus, Replay, Signature, TAG_KEY, status::Claim, status::StageState,
};
use fota::cloud::{Call, Clocks, Cloud, Edition, Faults, Fleet, Switches};
use fota::controller::world::{Key, World, WriteError};
use fota::ota::calls::{self, CallContext, CancelFlags};
use fota::ota::changing;
use fota::ota::outcome::{CallError, Outcome};
use fota::ota::{Answer, Api, JobId, NoAnswer, Request};
use fota::rollout::decide::Pending;
use fota::rollout::observed::{Account, Trouble};
use fota::rollout::stage::{self, Stage};
use fota::rollout::story::Note;
use fota::rollout::{course, revision};
use jiff::{SignedDuration, Timestamp};

use super::audit::{self, Audit};

/// How long an exchange takes: what a limiter at 8 calls a second leaves of a second.
const EXCHANGE: SignedDuration = SignedDuration::from_millis(130);
const WRITE: SignedDuration = SignedDuration::from_millis(20);

/// What a world is made of.
pub struct Setting {
    pub fleet: Fleet,
    pub seed: u64,
    pub switches: Switches,
    pub rollout: FirmwareRollout,
    pub speed: i32,
}

/// What somebody else does in between.
pub type Meanwhile = fn(&mut State);

/// Everything behind the interface.
pub struct State {
    pub wall: Timestamp,
    start: Timestamp,
    speed: i32,
    pub cloud: Cloud,
    audited: bool,
    /// The object, as the API server has it.
    pub stored: Option<FirmwareRollout>,
    /// The object, as this process has it.
    seen: Option<Arc<FirmwareRollout>>,
    version: u64,
    pub account: Result<Account, Trouble>,
    pub rival: Option<String>,
    pub siblings: BTreeMap<JobId, String>,
    /// What a list of device names says.
    pub names: Result<Arc<[String]>, Trouble>,
    /// Writes and exchanges so far, and after how many the process is cut off from everything.
    pub outside: usize,
    pub die_after: Option<usize>,
    /// Answers of so many creates get lost; so many are throttled; so many writes are carried out and not acknowledged.
    pub lose_creates: u32,
    pub throttle_creates: u32,
    pub unclear_writes: u32,
    /// Carried out once, right after the write of the first claim.
    pub after_claim: Option<Meanwhile>,
    /// Carried out once, between the decision to send a create and its being sent.
    pub before_create: Option<Meanwhile>,
    /// Carried out once, after a create was answered.
    pub after_create: Option<Meanwhile>,
    /// Rates of faults that strike every call.
    pub faults: Faults,
    pub writes: usize,
    pub notes: Vec<Note>,
    pub audits: Vec<Audit>,
}

pub struct Virtual(Mutex<State>);

impl Virtual {
    pub fn new(setting: Setting) -> Self {
        let start: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let account = Account {
            endpoint: "http://cloud".to_owned(),
            region: None,
            instance_id: None,
            access_key: "digest".to_owned(),
            principal: "digest".to_owned(),
            signature: Signature::V3,
            list_lag: Duration::from_secs(1),
            replay: Replay::Nonce,
            tag_echoed: true,
            unlisted: false,
            edition: fota::api::account::Edition::Current,
        };
        Self(Mutex::new(State {
            wall: start,
            start,
            speed: setting.speed,
            audited: !setting.switches.quotas,
            cloud: Cloud::new(&setting.fleet, setting.seed, Edition::Current, setting.switches),
            stored: Some(setting.rollout.clone()),
            seen: Some(Arc::new(setting.rollout)),
            version: 1,
            account: Ok(account),
            rival: None,
            siblings: BTreeMap::new(),
            names: Ok(Arc::new([])),
            outside: 0,
            die_after: None,
            lose_creates: 0,
            throttle_creates: 0,
            unclear_writes: 0,
            after_claim: None,
            before_create: None,
            after_create: None,
            faults: Faults::default(),
            writes: 0,
            notes: Vec::new(),
            audits: Vec::new(),
        }))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    pub fn clocks(&self) -> Clocks {
        Clocks { wall: self.wall, fleet: self.start + self.wall.duration_since(self.start) * self.speed }
    }

    pub fn advance(&mut self, by: SignedDuration) {
        self.wall += by;
        let clocks = self.clocks();
        self.cloud.tick(clocks);
    }

    pub fn dead(&self) -> bool {
        self.die_after.is_some_and(|most| self.outside >= most)
    }

    pub fn status(&self) -> FirmwareRolloutStatus {
        self.stored.as_ref().and_then(|r| r.status.clone()).unwrap_or_default()
    }

    fn interfere(&mut self, what: fn(&mut Self) -> &mut Option<Meanwhile>) {
        if let Some(then) = what(self).take() {
            then(self);
        }
    }

    /// What a watch would bring.
    pub fn sync(&mut self) {
        self.seen = self.stored.clone().map(Arc::new);
    }

    /// A user's edit of metadata or spec.
    pub fn edit(&mut self, change: impl FnOnce(&mut FirmwareRollout)) {
        let Some(mut object) = self.stored.take() else { return };
        let before = object.spec.clone();
        change(&mut object);
        if object.spec != before {
            object.metadata.generation = object.metadata.generation.map(|g| g + 1);
        }
        self.store(object);
    }

    /// A user's deletion.
    pub fn delete(&mut self) {
        let now = self.wall;
        self.edit(|object| {
            object.metadata.deletion_timestamp = serde_json::from_value(serde_json::json!(now.to_string())).ok();
            object.metadata.generation = object.metadata.generation.map(|g| g + 1);
        });
    }

    /// Keeps a new version; an object that is being deleted goes with its last finalizer.
    fn store(&mut self, mut object: FirmwareRollout) {
        self.version += 1;
        object.metadata.resource_version = Some(self.version.to_string());
        let held = object.metadata.finalizers.iter().flatten().count() > 0;
        self.stored = (object.metadata.deletion_timestamp.is_none() || held).then_some(object);
    }

    /// The object, if a write that was decided upon an older one may change it.
    fn writable(&mut self, based_on: &FirmwareRollout) -> Result<FirmwareRollout, WriteError> {
        if self.dead() {
            return Err(WriteError::Other("cut off".to_owned()));
        }
        self.outside += 1;
        self.advance(WRITE);
        let stored = self.stored.clone().filter(|s| s.metadata.uid == based_on.metadata.uid).ok_or(WriteError::Gone)?;
        if stored.metadata.resource_version != based_on.metadata.resource_version {
            return Err(WriteError::Conflict);
        }
        Ok(stored)
    }

    fn write_status(&mut self, rollout: &FirmwareRollout, status: &FirmwareRolloutStatus) -> Result<(), WriteError> {
        let mut object = self.writable(rollout)?;
        let old = object.status.take().unwrap_or_default();
        self.check_write(&object, &old, status);
        // As JSON and back: whatever a status loses on the way would be written again and again.
        let json = serde_json::to_value(status).unwrap();
        let read: FirmwareRolloutStatus = serde_json::from_value(json).unwrap();
        assert_eq!(read, *status, "the status does not survive JSON");
        crate::flux::reasons::check("FirmwareRollout", &serde_json::to_value(&read.conditions).unwrap());
        object.status = Some(read);
        self.store(object);
        self.writes += 1;
        if old.claim.is_none() && status.claim.is_some() {
            self.interfere(|state| &mut state.after_claim);
        }
        if self.unclear_writes > 0 {
            self.unclear_writes -= 1;
            return Err(WriteError::Other("timeout".to_owned()));
        }
        self.sync();
        Ok(())
    }

    /// What holds for every status write.
    fn check_write(&mut self, object: &FirmwareRollout, old: &FirmwareRolloutStatus, new: &FirmwareRolloutStatus) {
        assert!(new.run >= old.run, "run went back");
        if let (Some(a), Some(b)) = (&old.claim, &new.claim) {
            assert_eq!(Claim { sent: true, ..a.clone() }, Claim { sent: true, ..b.clone() }, "a claim was replaced");
            assert!(b.sent || !a.sent, "a claim that may have been sent was called unsent");
        }
        let plan = plan(object, old);
        let last = plan.last().map(|s| s.name.clone());
        for entry in &new.stages {
            let before = old.stages.iter().find(|s| s.name == entry.name && old.run == new.run);
            assert!(before.is_none_or(|b| b.attempt <= entry.attempt && b.epoch <= entry.epoch), "went back");
            let from = match before.map(|b| (b.state, b.attempt)) {
                None => StageState::Pending,
                // Another attempt of what had ended badly, or what somebody else cancelled, starts over.
                Some((
                    StageState::Failed | StageState::Aborted | StageState::Running | StageState::Soaking,
                    attempt,
                )) if attempt < entry.attempt => StageState::Pending,
                Some((state, attempt)) => {
                    assert_eq!(attempt, entry.attempt, "{}: another attempt of what had not ended", entry.name);
                    state
                }
            };
            if from == entry.state {
                continue;
            }
            let two_at_once = (from, entry.state) == (StageState::Claimed, StageState::Passed);
            assert!(stage::legal(from, entry.state) || two_at_once, "{}: {from} to {}", entry.name, entry.state);
            if matches!(entry.state, StageState::Passed | StageState::Failed) && !entry.jobs.is_empty() {
                let clocks = self.clocks();
                self.cloud.tick(clocks);
                if entry.state == StageState::Passed && Some(&entry.name) != last.as_ref() {
                    audit::check_drained(&self.cloud, entry);
                }
                if self.audited {
                    // What strikes the operator does not strike the auditor.
                    let faults = Faults { list_lag_ms: self.cloud.faults().list_lag_ms, ..Faults::default() };
                    self.cloud.set_faults(faults);
                    let audit = audit::take(&mut self.cloud, clocks, new, entry);
                    self.audits.push(audit);
                }
            }
        }
    }

    /// What holds for every create that is sent.
    fn check_create(&self, request: &Request) {
        let stored = self.stored.as_ref().expect("a create for a rollout that is gone");
        assert_eq!(stored.metadata.deletion_timestamp, None, "a create for a rollout that is being deleted");
        assert_ne!(stored.spec.suspend, Some(true), "a create for a rollout that is suspended");
        let status = self.status();
        let claim = status.claim.as_ref().expect("a create without a persisted claim");
        assert_eq!(request.parameters.get("Tag.1.Key").map(String::as_str), Some(TAG_KEY));
        assert_eq!(request.parameters.get("Tag.1.Value"), Some(&claim.token), "a create that was not claimed");
        let plan = plan(stored, &status);
        let entry = |name: &str| status.stages.iter().find(|s| s.name == name);
        for (at, earlier) in plan.iter().enumerate().take_while(|(_, s)| s.name != claim.stage) {
            let over =
                entry(&earlier.name).is_some_and(|s| matches!(s.state, StageState::Passed | StageState::Skipped));
            // An edit put it in front of what had started.
            let too_late = plan[at..].iter().take_while(|s| s.name != claim.stage).any(|s| entry(&s.name).is_some());
            let reached = entry(&earlier.name).is_some();
            assert!(over || (!reached && too_late), "{} was started before {} had passed", claim.stage, earlier.name);
        }
        for begun in status.stages.iter().filter(|s| s.name != claim.stage) {
            assert!(stage::ended(begun.state), "{} was started while {} was under way", claim.stage, begun.name);
        }
    }

    fn exchange(&mut self, request: &Request) -> Result<Answer, NoAnswer> {
        if self.dead() {
            return Err(NoAnswer::NotSent("cut off".to_owned()));
        }
        let account = self.account.as_ref().map(Account::sender).ok();
        if request.stamp.as_ref().is_some_and(|stamp| Some(&stamp.sender) != account.as_ref()) {
            return Err(NoAnswer::NotSent("other keys".to_owned()));
        }
        self.outside += 1;
        self.advance(EXCHANGE / 2);
        let mut faults = Faults { list_lag_ms: self.cloud.faults().list_lag_ms, ..self.faults.clone() };
        if request.operation.creates() {
            self.check_create(request);
            if self.throttle_creates > 0 {
                self.throttle_creates -= 1;
                faults.throttle_rate = 1.0;
            } else if self.lose_creates > 0 {
                self.lose_creates -= 1;
                faults.lost_reply_rate = 1.0;
            }
        }
        self.cloud.set_faults(faults);
        let call = Call::unsigned("operator", request.operation, &request.parameters, request.stamp.as_ref());
        let clocks = self.clocks();
        let response = self.cloud.handle(&call, clocks);
        self.advance(EXCHANGE / 2);
        if response.lost {
            return Err(NoAnswer::Lost("reset".to_owned()));
        }
        Ok(Answer {
            http_status: response.http_status,
            body: response.body.into_bytes(),
            date: Timestamp::from_second(clocks.wall.as_second()).ok(),
            now: Some(clocks.fleet),
            retry_after: response.retry_after_ms.map(Duration::from_millis),
        })
    }
}

impl Api for Virtual {
    async fn exchange(&self, request: &Request) -> Result<Answer, NoAnswer> {
        self.lock().exchange(request)
    }
}

impl World for Virtual {
    fn wall(&self) -> Timestamp {
        self.lock().wall
    }

    fn monotonic(&self) -> Duration {
        let state = self.lock();
        state.wall.duration_since(state.start).unsigned_abs()
    }

    fn leadership(&self, _: &FirmwareRollout) -> Option<Duration> {
        Some(Duration::MAX)
    }

    fn rollout(&self, _: &Key) -> Option<Arc<FirmwareRollout>> {
        self.lock().seen.clone()
    }

    async fn account(&self, _: &FirmwareRollout) -> Result<Account, Trouble> {
        self.lock().account.clone()
    }

    fn rival(&self, _: &FirmwareRollout) -> Option<String> {
        self.lock().rival.clone()
    }

    fn siblings(&self, _: &FirmwareRollout) -> BTreeMap<JobId, String> {
        self.lock().siblings.clone()
    }

    async fn names(&self, _: &FirmwareRollout, _: &DevicesFrom) -> Result<Arc<[String]>, Trouble> {
        self.lock().names.clone()
    }

    async fn refresh(&self, _: &Key) -> Option<Arc<FirmwareRollout>> {
        let mut state = self.lock();
        if state.dead() {
            return None;
        }
        state.sync();
        state.seen.clone()
    }

    async fn write_status(&self, rollout: &FirmwareRollout, status: &FirmwareRolloutStatus) -> Result<(), WriteError> {
        self.lock().write_status(rollout, status)
    }

    async fn set_finalizer(&self, rollout: &FirmwareRollout, present: bool) -> Result<(), WriteError> {
        let mut state = self.lock();
        let mut object = state.writable(rollout)?;
        let finalizers = object.metadata.finalizers.get_or_insert_default();
        finalizers.retain(|f| f != FINALIZER);
        if present {
            finalizers.push(FINALIZER.to_owned());
        }
        state.store(object);
        state.sync();
        Ok(())
    }

    async fn create(&self, _: &FirmwareRollout, request: &Request) -> Outcome {
        self.lock().interfere(|state| &mut state.before_create);
        let mut request = request.clone();
        if let Some(names) = request.list.take() {
            let mut state = self.lock();
            let clocks = state.clocks();
            let url = state.cloud.list_file(&names, clocks);
            request.parameters.insert("DnListFileUrl".to_owned(), url);
        }
        let outcome = calls::create(self, &request).await;
        self.lock().interfere(|state| &mut state.after_create);
        outcome
    }

    async fn cancel(&self, _: &FirmwareRollout, job: &JobId, pending: Pending) -> Result<(), CallError> {
        let notified = pending == Pending::All;
        let scheduled = stage::is_scheduled(self.lock().stored.as_ref().and_then(|r| r.status.as_ref()), job);
        let flags = CancelFlags { queued: true, unconfirmed: true, notified, scheduled, ..CancelFlags::default() };
        calls::cancel_tasks(self, &CallContext::default(), job, flags).await.map(|_| ())
    }

    async fn end_policy(&self, _: &FirmwareRollout, job: &JobId) -> Result<(), CallError> {
        changing::cancel_policy(self, &CallContext::default(), job).await
    }

    async fn announce(&self, _: &FirmwareRollout, notes: &[Note]) {
        self.lock().notes.extend_from_slice(notes);
    }
}

/// The plan in force.
fn plan(object: &FirmwareRollout, status: &FirmwareRolloutStatus) -> Arc<[Stage]> {
    let course = course::of(&object.spec, &revision::of_spec(&object.spec), status);
    course::plan(&stage::plan(&object.spec).into(), course, status)
}
