//! Confirming, running again, updating, and cancelling by device.

use super::*;

const SILENT: &str = r#"
accounts: [{accessKeyId: key, accessKeySecret: secret}]
products:
- productKey: pk
  groups:
  - {names: [a, b], version: "1.0", minutes: [5, 5]}
  - {names: [quiet], version: "1.0", silentRate: 1}
firmware:
- {id: fw, productKey: pk, version: "2.0", needToVerify: false}
- {id: bad, productKey: pk, version: "3.0", needToVerify: false, failureRate: 1}
- {id: unverified, productKey: pk, version: "4.0"}
"#;

fn bench() -> Bench {
    Bench::with(SILENT, |_| {})
}

fn job_of(bench: &mut Bench, firmware: &str, params: &str) -> String {
    let params = format!("FirmwareId={firmware} ProductKey=pk {params}");
    bench.ok("CreateOTAStaticUpgradeJob", &params)["Data"]["JobId"].as_str().unwrap().to_owned()
}

fn task(bench: &mut Bench, job: &str, device: &str) -> Value {
    bench.tasks(job).into_iter().find(|t| t["DeviceName"] == device).unwrap()
}

fn id(bench: &mut Bench, job: &str, device: &str) -> String {
    task(bench, job, device)["TaskId"].as_str().unwrap().to_owned()
}

#[test]
fn confirmed_tasks_go_on_and_others_wait() {
    let mut bench = bench();
    let job = bench.job("TargetSelection=ALL NeedConfirm=true");
    bench.minutes(60);
    assert_eq!(bench.count(&job, "CONFIRM"), 3);
    let (a, b) = (id(&mut bench, &job, "a"), id(&mut bench, &job, "b"));
    for (params, expected) in [
        ("TaskId.1=".to_owned(), "iot.firmware.NullTaskId"),
        ("TaskId.1=x".to_owned(), "iot.firmware.InvalidOTATaskId"),
        (format!("TaskId.1={job}0000009"), "iot.firmware.InvalidOTATaskId"),
        (format!("TaskId.1={a} TaskId.2={a}"), "iot.common.InvalidFormattedParameter"),
        ((1..=11).map(|i| format!("TaskId.{i}=t{i} ")).collect(), "iot.firmware.ParameterSizeExceedMax"),
        (String::new(), "MissingTaskId"),
    ] {
        assert_eq!(bench.code("ConfirmOTATask", &params), expected, "{params}");
    }
    bench.verb = "GET";
    assert_eq!(bench.code("ConfirmOTATask", &format!("TaskId.1={a}")), "UnsupportedHTTPMethod");
    bench.verb = "POST";
    bench.ok("ConfirmOTATask", &format!("TaskId.1={a}"));
    let both = format!("TaskId.1={a} TaskId.2={b}");
    assert_eq!(bench.code("ConfirmOTATask", &both), "iot.firmware.IncorrectDeviceUpgradeJobStatus", "all or none");
    bench.minutes(10);
    assert_eq!(task(&mut bench, &job, "a")["TaskStatus"], "SUCCEEDED");
    assert_eq!(bench.count(&job, "CONFIRM"), 2);
    let start = bench.clocks.fleet.as_millisecond() + 600_000;
    let cancel = format!("JobId={job} CancelUnconfirmedTask=true");
    bench.ok("CancelOTATaskByJob", &cancel);
    let job = bench.job(&format!("TargetSelection=ALL NeedConfirm=true ScheduleTime={start}"));
    let b = format!("TaskId.1={}", id(&mut bench, &job, "b"));
    assert_eq!(bench.code("ConfirmOTATask", &b), "iot.firmware.IncorrectDeviceUpgradeJobStatus", "before its window");
    bench.minutes(11);
    bench.ok("ConfirmOTATask", &b);
}

#[test]
fn failed_tasks_run_again_with_a_fate_of_their_own() {
    let mut bench = bench();
    let job = job_of(
        &mut bench,
        "bad",
        "TargetSelection=SPECIFIC TargetDeviceName.1=a TargetDeviceName.2=b TimeoutInMinutes=30",
    );
    bench.minutes(10);
    assert_eq!((bench.count(&job, "FAILED"), bench.status(&job).as_str()), (2, "COMPLETED"));
    let a = id(&mut bench, &job, "a");
    let again = format!("JobId={job} TaskId.1={a}");
    // The device is busy elsewhere: the task stays failed.
    let other = bench.job("TargetSelection=SPECIFIC TargetDeviceName.1=a NeedConfirm=true");
    bench.ok("ReupgradeOTATask", &again);
    assert_eq!((bench.count(&job, "FAILED"), bench.count(&other, "CONFIRM")), (2, 1));
    bench.ok("CancelOTATaskByJob", &format!("JobId={other} CancelUnconfirmedTask=true"));
    bench.fault(r#"{"failureRate": 0}"#);
    bench.ok("ReupgradeOTATask", &again);
    assert_eq!((bench.count(&job, "QUEUED"), bench.status(&job).as_str()), (1, "IN_PROGRESS"));
    assert_eq!(bench.data(&job).get("UtcEndTime"), None);
    assert_eq!(bench.code("ReupgradeOTATask", &again), "iot.firmware.IncorrectDeviceUpgradeJobStatus");
    bench.minutes(3);
    assert_eq!(task(&mut bench, &job, "a")["TaskStatus"], "IN_PROGRESS");
    bench.minutes(7);
    assert_eq!((bench.count(&job, "SUCCEEDED"), bench.status(&job).as_str()), (1, "COMPLETED"));
    let report = bench.cloud.jobs().into_iter().find(|j| j.text("JobId") == job).unwrap();
    assert_eq!((report.failures.failed, report.failures.conflict), (1, 0));
    for (params, expected) in [
        (format!("JobId={other} TaskId.1={a}"), "iot.firmware.InvalidOTATaskId"),
        (format!("JobId=x TaskId.1={a}"), "iot.firmware.InvalidOTAJobId"),
        (format!("JobId={job} TaskId.1={a}"), "iot.firmware.IncorrectDeviceUpgradeJobStatus"),
    ] {
        assert_eq!(bench.code("ReupgradeOTATask", &params), expected, "{params}");
    }
}

#[test]
fn an_old_timeout_does_not_strike_another_run() {
    let mut bench = bench();
    let job = job_of(&mut bench, "bad", "TargetSelection=SPECIFIC TargetDeviceName.1=a TimeoutInMinutes=8");
    bench.minutes(6);
    let again = format!("JobId={job} TaskId.1={}", id(&mut bench, &job, "a"));
    bench.fault(r#"{"failureRate": 0}"#);
    bench.ok("ReupgradeOTATask", &again);
    // The first run's timeout falls due now; the second run's is five minutes away.
    bench.minutes(3);
    assert_eq!(bench.count(&job, "IN_PROGRESS"), 1);
    bench.minutes(4);
    assert_eq!(bench.count(&job, "SUCCEEDED"), 1);
}

#[test]
fn a_verify_jobs_failures_cannot_be_run_again() {
    let mut bench = bench();
    bench.fault(r#"{"failureRate": 1}"#);
    let verify = "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=a";
    let job = bench.ok("CreateOTAVerifyJob", verify)["Data"]["JobId"].as_str().unwrap().to_owned();
    bench.minutes(10);
    let again = format!("JobId={job} TaskId.1={}", id(&mut bench, &job, "a"));
    assert_eq!(bench.code("ReupgradeOTATask", &again), "iot.firmware.ReUpgradeFailedFirmwareNotVerified");
}

#[test]
fn updates_replace_rate_and_tags_of_a_running_job() {
    let mut bench = bench();
    let job = bench.job("TargetSelection=SPECIFIC TargetDeviceName.1=quiet Tag.1.Key=k Tag.1.Value=v");
    let base = format!("JobId={job} UpgradeType=STATIC TargetSelection=SPECIFIC MaximumPerMinute=20");
    for (from, to, expected) in [
        ("MaximumPerMinute=20", "", "MissingMaximumPerMinute"),
        ("=20", "=9", "iot.firmware.InvalidMaximumPerMinute"),
        ("=STATIC", "=DYNAMIC", "iot.firmware.InvalidSelectionType"),
        ("=STATIC", "=SOME", "iot.firmware.InvalidSelectionType"),
        ("=STATIC", "=", "iot.firmware.NullSelectionType"),
        ("=SPECIFIC", "=ALL", "iot.firmware.InvalidTargetSelection"),
        ("=SPECIFIC", "=SOME", "iot.firmware.InvalidTargetSelection"),
        ("=20", "=20 TimeoutInMinutes=60", "iot.firmware.InvalidTimeoutSetting"),
        ("=20", "=20 SrcVersionList.1=1.0", "iot.firmware.SrcVersionsNotAllowed"),
        ("=20", "=20 Tags.1.Key=k", "iot.common.InvalidFormattedParameter"),
        ("=20", "=20 Tags.1.Key=k Tags.1.Value=a Tags.2.Key=k Tags.2.Value=b", "iot.ota.tag.KeyDuplicated"),
        (job.as_str(), "x", "iot.firmware.InvalidOTAJobId"),
    ] {
        assert_eq!(bench.code("UpdateOTAJob", &base.replacen(from, to, 1)), expected, "{from} {to}");
    }
    bench.ok("UpdateOTAJob", &format!("{base} Tags.1.Key=n Tags.1.Value=w"));
    let data = bench.data(&job);
    assert_eq!((&data["MaximumPerMinute"], &data["Tags"]["OtaTagDTO"][0]["Value"]), (&20.into(), &"w".into()));
    bench.ok("UpdateOTAJob", &base);
    assert_eq!(bench.data(&job).get("Tags"), None, "tags that are not sent again are cleared");
    bench.minutes(1);
    bench.ok("CancelOTATaskByJob", &format!("JobId={job} CancelNotifiedTask=true"));
    assert_eq!(bench.code("UpdateOTAJob", &base), "iot.firmware.IncorrectDeviceUpgradeJobStatus", "ended");
    let verify = "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=quiet";
    let verify = bench.ok("CreateOTAVerifyJob", verify)["Data"]["JobId"].as_str().unwrap().to_owned();
    assert_eq!(bench.code("UpdateOTAJob", &base.replace(&job, &verify)), "iot.firmware.InvalidSelectionType");
    let mut old = Bench::seeded(SILENT, 1, Edition::Legacy, |_| {});
    assert_eq!(old.code("UpdateOTAJob", &base), "iot.common.APINotSupportedInInstance");
}

#[test]
fn a_device_can_be_taken_out_of_its_jobs() {
    let mut bench = bench();
    let job = bench.job("TargetSelection=ALL");
    bench.minutes(1);
    let base = "FirmwareId=fw ProductKey=pk";
    let many: String = (1..=201).map(|i| format!(" DeviceName.{i}=d{i}")).collect();
    let other = job_of(&mut bench, "bad", "TargetSelection=SPECIFIC TargetDeviceName.1=a");
    for (params, expected) in [
        (base.to_owned(), "MissingDeviceName"),
        (format!("{base}{many}"), "iot.firmware.ParameterSizeExceedMax"),
        (format!("{base} DeviceName.1=a DeviceName.2=a"), "iot.common.InvalidFormattedParameter"),
        (format!("{base} DeviceName.1=nobody"), "iot.firmware.DeviceUpgradeRecordNotFound"),
        ("FirmwareId=unverified ProductKey=pk DeviceName.1=a".to_owned(), "iot.firmware.DeviceUpgradeRecordNotFound"),
        (format!("{base} DeviceName.1=a JobId=x"), "iot.firmware.InvalidOTAJobId"),
        (format!("{base} DeviceName.1=a JobId={other}"), "iot.firmware.InvalidOTAJobId"),
    ] {
        assert_eq!(bench.code("CancelOTATaskByDevice", &params), expected, "{params}");
    }
    bench.ok("CancelOTATaskByDevice", &format!("{base} DeviceName.1=a DeviceName.2=quiet"));
    assert_eq!((bench.count(&job, "CANCELED"), bench.count(&job, "IN_PROGRESS")), (2, 1));
}

#[test]
fn a_device_that_is_not_pushed_to_must_ask() {
    let fleet = SILENT.replace("names: [a, b], version", "names: [a, b], asksWithin: 60, version");
    let mut bench = Bench::with(&fleet, |_| {});
    let job = bench.job("TargetSelection=ALL NeedPush=false");
    bench.minutes(1);
    assert!(bench.count(&job, "QUEUED") >= 2, "nobody is pushed to");
    bench.minutes(70);
    assert_eq!((bench.count(&job, "SUCCEEDED"), bench.count(&job, "QUEUED")), (2, 1), "one never asks");
}

#[test]
fn what_a_verify_job_says_when_it_is_cancelled_is_a_switch() {
    for (choice, status) in [(VerifyCancelled::Failed, 3), (VerifyCancelled::Unverified, 0)] {
        let mut bench = Bench::with(SILENT, |s| s.verify_cancelled = choice);
        let verify = "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=quiet";
        let job = bench.ok("CreateOTAVerifyJob", verify)["Data"]["JobId"].as_str().unwrap().to_owned();
        bench.ok("CancelOTATaskByJob", &format!("JobId={job} CancelQueuedTask=true"));
        let info = bench.ok("QueryOTAFirmware", "FirmwareId=unverified");
        assert_eq!(info["FirmwareInfo"]["Status"], status, "{choice:?}");
    }
}

#[test]
fn more_habits_of_answers_are_switches() {
    let mut bench = Bench::switched(|s| (s.success_code, s.end_time_while_running) = (SuccessCode::Success, true));
    let job = bench.job("TargetSelection=ALL");
    let answer = bench.ok("QueryOTAJob", &format!("JobId={job}"));
    assert_eq!((&answer["Code"], &answer["Data"]["JobStatus"]), (&"success".into(), &"IN_PROGRESS".into()));
    assert!(answer["Data"].get("UtcEndTime").is_some());
    let mut bench = Bench::switched(|s| s.page_shift_rate = 1.0);
    for _ in 0..4 {
        bench.job("TargetSelection=GRAY GrayPercent=1");
    }
    let mut seen = vec![];
    for page in 1..=2 {
        let list = bench.ok("ListOTAJobByFirmware", &format!("FirmwareId=fw CurrentPage={page} PageSize=2"));
        let entries = list["Data"]["SimpleOTAJobInfo"].as_array().unwrap().clone();
        seen.extend(entries.into_iter().map(|e| e["JobId"].as_str().unwrap().to_owned()));
    }
    assert_eq!((seen.len(), &seen[1]), (4, &seen[2]), "the second page begins an entry early");
}

#[test]
fn switches_change_by_name_all_or_none() {
    let switches = Switches::default();
    let patch = |text: &str| serde_json::from_str::<serde_json::Map<String, Value>>(text).unwrap();
    let changed = switches.changed(&patch(r#"{"nonce": "any", "reconnectMinutes": 5}"#)).unwrap();
    assert_eq!((changed.nonce, changed.reconnect_minutes), (NonceBurnedBy::Any, Some(5.0)));
    assert_eq!(changed.changed(&patch(r#"{"reconnectMinutes": null}"#)).unwrap().reconnect_minutes, None);
    for bad in [r#"{"nonce": "x"}"#, r#"{"cancelDelaySeconds": -1}"#, r#"{"throttleStatus": 99}"#, r#"{"x": 1}"#] {
        assert!(switches.changed(&patch(bad)).is_err(), "{bad}");
    }
}
