//! The one verify job on a device of the laboratory: made only when a person asked for it, and sent twice as it is. Here
//! belongs its life until it is listed, and what is done about it when somebody says stop.
//!
//! The second copy is harmless whatever the gateway does: a package that is being verified takes no second verify job
//! (`InProgressVerifyJobExisted`). Gray and full jobs have no such guard and are never made here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::api::TAG_KEY;
use crate::clock;
use crate::ota::calls::{self, CancelFlags};
use crate::ota::client::fresh_nonce;
use crate::ota::code::{self, Class};
use crate::ota::outcome::clean;
use crate::ota::{Api, CallError, Firmware, FirmwareId, FirmwareStatus, JobId, JobType, Operation, Outcome, Request};

use super::examine::{Patient, reply};
use super::harmless::stamped;
use super::seen::{Laboratory, Repeated, Reply, Seen, Tagged, VerifyJob, Way};

/// Key of the tag on the verify job. Not the key of rollouts' jobs: no rollout shall take this one for somebody's.
pub const DOCTOR_TAG_KEY: &str = "fota.doctor";

/// How often a create is sent that the quota refuses.
const ATTEMPTS: u32 = 5;
/// Pause between two listings: the quota leaves as much again to a controller.
const LOOK: Duration = Duration::from_millis(300);
/// Listings in a row that must show the job: one of several servers may know it before the others do.
const LISTED: u32 = 3;
/// How often a job is looked for whose create got no answer, when somebody said stop.
const SEARCHES: u32 = 10;

/// Whether a job carries a tag of ours: a rollout's or a verify job's of this command.
pub fn is_ours(tags: &[(String, String)]) -> bool {
    tags.iter().any(|(key, _)| key == TAG_KEY || key == DOCTOR_TAG_KEY)
}

/// What would be left behind if the examination ended now.
#[derive(Debug, Default)]
pub struct Leftover(Mutex<Option<Sent>>);

#[derive(Debug, Clone)]
struct Sent {
    firmware: FirmwareId,
    tag: String,
    job: Option<JobId>,
}

impl Leftover {
    fn lock(&self) -> MutexGuard<'_, Option<Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, sent: Option<Sent>) {
        *self.lock() = sent;
    }
}

/// The package for the job: the one that was named, else the only one that waits for its verification.
///
/// # Errors
/// Why there is none.
pub fn candidate(seen: &Seen, product_key: &str) -> Result<Firmware, String> {
    let waits = |f: &Firmware| matches!(f.status, FirmwareStatus::Unverified | FirmwareStatus::VerifyFailed);
    match (&seen.firmware, &seen.packages) {
        (Some((id, Ok(firmware))), _) if firmware.product_key.as_deref().is_some_and(|key| key != product_key) => {
            Err(format!("package {id} is of another product"))
        }
        (Some((_, Ok(firmware))), _) if waits(firmware) => Ok(firmware.clone()),
        (Some((id, Ok(_))), _) => {
            Err(format!("package {id} takes no verify job in its state; name another one by --firmware"))
        }
        (Some((id, Err(error))), _) => Err(format!("package {id} cannot be read: {error}")),
        (None, Some(Ok(packages))) => match packages.iter().filter(|f| waits(f)).collect::<Vec<_>>().as_slice() {
            [] => {
                Err("no package of the product waits for its verification; make one, or name one by --firmware"
                    .to_owned())
            }
            [only] => Ok((*only).clone()),
            several => Err(format!("{} packages of the product are unverified; name one by --firmware", several.len())),
        },
        (None, _) => Err("the product's packages cannot be read".to_owned()),
    }
}

/// Makes the job, if one was asked for, and watches until it is listed.
pub async fn verify<A: Api>(patient: &Patient<'_, A>, seen: &mut Seen, leftover: &Leftover) {
    let order = patient.order;
    let Some(device) = &order.lab_device else { return };
    let firmware = match candidate(seen, &order.product_key) {
        Ok(firmware) => firmware,
        Err(why) => {
            seen.laboratory = Laboratory::Impossible(why);
            return;
        }
    };
    let (id, version) = (clean(firmware.id.as_str(), 64), clean(&firmware.version, 64));
    (patient.announce)(&format!(
        "A verify job of package {id} ({version}) is made on device {device} of product {}. The device is pushed the \
         package and installs it, as in any verification, and is billed as such. The job counts: if {device} succeeds, \
         the package is verified, and rollouts of it skip their verification; until then nobody else can verify it; if \
         {device} fails, it has to be verified again. The same request is sent once more, which the cloud must refuse.",
        order.product_key
    ));
    let tag: String = fresh_nonce().chars().take(26).collect();
    let own = [
        ("FirmwareId", firmware.id.to_string()),
        ("ProductKey", order.product_key.clone()),
        ("TargetDeviceName.1", device.to_string()),
        ("Tag.1.Key", DOCTOR_TAG_KEY.to_owned()),
        ("Tag.1.Value", tag.clone()),
    ];
    let unstamped = patient.ctx.request(Operation::CreateOTAVerifyJob, own);
    leftover.set(Some(Sent { firmware: firmware.id.clone(), tag: tag.clone(), job: None }));
    let sent = clock::monotonic();
    // A refused request may have used its nonce up: each attempt has one of its own.
    let (request, first) = create(patient, || stamped(unstamped.clone(), clock::wall(), &patient.sending)).await;
    let mut job = match &first {
        Outcome::Accepted { job_id, .. } => Some(job_id.clone()),
        Outcome::Rejected(error) => {
            leftover.set(None);
            seen.laboratory = Laboratory::Failed(error.clone());
            return;
        }
        Outcome::Unknown(_) => None,
    };
    leftover.set(Some(Sent { firmware: firmware.id.clone(), tag: tag.clone(), job: job.clone() }));
    let (_, second) = create(patient, || request.clone()).await;
    seen.repeated.push(Repeated { way: Way::Create, first: told(&first), second: told(&second) });
    if let Outcome::Accepted { job_id, .. } = second {
        match &job {
            // The cloud has no guard at all: one of the two goes.
            Some(_) => {
                cancel(patient, &job_id).await;
            }
            None => job = Some(job_id),
        }
    }
    let looked = watch(patient, &firmware.id, &tag, &mut job, sent).await;
    let Some(job) = job else {
        // Unknown to the answers and to the lists. Whether it exists is for a person to see.
        let why =
            format!("no answer, and no listed job has the tag {DOCTOR_TAG_KEY}={tag}: look for it in the console");
        seen.laboratory = Laboratory::Failed(CallError::new(Class::Unknown, code::NO_ANSWER, &why));
        return;
    };
    leftover.set(Some(Sent { firmware: firmware.id.clone(), tag: tag.clone(), job: Some(job.clone()) }));
    let queried = patient.ask(|| calls::query_job(&patient.api, &patient.ctx, &job)).await;
    let queried = queried.ok().map(|read| read.value.tag(DOCTOR_TAG_KEY) == Some(tag.as_str()));
    seen.tagged.push(Tagged { job: job.clone(), listed: looked.shows_tag, queried });
    let cancelled = looked.listed_after.is_none();
    if cancelled {
        cancel(patient, &job).await;
    }
    let Looked { absent, listed_after, .. } = looked;
    let (firmware, watched) = (firmware.id, clock::monotonic().duration_since(sent));
    seen.laboratory = Laboratory::Made(VerifyJob { job, firmware, absent, listed_after, watched, cancelled });
    leftover.set(None);
}

/// A create, until the quota lets it through.
async fn create<A: Api>(patient: &Patient<'_, A>, next: impl Fn() -> Request) -> (Request, Outcome) {
    let mut attempt = 1;
    loop {
        let request = next();
        match calls::create(&patient.api, &request).await {
            Outcome::Rejected(error) if error.class == Class::Transient && attempt < ATTEMPTS => {
                tokio::time::sleep(LOOK * attempt).await;
            }
            outcome => return (request, outcome),
        }
        attempt += 1;
    }
}

fn told(outcome: &Outcome) -> Reply {
    match outcome {
        Outcome::Accepted { .. } => Reply::Done,
        Outcome::Rejected(error) | Outcome::Unknown(error) => reply(error),
    }
}

/// What the listings showed of the job.
struct Looked {
    absent: Duration,
    listed_after: Option<Duration>,
    shows_tag: Option<bool>,
}

/// Reads the listings until the job is in several in a row. Where its id is not known, its tag gives it.
async fn watch<A: Api>(
    patient: &Patient<'_, A>,
    firmware: &FirmwareId,
    tag: &str,
    job: &mut Option<JobId>,
    sent: std::time::Instant,
) -> Looked {
    let age = || clock::monotonic().duration_since(sent);
    let (mut absent, mut listed, mut in_a_row, mut shows_tag) = (Duration::ZERO, Duration::ZERO, 0, None);
    while age() < patient.order.list_timeout {
        if let Ok(read) = calls::all_jobs_of_firmware(&patient.api, &patient.ctx, firmware).await {
            let tagged = |j: &&crate::ota::JobSummary| j.tag(DOCTOR_TAG_KEY) == Some(tag);
            let known = |j: &&crate::ota::JobSummary| job.as_ref().map_or_else(|| tagged(j), |id| j.job_id == *id);
            match read.value.jobs.iter().find(known) {
                Some(found) => {
                    if in_a_row == 0 {
                        listed = age();
                    }
                    in_a_row += 1;
                    shows_tag = Some(tagged(&found));
                    *job = Some(found.job_id.clone());
                }
                None => (in_a_row, absent) = (0, age()),
            }
            if in_a_row == LISTED {
                return Looked { absent, listed_after: Some(listed), shows_tag };
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Looked { absent, listed_after: None, shows_tag }
}

/// Cancels what a job has not begun yet. What cannot be cancelled is told by the job's own state, not here.
pub(super) async fn cancel<A: Api>(patient: &Patient<'_, A>, job: &JobId) -> bool {
    let pending = CancelFlags { queued: true, notified: true, unconfirmed: true, ..CancelFlags::default() };
    patient.ask(|| calls::cancel_tasks(&patient.api, &patient.ctx, job, pending)).await.is_ok()
}

/// Cancels the pending tasks of a job that nobody waits for any more; says what became of it, after a semicolon.
pub async fn clean_up<A: Api>(patient: &Patient<'_, A>, leftover: &Leftover) -> String {
    let sent = leftover.lock().clone();
    let Some(sent) = sent else { return String::new() };
    let job = match sent.job {
        Some(job) => Some(job),
        None => search(patient, &sent).await,
    };
    match job {
        Some(job) if cancel(patient, &job).await => {
            format!("; the pending tasks of verify job {job} were cancelled: its package has to be verified again")
        }
        Some(job) => format!("; verify job {job} could not be cancelled: do it in the console"),
        None => format!(
            "; a verify job of package {} may exist that no list shows yet: look for the tag {DOCTOR_TAG_KEY}={} in the \
             console",
            sent.firmware, sent.tag
        ),
    }
}

/// The job of a create that got no answer.
async fn search<A: Api>(patient: &Patient<'_, A>, sent: &Sent) -> Option<JobId> {
    let (api, ctx) = (&patient.api, &patient.ctx);
    for _ in 0..SEARCHES {
        let jobs = calls::all_jobs_of_firmware(api, ctx, &sent.firmware).await.map(|read| read.value.jobs);
        for job in jobs.unwrap_or_default() {
            let found = if job.tags.is_empty() && job.job_type == JobType::Verify {
                let read = calls::query_job(api, ctx, &job.job_id).await;
                read.is_ok_and(|read| read.value.tag(DOCTOR_TAG_KEY) == Some(sent.tag.as_str()))
            } else {
                job.tag(DOCTOR_TAG_KEY) == Some(sent.tag.as_str())
            };
            if found {
                return Some(job.job_id);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}
