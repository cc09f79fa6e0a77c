//! The reading operations: QueryOTAJob, the lists, QueryOTAFirmware (ota-api: sections 6.1 to 6.6).
//!
//! Here belong paging and the exact field names and types of the answers. Nothing here changes anything, but for the
//! stream that a shuffled list is drawn from.

use serde_json::{Value, json};

use super::answer::{Done, Fields, Refusal, utc};
use super::jobs::{Job, JobStatus, TaskStatus};
use super::parameters::Given;
use super::random::Random;
use super::switches::{Edition, EmptyList, ListOrder, Switches};
use super::world::{Package, World};

const TASKS_PAGE_MAX: usize = 100;
const JOBS_PAGE_MAX: usize = 200;
const FIRMWARE_PAGE_MAX: usize = 100;
/// CurrentPage × PageSize of ListOTATaskByJob.
const TASKS_REACH: usize = 100_000;
const DEVICE_NAMES_MAX: usize = 50;

/// A page of a list.
#[derive(Debug, Clone, Copy)]
struct Page {
    current: usize,
    size: usize,
}

impl Page {
    fn of(given: &Given<'_>, size_max: usize) -> Result<Self, Refusal> {
        let number = |name: &str, default: usize| match given.integer(name) {
            Ok(None) => Ok(default),
            Ok(Some(n)) => usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(invalid_page),
            Err(()) => Err(invalid_page()),
        };
        let page = Self { current: number("CurrentPage", 1)?, size: number("PageSize", 10)? };
        if page.size > size_max { Err(invalid_page()) } else { Ok(page) }
    }

    fn skip(self) -> usize {
        (self.current - 1).saturating_mul(self.size)
    }

    /// The list answer: paging fields, and the entries in their wrapper.
    fn answer(self, total: usize, outer: &str, inner: &str, entries: Vec<Value>, switches: &Switches) -> Done {
        let mut done = Done::nothing();
        for (name, number) in [
            ("CurrentPage", self.current),
            ("PageSize", self.size),
            ("PageCount", total.div_ceil(self.size)),
            ("Total", total),
        ] {
            done.fields.insert(name.to_owned(), number.into());
        }
        let list = match (entries.is_empty(), switches.empty_list) {
            (false, _) | (true, EmptyList::Brackets) => {
                Some(Value::Object(Fields::from_iter([(inner.to_owned(), Value::Array(entries))])))
            }
            (true, EmptyList::EmptyObject) => Some(json!({})),
            (true, EmptyList::Null) => Some(Value::Null),
            (true, EmptyList::Absent) => None,
        };
        if let Some(list) = list {
            done.fields.insert(outer.to_owned(), list);
        }
        done
    }
}

impl World {
    /// QueryOTAJob.
    pub(super) fn query_job(&self, given: &Given<'_>, edition: Edition) -> Result<Done, Refusal> {
        let job = self.job(self.wanted_job(given)?).ok_or_else(no_job)?;
        let mut data = self.job_view(job, edition);
        if self.switches.tags_queried {
            add_tags(&mut data, job);
        }
        Ok(Done::object("Data", data))
    }

    /// ListOTATaskByJob.
    pub(super) fn list_tasks(&self, given: &Given<'_>) -> Result<Done, Refusal> {
        let status = match given.get("TaskStatus") {
            None | Some("") => None,
            Some(name) => {
                let unknown = || Refusal::firmware("InvalidTaskStatus", "TaskStatus is unknown.");
                Some(TaskStatus::from_name(name).ok_or_else(unknown)?)
            }
        };
        let names = given.list("DeviceNames")?;
        if names.len() > DEVICE_NAMES_MAX {
            return Err(Refusal::firmware("ParameterSizeExceedMax", "At most 50 device names are allowed."));
        }
        if !names.is_empty() {
            return self.list_named_tasks(given, status, &names);
        }
        let page = Page::of(given, TASKS_PAGE_MAX)?;
        if page.current.saturating_mul(page.size) > TASKS_REACH {
            return Err(invalid_page());
        }
        let job = self.job(self.wanted_job(given)?).ok_or_else(no_job)?;
        let total = status.map_or(job.tasks.len(), |status| job.tasks.count(status));
        let numbers = job.tasks.page(status, page.skip(), page.size);
        let entries = numbers.into_iter().filter_map(|n| self.task_view(job, n)).collect();
        Ok(page.answer(total, "Data", "SimpleOTATaskInfo", entries, &self.switches))
    }

    /// With DeviceNames.N the paging parameters are ignored: one page holds all.
    fn list_named_tasks(&self, given: &Given<'_>, status: Option<TaskStatus>, names: &[&str]) -> Result<Done, Refusal> {
        let job = self.job(self.wanted_job(given)?).ok_or_else(no_job)?;
        let product = self.package(job.firmware).and_then(|p| self.devices.products.get(p.product));
        let devices: Vec<_> =
            names.iter().filter_map(|name| product.and_then(|p| self.devices.find(p, name))).collect();
        let wanted = |task: &super::jobs::Task| {
            devices.contains(&task.device) && status.is_none_or(|status| task.status == status)
        };
        let numbers = (0_u32..).zip(job.tasks.iter()).filter(|(_, task)| wanted(task)).map(|(number, _)| number);
        let entries: Vec<Value> = numbers.filter_map(|n| self.task_view(job, n)).collect();
        let page = Page { current: 1, size: DEVICE_NAMES_MAX };
        Ok(page.answer(entries.len(), "Data", "SimpleOTATaskInfo", entries, &self.switches))
    }

    /// ListOTAJobByFirmware. Jobs younger than the list lag are not in it.
    pub(super) fn list_jobs(&self, given: &Given<'_>, wall: i64, order: &mut Random) -> Result<Done, Refusal> {
        let page = Page::of(given, JOBS_PAGE_MAX)?;
        let package = self.package(self.find_package(given.text("FirmwareId"))?);
        let lag = i64::try_from(self.faults.list_lag_ms).unwrap_or(i64::MAX);
        let mut jobs: Vec<&Job> = package
            .into_iter()
            .flat_map(|p| &p.jobs)
            .filter_map(|number| self.job(*number))
            .filter(|job| wall.saturating_sub(job.created_wall) >= lag)
            .collect();
        match self.switches.list_order {
            ListOrder::OldestFirst => {}
            ListOrder::NewestFirst => jobs.reverse(),
            ListOrder::Shuffled => {
                let all = jobs.len();
                order.choose(&mut jobs, all);
            }
        }
        let entries = jobs.iter().skip(page.skip()).take(page.size).map(|job| self.job_entry(job)).collect();
        Ok(page.answer(jobs.len(), "Data", "SimpleOTAJobInfo", entries, &self.switches))
    }

    /// QueryOTAFirmware.
    pub(super) fn query_firmware(&self, given: &Given<'_>) -> Result<Done, Refusal> {
        let number = self.find_package(given.text("FirmwareId"))?;
        let package = self.package(number).ok_or_else(no_job)?;
        let mut info = package_view(package);
        info.insert("VerifyProgress".to_owned(), self.verify_progress(package).into());
        let url = format!("https://ota.simulated.invalid/{}.bin", package.traits.id);
        info.insert("FirmwareUrl".to_owned(), url.into());
        info.insert("Udi".to_owned(), "{}".into());
        Ok(Done::object("FirmwareInfo", info))
    }

    /// ListOTAFirmware.
    pub(super) fn list_firmware(&self, given: &Given<'_>) -> Result<Done, Refusal> {
        let page = Page::of(given, FIRMWARE_PAGE_MAX)?;
        let matches =
            |name: &str, value: &str| given.get(name).is_none_or(|wanted| wanted.is_empty() || wanted == value);
        let all: Vec<_> = self
            .packages
            .iter()
            .filter(|p| matches("ProductKey", &p.traits.product_key) && matches("DestVersion", &p.traits.version))
            .collect();
        let entries = all.iter().skip(page.skip()).take(page.size).map(|p| package_view(p).into()).collect();
        Ok(page.answer(all.len(), "FirmwareInfo", "SimpleFirmwareInfo", entries, &self.switches))
    }

    /// The job that JobId names.
    pub(super) fn wanted_job(&self, given: &Given<'_>) -> Result<u32, Refusal> {
        match given.text("JobId") {
            "" => Err(Refusal::firmware("NullOTAJobId", "JobId is empty.")),
            id => self.job_ids.get(id).copied().ok_or_else(no_job),
        }
    }

    /// QueryOTAJob's `Data`, without tags.
    pub(super) fn job_view(&self, job: &Job, edition: Edition) -> Fields {
        let mut data = self.job_basics(job, false);
        let policy = &job.policy;
        let package = self.package(job.firmware);
        let mut put = |name: &str, value: Value| data.insert(name.to_owned(), value);
        put("Name", package.map(package_name).unwrap_or_default().into());
        put("DestVersion", package.map(|p| p.traits.version.as_str()).unwrap_or_default().into());
        put("JobDesc", "".into());
        if !policy.src_versions.is_empty() {
            put("SrcVersions", json!({"SrcVersion": policy.src_versions}));
        }
        if let Some(percent) = &policy.gray_percent {
            put("GrayPercent", percent.as_str().into());
        }
        if let Some(at) = policy.schedule {
            put("UtcScheduleTime", utc(at));
        }
        if let Some(at) = policy.schedule_finish {
            put("UtcScheduleFinishTime", utc(at));
        }
        if let Some(retry) = policy.retry {
            put("RetryInterval", retry.interval.into());
            put("RetryCount", retry.count.into());
        }
        if let Some(minutes) = policy.timeout_minutes {
            put("TimeoutInMinutes", minutes.into());
        }
        if !policy.verify {
            put("MaximumPerMinute", policy.maximum_per_minute.into());
            put("OverwriteMode", if policy.overwrite { 2.into() } else { 1.into() });
        }
        // The older service shows none of these.
        if edition == Edition::Current {
            put("NeedPush", policy.need_push.into());
            put("NeedConfirm", policy.need_confirm.into());
            put("DownloadProtocol", policy.download_protocol.as_str().into());
            put("MultiModuleMode", policy.multi_module.into());
            put("GroupId", "".into());
            put("GroupName", "".into());
        }
        data
    }

    /// What QueryOTAJob and the lists have in common.
    fn job_basics(&self, job: &Job, listed: bool) -> Fields {
        let legacy = listed && self.switches.legacy_spelling;
        let (kind, status) = match (job.policy.verify, job.status, legacy) {
            (true, status, true) => ("VERFIY_FIRMWARE", status),
            (true, status, false) => ("VERIFY_FIRMWARE", status),
            (false, status, _) => ("UPGRADE_FIRMWARE", status),
        };
        let status = if legacy && status == JobStatus::Completed { "COMPLETE" } else { status.name() };
        let product = self.package(job.firmware).map(|p| p.traits.product_key.as_str()).unwrap_or_default();
        let firmware = self.package(job.firmware).map(|p| p.traits.id.as_str()).unwrap_or_default();
        let texts = [
            ("JobId", job.id.as_str()),
            ("FirmwareId", firmware),
            ("ProductKey", product),
            ("JobStatus", status),
            ("JobType", kind),
            ("SelectionType", "STATIC"),
            ("TargetSelection", job.policy.selection.name()),
        ];
        let times = [
            ("UtcCreate", Some(job.created)),
            ("UtcModified", Some(job.modified)),
            ("UtcStartTime", job.started),
            ("UtcEndTime", job.ended),
        ];
        let texts = texts.into_iter().map(|(name, text)| (name.to_owned(), text.into()));
        let times = times.into_iter().filter_map(|(name, at)| Some((name.to_owned(), utc(at?))));
        texts.chain(times).collect()
    }

    fn job_entry(&self, job: &Job) -> Value {
        let mut entry = self.job_basics(job, true);
        if self.switches.tags_listed {
            add_tags(&mut entry, job);
        }
        entry.into()
    }

    fn task_view(&self, job: &Job, number: u32) -> Option<Value> {
        let task = job.tasks.get(number)?;
        let package = self.package(job.firmware)?;
        let (percent, modified) = task.shown(self.now);
        let mut view = json!({
            "TaskId": format!("{}{number:07}", job.id),
            "JobId": job.id,
            "FirmwareId": package.traits.id,
            "ProductKey": package.traits.product_key,
            "ProductName": package.traits.product_key,
            "IotId": format!("iotid{:023}", task.device),
            "DeviceName": self.devices.name(task.device),
            "SrcVersion": self.devices.texts.text(task.src),
            "DestVersion": package.traits.version,
            "TaskStatus": task.status.name(),
            "TaskDesc": task.reason.text(),
            "Progress": format!("{percent}.00"),
            "UtcCreate": utc(task.created),
            "UtcModified": utc(modified),
        });
        if let (Some(minutes), Some(view)) = (job.policy.timeout_minutes, view.as_object_mut()) {
            view.insert("Timeout".to_owned(), minutes.to_string().into());
        }
        Some(view)
    }
}

fn invalid_page() -> Refusal {
    Refusal::product("iot.common.InvalidPageParams", "CurrentPage or PageSize is out of range.")
}

fn no_job() -> Refusal {
    Refusal::firmware("InvalidOTAJobId", "The job ID is invalid.")
}

/// Adds a job's tags in their wrapper; none, when it has none.
pub(super) fn add_tags(fields: &mut Fields, job: &Job) {
    if !job.policy.tags.is_empty() {
        let tags: Vec<_> = job.policy.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        fields.insert("Tags".to_owned(), json!({"OtaTagDTO": tags}));
    }
}

fn package_name(package: &Package) -> String {
    format!("{}-{}", package.traits.module, package.traits.version)
}

/// A package as ListOTAFirmware shows it.
fn package_view(package: &Package) -> Fields {
    let traits = &package.traits;
    let mut view = Fields::from_iter([
        ("FirmwareId".to_owned(), traits.id.as_str().into()),
        ("FirmwareName".to_owned(), package_name(package).into()),
        ("FirmwareDesc".to_owned(), "".into()),
        ("FirmwareSign".to_owned(), "93230c3bde425a9d7984a594ac550000".into()),
        ("SignMethod".to_owned(), "Md5".into()),
        ("FirmwareSize".to_owned(), 900.into()),
        ("DestVersion".to_owned(), traits.version.as_str().into()),
        ("ProductKey".to_owned(), traits.product_key.as_str().into()),
        ("ProductName".to_owned(), traits.product_key.as_str().into()),
        ("ModuleName".to_owned(), traits.module.as_str().into()),
        ("Type".to_owned(), i32::from(traits.src_version.is_some()).into()),
        ("Status".to_owned(), package.status.number().into()),
        ("UtcCreate".to_owned(), utc(package.created)),
        ("UtcModified".to_owned(), utc(package.modified)),
    ]);
    if let Some(version) = &traits.src_version {
        view.insert("SrcVersion".to_owned(), version.as_str().into());
    }
    view
}
