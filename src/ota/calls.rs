//! The calls, typed: parameters in, values out (ota-api: sections 2, 3, 6).
//!
//! They run over any [`Api`]. Retrying, waiting and deciding never come in: every error goes to the caller. What counts
//! a job's devices is `polling`'s affair.

use std::collections::BTreeSet;

use super::code::{self, Class};
use super::decode;
use super::firmware::Firmware;
use super::id::{DeviceName, FirmwareId, JobId};
use super::job::{Job, JobSummary, Listing};
use super::outcome::{CallError, Outcome, Read};
use super::task::{Task, TaskStatus};
use super::wire::{self, Document};
use super::{Api, Operation, Params, Request};

pub use super::decode::Page;
use crate::sabotage::{Bad, on};

/// Jobs on a page of ListOTAJobByFirmware (6.3).
pub const JOBS_PER_PAGE: u64 = 200;
/// Most tasks on a page of ListOTATaskByJob (6.2).
pub const TASKS_PER_PAGE: u64 = 100;
/// Packages on a page of ListOTAFirmware (6.6).
pub const FIRMWARES_PER_PAGE: u64 = 100;
/// Most device names in one ListOTATaskByJob (6.2).
pub const NAMES_PER_CALL: usize = 50;
/// CurrentPage × PageSize may not exceed this (6.2); used for every list.
pub const DEEPEST: u64 = 100_000;

/// What every call of an account carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallContext {
    /// `IotInstanceId` (1.2); empty counts as none.
    pub instance_id: Option<String>,
}

impl CallContext {
    /// A request with these parameters, and without a stamp.
    pub fn request(&self, operation: Operation, own: impl IntoIterator<Item = (&'static str, String)>) -> Request {
        let mut parameters: Params = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(instance) = self.instance_id.as_deref().filter(|id| !id.is_empty()) {
            parameters.insert("IotInstanceId".to_owned(), instance.to_owned());
        }
        Request { operation, parameters, list: None, stamp: None }
    }
}

pub(super) async fn ask<A: Api>(api: &A, request: &Request) -> Result<Document, CallError> {
    let told = |error: CallError| error.of(request.operation);
    let answer = api.exchange(request).await.map_err(|absence| told(absence.into()))?;
    wire::judge(&answer).map_err(told)
}

/// Sends a request exactly as given; what a success says is not looked at.
///
/// # Errors
/// What the cloud refused, or that it gave no answer.
pub async fn send<A: Api>(api: &A, request: &Request) -> Result<(), CallError> {
    ask(api, request).await.map(|_| ())
}

/// Sends a create exactly as given.
pub async fn create<A: Api>(api: &A, request: &Request) -> Outcome {
    let document = match ask(api, request).await {
        Ok(document) => document,
        Err(error) => return error.into(),
    };
    match document.read(decode::created) {
        Ok(Read { value: (job_id, utc_create), request_id, .. }) => {
            Outcome::Accepted { job_id, utc_create, request_id }
        }
        Err(error) => Outcome::Unknown(error),
    }
}

/// Reads one job (6.1).
pub async fn query_job<A: Api>(api: &A, ctx: &CallContext, job: &JobId) -> Result<Read<Job>, CallError> {
    let request = ctx.request(Operation::QueryOTAJob, [("JobId", job.to_string())]);
    ask(api, &request).await?.read(decode::job)
}

/// Reads one page, from 1, of the jobs of a package (6.3). The order is not documented.
pub async fn list_jobs_page<A: Api>(
    api: &A,
    ctx: &CallContext,
    firmware: &FirmwareId,
    page: u64,
) -> Result<Read<Page<JobSummary>>, CallError> {
    let own = [
        ("FirmwareId", firmware.to_string()),
        ("CurrentPage", page.to_string()),
        ("PageSize", JOBS_PER_PAGE.to_string()),
    ];
    ask(api, &ctx.request(Operation::ListOTAJobByFirmware, own)).await?.read(decode::jobs)
}

/// How often the pages of a list that is not seen whole are read.
const ROUNDS: usize = 3;

/// Reads all pages of the jobs of a package.
///
/// The list may shift while it is read, and its order may change from page to page: a job may then show twice, or not at
/// all. What was missed is looked for in all pages again, three times in all; [`Listing::complete`] says whether the
/// distinct ids are as many as the last page's `Total` by then.
pub async fn all_jobs_of_firmware<A: Api>(
    api: &A,
    ctx: &CallContext,
    firmware: &FirmwareId,
) -> Result<Read<Listing>, CallError> {
    let mut pages = Pages::new(JOBS_PER_PAGE, |job: &JobSummary| job.job_id.clone());
    for round in 0..ROUNDS {
        if round > 0 {
            pages.again();
        }
        while let Some(number) = pages.wanted() {
            pages.take(list_jobs_page(api, ctx, firmware, number).await?);
            if on(Bad::FirstPageOnly) || (round > 0 && pages.complete()) {
                break;
            }
        }
        if pages.complete() || on(Bad::FirstPageOnly) {
            break;
        }
    }
    let complete = pages.complete() || on(Bad::FirstPageOnly);
    Ok(pages.finish()?.map(|jobs| Listing { jobs, complete }))
}

/// Reads one page, from 1, of a job's tasks, of one status or of all (6.2). `size` is 1 to 100.
pub async fn list_tasks<A: Api>(
    api: &A,
    ctx: &CallContext,
    job: &JobId,
    status: Option<&TaskStatus>,
    page: u64,
    size: u64,
) -> Result<Read<Page<Task>>, CallError> {
    let mut own = vec![("JobId", job.to_string()), ("CurrentPage", page.to_string()), ("PageSize", size.to_string())];
    own.extend(status.map(|s| ("TaskStatus", s.as_str().to_owned())));
    ask(api, &ctx.request(Operation::ListOTATaskByJob, own)).await?.read(decode::tasks)
}

/// Reads a job's tasks of the named devices: 1 to 50 names, else an error of class `Terminal` without a call (an empty
/// list of names would mean all devices).
pub async fn tasks_of_devices<A: Api>(
    api: &A,
    ctx: &CallContext,
    job: &JobId,
    devices: &[DeviceName],
) -> Result<Read<Vec<Task>>, CallError> {
    if devices.is_empty() {
        return Err(CallError::new(Class::Terminal, code::NULL_TARGET_DEVICE_NAMES, "no device name to ask for"));
    }
    if devices.len() > NAMES_PER_CALL {
        return Err(CallError::new(Class::Terminal, code::PARAMETER_SIZE_EXCEED_MAX, "at most 50 device names a call"));
    }
    let mut request = ctx.request(Operation::ListOTATaskByJob, [("JobId", job.to_string())]);
    let names = devices.iter().zip(1_usize..);
    request.parameters.extend(names.map(|(name, n)| (format!("DeviceNames.{n}"), name.to_string())));
    ask(api, &request).await?.read(decode::tasks_unpaged)
}

/// Reads one package (6.5).
pub async fn query_firmware<A: Api>(
    api: &A,
    ctx: &CallContext,
    firmware: &FirmwareId,
) -> Result<Read<Firmware>, CallError> {
    let request = ctx.request(Operation::QueryOTAFirmware, [("FirmwareId", firmware.to_string())]);
    ask(api, &request).await?.read(decode::firmware)
}

/// Reads all packages of a product that bring a version (6.6), whatever their module; entries that a service lists
/// against the filter are left out.
///
/// # Errors
/// `IncompleteList` (class `Transient`) when the list shifted while its pages were read: a package may be missing.
pub async fn list_firmware<A: Api>(
    api: &A,
    ctx: &CallContext,
    product_key: &str,
    dest_version: &str,
) -> Result<Read<Vec<Firmware>>, CallError> {
    let filters = [("ProductKey", product_key.to_owned()), ("DestVersion", dest_version.to_owned())];
    let all = firmware_pages(api, ctx, &filters).await?;
    let fits = |f: &Firmware| f.version == dest_version && of_product(f, product_key);
    Ok(all.map(|all| all.into_iter().filter(fits).collect()))
}

/// Reads all packages of a product (6.6), as [`list_firmware`] does.
///
/// # Errors
/// As [`list_firmware`].
pub async fn list_product_firmware<A: Api>(
    api: &A,
    ctx: &CallContext,
    product_key: &str,
) -> Result<Read<Vec<Firmware>>, CallError> {
    let all = firmware_pages(api, ctx, &[("ProductKey", product_key.to_owned())]).await?;
    Ok(all.map(|all| all.into_iter().filter(|f| of_product(f, product_key)).collect()))
}

fn of_product(firmware: &Firmware, product_key: &str) -> bool {
    firmware.product_key.as_deref().is_none_or(|key| key == product_key)
}

async fn firmware_pages<A: Api>(
    api: &A,
    ctx: &CallContext,
    filters: &[(&'static str, String)],
) -> Result<Read<Vec<Firmware>>, CallError> {
    let mut pages = Pages::new(FIRMWARES_PER_PAGE, |firmware: &Firmware| firmware.id.clone());
    while let Some(number) = pages.wanted() {
        let paging = [("CurrentPage", number.to_string()), ("PageSize", FIRMWARES_PER_PAGE.to_string())];
        let request = ctx.request(Operation::ListOTAFirmware, filters.iter().cloned().chain(paging));
        pages.take(ask(api, &request).await?.read(decode::firmwares)?);
    }
    if !pages.complete() {
        return Err(CallError::new(
            Class::Transient,
            code::INCOMPLETE_LIST,
            "packages came or went while they were read",
        ));
    }
    pages.finish()
}

/// Whether the cloud answers to these keys: the cheapest call that needs no id (6.6, a page of one package).
///
/// # Errors
/// What the cloud refused, or that it gave no answer.
pub async fn probe<A: Api>(api: &A, ctx: &CallContext) -> Result<Read<()>, CallError> {
    let own = [("CurrentPage", "1".to_owned()), ("PageSize", "1".to_owned())];
    let request = ctx.request(Operation::ListOTAFirmware, own);
    Ok(ask(api, &request).await?.read(decode::firmwares)?.map(|_| ()))
}

/// Which of a job's tasks to cancel (6.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CancelFlags {
    /// Of a scheduled job: those waiting for its time. Of any other job the cloud refuses the whole call
    /// (`JobHasNoScheduleTime`), so it is sent only when set.
    pub scheduled: bool,
    /// QUEUED.
    pub queued: bool,
    /// NOTIFIED.
    pub notified: bool,
    /// IN_PROGRESS.
    pub in_progress: bool,
    /// CONFIRM. Always sent: left out, it would follow `queued`.
    pub unconfirmed: bool,
}

/// Cancels a job's tasks in the named states (6.9). May be repeated.
///
/// # Errors
/// `CancelOptionIsMandatory` without a call if no flag is set.
pub async fn cancel_tasks<A: Api>(
    api: &A,
    ctx: &CallContext,
    job: &JobId,
    flags: CancelFlags,
) -> Result<Read<()>, CallError> {
    if flags == CancelFlags::default() {
        return Err(CallError::new(Class::Terminal, code::CANCEL_OPTION_IS_MANDATORY, "nothing was named to cancel"));
    }
    let mut own = vec![
        ("JobId", job.to_string()),
        ("CancelQueuedTask", flags.queued.to_string()),
        ("CancelNotifiedTask", flags.notified.to_string()),
        ("CancelInProgressTask", flags.in_progress.to_string()),
        ("CancelUnconfirmedTask", flags.unconfirmed.to_string()),
    ];
    if flags.scheduled {
        own.push(("CancelScheduledTask", true.to_string()));
    }
    ask(api, &ctx.request(Operation::CancelOTATaskByJob, own)).await?.read(|_| Ok(()))
}

/// Collects the pages of a list that may shift while it is read: each entry once, by its id.
pub(super) struct Pages<T, K, F> {
    size: u64,
    read: u64,
    more: bool,
    total: u64,
    seen: BTreeSet<K>,
    id: F,
    first: Option<Read<()>>,
    items: Vec<T>,
}

impl<T, K: Ord, F: Fn(&T) -> K> Pages<T, K, F> {
    pub(super) fn new(size: u64, id: F) -> Self {
        Self { size, read: 0, more: true, total: 0, seen: BTreeSet::new(), id, first: None, items: Vec::new() }
    }

    /// The number of the page to read next.
    pub(super) fn wanted(&self) -> Option<u64> {
        let number = self.read + 1;
        (self.more && number.saturating_mul(self.size) <= DEEPEST).then_some(number)
    }

    pub(super) fn take(&mut self, page: Read<Page<T>>) {
        let Page { items, total, .. } = page.value;
        self.read += 1;
        self.total = total;
        // By position, not by what was new: entries that shifted must not end the reading early.
        self.more = !items.is_empty() && self.read.saturating_mul(self.size) < total;
        for item in items {
            if self.seen.insert((self.id)(&item)) {
                self.items.push(item);
            }
        }
        let reading = Read { value: (), request_id: page.request_id, date: page.date, now: page.now };
        self.first.get_or_insert(reading);
    }

    /// From the first page again, for what was missed.
    fn again(&mut self) {
        (self.read, self.more) = (0, true);
    }

    pub(super) fn complete(&self) -> bool {
        self.first.is_some() && u64::try_from(self.seen.len()) == Ok(self.total)
    }

    /// All entries, with the clocks of the first page.
    pub(super) fn finish(self) -> Result<Read<Vec<T>>, CallError> {
        // Only if no page was asked for, which page 1 always is.
        let first = self.first.ok_or_else(|| wire::unreadable("no page was read"))?;
        Ok(first.map(|()| self.items))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ota::{Answer, NoAnswer};
    use serde_json::json;
    use std::sync::Mutex;

    /// Answers in the given order, and keeps what was asked.
    pub(in crate::ota) struct Script {
        answers: Mutex<Vec<Result<Answer, NoAnswer>>>,
        pub(in crate::ota) asked: Mutex<Vec<Request>>,
    }

    impl Script {
        pub(in crate::ota) fn new(answers: impl IntoIterator<Item = Result<Answer, NoAnswer>>) -> Self {
            let mut answers: Vec<_> = answers.into_iter().collect();
            answers.reverse();
            Self { answers: Mutex::new(answers), asked: Mutex::default() }
        }

        pub(in crate::ota) fn json(bodies: impl IntoIterator<Item = serde_json::Value>) -> Self {
            Self::new(bodies.into_iter().map(|body| Ok(wire::tests::answer(200, &body.to_string()))))
        }

        /// What the `n`th call asked, without the operation.
        pub(in crate::ota) fn params(&self, n: usize) -> String {
            let asked = self.asked.lock().unwrap();
            asked[n].parameters.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
        }

        pub(in crate::ota) fn calls(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    impl Api for Script {
        async fn exchange(&self, request: &Request) -> Result<Answer, NoAnswer> {
            self.asked.lock().unwrap().push(request.clone());
            self.answers.lock().unwrap().pop().unwrap()
        }
    }

    fn jobs(total: u64, ids: impl IntoIterator<Item = u64>) -> serde_json::Value {
        let entries: Vec<_> = ids.into_iter().map(|n| json!({"JobId": format!("j{n}")})).collect();
        json!({"Success": true, "RequestId": "R", "Total": total, "Data": {"SimpleOTAJobInfo": entries}})
    }

    async fn listing(script: &Script) -> Listing {
        all_jobs_of_firmware(script, &CallContext::default(), &"f".into()).await.unwrap().value
    }

    #[tokio::test]
    async fn all_pages_are_read_and_counted() {
        let script = Script::json([jobs(401, 0..200), jobs(401, 200..400), jobs(401, 400..401)]);
        let all = listing(&script).await;
        assert_eq!((all.jobs.len(), all.complete), (401, true));
        assert_eq!(script.params(2), "CurrentPage=3 FirmwareId=f PageSize=200");
    }

    #[tokio::test]
    async fn an_exact_page_needs_no_further_one() {
        let script = Script::json([jobs(200, 0..200)]);
        assert!(listing(&script).await.complete);
        assert_eq!(script.calls(), 1);
    }

    #[tokio::test]
    async fn a_list_that_shifts_is_read_again_until_every_job_was_seen() {
        // A new job came to the front between the pages: j199 shows twice, and the new one is missed.
        let pages = [jobs(201, 0..200), jobs(202, 199..201), jobs(202, (0..199).chain([201]))];
        let script = Script::json(pages);
        let all = listing(&script).await;
        assert_eq!((all.jobs.len(), all.complete, script.calls()), (202, true, 3));
        assert_eq!(script.params(2), "CurrentPage=1 FirmwareId=f PageSize=200");
        // Some are never shown: the list is not called whole.
        let script = Script::json((0..3).flat_map(|_| [jobs(201, 0..200), jobs(201, [])]));
        let all = listing(&script).await;
        assert_eq!((all.complete, script.calls()), (false, 6));
        let script = Script::json([jobs(0, [])]);
        assert!(listing(&script).await.complete);
    }

    #[tokio::test]
    async fn a_failing_page_fails_the_listing() {
        let script = Script::new([
            Ok(wire::tests::answer(200, &jobs(201, 0..200).to_string())),
            Err(NoAnswer::Lost("reset".into())),
        ]);
        let error = all_jobs_of_firmware(&script, &CallContext::default(), &"f".into()).await.unwrap_err();
        assert_eq!(error.code, code::NO_ANSWER);
    }

    #[tokio::test]
    async fn the_instance_is_named_where_there_is_one() {
        let body = json!({"Success": true, "Data": {"JobId": "j"}});
        let script = Script::json([body.clone(), body.clone(), body]);
        for (instance, expected) in
            [(Some("iot-1"), "IotInstanceId=iot-1 JobId=j"), (Some(""), "JobId=j"), (None, "JobId=j")]
        {
            let ctx = CallContext { instance_id: instance.map(str::to_owned) };
            query_job(&script, &ctx, &"j".into()).await.unwrap();
            assert_eq!(script.params(script.calls() - 1), expected);
        }
    }

    #[tokio::test]
    async fn a_create_ends_in_one_of_three_ways() {
        let request = Request {
            operation: Operation::CreateOTAStaticUpgradeJob,
            parameters: Params::from([("FirmwareId".to_owned(), "f".to_owned())]),
            list: None,
            stamp: None,
        };
        let product = |code: &str| json!({"Success": false, "RequestId": "R", "Code": code}).to_string();
        let accepted =
            r#"{"Success":true,"RequestId":"R","Data":{"JobId":"j","UtcCreate":"2024-05-04T06:22:19.566Z"}}"#;
        let answer = |status, body: &str| Ok(wire::tests::answer(status, body));
        let script = Script::new([
            answer(200, accepted),
            answer(200, &product("iot.firmware.NoDeviceCanUpgrade")),
            answer(400, &product("Throttling.User")),
            answer(400, &product("SignatureNonceUsed")),
            answer(200, &product("iot.firmware.NeverHeardOf")),
            answer(200, r#"{"Success":true,"Data":{}}"#),
            answer(502, "Bad Gateway"),
            Err(NoAnswer::NotSent("refused".into())),
            Err(NoAnswer::Lost("timeout".into())),
        ]);
        let expected = Outcome::Accepted {
            job_id: "j".into(),
            utc_create: Some("2024-05-04T06:22:19.566Z".parse().unwrap()),
            request_id: "R".into(),
        };
        assert_eq!(create(&script, &request).await, expected);
        for (class, code) in [
            (Class::Terminal, code::NO_DEVICE_CAN_UPGRADE),
            (Class::Transient, "Throttling.User"),
            (Class::Unknown, code::SIGNATURE_NONCE_USED),
            (Class::Unknown, "iot.firmware.NeverHeardOf"),
            (Class::Unknown, code::UNREADABLE_ANSWER),
            (Class::Unknown, code::UNREADABLE_ANSWER),
            (Class::Transient, code::NOT_SENT),
            (Class::Unknown, code::NO_ANSWER),
        ] {
            match create(&script, &request).await {
                Outcome::Rejected(e) if class != Class::Unknown => {
                    assert_eq!((e.class, e.code.as_str()), (class, code))
                }
                Outcome::Unknown(e) if class == Class::Unknown => assert_eq!((e.class, e.code.as_str()), (class, code)),
                other => panic!("{code}: {other:?}"),
            }
        }
        assert!(script.asked.lock().unwrap().iter().all(|r| *r == request), "sent as given");
    }

    #[tokio::test]
    async fn cancel_says_what_it_means() {
        let script = Script::json([json!({"Success": true}), json!({"Success": true})]);
        let ctx = CallContext::default();
        let pending = CancelFlags { queued: true, notified: true, ..CancelFlags::default() };
        cancel_tasks(&script, &ctx, &"j".into(), pending).await.unwrap();
        let explicit = "CancelInProgressTask=false CancelNotifiedTask=true CancelQueuedTask=true";
        assert_eq!(script.params(0), format!("{explicit} CancelUnconfirmedTask=false JobId=j"));
        let scheduled = CancelFlags { scheduled: true, unconfirmed: true, ..CancelFlags::default() };
        cancel_tasks(&script, &ctx, &"j".into(), scheduled).await.unwrap();
        assert!(script.params(1).contains("CancelScheduledTask=true CancelUnconfirmedTask=true"));
        let error = cancel_tasks(&script, &ctx, &"j".into(), CancelFlags::default()).await.unwrap_err();
        assert!(error.is(code::CANCEL_OPTION_IS_MANDATORY));
        assert_eq!(script.calls(), 2);
    }

    #[tokio::test]
    async fn devices_are_asked_for_in_the_plural_and_within_bounds() {
        let task = json!({"TaskId": "t", "DeviceName": "a", "TaskStatus": "QUEUED"});
        let script = Script::json([json!({"Success": true, "Data": {"SimpleOTATaskInfo": [task]}})]);
        let ctx = CallContext::default();
        let tasks = tasks_of_devices(&script, &ctx, &"j".into(), &["a".into(), "b".into()]).await.unwrap();
        assert_eq!(tasks.value[0].status, TaskStatus::Queued);
        assert_eq!(script.params(0), "DeviceNames.1=a DeviceNames.2=b JobId=j");
        for names in [vec![], vec![DeviceName::from("a"); 51]] {
            let error = tasks_of_devices(&script, &ctx, &"j".into(), &names).await.unwrap_err();
            assert_eq!(error.class, Class::Terminal);
        }
        assert_eq!(script.calls(), 1);
    }

    #[tokio::test]
    async fn packages_are_filtered_again_and_an_incomplete_list_is_an_error() {
        let package = |id: &str, version: &str, product: &str| json!({"FirmwareId": id, "DestVersion": version, "Status": 1, "ProductKey": product});
        let all = [package("a", "1", "p"), package("b", "2", "p"), package("c", "1", "q")];
        let body = json!({"Success": true, "Total": 3, "FirmwareInfo": {"SimpleFirmwareInfo": all}});
        let mut short = body.clone();
        short["Total"] = json!(4);
        let script = Script::json([body.clone(), short, body]);
        let ctx = CallContext::default();
        let found = list_firmware(&script, &ctx, "p", "1").await.unwrap().value;
        assert_eq!(found.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(script.params(0), "CurrentPage=1 DestVersion=1 PageSize=100 ProductKey=p");
        let error = list_firmware(&script, &ctx, "p", "1").await.unwrap_err();
        assert_eq!((error.code.as_str(), error.class), (code::INCOMPLETE_LIST, Class::Transient));
        let found = list_product_firmware(&script, &ctx, "p").await.unwrap().value;
        assert_eq!(found.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(script.params(2), "CurrentPage=1 PageSize=100 ProductKey=p");
    }
}
