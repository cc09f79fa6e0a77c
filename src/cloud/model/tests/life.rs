//! What becomes of devices, jobs and packages as time passes.

use std::collections::BTreeSet;

use super::*;

/// One group of devices that never fail but as a case says.
fn fleet(group: &str) -> String {
    format!(
        "accounts: [{{accessKeyId: key, accessKeySecret: secret}}]\n\
         products: [{{productKey: pk, groups: [{group}]}}]\n\
         firmware:\n\
         - {{id: fw, productKey: pk, version: \"2.0\", needToVerify: false}}\n\
         - {{id: next, productKey: pk, version: \"3.0\", needToVerify: false}}\n\
         - {{id: bad, productKey: pk, version: \"4.0\", needToVerify: false, failureRate: 1}}\n\
         - {{id: unverified, productKey: pk, version: \"5.0\"}}\n"
    )
}

fn bench(group: &str) -> Bench {
    Bench::with(&fleet(group), |_| {})
}

const ALL: &str = "TargetSelection=ALL";

fn seconds(bench: &mut Bench, seconds: i64) {
    bench.clocks.fleet += SignedDuration::from_secs(seconds);
    bench.cloud.tick(bench.clocks);
}

fn other_job(bench: &mut Bench, firmware: &str, params: &str) -> String {
    let params = format!("FirmwareId={firmware} ProductKey=pk {params}");
    bench.ok("CreateOTAStaticUpgradeJob", &params)["Data"]["JobId"].as_str().unwrap().to_owned()
}

#[test]
fn a_device_is_pushed_to_reports_progress_and_arrives() {
    let mut bench = bench("{names: [a], version: \"1.0\", minutes: [5, 5]}");
    let job = bench.job(ALL);
    let mut seen = vec![];
    for _ in 0..320 {
        let task = bench.tasks(&job)[0].clone();
        let text = |field: &str| task[field].as_str().unwrap().to_owned();
        let state = (text("TaskStatus"), text("Progress"));
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        seconds(&mut bench, 1);
    }
    let statuses: Vec<&str> = seen.iter().map(|(s, _)| s.as_str()).collect();
    let mut order = statuses.clone();
    order.dedup();
    assert_eq!(order, ["QUEUED", "NOTIFIED", "IN_PROGRESS", "SUCCEEDED"]);
    assert!(statuses.iter().filter(|s| **s == "IN_PROGRESS").count() >= 9, "{seen:?}");
    let percents: Vec<f64> = seen.iter().map(|(_, p)| p.parse().unwrap()).collect();
    assert!(percents.is_sorted() && percents.last() == Some(&100.0), "{percents:?}");
    let data = bench.data(&job);
    assert_eq!(data["JobStatus"], "COMPLETED");
    assert_eq!(data["UtcEndTime"], "2026-03-01T00:05:01.000Z", "pushed after a second, five minutes of work");
    assert_eq!(bench.tasks(&job)[0]["SrcVersion"], "1.0");
    assert_eq!(bench.cloud.devices("pk", &LedgerQuery::default()).unwrap().versions["default"]["2.0"], 1);
    assert_eq!(
        bench.code("CreateOTAStaticUpgradeJob", "FirmwareId=fw ProductKey=pk TargetSelection=ALL"),
        "iot.firmware.NoDeviceCanUpgrade"
    );
}

#[test]
fn pushes_keep_to_the_rate_per_fleet_minute() {
    let mut bench = bench("{prefix: d, count: 35, version: \"1.0\", minutes: [100, 100]}");
    let job = bench.job("TargetSelection=ALL MaximumPerMinute=10");
    let mut pushed = vec![];
    for _ in 0..5 {
        seconds(&mut bench, 2);
        pushed.push(35 - bench.count(&job, "QUEUED"));
        seconds(&mut bench, 57);
        assert_eq!(35 - bench.count(&job, "QUEUED"), *pushed.last().unwrap());
        seconds(&mut bench, 1);
    }
    assert_eq!(pushed, [10, 20, 30, 35, 35]);
}

#[test]
fn offline_devices_stay_queued_and_keep_the_job_open() {
    let mut bench = bench("{prefix: d, count: 10, version: \"1.0\", online: 0.7}");
    let job = bench.job(ALL);
    bench.minutes(60 * 24 * 30);
    assert_eq!((bench.count(&job, "SUCCEEDED"), bench.count(&job, "QUEUED")), (7, 3));
    assert_eq!(bench.status(&job), "IN_PROGRESS");
    let mut back = Bench::with(&fleet("{prefix: d, count: 10, version: \"1.0\", online: 0.7}"), |s| {
        s.reconnect_minutes = Some(60.0);
    });
    let job = back.job(ALL);
    back.minutes(30);
    assert!(back.count(&job, "SUCCEEDED") >= 7);
    back.minutes(40);
    assert_eq!((back.count(&job, "SUCCEEDED"), back.status(&job).as_str()), (10, "COMPLETED"));
}

#[test]
fn failures_have_a_reason_and_the_package_may_decide_them() {
    let mut bench = bench("{prefix: d, count: 50, version: \"1.0\", failureRate: 0}");
    let job = other_job(&mut bench, "bad", ALL);
    bench.minutes(10);
    assert_eq!((bench.count(&job, "FAILED"), bench.status(&job).as_str()), (50, "COMPLETED"));
    let tasks = bench.tasks(&job);
    let reasons: BTreeSet<_> = tasks.iter().map(|t| t["TaskDesc"].as_str().unwrap()).collect();
    assert!(reasons.len() > 2 && reasons.contains("download failed") && !reasons.contains(""), "{reasons:?}");
    assert!(tasks.iter().all(|t| t["Progress"] != "0.00" && t["Progress"] != "100.00"));
    let failures = bench.cloud.jobs()[0].failures;
    assert_eq!((failures.failed, failures.timed_out, failures.conflict), (50, 0, 0));
    let ledger = bench.ledger();
    assert_eq!((ledger.failed, ledger.exposed), (50, 50));
    let fine = bench.job(ALL);
    bench.minutes(10);
    assert_eq!(bench.count(&fine, "SUCCEEDED"), 50);
    assert_eq!(bench.ledger().at_target, 50, "at target wins over failed");
}

#[test]
fn failures_arrive_later_than_successes() {
    let mut bench = bench("{prefix: d, count: 2000, version: \"1.0\", failureRate: 0.5, minutes: [2, 6]}");
    let job = bench.job(ALL);
    // After 4 of 2..6 minutes half the successes are in, and no failure.
    bench.minutes(4);
    let (succeeded, failed) = (bench.count(&job, "SUCCEEDED"), bench.count(&job, "FAILED"));
    assert!((400..600).contains(&succeeded) && failed == 0, "{succeeded} {failed}");
    bench.minutes(3);
    let failed = bench.count(&job, "FAILED");
    assert!((900..1100).contains(&failed), "{failed}");
}

#[test]
fn silent_devices_stay_notified_and_never_time_out() {
    let mut bench = bench("{prefix: d, count: 10, version: \"1.0\", silentRate: 1}");
    let job = bench.job("TargetSelection=ALL TimeoutInMinutes=1");
    bench.minutes(719);
    let ledger = bench.ledger();
    assert_eq!((ledger.notified, ledger.silent), (10, 0));
    bench.minutes(2);
    let ledger = bench.ledger();
    assert_eq!((ledger.notified, ledger.silent, ledger.exposed), (0, 10, 10));
    let soon = LedgerQuery { silent_after_minutes: 800.0, ..LedgerQuery::default() };
    assert_eq!(bench.cloud.ledger("pk", &soon).unwrap().notified, 10);
    assert_eq!(bench.count(&job, "NOTIFIED"), 10);
}

#[test]
fn hanging_devices_time_out_from_their_first_progress_if_at_all() {
    let group = "{prefix: d, count: 10, version: \"1.0\", hangRate: 1, minutes: [2, 6]}";
    let mut bench = bench(group);
    let job = bench.job("TargetSelection=ALL TimeoutInMinutes=30 RetryInterval=10 RetryCount=5");
    bench.minutes(29);
    assert_eq!(bench.count(&job, "IN_PROGRESS"), 10);
    bench.minutes(2);
    assert_eq!(bench.count(&job, "FAILED"), 10, "a timeout is never retried");
    let task = bench.tasks(&job)[0].clone();
    assert_eq!((&task["TaskDesc"], &task["Progress"]), (&"timeout".into(), &"40.00".into()));
    assert_eq!(bench.cloud.jobs()[0].failures.timed_out, 10);
    assert_eq!(bench.ledger().timed_out, 10);
    let mut patient = self::bench(group);
    let job = patient.job(ALL);
    patient.minutes(10_000);
    assert_eq!(patient.count(&job, "IN_PROGRESS"), 10);
}

#[test]
fn retries_do_not_show_until_they_are_used_up() {
    let mut bench = bench("{prefix: d, count: 10, version: \"1.0\", minutes: [2, 6]}");
    let job = other_job(&mut bench, "bad", "TargetSelection=ALL RetryInterval=30 RetryCount=2");
    // Three attempts of 4..6 minutes with two pauses of 30: 72..78 minutes.
    for _ in 0..71 {
        bench.minutes(1);
        assert_eq!(bench.count(&job, "FAILED"), 0);
    }
    assert_eq!(bench.count(&job, "IN_PROGRESS"), 10);
    bench.minutes(8);
    assert_eq!(bench.count(&job, "FAILED"), 10);
}

#[test]
fn a_busy_device_fails_the_new_task_at_once() {
    let mut bench = bench("{prefix: d, count: 4, version: \"1.0\", silentRate: 1}");
    let first = bench.job(ALL);
    bench.minutes(1);
    let second = other_job(&mut bench, "next", ALL);
    assert_eq!((bench.count(&second, "FAILED"), bench.count(&first, "NOTIFIED")), (4, 4));
    let task = bench.tasks(&second)[0].clone();
    assert_eq!((&task["Progress"], &task["UtcCreate"]), (&"0.00".into(), &task["UtcModified"]));
    assert_ne!(task["TaskDesc"], "");
    assert_eq!(bench.status(&second), "COMPLETED");
    assert_eq!(bench.cloud.jobs()[1].failures.conflict, 4);
    let next = LedgerQuery { firmware_id: Some("next".to_owned()), ..LedgerQuery::default() };
    assert_eq!(bench.cloud.ledger("pk", &next).unwrap().conflict, 4);
    let mut lenient = Bench::with(&fleet("{prefix: d, count: 4, version: \"1.0\", silentRate: 1}"), |s| {
        s.busy_devices = BusyDevices::Excluded;
    });
    lenient.job(ALL);
    let params = "FirmwareId=next ProductKey=pk TargetSelection=ALL";
    assert_eq!(lenient.code("CreateOTAStaticUpgradeJob", params), "iot.firmware.NoDeviceCanUpgrade");
}

#[test]
fn overwriting_replaces_what_is_not_in_progress() {
    let groups = "{names: [quiet], version: \"1.0\", silentRate: 1}, {names: [away], version: \"1.0\", online: 0}, \
                  {names: [at-work], version: \"1.0\", hangRate: 1}";
    for (params, replaces) in [
        ("TargetSelection=ALL OverwriteMode=2", true),
        ("TargetSelection=ALL MultiModuleMode=true", true),
        ("TargetSelection=ALL OverwriteMode=1", false),
    ] {
        let fleet = fleet(groups).replace("accessKeySecret: secret", "accessKeySecret: secret, instanceId: i");
        let mut bench = Bench::with(&fleet, |_| {});
        bench.instance = "i";
        let first = bench.job(ALL);
        bench.minutes(1);
        let before = bench.tasks(&first).iter().map(|t| t["TaskStatus"].to_string()).collect::<Vec<_>>();
        assert_eq!(before, ["\"NOTIFIED\"", "\"QUEUED\"", "\"IN_PROGRESS\""]);
        let second = other_job(&mut bench, "next", params);
        let taken = if replaces { 2 } else { 0 };
        assert_eq!((bench.count(&first, "CANCELED"), bench.count(&second, "QUEUED")), (taken, taken), "{params}");
        assert_eq!((bench.count(&first, "IN_PROGRESS"), bench.count(&second, "FAILED")), (1, 3 - taken), "{params}");
        if replaces {
            assert_eq!(bench.tasks(&first)[0]["TaskDesc"], "overwritten by a later job");
        }
    }
}

#[test]
fn cancels_take_the_states_they_name() {
    let groups = "{names: [quiet], version: \"1.0\", silentRate: 1}, {names: [away], version: \"1.0\", online: 0}, \
                  {names: [at-work], version: \"1.0\", hangRate: 1}";
    for (options, left) in [
        ("CancelQueuedTask=true", vec!["NOTIFIED", "IN_PROGRESS"]),
        ("CancelNotifiedTask=true", vec!["QUEUED", "IN_PROGRESS"]),
        ("CancelInProgressTask=true", vec!["QUEUED", "NOTIFIED"]),
        ("CancelUnconfirmedTask=true", vec!["QUEUED", "NOTIFIED", "IN_PROGRESS"]),
        ("CancelQueuedTask=true CancelNotifiedTask=true CancelInProgressTask=true", vec![]),
    ] {
        let mut bench = bench(groups);
        let job = bench.job(ALL);
        bench.minutes(1);
        bench.ok("CancelOTATaskByJob", &format!("JobId={job} {options}"));
        let open = ["QUEUED", "NOTIFIED", "IN_PROGRESS"];
        let actual: Vec<_> = open.into_iter().filter(|s| bench.count(&job, s) == 1).collect();
        assert_eq!(actual, left, "{options}");
        let expected = if left.is_empty() { "CANCELED" } else { "IN_PROGRESS" };
        assert_eq!(bench.status(&job), expected, "{options}");
        // Cancelled devices are free for another job.
        let next = other_job(&mut bench, "next", ALL);
        assert_eq!(bench.count(&next, "FAILED"), left.len() as u64, "{options}");
    }
}

#[test]
fn unconfirmed_tasks_follow_the_queued_ones_unless_named() {
    for (options, cancelled) in [
        ("CancelQueuedTask=true", 1),
        ("CancelQueuedTask=true CancelUnconfirmedTask=false", 0),
        ("CancelQueuedTask=false CancelUnconfirmedTask=true", 1),
        ("CancelNotifiedTask=true", 0),
    ] {
        let mut bench = bench("{names: [a], version: \"1.0\"}");
        let job = bench.job("TargetSelection=ALL NeedConfirm=true");
        bench.minutes(60);
        assert_eq!(bench.count(&job, "CONFIRM"), 1, "nobody confirms");
        bench.ok("CancelOTATaskByJob", &format!("JobId={job} {options}"));
        assert_eq!(bench.count(&job, "CANCELED"), cancelled, "{options}");
    }
}

#[test]
fn a_cancel_is_applied_after_its_wall_delay() {
    let mut bench = Bench::with(&fleet("{names: [a], version: \"1.0\", online: 0}"), |s| s.cancel_delay_seconds = 0.2);
    let job = bench.job(ALL);
    bench.ok("CancelOTATaskByJob", &format!("JobId={job} CancelQueuedTask=true"));
    bench.wall_ms(199);
    bench.minutes(10);
    assert_eq!(bench.count(&job, "QUEUED"), 1);
    bench.wall_ms(1);
    assert_eq!(bench.count(&job, "CANCELED"), 1);
}

#[test]
fn a_job_ends_cancelled_only_when_nothing_finished() {
    let groups = "{names: [a], version: \"1.0\"}, {names: [away], version: \"1.0\", online: 0}";
    let mut bench = bench(groups);
    let job = bench.job(ALL);
    bench.minutes(10);
    bench.ok("CancelOTATaskByJob", &format!("JobId={job} CancelQueuedTask=true"));
    assert_eq!(bench.status(&job), "COMPLETED");
    let mut other = Bench::with(&fleet(groups), |s| s.cancelled_job = JobEnd::Completed);
    let job = other.job(ALL);
    other.ok("CancelOTATaskByJob", &format!("JobId={job} CancelQueuedTask=true"));
    assert_eq!(other.status(&job), "COMPLETED");
    let mut endless = Bench::with(&fleet("{names: [a], version: \"1.0\"}"), |s| s.completion = Completion::Never);
    let job = endless.job(ALL);
    endless.minutes(1000);
    assert_eq!((endless.count(&job, "SUCCEEDED"), endless.status(&job).as_str()), (1, "IN_PROGRESS"));
}

#[test]
fn scheduled_jobs_wait_run_and_are_ended() {
    for (end, expected) in [(JobEnd::Completed, "COMPLETED"), (JobEnd::Canceled, "CANCELED")] {
        let groups = "{names: [a], version: \"1.0\"}, {names: [away], version: \"1.0\", online: 0}";
        let mut bench = Bench::with(&fleet(groups), |s| s.schedule_finished_job = end);
        let start = bench.clocks.fleet.as_millisecond() + 600_000;
        let job = bench.job(&format!("{ALL} ScheduleTime={start} ScheduleFinishTime={}", start + 7_200_000));
        bench.minutes(9);
        assert_eq!((bench.status(&job).as_str(), bench.count(&job, "QUEUED")), ("PLANNED", 2));
        assert_eq!(bench.data(&job).get("UtcStartTime"), None);
        bench.minutes(11);
        assert_eq!((bench.status(&job).as_str(), bench.count(&job, "SUCCEEDED")), ("IN_PROGRESS", 1));
        assert_eq!(bench.data(&job)["UtcStartTime"], "2026-03-01T00:10:00.000Z");
        bench.minutes(109);
        assert_eq!(bench.status(&job), "IN_PROGRESS");
        bench.minutes(1);
        assert_eq!((bench.status(&job).as_str(), bench.count(&job, "CANCELED")), (expected, 1));
    }
    let mut bench = bench("{names: [a], version: \"1.0\"}");
    let start = bench.clocks.fleet.as_millisecond() + 600_000;
    let job = bench.job(&format!("{ALL} ScheduleTime={start}"));
    bench.ok("CancelOTATaskByJob", &format!("JobId={job} CancelScheduledTask=true"));
    bench.minutes(20);
    assert_eq!((bench.status(&job).as_str(), bench.count(&job, "CANCELED")), ("CANCELED", 1));
}

#[test]
fn a_package_is_verified_when_all_test_devices_arrive() {
    let verify = "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=a TargetDeviceName.2=b";
    let status = |bench: &mut Bench| {
        let info = bench.ok("QueryOTAFirmware", "FirmwareId=unverified")["FirmwareInfo"].clone();
        (info["Status"].as_i64().unwrap(), info["VerifyProgress"].as_i64().unwrap())
    };
    for (b, middle, end) in [
        ("minutes: [50, 50]", (2, 50), (1, 100)),
        ("minutes: [50, 50], failureRate: 1", (2, 50), (3, 100)),
        ("online: 0", (2, 50), (2, 50)),
    ] {
        let mut bench = bench(&format!("{{names: [a], version: \"1.0\"}}, {{names: [b], version: \"1.0\", {b}}}"));
        assert_eq!(status(&mut bench), (0, 0));
        bench.ok("CreateOTAVerifyJob", verify);
        assert_eq!(status(&mut bench), (2, 0));
        bench.minutes(10);
        assert_eq!(status(&mut bench), middle, "{b}");
        bench.minutes(60);
        assert_eq!(status(&mut bench), end, "{b}");
    }
    let group = "{names: [a], version: \"1.0\", minutes: [50, 50]}, {names: [b], version: \"1.0\", failureRate: 1}";
    for (verdict, middle) in [(VerifyVerdict::FirstFailure, 3), (VerifyVerdict::AllFinished, 2)] {
        let mut bench = Bench::with(&fleet(group), |s| s.verify_verdict = verdict);
        bench.ok("CreateOTAVerifyJob", verify);
        bench.minutes(10);
        assert_eq!(status(&mut bench).0, middle, "{verdict:?}");
        bench.minutes(60);
        assert_eq!(status(&mut bench).0, 3, "{verdict:?}");
        // A failed verification may be repeated; a is at the destination and left out.
        bench.ok("CreateOTAVerifyJob", verify);
        assert_eq!(bench.cloud.jobs()[1].total(), 1);
    }
    assert_eq!(bench("{names: [a], version: \"1.0\"}").ledger(), Ledger::default());
}

#[test]
fn verify_jobs_stay_out_of_the_ledger() {
    let mut bench = bench("{names: [a], version: \"1.0\"}");
    bench.ok("CreateOTAVerifyJob", "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=a");
    bench.minutes(10);
    assert_eq!(bench.ledger().exposed, 0);
}

#[test]
fn tasks_may_appear_after_their_job() {
    let mut bench = Bench::with(&fleet("{prefix: d, count: 25, version: \"1.0\"}"), |s| {
        s.creation_spread_seconds = 10.0;
    });
    let job = bench.job("TargetSelection=ALL");
    let mut totals = vec![bench.tasks(&job).len()];
    for _ in 0..11 {
        seconds(&mut bench, 1);
        totals.push(bench.tasks(&job).len());
    }
    assert_eq!(totals, [0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 25, 25]);
    assert_eq!(bench.status(&job), "IN_PROGRESS");
    bench.minutes(10);
    assert_eq!((bench.count(&job, "SUCCEEDED"), bench.status(&job).as_str()), (25, "COMPLETED"));
}

#[test]
fn lists_lag_and_are_ordered_as_switched() {
    let mut bench = bench("{prefix: d, count: 8, version: \"1.0\", online: 0}");
    bench.fault(r#"{"listLagMs": 1000}"#);
    let list = |bench: &mut Bench| -> Vec<String> {
        let list = bench.ok("ListOTAJobByFirmware", "FirmwareId=fw CurrentPage=1 PageSize=200");
        let jobs = list["Data"]["SimpleOTAJobInfo"].as_array().unwrap();
        assert_eq!(list["Total"], jobs.len());
        jobs.iter().map(|j| j["JobId"].as_str().unwrap().to_owned()).collect()
    };
    let first = bench.job(ALL);
    assert_eq!(bench.status(&first), "IN_PROGRESS", "a query by id does not lag");
    bench.wall_ms(600);
    let second = bench.job(ALL);
    bench.wall_ms(399);
    bench.minutes(10);
    assert_eq!(list(&mut bench), Vec::<String>::new());
    bench.wall_ms(1);
    assert_eq!(list(&mut bench), [first.as_str()]);
    bench.wall_ms(600);
    assert_eq!(list(&mut bench), [second.as_str(), &first]);
    let page = bench.ok("ListOTAJobByFirmware", "FirmwareId=fw CurrentPage=2 PageSize=1");
    assert_eq!(page["Data"]["SimpleOTAJobInfo"][0]["JobId"], first);

    let ordered = |order| {
        let mut bench = Bench::with(&fleet("{names: [a], version: \"1.0\", online: 0}"), |s| s.list_order = order);
        let jobs: Vec<_> = (0..6).map(|_| bench.job(ALL)).collect();
        (jobs, (0..10).map(|_| list(&mut bench)).collect::<BTreeSet<_>>())
    };
    let (jobs, lists) = ordered(ListOrder::OldestFirst);
    assert_eq!(lists, BTreeSet::from([jobs]));
    let (mut jobs, lists) = ordered(ListOrder::Shuffled);
    assert!(lists.len() > 5);
    jobs.sort();
    for mut list in lists {
        list.sort();
        assert_eq!(list, jobs, "each call shows each job once");
    }
}

#[test]
fn faults_decide_the_fate_of_tasks_pushed_from_then_on() {
    let mut bench = bench("{prefix: d, count: 20, version: \"1.0\", minutes: [5, 5]}");
    let job = bench.job("TargetSelection=ALL MaximumPerMinute=10");
    seconds(&mut bench, 2);
    bench.fault(r#"{"failureRate": 1}"#);
    bench.minutes(10);
    assert_eq!((bench.count(&job, "SUCCEEDED"), bench.count(&job, "FAILED")), (10, 10));
    bench.fault(r#"{"failureRate": 0, "silentRate": 1}"#);
    let job = bench.job(ALL);
    bench.minutes(10);
    assert_eq!(bench.count(&job, "NOTIFIED"), 10);
}

/// A history with everything in it that chance decides; its log and state as text.
fn history(seed: u64, step_seconds: i64) -> String {
    let groups = "{prefix: d, count: 300, version: \"1.0\", online: 0.9, failureRate: 0.1, silentRate: 0.1}";
    let mut bench = Bench::seeded(&fleet(groups), seed, Edition::Current, |s| s.list_order = ListOrder::Shuffled);
    bench.fault(r#"{"errorRate": 0.2, "lostReplyRate": 0.2}"#);
    for percent in [5, 20, 50] {
        let params = format!("FirmwareId=fw ProductKey=pk TargetSelection=GRAY GrayPercent={percent}");
        bench.send("CreateOTAStaticUpgradeJob", &params);
        for _ in 0..600 / step_seconds {
            seconds(&mut bench, step_seconds);
        }
        bench.send("ListOTAJobByFirmware", "FirmwareId=fw CurrentPage=1 PageSize=200");
    }
    let devices = bench.cloud.devices("pk", &LedgerQuery::default()).unwrap();
    serde_json::to_string(&(bench.cloud.calls(), bench.cloud.jobs(), devices)).unwrap()
}

#[test]
fn one_seed_is_one_history() {
    assert_eq!(history(1, 10), history(1, 10));
    assert_eq!(history(1, 10), history(1, 300), "how often anybody looks changes nothing");
    assert_ne!(history(1, 10), history(2, 10));
}

#[test]
fn a_hundred_thousand_devices_are_no_burden() {
    let mut bench = bench("{prefix: d, count: 100000, version: \"1.0\", online: 0.99, failureRate: 0.01}");
    let job = bench.job(ALL);
    assert!(std::mem::size_of::<crate::cloud::model::jobs::Task>() <= 64);
    bench.minutes(30);
    let counts: u64 = ["SUCCEEDED", "FAILED", "QUEUED"].into_iter().map(|s| bench.count(&job, s)).sum();
    assert_eq!(counts, 100_000);
    assert_eq!(bench.count(&job, "QUEUED"), 1000);
    let ledger = bench.ledger();
    assert_eq!((ledger.queued, ledger.exposed), (1000, 100_000));
    // Pages by status hold each task once.
    let mut names = BTreeSet::new();
    for page in 1..=10 {
        let params = format!("JobId={job} CurrentPage={page} PageSize=100 TaskStatus=QUEUED");
        for task in bench.ok("ListOTATaskByJob", &params)["Data"]["SimpleOTATaskInfo"].as_array().unwrap() {
            assert_eq!(task["TaskStatus"], "QUEUED");
            names.insert(task["DeviceName"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(names.len(), 1000);
}

#[test]
fn a_hundred_rollouts_of_ten_thousand_devices_end() {
    for seed in 0..100 {
        let group = "{prefix: d, count: 10000, version: \"1.0\", failureRate: 0.002}";
        let mut bench = Bench::seeded(&fleet(group), seed, Edition::Current, |_| {});
        for target in ["GRAY GrayPercent=1", "GRAY GrayPercent=10", "ALL"] {
            let job = bench.job(&format!("TargetSelection={target}"));
            bench.minutes(20);
            assert_eq!(bench.status(&job), "COMPLETED");
        }
        assert!(bench.ledger().at_target > 9_900);
    }
}
