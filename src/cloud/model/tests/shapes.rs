//! The answers' shapes, against the vendor's fixtures: wrappers, field names, and text or number.

use std::collections::BTreeMap;

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/vectors/responses/", $name, ".json"))
    };
}

/// Every path of a document with the kind of its value; list entries share a path.
fn kinds(value: &Value, at: &str, into: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(entries) => {
            entries.iter().for_each(|entry| kinds(entry, &format!("{at}[]"), into));
            "array"
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| kinds(field, &format!("{at}.{name}"), into));
            "object"
        }
    };
    into.insert(at.to_owned(), kind);
}

/// Each path of an answer must be known, and of the same kind, in one of the fixtures; and every path of the first
/// fixture must be there unless it is named as optional.
fn matches(answer: &Value, fixtures: &[&str], optional: &[&str]) {
    let mut known = BTreeMap::new();
    let mut needed = BTreeMap::new();
    for (i, text) in fixtures.iter().enumerate() {
        let fixture: Value = serde_json::from_str(text).unwrap();
        kinds(&fixture, "", &mut known);
        if i == 0 {
            kinds(&fixture, "", &mut needed);
        }
    }
    let mut actual = BTreeMap::new();
    kinds(answer, "", &mut actual);
    for (path, kind) in &actual {
        assert_eq!(known.get(path), Some(kind), "{path} in {answer}");
    }
    for path in needed.keys().filter(|path| !optional.iter().any(|o| path.ends_with(o))) {
        assert!(actual.contains_key(path), "{path} is missing in {answer}");
    }
}

const STATIC: &str = fixture!("QueryOTAJob.static-specific");
const TAGGED: &str = fixture!("QueryOTAJob.dynamic-tags");
const GRAY: &str = fixture!("QueryOTAJob.scheduled-gray-planned");
const VERIFY: &str = fixture!("QueryOTAJob.verify-completed");
const JOBS: &str = fixture!("ListOTAJobByFirmware.three");

/// An XML answer, its text read as JSON would have it where it is a number or a truth.
fn xml(bench: &mut Bench, operation: &str, params: &str) -> String {
    bench.send(operation, &format!("{params} Format=XML")).body
}

#[test]
fn answers_in_xml_have_the_vendors_roots_and_wrappers() {
    let mut bench = Bench::new();
    let id = bench.job("TargetSelection=ALL SrcVersion.1=1.0 Tag.1.Key=k Tag.1.Value=a&b<c>");
    let job = xml(&mut bench, "QueryOTAJob", &format!("JobId={id}"));
    for part in [
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><QueryOTAJobResponse><Data>",
        "<SrcVersions><SrcVersion>1.0</SrcVersion></SrcVersions>",
        "<Tags><OtaTagDTO><Key>k</Key><Value>a&amp;b&lt;c&gt;</Value></OtaTagDTO></Tags>",
        "<MaximumPerMinute>10000</MaximumPerMinute>",
        "<Success>true</Success></QueryOTAJobResponse>",
    ] {
        assert!(job.contains(part), "{part} in {job}");
    }
    let empty = xml(&mut bench, "ListOTAJobByFirmware", "FirmwareId=next CurrentPage=1 PageSize=1");
    assert!(empty.contains("<Data></Data>"), "{empty}");
    let refused = xml(&mut bench, "QueryOTAJob", "JobId=x");
    assert!(
        refused.contains("<QueryOTAJobResponse><Code>iot.firmware.InvalidOTAJobId</Code><ErrorMessage>"),
        "{refused}"
    );
    assert!(refused.contains("<Success>false</Success></QueryOTAJobResponse>"), "{refused}");
    let refused = bench.send("QueryOTAJob", "Format=");
    assert!(refused.body.contains("?><Error><Code>MissingJobId</Code><HostId>"), "absent is XML: {}", refused.body);
    assert_eq!(refused.content_type, "text/xml;charset=utf-8");
}

#[test]
fn creates_and_refusals() {
    let mut bench = Bench::new();
    let created = bench.ok("CreateOTAStaticUpgradeJob", "FirmwareId=fw ProductKey=pk TargetSelection=ALL");
    matches(&created, &[fixture!("CreateOTAStaticUpgradeJob.ok")], &[]);
    assert_eq!(created["Data"]["JobId"].as_str().unwrap().len(), 26);
    assert_eq!(created["Data"]["UtcCreate"], "2026-03-01T00:00:00.000Z");
    let verify = "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=lab-1";
    matches(&bench.ok("CreateOTAVerifyJob", verify), &[fixture!("CreateOTAVerifyJob.ok")], &[]);
    let id = created["Data"]["JobId"].as_str().unwrap();
    let cancelled = bench.ok("CancelOTATaskByJob", &format!("JobId={id} CancelQueuedTask=true"));
    matches(&cancelled, &[fixture!("CancelOTATaskByJob.ok")], &[]);
    let refused: Value = serde_json::from_str(&bench.send("QueryOTAJob", "JobId=x").body).unwrap();
    matches(&refused, &[fixture!("QueryOTAJob.err-InvalidOTAJobId")], &[]);
    let refused: Value = serde_json::from_str(&bench.send("QueryOTAFirmware", "").body).unwrap();
    matches(&refused, &[fixture!("gateway.MissingFirmwareId")], &[]);
    assert_eq!(refused["Message"], "FirmwareId is mandatory for this action.");
}

#[test]
fn one_job() {
    let mut bench = Bench::new();
    let id = bench.job(
        "TargetSelection=ALL SrcVersion.1=1.0 TimeoutInMinutes=60 RetryInterval=30 RetryCount=2 Tag.1.Key=k Tag.1.Value=v",
    );
    bench.minutes(10);
    let job = bench.ok("QueryOTAJob", &format!("JobId={id}"));
    matches(&job, &[STATIC, TAGGED], &[]);
    assert_eq!(job["Data"]["Tags"]["OtaTagDTO"], serde_json::json!([{"Key": "k", "Value": "v"}]));
    let at = bench.clocks.fleet.as_millisecond() + 3_600_000;
    let planned = bench
        .job(&format!("TargetSelection=GRAY GrayPercent=5 ScheduleTime={at} ScheduleFinishTime={}", at + 7_200_000));
    matches(&bench.ok("QueryOTAJob", &format!("JobId={planned}")), &[GRAY, STATIC], &[]);
    let verify = "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=lab-1";
    let id = bench.ok("CreateOTAVerifyJob", verify)["Data"]["JobId"].as_str().unwrap().to_owned();
    bench.minutes(10);
    matches(&bench.ok("QueryOTAJob", &format!("JobId={id}")), &[VERIFY, STATIC], &[]);
    let mut silent = Bench::switched(|s| s.tags_queried = false);
    let id = silent.job("TargetSelection=ALL Tag.1.Key=k Tag.1.Value=v");
    assert_eq!(silent.data(&id).get("Tags"), None);
}

#[test]
fn job_lists() {
    let mut bench = Bench::new();
    bench.job("TargetSelection=SPECIFIC TargetDeviceName.1=lab-1 Tag.1.Key=k Tag.1.Value=v");
    bench.minutes(10);
    let list = "FirmwareId=fw CurrentPage=1 PageSize=200";
    matches(&bench.ok("ListOTAJobByFirmware", list), &[JOBS], &[]);
    let empty = bench.ok("ListOTAJobByFirmware", "FirmwareId=next CurrentPage=1 PageSize=10");
    assert_eq!((&empty["PageCount"], &empty["Total"]), (&0.into(), &0.into()));
    assert_eq!(empty["Data"], serde_json::json!({"SimpleOTAJobInfo": []}));
    for (choice, data) in [
        (EmptyList::EmptyObject, Some(serde_json::json!({}))),
        (EmptyList::Null, Some(Value::Null)),
        (EmptyList::Absent, None),
    ] {
        let mut bench = Bench::switched(|s| s.empty_list = choice);
        assert_eq!(bench.ok("ListOTAJobByFirmware", list).get("Data"), data.as_ref(), "{choice:?}");
    }
    let mut old = Bench::switched(|s| (s.legacy_spelling, s.tags_listed) = (true, false));
    let verify = "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=lab-1 Tag.1.Key=k Tag.1.Value=v";
    old.ok("CreateOTAVerifyJob", verify);
    old.minutes(10);
    let list = old.ok("ListOTAJobByFirmware", "FirmwareId=unverified CurrentPage=1 PageSize=200");
    let entry = &list["Data"]["SimpleOTAJobInfo"][0];
    assert_eq!((&entry["JobType"], &entry["JobStatus"]), (&"VERFIY_FIRMWARE".into(), &"COMPLETE".into()));
    assert_eq!(entry.get("Tags"), None);
}

#[test]
fn task_lists_and_their_pages() {
    let mut bench = Bench::new();
    let id = bench.job("TargetSelection=ALL TimeoutInMinutes=60");
    let page = |bench: &mut Bench, page: u32| {
        bench.ok("ListOTATaskByJob", &format!("JobId={id} CurrentPage={page} PageSize=50 TaskStatus=QUEUED"))
    };
    let fixture = fixture!("ListOTATaskByJob.all-states");
    let (first, last, beyond) = (page(&mut bench, 1), page(&mut bench, 3), page(&mut bench, 4));
    matches(&first, &[fixture], &[]);
    matches(&beyond, &[fixture!("ListOTATaskByJob.empty")], &[]);
    let entries = |list: &Value| list["Data"]["SimpleOTATaskInfo"].as_array().unwrap().len();
    assert_eq!((entries(&first), entries(&last), entries(&beyond)), (50, 3, 0));
    assert_eq!((&first["Total"], &first["PageCount"], &first["PageSize"]), (&103.into(), &3.into(), &50.into()));
    let task = &first["Data"]["SimpleOTATaskInfo"][0];
    assert_eq!((&task["Progress"], &task["Timeout"], &task["TaskDesc"]), (&"0.00".into(), &"60".into(), &"".into()));
    let named = format!("JobId={id} DeviceNames.1=lab-2 DeviceNames.2=nobody DeviceNames.3=dev-07");
    let names = bench.ok("ListOTATaskByJob", &named);
    let shown: Vec<_> = names["Data"]["SimpleOTATaskInfo"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["DeviceName"].as_str().unwrap())
        .collect();
    assert_eq!((shown, &names["Total"]), (vec!["dev-07", "lab-2"], &2.into()));
    let id = bench.job("TargetSelection=SPECIFIC TargetDeviceName.1=lab-1");
    assert_eq!(bench.tasks(&id)[0].get("Timeout"), None, "unset");
}

#[test]
fn devices_and_actions() {
    let mut bench = Bench::new();
    let id = bench.job("TargetSelection=ALL NeedConfirm=true TimeoutInMinutes=9");
    let device = "ProductKey=pk DeviceName=lab-1";
    let open = bench.ok("ListOTAUnfinishedTaskByDevice", device);
    matches(&open, &[fixture!("ListOTAUnfinishedTaskByDevice.one")], &[]);
    let list = bench.ok("ListOTAJobByDevice", &format!("FirmwareId=fw {device} CurrentPage=1 PageSize=10"));
    matches(&list, &[fixture!("ListOTAJobByDevice.one"), JOBS], &[]);
    let task = open["Data"]["SimpleOTATaskInfo"][0]["TaskId"].as_str().unwrap().to_owned();
    matches(&bench.ok("ConfirmOTATask", &format!("TaskId.1={task}")), &[fixture!("ConfirmOTATask.ok")], &[]);
    let cancel = format!("FirmwareId=fw ProductKey=pk DeviceName.1=lab-1 JobId={id}");
    matches(&bench.ok("CancelOTATaskByDevice", &cancel), &[fixture!("CancelOTATaskByDevice.ok")], &[]);
    let update = format!("JobId={id} UpgradeType=STATIC TargetSelection=ALL MaximumPerMinute=10");
    matches(&bench.ok("UpdateOTAJob", &update), &[fixture!("UpdateOTAJob.ok")], &[]);
    let dynamic = "FirmwareId=next ProductKey=pk SrcVersion.1=1.0 Tag.1.Key=k Tag.1.Value=v";
    let created = bench.ok("CreateOTADynamicUpgradeJob", dynamic);
    matches(&created, &[fixture!("CreateOTADynamicUpgradeJob.ok")], &[]);
    let id = created["Data"]["JobId"].as_str().unwrap();
    matches(&bench.ok("QueryOTAJob", &format!("JobId={id}")), &[TAGGED, STATIC], &[]);
    let refused: Value = serde_json::from_str(&bench.send("CreateOTADynamicUpgradeJob", dynamic).body).unwrap();
    matches(&refused, &[fixture!("CreateOTADynamicUpgradeJob.err-InProgressDynamicJobExisted")], &[]);
    let ended = bench.ok("CancelOTAStrategyByJob", &format!("JobId={id}"));
    matches(&ended, &[fixture!("CancelOTAStrategyByJob.ok")], &[]);
    matches(
        &bench.ok("QueryOTAJob", &format!("JobId={id}")),
        &[fixture!("QueryOTAJob.dynamic-canceled"), TAGGED, STATIC],
        &[],
    );
    let detail = bench.ok("QueryDeviceDetail", device)["Data"].clone();
    assert_eq!((&detail["FirmwareVersion"], &detail["Status"]), (&"1.1".into(), &"ONLINE".into()));
    let by_id = bench.ok("QueryDeviceDetail", &format!("IotId={}", detail["IotId"].as_str().unwrap()));
    assert_eq!(by_id["Data"]["DeviceName"], "lab-1");
    let modules = bench.ok("ListOTAModuleVersionsByDevice", &format!("{device} CurrentPage=1 PageSize=200"));
    let expected = serde_json::json!({"IotId": detail["IotId"], "ProductKey": "pk", "DeviceName": "lab-1",
        "ModuleName": "default", "ModuleVersion": "1.1"});
    assert_eq!((&modules["Data"]["SimpleOTAModuleInfo"][0], &modules["Total"]), (&expected, &1.into()));
}

#[test]
fn packages_come_and_go() {
    let mut bench = Bench::new();
    let create =
        "FirmwareName=f DestVersion=7.0 ProductKey=pk FirmwareUrl=https://x/y NeedToVerify=false Udi={\"a\":1}";
    let created = bench.ok("CreateOTAFirmware", create);
    matches(&created, &[fixture!("CreateOTAFirmware.ok")], &[]);
    let id = created["Data"]["FirmwareId"].as_str().unwrap().to_owned();
    let info = bench.ok("QueryOTAFirmware", &format!("FirmwareId={id}"))["FirmwareInfo"].clone();
    let shown = ["FirmwareName", "DestVersion", "FirmwareUrl", "Udi"].map(|field| info[field].as_str().unwrap());
    assert_eq!((shown, &info["Status"]), (["f", "7.0", "https://x/y", "{\"a\":1}"], &(-1).into()));
    let other = "DestVersion=7.0 ProductKey=pk FirmwareUrl=u FirmwareName=g";
    for (params, expected) in [
        (create.to_owned(), "iot.firmware.AlreadyExistedFirmwareName"),
        (other.to_owned(), "iot.firmware.AlreadyExistedFirmwareVersion"),
        (other.replace("7.0", "7.0~x"), "iot.common.InvalidFormattedParameter"),
        (other.replace("=pk", "="), "iot.firmware.InvalidProductKey"),
        (other.replace("FirmwareUrl=u", ""), "iot.firmware.InvalidFirmware"),
        (format!("{other}{}", "g".repeat(40)), "iot.common.InvalidFormattedParameter"),
        (format!("{other} Type=1"), "iot.firmware.SrcVersionIsMandatory"),
        (format!("{other} Type=1 SrcVersion=7.0"), "iot.firmware.SrcDestVersionMatched"),
        (format!("{other} Type=2"), "iot.common.InvalidFormattedParameter"),
        (format!("{other} FirmwareDesc={}", "x".repeat(101)), "iot.common.InvalidFormattedParameter"),
        ("FirmwareName=g".to_owned(), "MissingDestVersion"),
        (format!("{other} ModuleName=mcu"), ""),
    ] {
        assert_eq!(bench.code("CreateOTAFirmware", &params), expected, "{params}");
    }
    let files = "FirmwareName=many DestVersion=8.0 ProductKey=pk MultiFiles.1.Name=a.bin MultiFiles.1.Size=10 \
                 MultiFiles.1.Url=u MultiFiles.2.Name=b.bin MultiFiles.2.Size=20 MultiFiles.2.Url=v NeedToVerify=false";
    assert_eq!(
        bench.code("CreateOTAFirmware", &files.replace("MultiFiles.2.Size=20", "")),
        "iot.common.InvalidFormattedParameter"
    );
    let many = bench.ok("CreateOTAFirmware", files)["Data"]["FirmwareId"].as_str().unwrap().to_owned();
    let info = bench.ok("QueryOTAFirmware", &format!("FirmwareId={many}"));
    matches(&info, &[fixture!("QueryOTAFirmware.multi-files"), fixture!("QueryOTAFirmware.unverified")], &[]);
    let mqtt = format!("FirmwareId={many} ProductKey=pk TargetSelection=ALL DownloadProtocol=MQTT");
    assert_eq!(bench.code("CreateOTAStaticUpgradeJob", &mqtt), "iot.firmware.InvalidFirmware", "one file only");
    bench.ok("CreateOTAStaticUpgradeJob", &format!("FirmwareId={id} ProductKey=pk TargetSelection=ALL"));
    let delete = format!("FirmwareId={id}");
    assert_eq!(bench.code("DeleteOTAFirmware", &delete), "iot.firmware.IncorrectDeviceUpgradeJobStatus");
    bench.minutes(10);
    matches(&bench.ok("DeleteOTAFirmware", &delete), &[fixture!("DeleteOTAFirmware.ok")], &[]);
    assert_eq!(bench.code("QueryOTAFirmware", &delete), "iot.firmware.FirmwareNotFound");
    bench.ok("CreateOTAFirmware", create);
}

#[test]
fn packages() {
    let mut bench = Bench::new();
    let fixture = fixture!("QueryOTAFirmware.unverified");
    let info = bench.ok("QueryOTAFirmware", "FirmwareId=unverified");
    matches(&info, &[fixture], &[]);
    assert_eq!((&info["FirmwareInfo"]["Status"], &info["FirmwareInfo"]["Type"]), (&0.into(), &0.into()));
    assert_eq!(bench.ok("QueryOTAFirmware", "FirmwareId=fw")["FirmwareInfo"]["Status"], -1);
    let list = bench.ok("ListOTAFirmware", "CurrentPage=1 PageSize=100");
    matches(&list, &[fixture!("ListOTAFirmware.two")], &[]);
    for (filter, total) in [("ProductKey=pk", 5), ("ProductKey=pk2", 0), ("DestVersion=2.0", 2), ("DestVersion=2", 0)] {
        let list = bench.ok("ListOTAFirmware", &format!("CurrentPage=1 PageSize=100 {filter}"));
        assert_eq!(list["Total"], total, "{filter}");
    }
}
