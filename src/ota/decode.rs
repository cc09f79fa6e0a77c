//! Which fields of an answer make a job, a task, a package (ota-api: sections 2, 6.1 to 6.6).
//!
//! Only ids are required, and a package's version and status: what decisions stand on. An entry without its id makes the
//! whole answer unreadable, as a list with holes could hide a job. Judging success and tolerance of spelling are `wire`'s
//! affair.

use jiff::Timestamp;

use super::devices::{Device, ModuleVersion};
use super::firmware::{Firmware, FirmwareStatus};
use super::id::JobId;
use super::job::{Job, JobStatus, JobSummary, JobType};
use super::outcome::{CallError, is_plain};
use super::task::{Task, TaskStatus};
use super::wire::{Node, unreadable};

/// Most characters of an id; the API's own are 32.
const LONGEST_ID: usize = 128;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The entries of this page.
    pub items: Vec<T>,
    /// How many entries the whole list has: `Total`.
    pub total: u64,
    /// `PageCount`, if the answer says so.
    pub pages: Option<u64>,
}

fn page<'a, T>(
    root: Node<'a>,
    outer: &str,
    inner: &str,
    entry: impl Fn(Node<'a>) -> Result<T, CallError>,
) -> Result<Page<T>, CallError> {
    let items = root.nodes(outer, inner)?.into_iter().map(entry).collect::<Result<_, _>>()?;
    let total = root.count("Total").ok_or_else(|| unreadable("a list without Total"))?;
    Ok(Page { items, total, pages: root.count("PageCount") })
}

pub(super) fn required(node: Node<'_>, name: &str) -> Result<String, CallError> {
    node.text(name).ok_or_else(|| unreadable(&format!("{name} is missing")))
}

/// The name of a job or a package, which is told everywhere and sent back as it is: so it is not cleaned, and one that would
/// steer whoever reads it, or is longer than a status takes, is none.
fn id(node: Node<'_>, name: &str) -> Result<String, CallError> {
    let id = node.verbatim(name).ok_or_else(|| unreadable(&format!("{name} is missing")))?;
    if is_plain(&id) && id.chars().count() <= LONGEST_ID {
        Ok(id)
    } else {
        Err(unreadable(&format!("{name} is no name")))
    }
}

fn tags(node: Node<'_>) -> Result<Vec<(String, String)>, CallError> {
    let pairs = node.nodes("Tags", "OtaTagDTO")?.into_iter();
    Ok(pairs.filter_map(|tag| Some((tag.text("Key")?, tag.text("Value").unwrap_or_default()))).collect())
}

/// The answer to a create.
pub(super) fn created(root: Node<'_>) -> Result<(JobId, Option<Timestamp>), CallError> {
    let data = root.node("Data").unwrap_or(root);
    Ok((id(data, "JobId")?.into(), data.time("UtcCreate")))
}

/// The answer to QueryOTAJob.
pub(super) fn job(root: Node<'_>) -> Result<Job, CallError> {
    let data = root.node("Data").ok_or_else(|| unreadable("Data is missing"))?;
    Ok(Job {
        job_id: id(data, "JobId")?.into(),
        firmware_id: data.text("FirmwareId").unwrap_or_default().into(),
        product_key: data.text("ProductKey").unwrap_or_default(),
        name: data.text("Name"),
        dest_version: data.text("DestVersion"),
        desc: data.text("JobDesc"),
        status: JobStatus::from_text(&data.text("JobStatus").unwrap_or_default()),
        job_type: JobType::from_text(&data.text("JobType").unwrap_or_default()),
        selection_type: data.text("SelectionType").unwrap_or_default(),
        target_selection: data.text("TargetSelection").unwrap_or_default(),
        utc_create: data.time("UtcCreate"),
        utc_modified: data.time("UtcModified"),
        utc_start: data.time("UtcStartTime"),
        utc_end: data.time("UtcEndTime"),
        utc_schedule: data.time("UtcScheduleTime"),
        utc_schedule_finish: data.time("UtcScheduleFinishTime"),
        src_versions: data.texts("SrcVersions", "SrcVersion")?,
        tags: tags(data)?,
        gray_percent: data.text("GrayPercent"),
        dynamic_mode: data.int("DynamicMode"),
        retry_interval: data.int("RetryInterval"),
        retry_count: data.int("RetryCount"),
        timeout_in_minutes: data.int("TimeoutInMinutes"),
        maximum_per_minute: data.int("MaximumPerMinute"),
        overwrite_mode: data.int("OverwriteMode"),
        need_push: data.flag("NeedPush"),
        need_confirm: data.flag("NeedConfirm"),
        multi_module_mode: data.flag("MultiModuleMode"),
        download_protocol: data.text("DownloadProtocol"),
        group_id: data.text("GroupId"),
        group_name: data.text("GroupName"),
    })
}

/// The answer to ListOTAJobByFirmware.
pub(super) fn jobs(root: Node<'_>) -> Result<Page<JobSummary>, CallError> {
    page(root, "Data", "SimpleOTAJobInfo", |entry| {
        Ok(JobSummary {
            job_id: id(entry, "JobId")?.into(),
            firmware_id: entry.text("FirmwareId").unwrap_or_default().into(),
            product_key: entry.text("ProductKey").unwrap_or_default(),
            status: JobStatus::from_text(&entry.text("JobStatus").unwrap_or_default()),
            job_type: JobType::from_text(&entry.text("JobType").unwrap_or_default()),
            selection_type: entry.text("SelectionType").unwrap_or_default(),
            target_selection: entry.text("TargetSelection").unwrap_or_default(),
            utc_create: entry.time("UtcCreate"),
            utc_modified: entry.time("UtcModified"),
            utc_start: entry.time("UtcStartTime"),
            utc_end: entry.time("UtcEndTime"),
            tags: tags(entry)?,
        })
    })
}

/// The answer to ListOTATaskByJob by pages.
pub(super) fn tasks(root: Node<'_>) -> Result<Page<Task>, CallError> {
    page(root, "Data", "SimpleOTATaskInfo", task)
}

/// The answer to ListOTATaskByJob by device names, where paging fields need not be there.
pub(super) fn tasks_unpaged(root: Node<'_>) -> Result<Vec<Task>, CallError> {
    root.nodes("Data", "SimpleOTATaskInfo")?.into_iter().map(task).collect()
}

/// A device's name: sent back as it is, and shown nowhere.
fn named(node: Node<'_>) -> Result<String, CallError> {
    node.verbatim("DeviceName").ok_or_else(|| unreadable("DeviceName is missing"))
}

fn task(entry: Node<'_>) -> Result<Task, CallError> {
    Ok(Task {
        task_id: required(entry, "TaskId")?,
        job_id: entry.text("JobId").map(JobId::from),
        device_name: named(entry)?.into(),
        status: TaskStatus::from_text(&entry.text("TaskStatus").unwrap_or_default()),
        desc: entry.text("TaskDesc").unwrap_or_default(),
        progress: entry.text("Progress").unwrap_or_default(),
        src_version: entry.text("SrcVersion"),
        dest_version: entry.text("DestVersion"),
        utc_create: entry.time("UtcCreate"),
        utc_modified: entry.time("UtcModified"),
    })
}

/// The answer to QueryDeviceDetail.
pub(super) fn device(root: Node<'_>) -> Result<Device, CallError> {
    let data = root.node("Data").ok_or_else(|| unreadable("Data is missing"))?;
    Ok(Device {
        name: named(data)?.into(),
        firmware_version: data.text("FirmwareVersion"),
        status: data.text("Status").unwrap_or_default(),
        utc_online: data.time("UtcOnline"),
    })
}

/// The answer to ListOTAModuleVersionsByDevice.
pub(super) fn modules(root: Node<'_>) -> Result<Page<ModuleVersion>, CallError> {
    page(root, "Data", "SimpleOTAModuleInfo", |entry| {
        Ok(ModuleVersion { module: required(entry, "ModuleName")?, version: entry.text("ModuleVersion") })
    })
}

/// The answer to QueryOTAFirmware.
pub(super) fn firmware(root: Node<'_>) -> Result<Firmware, CallError> {
    let info = root.node("FirmwareInfo").ok_or_else(|| unreadable("FirmwareInfo is missing"))?;
    package(info)
}

/// The answer to ListOTAFirmware.
pub(super) fn firmwares(root: Node<'_>) -> Result<Page<Firmware>, CallError> {
    page(root, "FirmwareInfo", "SimpleFirmwareInfo", package)
}

fn package(info: Node<'_>) -> Result<Firmware, CallError> {
    let files = info.bare("MultiFiles")?;
    let sizes = files.iter().filter_map(|file| file.int("Size"));
    let size = if files.is_empty() { info.int("FirmwareSize") } else { Some(sizes.sum()) };
    Ok(Firmware {
        id: id(info, "FirmwareId")?.into(),
        name: info.text("FirmwareName").unwrap_or_default(),
        version: required(info, "DestVersion")?,
        src_version: info.text("SrcVersion"),
        differential: info.int("Type") == Some(1),
        module: info.text("ModuleName"),
        product_key: info.text("ProductKey"),
        status: info.int("Status").map(FirmwareStatus::from_number).ok_or_else(|| unreadable("Status is missing"))?,
        verify_progress: info.int("VerifyProgress"),
        files: if files.is_empty() { info.text("FirmwareUrl").map(|_| 1) } else { Some(files.len()) },
        size: size.and_then(|bytes| u64::try_from(bytes).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::code::{self, Class};
    use crate::ota::wire::{judge, tests::answer, xml};
    use crate::ota::{Answer, Operation};
    use serde_json::{Value, json};
    use std::path::Path;

    #[test]
    fn an_id_that_steers_or_has_no_end_is_none() {
        let made = |id: &str| {
            let answered =
                answer(200, &json!({"Success": true, "RequestId": "R\n2", "Data": {"JobId": id}}).to_string());
            let document = judge(&answered).unwrap();
            document.read(created).map(|read| (read.value.0.as_str().to_owned(), read.request_id))
        };
        assert_eq!(made("wahVIzGkCMuAUE2gDERM02"), Ok(("wahVIzGkCMuAUE2gDERM02".to_owned(), "R 2".to_owned())));
        assert!(made(&"x".repeat(128)).is_ok());
        for id in ["a\nb", "a\u{1b}[2J", "a\u{202e}b", "a\u{2028}", &"x".repeat(129)] {
            let error = made(id).unwrap_err();
            assert_eq!((error.class, error.code.as_str()), (Class::Unknown, code::UNREADABLE_ANSWER), "{id:?}");
            assert!(!error.to_string().contains('\n') && error.to_string().contains("JobId is no name"), "{error}");
        }
    }

    #[test]
    fn names_for_people_lose_what_steers_and_names_of_devices_stay() {
        let task =
            json!({"TaskId": "t", "DeviceName": "a\u{202e}b", "TaskDesc": "x\u{1b}[31m\ny", "TaskStatus": "QUE\nUED"});
        let answered = answer(200, &json!({"Success": true, "Data": {"SimpleOTATaskInfo": [task]}}).to_string());
        let read = judge(&answered).unwrap().read(tasks_unpaged).unwrap().value.remove(0);
        assert_eq!((read.device_name.as_str(), read.desc.as_str()), ("a\u{202e}b", "x[31m y"));
        assert_eq!(read.status.as_str(), "QUE UED");
    }

    /// What a fixture's `expect` can name, found by our own decoding.
    fn seen(operation: Operation, answer: &Answer) -> Value {
        let document = match judge(answer) {
            Ok(document) => document,
            Err(e) => {
                let layer = if e.code.starts_with("iot.") { "product" } else { "gateway" };
                return json!({"ok": false, "layer": layer, "code": e.code, "retryable": matches!(e.class, Class::Transient | Class::Unknown)});
            }
        };
        assert!(!document.read(|_| Ok(())).unwrap().request_id.is_empty());
        let root = document.root();
        match operation {
            Operation::CreateOTAVerifyJob
            | Operation::CreateOTAStaticUpgradeJob
            | Operation::CreateOTADynamicUpgradeJob => {
                let (job_id, utc_create) = created(root).unwrap();
                assert!(utc_create.is_some());
                json!({"ok": true, "job_id": job_id.as_str()})
            }
            Operation::QueryOTAJob => {
                let job = job(root).unwrap();
                assert!(job.utc_create.is_some() && job.utc_modified.is_some());
                json!({"ok": true, "status": job.status.as_str(), "tags": job.tags.len(),
                    "src_versions": job.src_versions, "dynamic_mode": job.dynamic_mode,
                    "gray_percent": job.gray_percent, "job_type": job.job_type.as_str()})
            }
            Operation::ListOTATaskByJob => {
                let page = tasks(root).unwrap();
                assert_eq!(tasks_unpaged(root).unwrap(), page.items);
                json!({"ok": true, "count": page.items.len(), "total": page.total, "pages": page.pages})
            }
            Operation::ListOTAJobByFirmware | Operation::ListOTAJobByDevice => {
                let page = jobs(root).unwrap();
                let tagged = page.items.iter().filter(|j| !j.tags.is_empty()).count();
                json!({"ok": true, "count": page.items.len(), "tagged": tagged})
            }
            Operation::QueryOTAFirmware => {
                let package = firmware(root).unwrap();
                json!({"ok": true, "firmware_status": package.status.number(), "files": package.files})
            }
            Operation::ListOTAFirmware => {
                let page = firmwares(root).unwrap();
                json!({"ok": true, "count": page.items.len(), "total": page.total})
            }
            Operation::ListOTAUnfinishedTaskByDevice => {
                json!({"ok": true, "count": tasks_unpaged(root).unwrap().len()})
            }
            _ => json!({"ok": true}),
        }
    }

    /// The JSON value as XML can carry it: scalars as text, without nulls and empty lists; a list of one is its element.
    fn carried(value: &Value) -> Value {
        match value {
            Value::Array(list) if list.len() == 1 => carried(&list[0]),
            Value::Array(list) => Value::Array(list.iter().map(carried).collect()),
            Value::Object(fields) => {
                let kept = fields.iter().filter(|(_, v)| !v.is_null() && v.as_array().is_none_or(|l| !l.is_empty()));
                let kept: serde_json::Map<_, _> = kept.map(|(k, v)| (k.clone(), carried(v))).collect();
                if kept.is_empty() { json!("") } else { Value::Object(kept) }
            }
            Value::String(text) => json!(text),
            other => json!(other.to_string()),
        }
    }

    #[test]
    fn each_fixture_says_the_same_in_both_formats_and_xml_is_written_as_it_is_read() {
        let mut compared = 0;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/responses");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let Some(stem) = name.strip_suffix(".xml") else { continue };
            let json: Value = serde_json::from_str(&fixture(&format!("responses/{stem}.json"))).unwrap();
            let expected = carried(&json);
            assert_eq!(Value::Object(xml::decode(&fixture(&format!("responses/{name}"))).unwrap()), expected, "{name}");
            let written = xml::encode("Any", json.as_object().unwrap());
            assert_eq!(Value::Object(xml::decode(&written).unwrap()), expected, "{name}");
            compared += 1;
        }
        assert_eq!(compared, 51);
    }

    fn fixture(name: &str) -> String {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)).unwrap()
    }

    #[test]
    fn every_fixture_of_ours_decodes_to_what_it_expects() {
        let index: Value = serde_json::from_str(&fixture("responses-index.json")).unwrap();
        let (mut decoded, mut errors) = (0, 0);
        for entry in index["fixtures"].as_array().unwrap() {
            let file = entry["file"].as_str().unwrap();
            let expect = entry["expect"].as_object().unwrap();
            // The gateway's errors answer any operation.
            let operation =
                Operation::from_name(entry["operation"].as_str().unwrap()).unwrap_or(Operation::QueryOTAJob);
            let status = u16::try_from(entry["http_status"].as_u64().unwrap()).unwrap();
            let seen = seen(operation, &answer(status, &fixture(file)));
            for (name, value) in expect {
                assert_eq!(seen.get(name), Some(value), "{file}: {name}");
            }
            decoded += 1;
            errors += usize::from(expect["ok"] == json!(false));
        }
        // Every success of an operation that we read, and every error in the index, in both formats: none may silently
        // fall out.
        assert_eq!((decoded, errors), (102, 44));
    }

    #[test]
    fn a_job_keeps_every_field() {
        let document = judge(&answer(200, &fixture("responses/QueryOTAJob.static-specific.json"))).unwrap();
        let at = |text: &str| Some(text.parse().unwrap());
        let expected = Job {
            job_id: "HvKuBpuk3rdk6E92CP00000200".into(),
            firmware_id: "UfuxnwygsuSkVE0VCN00000100".into(),
            product_key: "a19mzPZ0000".into(),
            name: Some("firmware2".into()),
            dest_version: Some("1.0.1".into()),
            desc: Some("batch upgrade".into()),
            status: JobStatus::InProgress,
            job_type: JobType::Upgrade,
            selection_type: "STATIC".into(),
            target_selection: "SPECIFIC".into(),
            utc_create: at("2019-12-28T02:43:10Z"),
            utc_modified: at("2019-12-28T02:43:10Z"),
            utc_start: at("2019-12-28T02:43:10Z"),
            utc_end: at("2019-12-29T02:43:10Z"),
            utc_schedule: None,
            utc_schedule_finish: None,
            src_versions: vec!["1.0.0".into()],
            tags: vec![],
            gray_percent: None,
            dynamic_mode: None,
            retry_interval: Some(60),
            retry_count: Some(1),
            timeout_in_minutes: Some(5),
            maximum_per_minute: Some(1000),
            overwrite_mode: Some(1),
            need_push: Some(false),
            need_confirm: Some(true),
            multi_module_mode: Some(true),
            download_protocol: Some("HTTPS".into()),
            group_id: None,
            group_name: None,
        };
        assert_eq!(job(document.root()).unwrap(), expected);
        let planned = judge(&answer(200, &fixture("responses/QueryOTAJob.scheduled-gray-planned.json"))).unwrap();
        let planned = job(planned.root()).unwrap();
        assert_eq!(planned.utc_schedule, at("2024-05-05T00:00:00Z"));
        assert_eq!(planned.utc_schedule_finish, at("2024-05-06T00:00:00Z"));
        let tagged = judge(&answer(200, &fixture("responses/QueryOTAJob.dynamic-tags.json"))).unwrap();
        let tagged = job(tagged.root()).unwrap();
        assert_eq!(tagged.tag("note"), Some("A & B <C> 升级"));
        assert_eq!(tagged.tag("nothing"), None);
    }

    #[test]
    fn every_task_status_arrives() {
        let document = judge(&answer(200, &fixture("responses/ListOTATaskByJob.all-states.json"))).unwrap();
        let page = tasks(document.root()).unwrap();
        let mut missing = TaskStatus::DOCUMENTED.to_vec();
        missing.retain(|s| page.items.iter().all(|t| t.status != *s));
        assert_eq!(missing, vec![]);
        let running = page.items.iter().find(|t| t.status == TaskStatus::InProgress).unwrap();
        assert_eq!((running.progress.as_str(), running.device_name.as_str()), ("42.00", "dev-04"));
        assert_eq!(running.utc_modified, Some("2024-05-04T06:25:00Z".parse().unwrap()));
    }

    #[test]
    fn a_differential_package_names_its_source() {
        let document = judge(&answer(200, &fixture("responses/ListOTAFirmware.two.json"))).unwrap();
        let page = firmwares(document.root()).unwrap();
        let facts: Vec<_> = page.items.iter().map(|f| (f.differential, f.src_version.as_deref(), f.files)).collect();
        assert_eq!(facts, [(false, None, None), (true, Some("1.0.0"), None)]);
        assert_eq!(page.items[0].module.as_deref(), Some("default"));
    }

    #[test]
    fn what_decisions_stand_on_may_not_be_missing() {
        let fails = |body: &str| {
            let document = judge(&answer(200, body)).unwrap();
            let root = document.root();
            [created(root).err(), job(root).err(), jobs(root).err(), tasks(root).err(), firmware(root).err()]
        };
        for error in fails(r#"{"Success":true}"#) {
            let error = error.unwrap();
            assert_eq!((error.code.as_str(), error.class), (code::UNREADABLE_ANSWER, Class::Unknown));
        }
        let [_, _, jobs_error, _, _] =
            fails(r#"{"Success":true,"Total":1,"Data":{"SimpleOTAJobInfo":[{"JobStatus":"X"}]}}"#);
        assert_eq!(jobs_error.unwrap().message, "JobId is missing");
        let [.., package_error] = fails(r#"{"Success":true,"FirmwareInfo":{"FirmwareId":"f","DestVersion":"1"}}"#);
        assert_eq!(package_error.unwrap().message, "Status is missing");
    }
}
