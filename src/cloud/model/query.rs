//! The operations that read jobs and tasks: QueryOTAJob, ListOTATaskByJob, ListOTAJobByFirmware (ota-api: sections 6.1
//! to 6.3).
//!
//! Here belong paging and the exact field names and types of the answers. Nothing here changes anything, but for the
//! stream that a shuffled list is drawn from.

use serde_json::{Value, json};

use super::actions::task_id;
use super::answer::{Done, Fields, Refusal, utc};
use super::firmware::package_name;
use super::inventory::iot_id;
use super::jobs::{Job, JobStatus, Kind, TaskStatus};
use super::parameters::Given;
use super::random::Random;
use super::switches::{Edition, EmptyList, ListOrder, Switches};
use super::world::World;

const TASKS_PAGE_MAX: usize = 100;
const JOBS_PAGE_MAX: usize = 200;
/// CurrentPage × PageSize of ListOTATaskByJob.
const TASKS_REACH: usize = 100_000;
const DEVICE_NAMES_MAX: usize = 50;

/// A page of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    current: usize,
    size: usize,
}

impl Page {
    /// CurrentPage and PageSize.
    pub(super) fn of(given: &Given<'_>, size_max: usize) -> Result<Self, Refusal> {
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

    /// Its entries of a whole list.
    pub(super) fn of_all<T>(self, all: &[T]) -> impl Iterator<Item = &T> {
        all.iter().skip(self.skip()).take(self.size)
    }

    /// The list answer: paging fields, and the entries in their wrapper.
    pub(super) fn answer(
        self,
        total: usize,
        outer: &str,
        inner: &str,
        entries: Vec<Value>,
        switches: &Switches,
    ) -> Done {
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
            (false, _) | (true, EmptyList::Brackets) => Some(json!({inner: entries})),
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
        data.extend(job.pretence.clone());
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
        let rate = self.switches.page_shift_rate;
        let shifted = usize::from(page.current > 1 && rate > 0.0 && order.unit() < rate);
        let skip = page.skip().saturating_sub(shifted);
        let entries = jobs.iter().skip(skip).take(page.size).map(|job| self.job_entry(job)).collect();
        Ok(page.answer(jobs.len(), "Data", "SimpleOTAJobInfo", entries, &self.switches))
    }

    /// The job that JobId names.
    pub(super) fn wanted_job(&self, given: &Given<'_>) -> Result<u32, Refusal> {
        match given.text("JobId") {
            "" => Err(Refusal::firmware("NullOTAJobId", "JobId is empty.")),
            id => self.job_ids.get(id).copied().ok_or_else(no_job),
        }
    }

    /// No operation knows the job any more.
    pub(super) fn forget_job(&mut self, id: &str) {
        let Some(number) = self.job_ids.remove(id) else { return };
        for package in &mut self.packages {
            package.jobs.retain(|job| *job != number);
        }
        self.policies.retain(|policy| *policy != number);
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
        if let Kind::Dynamic(mode) = policy.kind {
            put("DynamicMode", mode.into());
        }
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
        if !policy.verify() {
            put("MaximumPerMinute", policy.maximum_per_minute.into());
            put("OverwriteMode", if policy.overwrite { 2.into() } else { 1.into() });
        }
        // The older service shows none of these.
        if edition == Edition::Current {
            put("NeedPush", policy.need_push.into());
            put("NeedConfirm", policy.need_confirm.into());
            put("DownloadProtocol", policy.download_protocol.as_str().into());
            put("MultiModuleMode", policy.multi_module.into());
            let group = policy.group.and_then(|group| self.devices.platform.get(group as usize));
            put("GroupId", group.map_or("", |group| group.traits.id.as_str()).into());
            put("GroupName", group.map_or("", |group| group.traits.name.as_str()).into());
        }
        data
    }

    /// What QueryOTAJob and the lists have in common.
    fn job_basics(&self, job: &Job, listed: bool) -> Fields {
        let legacy = listed && self.switches.legacy_spelling;
        let (kind, status) = match (job.policy.verify(), job.status, legacy) {
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
            ("SelectionType", if job.policy.dynamic() { "DYNAMIC" } else { "STATIC" }),
            ("TargetSelection", job.policy.selection.name()),
        ];
        let early_end = job.started.filter(|_| self.switches.end_time_while_running);
        let times = [
            ("UtcCreate", Some(job.created)),
            ("UtcModified", Some(job.modified)),
            ("UtcStartTime", job.started),
            ("UtcEndTime", job.ended.or(early_end)),
        ];
        let texts = texts.into_iter().map(|(name, text)| (name.to_owned(), text.into()));
        let times = times.into_iter().filter_map(|(name, at)| Some((name.to_owned(), utc(at?))));
        texts.chain(times).collect()
    }

    /// A job as the lists show it.
    pub(super) fn job_entry(&self, job: &Job) -> Value {
        let mut entry = self.job_basics(job, true);
        if self.switches.tags_listed {
            add_tags(&mut entry, job);
        }
        entry.into()
    }

    /// A task of a job.
    pub(super) fn task_view(&self, job: &Job, number: u32) -> Option<Value> {
        let task = job.tasks.get(number)?;
        let package = self.package(job.firmware)?;
        let (percent, modified) = task.shown(self.now);
        let mut view = json!({
            "TaskId": task_id(&job.id, number),
            "JobId": job.id,
            "FirmwareId": package.traits.id,
            "ProductKey": package.traits.product_key,
            "ProductName": package.traits.product_key,
            "IotId": iot_id(task.device),
            "DeviceName": self.devices.name(task.device),
            "SrcVersion": self.devices.texts.text(task.src),
            "DestVersion": package.traits.version,
            "TaskStatus": task.status.name(),
            "TaskDesc": task.reason.text(),
            "Progress": format!("{percent}.00"),
            "UtcCreate": utc(task.created),
            "UtcModified": utc(modified),
        });
        if let (1.., Some(view)) = (task.timeout_minutes, view.as_object_mut()) {
            view.insert("Timeout".to_owned(), task.timeout_minutes.to_string().into());
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
