//! The judge. It knows what was written to the API server and what arrived at the cloud, in order, and shares no code
//! with the decision core: its rules are written again here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fota::api::rollout::Supersede;
use fota::api::status::{Claim, FirmwareRolloutStatus, Phase, StageKind, StageState, StageStatus};
use fota::api::{ABORT, ADOPT, FirmwareRollout, ORPHAN, RETRY, condition};
use fota::cloud::Cloud;
use fota::cloud::log::Entry;
use fota::ota::Operation;

use super::scene::{SECRET, Scene};

/// Parameters that belong to the envelope, not to what is asked for.
const ENVELOPE: [&str; 6] = ["Action", "Version", "Format", "AccessKeyId", "SignatureNonce", "Timestamp"];
/// Tasks in these states may still reach a device, or would if nobody cancelled them.
const CANCELLABLE: [&str; 3] = ["QUEUED", "NOTIFIED", "CONFIRM"];

/// One part of one attempt of a stage of a run of an object, as its claims say.
#[derive(Debug)]
struct Part {
    uid: String,
    run: i64,
    stage: String,
    attempt: i32,
    part: i32,
    kind: Option<StageKind>,
    /// Every claim that was written for it.
    claims: Vec<Claim>,
    /// Jobs that the cloud made for it.
    jobs: Vec<String>,
}

/// Creates without an answer, of one kind of account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// Claims that were marked as possibly sent.
    pub all: u64,
    /// Those for which a person was asked.
    pub asked: u64,
}

/// How creates without an answer ended, by what was known of their account when they were marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Healing {
    /// It shows tags.
    pub known: Unanswered,
    /// It was not seen yet whether it shows tags.
    pub unknown: Unanswered,
    /// Its key was replaced before the create's end was known: of the new one nothing was known.
    pub rekeyed: Unanswered,
}

/// What is known of the account at a write.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Digest of its present key.
    pub key: &'a str,
    /// Whether it is known to show tags to that key.
    pub echoed: bool,
}

/// A create whose end was not known.
#[derive(Debug, Clone, Copy)]
struct Open {
    echoed: bool,
    rekeyed: bool,
    asked: bool,
}

/// What was seen so far.
#[derive(Debug)]
pub struct Checker {
    failing: bool,
    parts: BTreeMap<String, Part>,
    nonces: BTreeSet<String>,
    /// Calls of the last second, by process and operation.
    recent: BTreeMap<(usize, Operation), VecDeque<i64>>,
    /// Somebody said that an unanswered create made no job.
    absolved: bool,
    aborted: bool,
    /// The cloud shows no tags anywhere.
    untagged: bool,
    /// Somebody edited steps.
    edited: bool,
    /// Jobs that somebody changed in the console, and whether they are gone.
    meddled: BTreeMap<String, bool>,
    orphaned: BTreeSet<String>,
    /// Creates whose end was not known, by tag and epoch.
    ambiguous: BTreeMap<(String, i32), Open>,
    pub writes: u32,
    pub violation: Option<String>,
}

/// Whether a parameter says whom a job is for: a claim keeps only a digest of that.
fn names_devices(parameter: &str) -> bool {
    parameter.starts_with("TargetDeviceName.") || parameter == "DnListFileUrl"
}

impl Checker {
    pub fn new(scene: &Scene) -> Self {
        Self {
            failing: scene.failing || scene.wide,
            parts: BTreeMap::new(),
            nonces: BTreeSet::new(),
            recent: BTreeMap::new(),
            absolved: false,
            aborted: false,
            untagged: !scene.tags_listed && !scene.tags_queried,
            edited: false,
            meddled: BTreeMap::new(),
            orphaned: BTreeSet::new(),
            ambiguous: BTreeMap::new(),
            writes: 0,
            violation: None,
        }
    }

    /// The first broken rule counts.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(why());
        }
    }

    fn demand(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.fail(why);
        }
    }

    /// Whether a nonce goes out for the first time.
    pub fn first_send(&mut self, nonce: &str) -> bool {
        self.nonces.insert(nonce.to_owned())
    }

    pub fn commanded(&mut self, name: &str) {
        self.absolved |= name == RETRY || name == ADOPT;
        self.aborted |= name == ABORT;
    }

    /// Somebody edited the steps.
    pub const fn edited(&mut self) {
        self.edited = true;
    }

    /// Somebody changed a job in the console.
    pub fn meddled(&mut self, job: &str, gone: bool) {
        *self.meddled.entry(job.to_owned()).or_default() |= gone;
    }

    /// An event was published.
    pub fn told(&mut self, note: &str) {
        self.demand(!note.contains(SECRET), || format!("an event tells a secret: {note}"));
    }

    /// A call arrived at the cloud and was answered, or would have been.
    pub fn called(&mut self, entry: &Entry, object: Option<&FirmwareRollout>, cloud: &Cloud) {
        if entry.operation.starts_with("Create") && entry.code.is_none() {
            self.created(entry, object, cloud);
        }
    }

    /// A process called so often.
    pub fn within_quota(&mut self, process: usize, now: i64, operation: Operation) {
        let most = operation.qps() as usize;
        let recent = self.recent.entry((process, operation)).or_default();
        while recent.front().is_some_and(|at| now - at >= 1_000) {
            recent.pop_front();
        }
        recent.push_back(now);
        let count = recent.len();
        self.demand(count <= most, || format!("{count} calls of {operation} by process {process} within a second"));
    }

    /// The cloud made a job.
    fn created(&mut self, entry: &Entry, object: Option<&FirmwareRollout>, cloud: &Cloud) {
        let job = entry.job_id.clone().unwrap_or_default();
        let own = entry.params.get("Tag.1.Key").is_some_and(|key| key == "fota.id");
        let token = entry.params.get("Tag.1.Value").cloned().unwrap_or_default();
        let Some(part) = self.parts.get_mut(&token).filter(|_| own) else {
            return self.fail(|| format!("job {job} was made without a persisted claim: {:?}", entry.params));
        };
        part.jobs.push(job.clone());
        let (jobs, uid, run, attempt) = (part.jobs.clone(), part.uid.clone(), part.run, part.attempt);
        let name = format!("{} of run {run}, attempt {attempt}, part {}", part.stage, part.part);
        let asked: BTreeMap<_, _> = entry
            .params
            .iter()
            .filter(|(key, _)| !ENVELOPE.contains(&key.as_str()) && !names_devices(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        // Of a file only the cloud knows the names: its job has as many tasks, or fewer.
        let file = entry.params.contains_key("DnListFileUrl");
        let names = entry.params.keys().filter(|key| key.starts_with("TargetDeviceName.")).count();
        let timestamp = entry.params.get("Timestamp").cloned().unwrap_or_default();
        let key = format!("digest-of-{}", entry.access_key_id);
        let exact = part.claims.iter().any(|claim| {
            claim.call.operation == entry.operation
                && claim.call.parameters == asked
                && claim.call.list_file == file
                && (file || claim.call.devices.as_ref().map_or(0, |d| usize::try_from(d.count).unwrap_or(0)) == names)
                && format!("{:.0}", claim.at.0) == timestamp
                && claim.call.access_key == key
        });
        let drawn_again = attempt > 1
            && part.kind == Some(StageKind::Percent)
            && entry.params.get("TargetSelection").is_some_and(|s| s == "GRAY")
            && self.parts.values().any(|p| {
                p.run == run
                    && p.uid == uid
                    && p.attempt < attempt
                    && !p.jobs.is_empty()
                    && name.starts_with(&format!("{} of", p.stage))
            });
        self.demand(jobs.len() == 1, || format!("{} jobs for stage {name} (tag {token}): {jobs:?}", jobs.len()));
        self.demand(exact, || format!("job {job} is not what stage {name} had claimed: {:?}", entry.params));
        self.demand(!drawn_again, || format!("a retry of stage {name} draws its share of the fleet again"));
        let status = object.filter(|o| o.metadata.uid.as_deref() == Some(&uid)).and_then(|o| o.status.as_ref());
        let open = status.and_then(|s| s.claim.as_ref()).is_some_and(|claim| claim.token == token);
        let released = self.orphaned.contains(&uid);
        self.demand(open || released || self.absolved, || {
            format!("job {job} of stage {name} was made after its claim had been closed")
        });
        self.no_earlier_attempt_lives(&token, cloud);
    }

    /// Tasks of a job that may still reach a device; of one that was removed in the console nobody knows.
    fn pending(&self, cloud: &Cloud, job: &str) -> usize {
        if self.meddled.get(job) == Some(&true) { 0 } else { cancellable(cloud, job) }
    }

    /// Whether a policy still gives devices tasks.
    fn stands(&self, cloud: &Cloud, job: &str) -> bool {
        let found = cloud.jobs().into_iter().find(|report| report.text("JobId") == job);
        self.meddled.get(job) != Some(&true) && found.is_some_and(|report| report.text("JobStatus") != "CANCELED")
    }

    /// At most one attempt of a stage has tasks that wait for devices.
    fn no_earlier_attempt_lives(&mut self, token: &str, cloud: &Cloud) {
        let Some(part) = self.parts.get(token) else { return };
        let earlier = self
            .parts
            .values()
            .filter(|p| (&p.uid, p.run, &p.stage) == (&part.uid, part.run, &part.stage) && p.attempt < part.attempt);
        let alive = earlier.flat_map(|p| &p.jobs).find(|job| self.pending(cloud, job) > 0).cloned();
        let name = format!("{} attempt {}", part.stage, part.attempt);
        self.demand(alive.is_none(), || format!("{name} began while job {alive:?} of an earlier attempt was pending"));
    }

    /// A status was written over another.
    pub fn wrote(
        &mut self,
        now: i64,
        object: &FirmwareRollout,
        new: &FirmwareRolloutStatus,
        cloud: &Cloud,
        account: Known<'_>,
    ) {
        self.writes += 1;
        let none = FirmwareRolloutStatus::default();
        let old = object.status.as_ref().unwrap_or(&none);
        self.demand(new != old, || "a status was written that says nothing new".to_owned());
        self.demand(new.run >= old.run, || format!("run went back from {} to {}", old.run, new.run));
        self.tells_why(new);
        for entry in &new.stages {
            let before = old.stages.iter().find(|s| s.name == entry.name).filter(|_| new.run == old.run);
            self.moved(before, entry);
            let passed = entry.state == StageState::Passed && before.is_none_or(|b| b.state != StageState::Passed);
            let followed = object.spec.full.is_some() && !entry.kind.is_full();
            if passed && followed && entry.kind != StageKind::Verify {
                let left = entry.jobs.iter().find(|job| {
                    counts(cloud, &job.id)
                        .is_some_and(|c| c.get("QUEUED").unwrap_or(&0) + c.get("CONFIRM").unwrap_or(&0) > 0)
                });
                self.demand(left.is_none(), || format!("stage {} passed with tasks left over", entry.name));
            }
        }
        if new.run == old.run {
            let lost = old.stages.iter().find(|s| new.stages.iter().all(|n| n.name != s.name));
            self.demand(lost.is_none(), || format!("stage {:?} vanished from the status", lost.map(|s| &s.name)));
        }
        match (&old.claim, &new.claim) {
            (None, Some(claim)) => self.claimed(now, object, new, claim),
            (Some(a), Some(b)) => {
                let same = Claim { sent: true, ..a.clone() } == Claim { sent: true, ..b.clone() };
                self.demand(same, || "a claim was replaced without having been closed".to_owned());
                self.demand(b.sent || !a.sent, || "a claim that may have been sent was called unsent".to_owned());
            }
            (Some(claim), None) => self.closed(claim, new),
            (None, None) => {}
        }
        // A claim's last write closes it, and tells by which key.
        if let Some(claim) = new.claim.as_ref().or(old.claim.as_ref()) {
            self.weigh(claim, new, account);
        }
    }

    /// Every status says where the rollout stands, in one way.
    fn tells_why(&mut self, new: &FirmwareRolloutStatus) {
        let holds = |kind| condition::find(&new.conditions, kind).filter(|c| c.status == "True");
        let standing: Vec<_> = ["Ready", "Reconciling", "Stalled"].into_iter().filter_map(holds).collect();
        self.demand(standing.len() == 1, || format!("{} of Ready, Reconciling, Stalled hold", standing.len()));
        let ready = holds("Ready").is_some();
        let told = new.next.as_ref().is_some_and(|next| !next.reason.is_empty() && !next.because.is_empty());
        self.demand(ready || told, || "it waits without saying why".to_owned());
        let timed = new.next.as_ref().is_none_or(|next| next.reason != "Soaking" || next.earliest.is_some());
        self.demand(timed, || "it soaks without saying until when".to_owned());
    }

    /// A stage as it was and is, within a run.
    fn moved(&mut self, before: Option<&StageStatus>, now: &StageStatus) {
        let attempt = before.map_or(1, |b| b.attempt);
        let epoch = before.map_or(0, |b| b.epoch);
        let name = &now.name;
        self.demand(now.attempt >= attempt && now.epoch >= epoch, || format!("attempt or epoch of {name} went back"));
        let from = match before.map(|b| b.state) {
            None => StageState::Pending,
            Some(StageState::Failed | StageState::Aborted) if now.attempt == attempt + 1 => StageState::Pending,
            // What was cancelled in the console, or found its devices busy, may be made up for.
            Some(StageState::Running | StageState::Soaking)
                if now.attempt == attempt + 1
                    && now.jobs.iter().any(|job| {
                        self.meddled.contains_key(&job.id) || job.counts.is_some_and(|c| c.conflict > 0)
                    }) =>
            {
                StageState::Pending
            }
            Some(state) => {
                self.demand(now.attempt == attempt, || format!("{name} has another attempt without having failed"));
                state
            }
        };
        self.demand(from == now.state || may_move(from, now.state), || {
            format!("{name} went from {from} to {}", now.state)
        });
    }

    /// A new claim.
    fn claimed(&mut self, now: i64, object: &FirmwareRollout, new: &FirmwareRolloutStatus, claim: &Claim) {
        let name = format!("{} of run {}", claim.stage, claim.run);
        self.demand(object.metadata.deletion_timestamp.is_none(), || format!("{name} was claimed while being deleted"));
        self.demand(object.spec.suspend != Some(true) && !new.paused, || format!("{name} was claimed while suspended"));
        self.demand(!new.phase.is_some_and(Phase::is_given_up), || format!("{name} was claimed in a run given up"));
        let ahead = claim.at.0.as_millisecond() - super::state::at(now).as_millisecond();
        self.demand(ahead <= 62_000, || format!("{name} was claimed {ahead} ms ahead of the cloud"));
        self.demand(claim.run == new.run, || format!("{name} was claimed in run {}", new.run));
        let over = |stage: &str| {
            let entry = new.stages.iter().find(|s| s.name == stage);
            entry.is_some_and(|s| matches!(s.state, StageState::Passed | StageState::Skipped))
        };
        let mut plan: Vec<&str> = Vec::new();
        plan.extend(object.spec.verify.iter().map(|_| "verify"));
        plan.extend(object.spec.gray.iter().flatten().map(|step| step.name.as_str()));
        plan.extend(object.spec.full.iter().map(|_| "full"));
        // A run that other firmware waits for goes on as it was started.
        let kept: Vec<&str> = new.effective.iter().flat_map(|e| &e.stages).map(|s| s.name.as_str()).collect();
        let other = new.firmware.as_ref().map(|f| f.id.as_str()) != object.spec.firmware.id.as_deref();
        let plan = if object.spec.supersede == Some(Supersede::Queue) && other { kept } else { plan };
        let has_jobs = |stage: &str| new.stages.iter().any(|s| s.name == stage && !s.jobs.is_empty());
        // What has begun goes on, also when an edit has taken it out of the spec.
        let position = plan.iter().position(|s| *s == claim.stage);
        self.demand(position.is_some() || has_jobs(&claim.stage), || format!("{name} was claimed and is no stage"));
        let before = &plan[..position.unwrap_or(0)];
        // A step that an edit put in front of one that is over is not run any more.
        let last_over = before.iter().rposition(|s| over(s)).map_or(0, |at| at + 1);
        let missing = before[last_over..].first();
        self.demand(missing.is_none(), || format!("{name} was claimed before {missing:?} had passed"));
        let begun = |s: &&StageStatus| {
            s.name != claim.stage && s.state != StageState::Pending && !s.jobs.is_empty() && !over(&s.name)
        };
        let unfinished = new.stages.iter().find(begun).map(|s| &s.name);
        self.demand(unfinished.is_none(), || format!("{name} was claimed before {unfinished:?} had passed"));

        let uid = object.metadata.uid.clone().unwrap_or_default();
        let kind = new.stages.iter().find(|s| s.name == claim.stage).map(|s| s.kind);
        let same_part = |p: &Part| {
            (&p.uid, p.run, &p.stage, p.attempt, p.part) == (&uid, claim.run, &claim.stage, claim.attempt, claim.part)
        };
        let twin = self.parts.iter().any(|(token, part)| *token != claim.token && same_part(part));
        self.demand(!twin, || format!("{name} has two tags"));
        let part = self.parts.entry(claim.token.clone()).or_insert_with(|| Part {
            uid: uid.clone(),
            run: claim.run,
            stage: claim.stage.clone(),
            attempt: claim.attempt,
            part: claim.part,
            kind,
            claims: Vec::new(),
            jobs: Vec::new(),
        });
        let (same, grows) = (same_part(part), part.claims.last().is_none_or(|last| last.epoch < claim.epoch));
        part.claims.push(claim.clone());
        self.demand(same, || format!("{name} has the tag of another part"));
        self.demand(grows, || format!("{name} was claimed again in the same epoch"));
    }

    /// A claim is over: its job is recorded, or there is none.
    fn closed(&mut self, claim: &Claim, new: &FirmwareRolloutStatus) {
        let made = self.parts.get(&claim.token).map(|part| part.jobs.clone()).unwrap_or_default();
        let recorded: Vec<_> =
            new.stages.iter().flat_map(|s| &s.jobs).filter(|j| j.token == claim.token).map(|j| j.id.clone()).collect();
        let name = format!("{} of run {}", claim.stage, claim.run);
        let lost = made.iter().find(|job| !recorded.contains(job));
        self.demand(lost.is_none() || self.absolved, || {
            format!("the claim of {name} was closed without its job {lost:?}")
        });
        let foreign = recorded.iter().find(|job| !made.contains(job));
        self.demand(foreign.is_none() || self.absolved, || format!("{name} took the job {foreign:?} for its own"));
    }

    /// Whether a create's end is not known, and whether a person is asked for it.
    fn weigh(&mut self, claim: &Claim, new: &FirmwareRolloutStatus, account: Known<'_>) {
        if !claim.sent {
            return;
        }
        let key = (claim.token.clone(), claim.epoch);
        let fresh = Open { echoed: account.echoed, rekeyed: false, asked: false };
        let open = self.ambiguous.entry(key).or_insert(fresh);
        open.rekeyed |= claim.call.access_key != account.key;
        let stalled = condition::find(&new.conditions, "Stalled").filter(|c| c.status == "True");
        open.asked |= stalled.is_some_and(|c| c.reason == "Ambiguous");
    }

    /// How creates without an answer ended so far.
    pub fn healing(&self) -> Healing {
        let mut healing = Healing::default();
        for open in self.ambiguous.values() {
            let kind = match (open.rekeyed, open.echoed) {
                (true, _) => &mut healing.rekeyed,
                (false, true) => &mut healing.known,
                (false, false) => &mut healing.unknown,
            };
            kind.all += 1;
            kind.asked += u64::from(open.asked);
        }
        healing
    }

    /// The object is gone: nothing of it may be left behind.
    pub fn gone(&mut self, object: &FirmwareRollout, cloud: &Cloud) {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        if object.metadata.annotations.iter().flatten().any(|(key, _)| key == ORPHAN) {
            self.orphaned.insert(uid);
            return;
        }
        let left =
            self.parts.values().filter(|p| p.uid == uid).flat_map(|p| &p.jobs).find(|j| self.pending(cloud, j) > 0);
        let left = left.cloned();
        self.demand(left.is_none(), || format!("the rollout is gone and its job {left:?} still has pending tasks"));
        let policies = self.parts.values().filter(|p| p.uid == uid && p.kind == Some(StageKind::Dynamic));
        let standing = policies.flat_map(|p| &p.jobs).find(|job| self.stands(cloud, job)).cloned();
        self.demand(standing.is_none(), || format!("the rollout is gone and its policy {standing:?} still stands"));
    }

    /// It went before it had our finalizer, and so before any claim.
    pub fn gone_unseen(&mut self) {
        self.demand(self.parts.is_empty() || !self.orphaned.is_empty(), || "it went without being released".to_owned());
    }

    /// Jobs that carry a claim's tag: what a person sees in the cloud's console.
    pub fn console(&self, token: &str) -> Option<String> {
        self.parts.get(token)?.jobs.first().cloned()
    }

    /// Whether a job of the last stage has devices that are out of reach.
    fn waits_for_devices(&self, status: &FirmwareRolloutStatus, cloud: &Cloud) -> bool {
        status.stages.iter().flat_map(|s| &s.jobs).any(|job| cancellable(cloud, &job.id) > 0)
    }

    /// Everything has come to rest.
    pub fn finish(&mut self, object: Option<&FirmwareRollout>, cloud: &Cloud) {
        let status = object.and_then(|o| o.status.as_ref());
        let uid = object.and_then(|o| o.metadata.uid.clone()).unwrap_or_default();
        if let Some(object) = object {
            self.demand(object.metadata.deletion_timestamp.is_none(), || {
                format!("it was deleted and is not released: {}", super::story::summary(status))
            });
        }
        let recorded: BTreeSet<&str> =
            status.iter().flat_map(|s| &s.stages).flat_map(|s| &s.jobs).map(|j| j.id.as_str()).collect();
        let standing: BTreeSet<&str> = status.iter().flat_map(|s| &s.standing).map(|p| p.id.as_str()).collect();
        let given_up = status.and_then(|s| s.phase).is_some_and(Phase::is_given_up);
        let mut wrong = None;
        for part in self.parts.values().filter(|p| !self.orphaned.contains(&p.uid)) {
            let policy = part.kind == Some(StageKind::Dynamic);
            let left = |job: &&String| self.pending(cloud, job) > 0 || (policy && self.stands(cloud, job));
            for job in part.jobs.iter().filter(left) {
                if standing.contains(job.as_str()) {
                    continue;
                }
                let name = format!("job {job} of {} in run {}", part.stage, part.run);
                if part.uid != uid || !recorded.contains(job.as_str()) {
                    // Where no tag is ever shown, somebody's word that there was no job leaves the job to a person.
                    if self.absolved && self.untagged {
                        continue;
                    }
                    wrong = Some(format!("{name} still has pending tasks and nobody knows it"));
                } else if given_up {
                    wrong = Some(format!("{name} still has pending tasks in a run that was given up"));
                }
            }
        }
        self.demand(wrong.is_none(), || wrong.unwrap_or_default());
        let Some(status) = status else { return };
        let text = serde_json::to_string(status).unwrap_or_default();
        self.demand(!text.contains(SECRET), || "the status tells a secret".to_owned());
        self.demand(text.len() < 64 * 1024, || format!("the status has {} bytes", text.len()));
        let claim = status.claim.as_ref();
        self.demand(claim.is_none(), || format!("a claim is left at rest: {}", super::story::summary(Some(status))));
        let standing = ["Ready", "Stalled", "Reconciling"]
            .into_iter()
            .find_map(|kind| condition::find(&status.conditions, kind).filter(|c| c.status == "True"));
        let Some(standing) = standing else { return };
        // An object of the same name was deleted: its verification was cancelled, or goes on with a device in progress.
        let remade = self.parts.values().any(|part| part.uid != uid && part.kind == Some(StageKind::Verify));
        let expected = match standing.reason.as_str() {
            // A verification that is cancelled with its run has failed, and its package stays so.
            "VerifyFailed" => self.failing || self.aborted || status.run > 1 || !self.meddled.is_empty() || remade,
            "GateFailed" => self.failing || self.aborted || !self.meddled.is_empty(),
            "Aborted" => self.aborted,
            // Nothing of the stage is left to decide upon, and a person has not said more.
            "GateUnreachable" => {
                !self.meddled.is_empty()
                    || status.stages.iter().flat_map(|s| &s.jobs).any(|job| job.counts.is_some_and(|c| c.conflict > 0))
            }
            "VerifyingElsewhere" => !self.meddled.is_empty() || remade,
            // A stage's later parts would be other jobs than its first ones.
            "EditedMeanwhile" => self.edited,
            "ExternalChange" => !self.meddled.is_empty(),
            "QueueBlocked" => object.is_some_and(|o| o.spec.supersede == Some(Supersede::Queue)),
            // The guard holds against somebody's wrong word.
            "DynamicJobExists" => self.absolved && self.untagged,
            "DynamicActive" => status.stages.iter().flat_map(|s| &s.jobs).any(|job| self.stands(cloud, &job.id)),
            "StepRemoved" => status.stages.iter().any(|s| {
                let gray = s.kind != StageKind::Verify && !s.kind.is_full();
                gray && object.is_some_and(|o| o.spec.gray.iter().flatten().all(|step| step.name != s.name))
            }),
            "WaitingForDevices" | "Verifying" => self.waits_for_devices(status, cloud),
            "Completed" | "Reverted" | "NoDeviceCanUpgrade" | "ForeignOwner" | "CreateRefused" | "RetryListChanged" => {
                true
            }
            _ => false,
        };
        let because = standing.message.clone();
        self.demand(expected, || {
            format!("it stopped for no good reason: {}: {because}", super::story::summary(Some(status)))
        });
    }
}

/// The table of legal moves, written again.
const fn may_move(from: StageState, to: StageState) -> bool {
    use StageState as S;
    match from {
        S::Pending => matches!(to, S::Claimed | S::Running | S::Passed | S::Skipped | S::Failed | S::Aborted),
        S::Claimed => matches!(to, S::Running | S::Pending | S::Passed),
        S::Running => matches!(to, S::Claimed | S::Soaking | S::Passed | S::Failed | S::Aborted),
        S::Soaking => matches!(to, S::Running | S::Passed | S::Failed | S::Aborted),
        S::Passed | S::Skipped | S::Failed | S::Aborted => false,
    }
}

fn counts(cloud: &Cloud, job: &str) -> Option<BTreeMap<&'static str, usize>> {
    cloud.task_counts(job)
}

fn cancellable(cloud: &Cloud, job: &str) -> usize {
    counts(cloud, job).map_or(0, |all| CANCELLABLE.iter().filter_map(|state| all.get(state)).sum())
}
