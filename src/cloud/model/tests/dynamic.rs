//! Standing policies, groups, modules, and devices that come or report later.

use super::*;

const FLEET: &str = r#"
accounts:
- {accessKeyId: key, accessKeySecret: secret, instanceId: iot-1}
- {accessKeyId: singapore, accessKeySecret: secret, instanceId: iot-2, region: ap-southeast-1}
- {accessKeyId: beijing, accessKeySecret: secret, instanceId: iot-3, region: cn-beijing}
- {accessKeyId: old, accessKeySecret: secret}
products:
- productKey: pk
  platformGroups: [{id: site, name: Site 7}, {id: fleet, dynamic: true}]
  groups:
  - {names: [a, b], version: "1.0", minutes: [5, 5], memberOf: [site]}
  - {names: [late-1, late-2], version: "1.0", minutes: [5, 5], joinsAfter: [60, 90], memberOf: [fleet]}
  - {names: [c], version: "0.9", minutes: [5, 5], reports: [{after: 60, version: "1.0"}], memberOf: [fleet]}
  - {names: [gate], version: "1.0", minutes: [5, 5], modules: {radio: "1.0"}}
firmware:
- {id: fw, productKey: pk, version: "2.0", needToVerify: false}
- {id: next, productKey: pk, version: "3.0", needToVerify: false}
- {id: diff, productKey: pk, version: "4.0", needToVerify: false, srcVersion: "1.0"}
- {id: unverified, productKey: pk, version: "5.0"}
- {id: big, productKey: pk, version: "6.0", needToVerify: false, size: 16777217}
- {id: radio, productKey: pk, version: "2.0", module: radio, needToVerify: false}
"#;

const CREATE: &str = "CreateOTADynamicUpgradeJob";
const GROUP: &str = "GroupId=fleet GroupType=LINK_PLATFORM_DYNAMIC";

/// A bench whose calls carry the account's instance.
fn bench() -> Bench {
    Bench::with(FLEET, |_| {})
}

const HERE: &str = "ProductKey=pk IotInstanceId=iot-1";

fn policy(bench: &mut Bench, params: &str) -> String {
    bench.ok(CREATE, &format!("{HERE} {params}"))["Data"]["JobId"].as_str().unwrap().to_owned()
}

fn names(bench: &mut Bench, job: &str) -> Vec<(String, String)> {
    let list = bench.ok("ListOTATaskByJob", &format!("IotInstanceId=iot-1 JobId={job} CurrentPage=1 PageSize=100"));
    let tasks = list["Data"]["SimpleOTATaskInfo"].as_array().unwrap().clone();
    let text = |task: &Value, field: &str| task[field].as_str().unwrap().to_owned();
    let mut all: Vec<_> = tasks.iter().map(|t| (text(t, "DeviceName"), text(t, "TaskStatus"))).collect();
    all.sort();
    all
}

fn shown(bench: &mut Bench, job: &str) -> Value {
    bench.ok("QueryOTAJob", &format!("IotInstanceId=iot-1 JobId={job}"))["Data"].clone()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn each_rule_of_a_policy_has_its_code() {
    let base = "FirmwareId=fw SrcVersion.1=1.0";
    let eleven: String = (1..=11).map(|i| format!(" SrcVersion.{i}=v{i}")).collect();
    let rows = [
        ("FirmwareId=fw".to_owned(), "iot.firmware.NullSrcVersions"),
        (format!("FirmwareId=fw{eleven}"), "iot.firmware.SrcVersionsSizeExceedMax"),
        ("FirmwareId=fw SrcVersion.1=2.0".to_owned(), "iot.firmware.SrcDestVersionMatched"),
        ("FirmwareId=fw SrcVersion.2=1.0".to_owned(), "iot.firmware.IncorrectFormattedSrcVersion"),
        (format!("{base} TargetSelection=GRAY"), "iot.firmware.DynamicGrayNotSupported"),
        (format!("{base} TargetSelection=SPECIFIC"), "iot.firmware.DynamicSpecificNotSupported"),
        (format!("{base} TargetSelection=GROUP"), "iot.firmware.InvalidTargetSelection"),
        (format!("{base} GrayPercent=5"), "iot.firmware.GrayAppliesToStaticOnly"),
        (format!("{base} TargetDeviceName.1=a"), "iot.firmware.DynamicSpecificNotSupported"),
        (format!("{base} ScheduleTime=1"), "UnsupportedParameter"),
        (format!("{base} ScheduleFinishTime=1"), "UnsupportedParameter"),
        (format!("{base} DnListFileUrl=u"), "UnsupportedParameter"),
        (format!("{base} DynamicMode=0"), "iot.firmware.InvalidDynamicMode"),
        (format!("{base} DynamicMode=3"), "iot.firmware.InvalidDynamicMode"),
        (format!("{base} DynamicMode=x"), "iot.firmware.InvalidDynamicMode"),
        (format!("{base} OverwriteMode=2 MultiModuleMode=true"), "iot.firmware.InvalidOverwriteMode"),
        (format!("{base} RetryInterval=60 RetryCount=1 TimeoutInMinutes=60"), "iot.firmware.InvalidRetryInterval"),
        (format!("{base} MaximumPerMinute=0"), "iot.firmware.InvalidMaximumPerMinute"),
        (format!("{base} {GROUP}"), "iot.firmware.SrcVersionsNotAllowed"),
        ("FirmwareId=fw GroupId=fleet".to_owned(), "MissingGroupType"),
        ("FirmwareId=fw GroupType=LINK_PLATFORM_DYNAMIC".to_owned(), "MissingGroupId"),
        ("FirmwareId=fw GroupId=fleet GroupType=LINK_PLATFORM".to_owned(), "iot.common.InvalidFormattedParameter"),
        (format!("FirmwareId=fw {}", GROUP.replace("=fleet", "=site")), "iot.common.InvalidFormattedParameter"),
        ("FirmwareId=diff SrcVersion.1=0.9".to_owned(), "iot.firmware.SrcVersionMismatch"),
        ("FirmwareId=unverified SrcVersion.1=1.0".to_owned(), "iot.firmware.FirmwareNotVerified"),
        ("FirmwareId=x SrcVersion.1=1.0".to_owned(), "iot.firmware.FirmwareNotFound"),
        ("SrcVersion.1=1.0".to_owned(), "MissingFirmwareId"),
        ("FirmwareId=big SrcVersion.1=1.0 DownloadProtocol=MQTT".to_owned(), "iot.firmware.InvalidFirmware"),
        // Format before existence, existence before state.
        ("FirmwareId=x SrcVersion.1=1.0 DynamicMode=3".to_owned(), "iot.firmware.InvalidDynamicMode"),
    ];
    for (params, expected) in rows {
        assert_eq!(bench().code(CREATE, &format!("{HERE} {params}")), expected, "{params}");
    }
    for accepted in [
        base.to_owned(),
        format!("{base} TargetSelection=ALL DynamicMode=1"),
        format!("{base} MultiModuleMode=true OverwriteMode=1 NeedConfirm=true NeedPush=false"),
        format!("{base} DownloadProtocol=MQTT RetryInterval=30 RetryCount=5 TimeoutInMinutes=60"),
        format!("FirmwareId=fw {GROUP}"),
        format!("FirmwareId=diff {GROUP}"),
        "FirmwareId=diff SrcVersion.1=1.0".to_owned(),
        // Nobody matches yet: a policy waits for whoever comes.
        "FirmwareId=fw SrcVersion.1=0.1".to_owned(),
    ] {
        assert_eq!(bench().code(CREATE, &format!("{HERE} {accepted}")), "", "{accepted}");
    }
}

#[test]
fn features_exist_in_some_regions_and_instances_only() {
    let dynamic_group = format!("FirmwareId=fw {GROUP}");
    let multi = "FirmwareId=fw SrcVersion.1=1.0 MultiModuleMode=true";
    let mqtt = "FirmwareId=fw SrcVersion.1=1.0 DownloadProtocol=MQTT";
    let nowhere = "iot.common.APINotSupportedInInstance";
    for (edition, key, instance, expected) in [
        (Edition::Current, "key", "iot-1", ["", "", ""]),
        (Edition::Current, "beijing", "iot-3", [nowhere, "", ""]),
        (Edition::Current, "singapore", "iot-2", [nowhere, "", nowhere]),
        (Edition::Current, "old", "", [nowhere, nowhere, ""]),
        (Edition::Legacy, "key", "iot-1", [nowhere, "", ""]),
        (Edition::Legacy, "beijing", "iot-3", [nowhere, "", nowhere]),
    ] {
        for (params, expected) in [dynamic_group.as_str(), multi, mqtt].into_iter().zip(expected) {
            let mut bench = Bench::seeded(FLEET, 1, edition, |_| {});
            bench.key = key;
            let params = format!("ProductKey=pk IotInstanceId={instance} {params}");
            assert_eq!(bench.code(CREATE, &params), expected, "{edition:?} {key} {params}");
        }
    }
    let mut old = Bench::seeded(FLEET, 1, Edition::Legacy, |_| {});
    assert_eq!(old.code(CREATE, &format!("{HERE} FirmwareId=fw")), "", "sources are optional in the older edition");
}

#[test]
fn a_policy_takes_those_that_match_and_those_that_come_later() {
    let mut bench = bench();
    let job = policy(&mut bench, "FirmwareId=fw SrcVersion.1=1.0");
    let data = shown(&mut bench, &job);
    let kind = ["SelectionType", "TargetSelection", "JobStatus"].map(|field| data[field].as_str().unwrap());
    assert_eq!((kind, &data["DynamicMode"]), (["DYNAMIC", "ALL", "IN_PROGRESS"], &1.into()));
    bench.minutes(30);
    let first = pairs(&[("a", "SUCCEEDED"), ("b", "SUCCEEDED"), ("gate", "SUCCEEDED")]);
    assert_eq!(names(&mut bench, &job), first);
    let absent = bench.code("QueryDeviceDetail", &format!("{HERE} DeviceName=late-1"));
    assert_eq!(absent, "iot.device.NotExistedDevice", "it has not joined yet");
    bench.minutes(100);
    let all = ["a", "b", "c", "gate", "late-1", "late-2"].map(|name| (name, "SUCCEEDED"));
    assert_eq!(names(&mut bench, &job), pairs(&all));
    assert_eq!(shown(&mut bench, &job)["JobStatus"], "IN_PROGRESS", "it never completes by itself");
    assert_eq!(
        bench.code(CREATE, &format!("{HERE} FirmwareId=fw SrcVersion.1=0.9")),
        "iot.firmware.InProgressDynamicJobExisted"
    );
}

#[test]
fn mode_two_waits_for_reports() {
    let mut bench = bench();
    let job = policy(&mut bench, "FirmwareId=fw SrcVersion.1=1.0 DynamicMode=2");
    bench.minutes(30);
    assert!(names(&mut bench, &job).is_empty());
    bench.minutes(100);
    let later = ["c", "late-1", "late-2"].map(|name| (name, "SUCCEEDED"));
    assert_eq!(names(&mut bench, &job), pairs(&later));
}

#[test]
fn a_cancelled_policy_gives_no_more_tasks_and_its_tasks_go_on() {
    let mut bench = bench();
    let job = policy(&mut bench, "FirmwareId=fw SrcVersion.1=1.0");
    let cancel = format!("IotInstanceId=iot-1 JobId={job}");
    bench.ok("CancelOTAStrategyByJob", &cancel);
    assert_eq!(bench.code("CancelOTAStrategyByJob", &cancel), "iot.firmware.JobAlreadyCanceled");
    let data = shown(&mut bench, &job);
    assert_eq!((&data["JobStatus"], data.get("UtcEndTime").is_some()), (&"CANCELED".into(), true));
    bench.minutes(200);
    let there = ["a", "b", "gate"].map(|name| (name, "SUCCEEDED"));
    assert_eq!(names(&mut bench, &job), pairs(&there), "queued when it was cancelled, and nobody since");
    let fixed = bench.ok("CreateOTAStaticUpgradeJob", &format!("{HERE} FirmwareId=next TargetSelection=ALL"));
    let fixed = fixed["Data"]["JobId"].as_str().unwrap();
    let cancel = format!("IotInstanceId=iot-1 JobId={fixed}");
    assert_eq!(bench.code("CancelOTAStrategyByJob", &cancel), "iot.firmware.NotDynamicJob");
    let again = policy(&mut bench, "FirmwareId=fw SrcVersion.1=1.0");
    assert_ne!(again, job, "another may follow");
}

#[test]
fn the_latest_policy_wins_and_policies_chain() {
    let mut bench = bench();
    let older = policy(&mut bench, "FirmwareId=fw SrcVersion.1=1.0 DynamicMode=2");
    let newer = policy(&mut bench, "FirmwareId=next SrcVersion.1=1.0 DynamicMode=2");
    bench.minutes(120);
    assert!(names(&mut bench, &older).is_empty());
    assert_eq!(names(&mut bench, &newer).len(), 3);
    let mut bench = self::bench();
    policy(&mut bench, "FirmwareId=fw SrcVersion.1=1.0");
    let second = policy(&mut bench, "FirmwareId=next SrcVersion.1=2.0");
    bench.minutes(30);
    let through = ["a", "b", "gate"].map(|name| (name, "SUCCEEDED"));
    assert_eq!(names(&mut bench, &second), pairs(&through), "arriving is a report");
    assert_eq!(bench.cloud.devices("pk", &LedgerQuery::default()).unwrap().versions["default"]["3.0"], 3);
}

#[test]
fn groups_choose_their_members_and_policies_of_one_group_agree() {
    let mut bench = bench();
    let fixed = format!("{HERE} FirmwareId=next TargetSelection=GROUP GroupId=site GroupType=LINK_PLATFORM");
    for (from, to, expected) in [
        ("GroupType=LINK_PLATFORM", "", "MissingGroupType"),
        ("GroupId=site", "", "MissingGroupId"),
        ("=LINK_PLATFORM", "=LINK_PLATFORM_DYNAMIC", "iot.common.InvalidFormattedParameter"),
        ("=site", "=fleet", "iot.common.InvalidFormattedParameter"),
        ("=site", "=site SrcVersion.1=1.0", "iot.firmware.SrcVersionsNotAllowed"),
        ("=site", "=site TargetDeviceName.1=a", "iot.firmware.TargetDeviceNamesNotAllowed"),
        ("=GROUP", "=ALL", "iot.firmware.InvalidTargetSelection"),
    ] {
        assert_eq!(bench.code("CreateOTAStaticUpgradeJob", &fixed.replacen(from, to, 1)), expected, "{from} {to}");
    }
    let mut old = Bench::seeded(FLEET, 1, Edition::Legacy, |_| {});
    assert_eq!(old.code("CreateOTAStaticUpgradeJob", &fixed), "iot.firmware.InvalidTargetSelection");
    let job = bench.ok("CreateOTAStaticUpgradeJob", &fixed)["Data"]["JobId"].as_str().unwrap().to_owned();
    assert_eq!(names(&mut bench, &job), pairs(&[("a", "QUEUED"), ("b", "QUEUED")]));
    let data = shown(&mut bench, &job);
    let group = ["TargetSelection", "GroupId", "GroupName"].map(|field| data[field].as_str().unwrap());
    assert_eq!(group, ["GROUP", "site", "Site 7"]);

    let standing = policy(&mut bench, &format!("FirmwareId=fw {GROUP}"));
    assert_eq!(names(&mut bench, &standing), pairs(&[("c", "QUEUED")]), "whatever version it runs");
    let other = format!("{HERE} FirmwareId=next {GROUP}");
    for (params, expected) in [
        ("OverwriteMode=2", "iot.firmware.InvalidOverwriteMode"),
        ("MultiModuleMode=true", "iot.firmware.InvalidOverwriteMode"),
        ("OverwriteMode=1 MultiModuleMode=false", ""),
    ] {
        assert_eq!(bench.code(CREATE, &format!("{other} {params}")), expected, "{params}");
    }
    let update = format!("IotInstanceId=iot-1 JobId={standing} UpgradeType=DYNAMIC MaximumPerMinute=50");
    for (params, expected) in [
        ("TargetSelection=GRAY", "iot.firmware.InvalidTargetSelection"),
        ("TargetSelection=GROUP SrcVersionList.1=1.0", "iot.firmware.SrcVersionsNotAllowed"),
        ("TargetSelection=GROUP TimeoutInMinutes=1441", "iot.firmware.InvalidTimeoutSetting"),
        ("TargetSelection=GROUP TimeoutInMinutes=40", ""),
        ("TargetSelection=ALL", ""),
    ] {
        assert_eq!(bench.code("UpdateOTAJob", &format!("{update} {params}")), expected, "{params}");
    }
    let data = shown(&mut bench, &standing);
    assert_eq!((&data["TimeoutInMinutes"], &data["MaximumPerMinute"]), (&40.into(), &50.into()));
    let list = format!("IotInstanceId=iot-1 JobId={standing} CurrentPage=1 PageSize=10");
    let task = bench.ok("ListOTATaskByJob", &list)["Data"]["SimpleOTATaskInfo"][0].clone();
    assert_eq!(task.get("Timeout"), None, "devices that were there keep theirs");
}

#[test]
fn modules_of_their_own_do_not_get_into_each_others_way() {
    let quiet = FLEET.replace("modules: {radio", "silentRate: 1, modules: {radio");
    let gate = "TargetSelection=SPECIFIC TargetDeviceName.1=gate";
    let send = |bench: &mut Bench, firmware: &str, params: &str| {
        let params = format!("{HERE} FirmwareId={firmware} {gate} {params}");
        let made = bench.ok("CreateOTAStaticUpgradeJob", &params)["Data"]["JobId"].as_str().unwrap().to_owned();
        bench.minutes(1);
        made
    };
    let state = |bench: &mut Bench, job: &str| names(bench, job).remove(0).1;
    // One task per device, whatever the module.
    let mut bench = Bench::with(&quiet, |_| {});
    let first = send(&mut bench, "fw", "");
    let second = send(&mut bench, "radio", "");
    assert_eq!((state(&mut bench, &first), state(&mut bench, &second)), ("NOTIFIED".to_owned(), "FAILED".to_owned()));
    let third = send(&mut bench, "radio", "OverwriteMode=2");
    assert_eq!((state(&mut bench, &first), state(&mut bench, &third)), ("CANCELED".to_owned(), "NOTIFIED".to_owned()));
    // One task per module.
    let mut bench = Bench::with(&quiet, |_| {});
    let first = send(&mut bench, "fw", "MultiModuleMode=true");
    let second = send(&mut bench, "radio", "MultiModuleMode=true");
    assert_eq!((state(&mut bench, &first), state(&mut bench, &second)), ("NOTIFIED".to_owned(), "NOTIFIED".to_owned()));
    // The same module: the later job wins, without being asked to.
    let third = send(&mut bench, "next", "MultiModuleMode=true OverwriteMode=1");
    assert_eq!((state(&mut bench, &first), state(&mut bench, &third)), ("CANCELED".to_owned(), "NOTIFIED".to_owned()));
    let open = bench.ok("ListOTAUnfinishedTaskByDevice", &format!("{HERE} DeviceName=gate"));
    assert_eq!(open["Data"]["SimpleOTATaskInfo"].as_array().unwrap().len(), 2);
    for (filter, expected) in [("ModuleName=radio", 1), ("TaskStatus=QUEUED", 0), ("TaskStatusList.1=NOTIFIED", 2)] {
        let open = bench.ok("ListOTAUnfinishedTaskByDevice", &format!("{HERE} DeviceName=gate {filter}"));
        assert_eq!(open["Data"]["SimpleOTATaskInfo"].as_array().unwrap().len(), expected, "{filter}");
    }
    let done = format!("{HERE} DeviceName=gate TaskStatus=SUCCEEDED");
    assert_eq!(bench.code("ListOTAUnfinishedTaskByDevice", &done), "iot.firmware.InvalidTaskStatus");
    // A task in progress is never replaced.
    let mut bench = self::bench();
    let first = send(&mut bench, "fw", "MultiModuleMode=true");
    let second = send(&mut bench, "next", "MultiModuleMode=true");
    assert_eq!(
        (state(&mut bench, &first), state(&mut bench, &second)),
        ("IN_PROGRESS".to_owned(), "FAILED".to_owned())
    );
    bench.minutes(10);
    let modules =
        bench.ok("ListOTAModuleVersionsByDevice", &format!("{HERE} DeviceName=gate CurrentPage=1 PageSize=1"));
    assert_eq!((&modules["Total"], &modules["PageCount"]), (&2.into(), &2.into()));
    assert_eq!(modules["Data"]["SimpleOTAModuleInfo"][0]["ModuleVersion"], "2.0");
}

#[test]
fn a_report_decides_a_running_task() {
    let mut bench = bench();
    let job = policy(&mut bench, "FirmwareId=fw SrcVersion.1=1.0");
    bench.minutes(1);
    // Nothing is known of a device that is not there, nor of a module that it does not have.
    assert!(!bench.cloud.report("pk", "late-1", "default", "9"));
    assert!(!bench.cloud.report("pk", "a", "radio", "9"));
    assert!(bench.cloud.report("pk", "a", "default", "2.0"));
    assert!(bench.cloud.report("pk", "b", "default", "1.0"));
    assert!(bench.cloud.report("pk", "gate", "default", "9"));
    let expected = pairs(&[("a", "SUCCEEDED"), ("b", "IN_PROGRESS"), ("gate", "FAILED")]);
    assert_eq!(names(&mut bench, &job), expected);
}
