//! How one task of a controller process sees the world: the same traits that the real shell implements. Every call
//! yields twice, before its effect and before its answer. What may happen there is chosen elsewhere.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use fota::api::rollout::DevicesFrom;
use fota::api::{FirmwareRollout, FirmwareRolloutStatus};
use fota::cloud::Call;
use fota::controller::memory::Memory;
use fota::controller::world::{Key, World, WriteError};
use fota::ota::calls::{self, CallContext, CancelFlags};
use fota::ota::changing;
use fota::ota::code::{self, Class};
use fota::ota::limits::Limits;
use fota::ota::outcome::{CallError, Outcome};
use fota::ota::{Answer, Api, JobId, NoAnswer, Operation, Request, Stamp};
use fota::rollout::decide::Pending;
use fota::rollout::observed::{Account, Trouble};
use fota::rollout::story::Note;
use jiff::Timestamp;

use super::event::{Event, Place, Point};
use super::scene::{LISTS, SECRET};
use super::state::{Late, SECRET_LIFE_MS, Sent, Slot, State, Strike, millis};

/// How long a call is on its way, there and back.
const LATENCY_MS: i64 = 20;
const SLOW_MS: i64 = 3_000;
/// When the shell gives up on an answer.
const CLOUD_TIMEOUT_MS: i64 = 10_000;
const SERVER_TIMEOUT_MS: i64 = 15_000;
const MINUTE_MS: i64 = 60_000;

/// One task of one life of one process.
#[derive(Clone)]
pub struct View {
    pub state: Arc<Mutex<State>>,
    pub process: usize,
    /// Which of all tasks.
    pub task: usize,
}

/// Gives the schedule its turn.
struct Pause<'a> {
    view: &'a View,
    slot: Option<Slot>,
}

impl Future for Pause<'_> {
    type Output = Option<Event>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Event>> {
        let slot = self.slot.take();
        let mut state = self.view.lock();
        let kept = &mut state.slots[self.view.task];
        match slot {
            Some(slot) => {
                *kept = slot;
                Poll::Pending
            }
            None => Poll::Ready(kept.event.take()),
        }
    }
}

impl View {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn memory(&self) -> Arc<Memory> {
        self.lock().processes[self.process].memory.clone()
    }

    /// Yields at a place, and says what happens to the call there.
    pub async fn at(&self, place: Place) -> Option<Event> {
        let ready = self.lock().now + LATENCY_MS;
        let event = Pause { view: self, slot: Some(Slot { ready, place: Some(place), ..Slot::default() }) }.await;
        if event == Some(Event::Slow) {
            self.wait(SLOW_MS).await;
        }
        event
    }

    /// Lets a request arrive when nobody waits for its answer any more.
    fn later(&self, after: i64, what: Sent) {
        let mut state = self.lock();
        let due = state.now + after;
        state.late.push(Late { due, what });
    }

    async fn answer(&self, point: Point) {
        self.at(Place::after(point)).await;
    }

    /// Waits, whatever happens.
    pub async fn wait(&self, for_ms: i64) {
        let ready = self.lock().now.saturating_add(for_ms);
        Pause { view: self, slot: Some(Slot { ready, ..Slot::default() }) }.await;
    }

    /// Sleeps until something is new, at most so long.
    pub async fn sleep(&self, for_ms: i64) {
        let ready = self.lock().now.saturating_add(for_ms);
        Pause { view: self, slot: Some(Slot { ready, wakes: true, ..Slot::default() }) }.await;
    }

    /// Which of its ownerships this is; none: the process does not own the Lease.
    pub fn term(&self) -> Option<u64> {
        let state = self.lock();
        state.leadership(self.process).map(|_| state.processes[self.process].lease.term)
    }

    /// What another part of the process does when an answer showed a tag.
    pub fn echoed(&self, account: &Account) {
        self.lock().echoed.insert(account.access_key.clone());
    }

    /// The account, read again when what was read is too old.
    pub async fn ready(&self) -> Result<Account, Trouble> {
        let known = {
            let state = self.lock();
            let now = state.monotonic(self.process);
            let known = state.processes[self.process].account.clone();
            known.filter(|(read, _)| now - read < SECRET_LIFE_MS).map(|(_, account)| account)
        };
        let account = match known {
            Some(account) => account,
            None => self.read_account().await,
        };
        // Findings reach the account's status without a new reading of its Secret.
        account.map(|account| {
            let tag_echoed = self.lock().echoed.contains(&account.access_key);
            Account { tag_echoed, ..account }
        })
    }

    async fn read_account(&self) -> Result<Account, Trouble> {
        let event = self.at(Place::before(Point::Account)).await;
        let found = self.lock().account();
        self.answer(Point::Account).await;
        let mut state = self.lock();
        let read = state.monotonic(self.process);
        let process = &mut state.processes[self.process];
        let account = match (event, &process.account) {
            (Some(Event::Fail), Some((_, Ok(old)))) => Ok(old.clone()),
            (Some(Event::Fail), _) => {
                let message = "Secret keys cannot be read in time".to_owned();
                Err(Trouble { reason: "SecretUnreadable", message, stalled: false })
            }
            _ => found,
        };
        process.account = Some((read, account.clone()));
        account
    }

    /// A write to the API server, with everything that may happen to it.
    async fn write(
        &self,
        point: Point,
        sent: impl FnOnce() -> Sent + Send,
        apply: impl FnOnce(&mut State) -> Result<Arc<FirmwareRollout>, WriteError> + Send,
    ) -> Result<Arc<FirmwareRollout>, WriteError> {
        let timeout = || WriteError::Other("the API server did not answer in time".to_owned());
        match self.at(Place::before(point)).await {
            Some(Event::Fail) => {
                self.answer(point).await;
                return Err(WriteError::Other("etcd is unavailable".to_owned()));
            }
            Some(Event::LostReply) => {
                _ = apply(&mut self.lock());
                self.wait(SERVER_TIMEOUT_MS).await;
                return Err(timeout());
            }
            Some(Event::Late5s) => {
                self.later(5_000, sent());
                self.wait(SERVER_TIMEOUT_MS).await;
                return Err(timeout());
            }
            Some(Event::Conflict) => self.lock().server.edit(|object| {
                let annotations = object.metadata.annotations.get_or_insert_default();
                let touched = annotations.entry("example.com/touched".to_owned()).or_default();
                touched.push('.');
            }),
            _ => {}
        }
        let (result, version) = {
            let mut state = self.lock();
            let result = apply(&mut state);
            (result, state.server.newest())
        };
        self.answer(point).await;
        if let Ok(written) = &result {
            self.lock().processes[self.process].overlay = Some((version, written.clone()));
        }
        result
    }

    /// A create with its list file, which is uploaded anew.
    async fn uploaded(&self, request: &Request) -> Result<Request, CallError> {
        let mut request = request.clone();
        let Some(names) = request.list.take() else { return Ok(request) };
        let event = self.at(Place::before(Point::Upload)).await;
        let url = {
            let mut state = self.lock();
            let clocks = state.clocks();
            state.cloud.list_file(&names, clocks)
        };
        self.answer(Point::Upload).await;
        match event {
            Some(Event::NotSent | Event::Fail | Event::Throttled) => {
                Err(CallError::new(Class::Transient, code::NOT_SENT, "the list file could not be uploaded"))
            }
            _ => {
                request.parameters.insert("DnListFileUrl".to_owned(), url);
                Ok(request)
            }
        }
    }

    async fn send(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let point = self.point(request);
        let lost = || Err(NoAnswer::Lost("timed out: no answer".to_owned()));
        let (call, key) = {
            let state = self.lock();
            let key = state.key_of(self.process);
            (Call::unsigned(key, request.operation, &request.parameters, request.stamp.as_ref()), key)
        };
        let mut strike = Strike::None;
        match self.at(Place::before(point)).await {
            Some(Event::NotSent) => {
                self.answer(point).await;
                return Err(NoAnswer::NotSent("failed: connection refused".to_owned()));
            }
            Some(Event::Echo) => {
                self.answer(point).await;
                let code = code::SIGNATURE_DOES_NOT_MATCH;
                let said = format!("not matched. server string to sign is:POST&{SECRET}");
                return Ok(self.answered(
                    400,
                    format!(r#"{{"RequestId":"R","Code":"{code}","Message":"{said}"}}"#),
                    None,
                ));
            }
            Some(Event::LostReply) => {
                self.lock().perform(self.process, &call, strike);
                self.wait(CLOUD_TIMEOUT_MS).await;
                return lost();
            }
            Some(late @ (Event::Late5s | Event::Late18s | Event::Late4m | Event::Late14m | Event::Late16m)) => {
                let after = match late {
                    Event::Late18s => 18_000,
                    Event::Late4m => 4 * MINUTE_MS,
                    Event::Late14m => 14 * MINUTE_MS,
                    Event::Late16m => 16 * MINUTE_MS,
                    _ => 5_000,
                };
                self.later(after, Sent::Call { process: self.process, call });
                self.wait(CLOUD_TIMEOUT_MS).await;
                return lost();
            }
            Some(Event::Fail) => strike = Strike::Error,
            Some(Event::Throttled) => strike = Strike::Throttle,
            _ => {}
        }
        let revoked = {
            let state = self.lock();
            super::scene::KEYS.iter().take(state.revoked).any(|k| *k == key)
        };
        if revoked {
            self.answer(point).await;
            let code = code::INVALID_ACCESS_KEY_ID_INACTIVE;
            return Ok(self.answered(
                400,
                format!(r#"{{"RequestId":"R","Code":"{code}","Message":"disabled"}}"#),
                None,
            ));
        }
        let response = self.lock().perform(self.process, &call, strike);
        let answer = self.answered(response.http_status, response.body, response.retry_after_ms);
        self.answer(point).await;
        Ok(answer)
    }

    /// An answer as it leaves the cloud now.
    fn answered(&self, http_status: u16, body: String, retry_after_ms: Option<u64>) -> Answer {
        let clocks = self.lock().clocks();
        Answer {
            http_status,
            body: body.into_bytes(),
            date: Timestamp::from_second(clocks.wall.as_second()).ok(),
            now: Some(clocks.fleet),
            retry_after: retry_after_ms.map(Duration::from_millis),
        }
    }

    fn point(&self, request: &Request) -> Point {
        match request.operation {
            Operation::QueryOTAJob => Point::ReadJob,
            Operation::ListOTATaskByJob => Point::ReadTasks,
            Operation::ListOTAJobByFirmware => Point::ListJobs,
            Operation::QueryOTAFirmware | Operation::ListOTAFirmware => Point::ReadFirmware,
            Operation::CancelOTATaskByJob | Operation::CancelOTAStrategyByJob => Point::Cancel,
            _ => {
                let nonce = request.stamp.as_ref().map(|stamp| stamp.nonce.as_str()).unwrap_or_default();
                if self.lock().checker.first_send(nonce) { Point::Create } else { Point::Replay }
            }
        }
    }
}

impl Api for View {
    async fn exchange(&self, request: &Request) -> Result<Answer, NoAnswer> {
        let limits = Limits::default();
        let (operation, stamped) = (request.operation, request.stamp.is_some());
        let wait = {
            let mut state = self.lock();
            let now = state.instant(self.process);
            let next = state.processes[self.process].quota.next_slot(operation, now);
            if stamped && next.saturating_duration_since(now) > limits.patience {
                return Err(NoAnswer::NotSent("no slot within patience".to_owned()));
            }
            let slot = state.processes[self.process].quota.reserve(operation, now);
            state.until(self.process, slot)
        };
        if wait > 0 {
            self.wait(wait).await;
        }
        let same_sender = |stamp: &Stamp| {
            let state = self.lock();
            let account = state.processes[self.process].account.as_ref().and_then(|(_, account)| account.as_ref().ok());
            account.is_some_and(|account| account.sender() == stamp.sender)
        };
        if request.stamp.as_ref().is_some_and(|stamp| !same_sender(stamp)) {
            return Err(NoAnswer::NotSent("by other keys it would be another request".to_owned()));
        }
        // Right before it goes out: a create must end before somebody else may begin.
        let longest = if stamped { limits.stamped } else { Duration::ZERO };
        if self.lock().leadership(self.process).is_none_or(|left| left <= longest) {
            return Err(NoAnswer::NotSent("another replica owns the account".to_owned()));
        }
        let answer = self.send(request).await?;
        let mut state = self.lock();
        let now = state.instant(self.process);
        let quota = &mut state.processes[self.process].quota;
        if answer.http_status >= 400 && answer.body.windows(10).any(|w| w == b"Throttling") {
            quota.throttled(operation, now, answer.retry_after);
        } else {
            quota.succeeded(operation, now);
        }
        Ok(answer)
    }
}

impl World for View {
    fn wall(&self) -> Timestamp {
        self.lock().wall(self.process)
    }

    fn monotonic(&self) -> Duration {
        millis(self.lock().monotonic(self.process))
    }

    fn leadership(&self, _: &FirmwareRollout) -> Option<Duration> {
        self.lock().leadership(self.process)
    }

    fn prolong(&self, _: &FirmwareRollout) {
        let process = self.process;
        self.lock().wake(process);
    }

    fn rollout(&self, _: &Key) -> Option<Arc<FirmwareRollout>> {
        self.lock().seen(self.process)
    }

    async fn account(&self, _: &FirmwareRollout) -> Result<Account, Trouble> {
        self.ready().await
    }

    fn rival(&self, _: &FirmwareRollout) -> Option<String> {
        None
    }

    async fn names(&self, _: &FirmwareRollout, _: &DevicesFrom) -> Result<Arc<[String]>, Trouble> {
        let relisted = self.lock().relisted;
        Ok(LISTS[usize::from(relisted)].iter().map(|name| (*name).to_owned()).collect())
    }

    async fn refresh(&self, _: &Key) -> Option<Arc<FirmwareRollout>> {
        let event = self.at(Place::before(Point::Refresh)).await;
        let (object, version) = {
            let state = self.lock();
            (state.server.current().cloned(), state.server.newest())
        };
        self.answer(Point::Refresh).await;
        if event == Some(Event::Fail) {
            return None;
        }
        let mut state = self.lock();
        state.processes[self.process].overlay = object.clone().map(|object| (version, object));
        drop(state);
        object.and_then(|_| self.lock().seen(self.process))
    }

    async fn write_status(&self, rollout: &FirmwareRollout, status: &FirmwareRolloutStatus) -> Result<(), WriteError> {
        let point = kind(rollout.status.as_ref(), status);
        let sent = || Sent::Status { based_on: Box::new(rollout.clone()), status: Box::new(status.clone()) };
        self.write(point, sent, |state| state.apply_status(rollout, status)).await.map(drop)
    }

    async fn set_finalizer(&self, rollout: &FirmwareRollout, present: bool) -> Result<(), WriteError> {
        let sent = || Sent::Finalizer { based_on: Box::new(rollout.clone()), present };
        self.write(Point::Finalize, sent, |state| state.apply_finalizer(rollout, present)).await.map(drop)
    }

    async fn create(&self, _: &FirmwareRollout, request: &Request) -> Outcome {
        match self.ready().await {
            Ok(_) => match self.uploaded(request).await {
                Ok(request) => calls::create(self, &request).await,
                Err(refused) => Outcome::Rejected(refused),
            },
            Err(trouble) => Outcome::Rejected(CallError::new(Class::Transient, code::NOT_SENT, &trouble.message)),
        }
    }

    async fn cancel(&self, _: &FirmwareRollout, job: &JobId, pending: Pending) -> Result<(), CallError> {
        self.ready().await.map_err(|t| CallError::new(Class::Transient, code::NOT_SENT, &t.message))?;
        let notified = pending == Pending::All;
        let flags = CancelFlags { queued: true, unconfirmed: true, notified, ..CancelFlags::default() };
        match calls::cancel_tasks(self, &CallContext::default(), job, flags).await {
            Err(error) if error.class == Class::Done || error.is(code::INVALID_OTA_JOB_ID) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    async fn end_policy(&self, _: &FirmwareRollout, job: &JobId) -> Result<(), CallError> {
        changing::cancel_policy(self, &CallContext::default(), job).await
    }

    async fn announce(&self, _: &FirmwareRollout, notes: &[Note]) {
        for note in notes {
            let event = self.at(Place::before(Point::Tell)).await;
            if event != Some(Event::Fail) {
                self.lock().checker.told(&note.note);
            }
        }
    }
}

/// What kind of write a status is.
fn kind(old: Option<&FirmwareRolloutStatus>, new: &FirmwareRolloutStatus) -> Point {
    let none = FirmwareRolloutStatus::default();
    let old = old.unwrap_or(&none);
    let jobs = |status: &FirmwareRolloutStatus| status.stages.iter().map(|s| s.jobs.len()).sum::<usize>();
    match (&old.claim, &new.claim) {
        (None, Some(_)) => Point::WriteClaim,
        (Some(_), None) if jobs(new) > jobs(old) => Point::WriteRecord,
        (Some(_), None) => Point::WriteWithdraw,
        (Some(old), Some(new)) if old.sent != new.sent => Point::WriteTakeOver,
        _ if old.stages.iter().zip(&new.stages).any(|(a, b)| a.state != b.state) => Point::WriteEnd,
        _ => Point::WriteOther,
    }
}
