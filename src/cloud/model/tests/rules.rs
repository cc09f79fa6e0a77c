//! The rules of the product, each with its code, in their order of precedence.

use super::*;

const CREATE: &str = "CreateOTAStaticUpgradeJob";
const BASE: &str = "FirmwareId=fw ProductKey=pk";
/// 2026-03-01T00:00:00Z, when the bench starts.
const NOW: i64 = 1_772_323_200_000;
const MINUTE: i64 = 60_000;

/// `Name.1=v1 … Name.n=vn`.
fn list(name: &str, count: usize) -> String {
    (1..=count).map(|i| format!(" {name}.{i}=v{i}")).collect()
}

#[test]
fn static_jobs_refuse_bad_parameters() {
    let cases = [
        ("TargetSelection=", "NullTargetSelection"),
        ("TargetSelection=SOME", "InvalidTargetSelection"),
        ("TargetSelection=GROUP GroupId=g GroupType=LINK_PLATFORM", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=ALL GroupId=g", "InvalidTargetSelection"),
        ("TargetSelection=SPECIFIC DnListFileUrl=u", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=SPECIFIC DnListFileUrl=u TargetDeviceName.1=lab-1", "TargetDeviceNamesNotAllowed"),
        ("TargetSelection=ALL DnListFileUrl=u", "TargetDeviceNamesNotAllowed"),
        ("TargetSelection=SPECIFIC TargetDeviceName.1=", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=SPECIFIC", "NullTargetDeviceNames"),
        ("TargetSelection=SPECIFIC TargetDeviceName.1=lab-1 SrcVersion.1=1.0", "SrcVersionsNotAllowed"),
        ("TargetSelection=SPECIFIC TargetDeviceName.2=lab-1", "iot.common.InvalidFormattedParameter"),
        (
            "TargetSelection=SPECIFIC TargetDeviceName.1=lab-1 TargetDeviceName.2=lab-1",
            "iot.common.InvalidFormattedParameter",
        ),
        ("TargetSelection=SPECIFIC TargetDeviceName.1=nobody", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=SPECIFIC TargetDeviceName.1=mcu-1", "NonVersionedDeviceInArray"),
        ("TargetSelection=ALL TargetDeviceName.1=lab-1", "TargetDeviceNamesNotAllowed"),
        ("TargetSelection=GRAY GrayPercent=5 TargetDeviceName.1=lab-1", "TargetDeviceNamesNotAllowed"),
        ("TargetSelection=GRAY", "NullGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=", "NullGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=33.3333", "BadlyFormattedGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=33,3", "BadlyFormattedGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=3.3e1", "BadlyFormattedGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=33%", "BadlyFormattedGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=-1", "BadlyFormattedGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=.5", "BadlyFormattedGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=0", "InvalidGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=0.000", "InvalidGrayPercent"),
        ("TargetSelection=GRAY GrayPercent=100.001", "InvalidGrayPercent"),
        ("TargetSelection=ALL SrcVersion.1=1.0 SrcVersion.2=1.0", "IncorrectFormattedSrcVersion"),
        ("TargetSelection=ALL SrcVersion.1=", "IncorrectFormattedSrcVersion"),
        ("TargetSelection=ALL SrcVersion.2=1.0", "IncorrectFormattedSrcVersion"),
        ("TargetSelection=ALL SrcVersion.1=1.0 SrcVersion.2=2.0", "SrcDestVersionMatched"),
        ("TargetSelection=ALL SrcVersion.1=9.9", "NoDeviceCanUpgrade"),
        ("TargetSelection=ALL RetryInterval=5 RetryCount=1", "InvalidRetryInterval"),
        ("TargetSelection=ALL RetryInterval=x RetryCount=1", "InvalidRetryInterval"),
        ("TargetSelection=ALL RetryInterval=10 RetryCount=3", "InvalidRetryCount"),
        ("TargetSelection=ALL RetryInterval=10", "InvalidRetryCount"),
        ("TargetSelection=ALL RetryCount=1", "InvalidRetryInterval"),
        ("TargetSelection=ALL RetryInterval=60 RetryCount=1 TimeoutInMinutes=60", "InvalidRetryInterval"),
        ("TargetSelection=ALL TimeoutInMinutes=0", "InvalidTimeoutSetting"),
        ("TargetSelection=ALL TimeoutInMinutes=1441", "InvalidTimeoutSetting"),
        ("TargetSelection=ALL MaximumPerMinute=9", "InvalidMaximumPerMinute"),
        ("TargetSelection=ALL MaximumPerMinute=10001", "InvalidMaximumPerMinute"),
        ("TargetSelection=ALL OverwriteMode=3", "InvalidOverwriteMode"),
        ("TargetSelection=ALL OverwriteMode=2 MultiModuleMode=true", "InvalidOverwriteMode"),
        ("TargetSelection=ALL NeedPush=yes", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=ALL NeedConfirm=1", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=ALL DownloadProtocol=FTP", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=ALL Tag.1.Key=a", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=ALL Tag.1.Key=a_b Tag.1.Value=c", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=ALL Tag.1.Key=a Tag.1.Value=", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=ALL Tag.2.Key=a Tag.2.Value=b", "iot.common.InvalidFormattedParameter"),
        ("TargetSelection=ALL Tag.1.Key=a Tag.1.Value=b Tag.2.Key=a Tag.2.Value=c", "iot.ota.tag.KeyDuplicated"),
    ];
    let many = [
        (format!("TargetSelection=ALL{}", list("SrcVersion", 11)), "SrcVersionsSizeExceedMax"),
        (format!("TargetSelection=SPECIFIC{}", list("TargetDeviceName", 201)), "ParameterSizeExceedMax"),
        (
            (1..=11).fold("TargetSelection=ALL".to_owned(), |t, i| format!("{t} Tag.{i}.Key=k{i} Tag.{i}.Value=v")),
            "ParameterSizeExceedMax",
        ),
        (
            (1..=5).fold("TargetSelection=ALL".to_owned(), |t, i| {
                format!("{t} Tag.{i}.Key=k{i} Tag.{i}.Value={}", "v".repeat(1000))
            }),
            "ParameterSizeExceedMax",
        ),
        (
            format!("TargetSelection=ALL Tag.1.Key=k Tag.1.Value={}", "v".repeat(1025)),
            "iot.common.InvalidFormattedParameter",
        ),
        (
            format!("TargetSelection=ALL Tag.1.Key={} Tag.1.Value=v", "k".repeat(31)),
            "iot.common.InvalidFormattedParameter",
        ),
    ];
    let cases = cases.iter().map(|(p, c)| ((*p).to_owned(), *c)).chain(many);
    let mut bench = Bench::new();
    for (params, code) in cases {
        let expected = if code.starts_with("iot.") { code.to_owned() } else { format!("iot.firmware.{code}") };
        assert_eq!(bench.code(CREATE, &format!("{BASE} {params}")), expected, "{params}");
    }
    assert!(bench.cloud.jobs().is_empty());
}

#[test]
fn the_schedule_is_judged_by_the_fleet_clock() {
    let hour = 60 * MINUTE;
    let day = 24 * hour;
    let start = NOW + day;
    let cases = [
        (format!("ScheduleTime={}", start / 1000), "iot.common.InvalidFormattedParameter"),
        (format!("ScheduleTime={NOW}"), "iot.firmware.FireTimeMustLargeThanCurrentTime"),
        (format!("ScheduleTime={}", NOW + 5 * MINUTE - 1), "iot.firmware.FireTimeTooShort"),
        (format!("ScheduleTime={}", NOW + 7 * day + 1), "iot.firmware.FireTimeTooLate"),
        (format!("ScheduleFinishTime={start}"), "iot.firmware.ScheduleFinishTimeWithoutStartTime"),
        (
            format!("ScheduleTime={start} ScheduleFinishTime={start}"),
            "iot.firmware.ScheduleFinishTimeEarlierThanStartTime",
        ),
        (
            format!("ScheduleTime={start} ScheduleFinishTime={}", start + hour - 1),
            "iot.firmware.ScheduleFinishTimeTooEarly",
        ),
        (
            format!("ScheduleTime={start} ScheduleFinishTime={}", start + 30 * day + 1),
            "iot.firmware.ScheduleFinishTimeTooLate",
        ),
        (format!("ScheduleTime={} ScheduleFinishTime={}", NOW + 5 * MINUTE, NOW + 5 * MINUTE + hour), ""),
        (format!("ScheduleTime={} ScheduleFinishTime={}", NOW + 7 * day, NOW + 37 * day), ""),
    ];
    for (params, expected) in cases {
        // The wall clock is elsewhere: it must not matter.
        let mut bench = Bench::new();
        bench.wall_ms(3 * day);
        assert_eq!(bench.code(CREATE, &format!("{BASE} TargetSelection=ALL {params}")), expected, "{params}");
    }
}

#[test]
fn packages_and_products_must_exist_match_and_be_ready() {
    let mut bench = Bench::new();
    for (params, expected) in [
        ("FirmwareId= ProductKey=pk TargetSelection=ALL", "NullFirmwareId"),
        ("FirmwareId=x ProductKey=pk TargetSelection=ALL", "FirmwareNotFound"),
        ("FirmwareId=fw ProductKey=x TargetSelection=ALL", "InvalidProductKey"),
        ("FirmwareId=fw ProductKey=pk2 TargetSelection=ALL", "FirmwareAndProductKeyMismatch"),
        ("FirmwareId=unverified ProductKey=pk TargetSelection=ALL", "FirmwareNotVerified"),
        ("FirmwareId=diff ProductKey=pk TargetSelection=ALL", "SrcVersionIsMandatory"),
        ("FirmwareId=diff ProductKey=pk TargetSelection=ALL SrcVersion.1=1.1", "SrcVersionMismatch"),
        (
            "FirmwareId=diff ProductKey=pk TargetSelection=ALL SrcVersion.1=1.0 SrcVersion.2=1.1",
            "MoreThanOneSrcVersion",
        ),
        (
            "FirmwareId=diff ProductKey=pk TargetSelection=SPECIFIC TargetDeviceName.1=lab-1",
            "UpgradeSrcVersionMismatch",
        ),
        // Format before existence, existence before state.
        ("FirmwareId=x ProductKey=pk TargetSelection=ALL OverwriteMode=3", "InvalidOverwriteMode"),
        ("FirmwareId=unverified ProductKey=x TargetSelection=ALL", "InvalidProductKey"),
    ] {
        assert_eq!(bench.code(CREATE, params), format!("iot.firmware.{expected}"), "{params}");
    }
    bench.ok(CREATE, "FirmwareId=diff ProductKey=pk TargetSelection=ALL SrcVersion.1=1.0");
    assert_eq!(bench.cloud.jobs()[0].total(), 100, "only devices at the source version");
    bench.ok(CREATE, "FirmwareId=mcu ProductKey=pk TargetSelection=ALL");
    assert_eq!(bench.cloud.jobs()[1].total(), 1, "only devices with the module");
}

#[test]
fn editions_differ_in_rates_tags_retries_and_fields() {
    let mut legacy = Bench::seeded(FLEET, 1, Edition::Legacy, |_| {});
    let mut create = |params: &str| {
        legacy.code(CREATE, &format!("{BASE} TargetSelection=GRAY GrayPercent=1 SrcVersion.1=1.0 {params}"))
    };
    assert_eq!(create("MaximumPerMinute=1001"), "iot.firmware.InvalidMaximumPerMinute");
    assert_eq!(create("MaximumPerMinute=1000"), "");
    assert_eq!(create("RetryInterval=60 RetryCount=1 TimeoutInMinutes=60"), "");
    let tag = |length| format!("Tag.1.Key=k Tag.1.Value={}", "v".repeat(length));
    assert_eq!(create(&tag(129)), "iot.common.InvalidFormattedParameter");
    assert_eq!(create(&tag(128)), "");
    let id = legacy.job("TargetSelection=ALL SrcVersion.1=1.0");
    let data = legacy.data(&id);
    assert_eq!((&data["MaximumPerMinute"], data.get("NeedPush")), (&1000.into(), None));
    let mut current = Bench::new();
    (current.key, current.instance) = ("other", "iot-1");
    let id = current.job(&format!("TargetSelection=ALL MultiModuleMode=True NeedConfirm=TRUE {}", tag(1024)));
    let data = current.data(&id);
    assert_eq!((&data["MaximumPerMinute"], &data["NeedPush"]), (&10000.into(), &true.into()));
    assert_eq!((&data["MultiModuleMode"], &data["NeedConfirm"]), (&true.into(), &true.into()));
}

#[test]
fn verify_jobs_have_rules_of_their_own() {
    let verify = "CreateOTAVerifyJob";
    let base = "FirmwareId=unverified ProductKey=pk";
    let mut bench = Bench::new();
    for (params, expected) in [
        (base.to_owned(), "MissingTargetDeviceName"),
        (format!("{base}{}", list("TargetDeviceName", 11)), "iot.firmware.ParameterSizeExceedMax"),
        (format!("{base} TargetDeviceName.1=x"), "iot.common.InvalidFormattedParameter"),
        (format!("{base} TargetDeviceName.1=lab-1 TimeoutInMinutes=0"), "iot.firmware.InvalidTimeoutSetting"),
        ("FirmwareId=fw ProductKey=pk TargetDeviceName.1=lab-1".to_owned(), "iot.firmware.VerifyFirmwareFailed"),
    ] {
        assert_eq!(bench.code(verify, &params), expected, "{params}");
    }
    for stray in ["MaximumPerMinute=100", "SrcVersion.1=1.0", "RetryCount=1", "ScheduleTime=1", "OverwriteMode=1"] {
        let params = format!("{base} TargetDeviceName.1=lab-1 {stray}");
        assert_eq!(bench.code(verify, &params), "UnsupportedParameter", "{stray}");
    }
    // What nobody knows is ignored.
    bench.ok(verify, &format!("{base} TargetDeviceName.1=lab-1 Colour=red"));
    let again = format!("{base} TargetDeviceName.1=lab-2");
    assert_eq!(bench.code(verify, &again), "iot.firmware.InProgressVerifyJobExisted");
    bench.minutes(10);
    let info = bench.ok("QueryOTAFirmware", "FirmwareId=unverified")["FirmwareInfo"].clone();
    assert_eq!((&info["Status"], &info["VerifyProgress"]), (&1.into(), &100.into()));
    assert_eq!(bench.code(verify, &again), "iot.firmware.InProgressVerifyJobExisted", "verified already");
    bench.ok(CREATE, "FirmwareId=unverified ProductKey=pk TargetSelection=ALL");
}

#[test]
fn switches_change_the_rules_they_name() {
    let specific = format!("{BASE} TargetSelection=SPECIFIC TargetDeviceName.1=lab-1 TargetDeviceName.2=lab-2");
    let mut strict = Bench::switched(|s| s.strict_src_versions = Some(true));
    assert_eq!(strict.code(CREATE, &format!("{BASE} TargetSelection=ALL")), "iot.firmware.NullSrcVersions");
    for (choice, expected) in [
        (DestinationInArray::Refused, "iot.firmware.DeviceWithDestinationVersionInArray"),
        (DestinationInArray::Skipped, ""),
    ] {
        let mut bench = Bench::switched(|s| s.destination_in_array = choice);
        bench.job("TargetSelection=SPECIFIC TargetDeviceName.1=lab-1");
        bench.minutes(10);
        assert_eq!(bench.code(CREATE, &specific), expected, "{choice:?}");
    }
    let mut bench = Bench::switched(|s| s.product_error_status = 400);
    assert_eq!(bench.send("QueryOTAJob", "JobId=x").http_status, 400);
    let mut bench = Bench::switched(|s| s.verified_again = VerifiedAgain::VerifyFirmwareFailed);
    let verify = "FirmwareId=unverified ProductKey=pk TargetDeviceName.1=lab-1";
    bench.ok("CreateOTAVerifyJob", verify);
    bench.minutes(10);
    assert_eq!(bench.code("CreateOTAVerifyJob", verify), "iot.firmware.VerifyFirmwareFailed");
}

#[test]
fn gray_counts_are_exact_and_at_least_one() {
    for (devices, percent, expected, shown) in [
        (100, "33.33", 33, "33.33"),
        (10, "0.001", 1, "0.001"),
        (100, "29", 29, "29.00"),
        // 0.29 * 100 is 28.999… in binary.
        (10_000, "0.29", 29, "0.29"),
        (1000, "99.999", 999, "99.999"),
        (7, "100", 7, "100.00"),
        (7, "100.000", 7, "100.00"),
    ] {
        let fleet = FLEET
            .replace("count: 100,", &format!("count: {devices},"))
            .replace("  - {names: [lab-1, lab-2, lab-3], version: \"1.1\"}\n", "");
        let mut bench = Bench::with(&fleet, |_| {});
        let id = bench.job(&format!("TargetSelection=GRAY GrayPercent={percent}"));
        assert_eq!(bench.cloud.jobs()[0].total(), expected, "{percent} of {devices}");
        assert_eq!(bench.data(&id)["GrayPercent"], shown);
    }
}

#[test]
fn the_gray_base_is_what_is_eligible_now_or_the_fleet() {
    // 103 devices; those that are left of 100 at version 1.0 are the choice.
    for (base, first, second) in [(GrayBase::Eligible, 50, 25), (GrayBase::Fleet, 51, 49)] {
        let mut bench = Bench::switched(|s| s.gray_base = base);
        let job = bench.job("TargetSelection=GRAY GrayPercent=50 SrcVersion.1=1.0");
        bench.minutes(10);
        assert_eq!(bench.count(&job, "SUCCEEDED"), first, "{base:?}");
        let job = bench.job("TargetSelection=GRAY GrayPercent=50 SrcVersion.1=1.0");
        assert_eq!(bench.tasks(&job).len(), second, "{base:?}");
    }
}

#[test]
fn reads_have_rules_too() {
    let mut bench = Bench::new();
    let id = bench.job("TargetSelection=ALL");
    for (operation, params, expected) in [
        ("QueryOTAJob", "JobId=x".to_owned(), "iot.firmware.InvalidOTAJobId"),
        ("QueryOTAJob", "JobId=".to_owned(), "iot.firmware.NullOTAJobId"),
        ("QueryOTAFirmware", "FirmwareId=x".to_owned(), "iot.firmware.FirmwareNotFound"),
        ("ListOTATaskByJob", format!("JobId={id} PageSize=101"), "iot.common.InvalidPageParams"),
        ("ListOTATaskByJob", format!("JobId={id} PageSize=0"), "iot.common.InvalidPageParams"),
        ("ListOTATaskByJob", format!("JobId={id} CurrentPage=0"), "iot.common.InvalidPageParams"),
        ("ListOTATaskByJob", format!("JobId={id} CurrentPage=1001 PageSize=100"), "iot.common.InvalidPageParams"),
        ("ListOTATaskByJob", format!("JobId={id} CurrentPage=1000 PageSize=100"), ""),
        ("ListOTATaskByJob", format!("JobId={id} TaskStatus=CANCELLED"), "iot.firmware.InvalidTaskStatus"),
        ("ListOTATaskByJob", format!("JobId={id}{}", list("DeviceNames", 51)), "iot.firmware.ParameterSizeExceedMax"),
        ("ListOTATaskByJob", format!("JobId={id} PageSize=999{}", list("DeviceNames", 50)), ""),
        ("ListOTAJobByFirmware", "FirmwareId=fw CurrentPage=1".to_owned(), "MissingPageSize"),
        ("ListOTAJobByFirmware", "FirmwareId=fw CurrentPage=1 PageSize=201".to_owned(), "iot.common.InvalidPageParams"),
        ("ListOTAJobByFirmware", "FirmwareId=fw CurrentPage=1 PageSize=200".to_owned(), ""),
        ("ListOTAJobByFirmware", "FirmwareId=x CurrentPage=1 PageSize=1".to_owned(), "iot.firmware.FirmwareNotFound"),
        ("ListOTAFirmware", "CurrentPage=1 PageSize=101".to_owned(), "iot.common.InvalidPageParams"),
        ("ListOTAFirmware", "CurrentPage=x PageSize=1".to_owned(), "iot.common.InvalidPageParams"),
    ] {
        assert_eq!(bench.code(operation, &params), expected, "{operation} {params}");
    }
}

#[test]
fn cancels_need_an_option_and_a_schedule_for_scheduled_ones() {
    let mut bench = Bench::new();
    let id = bench.job("TargetSelection=ALL");
    for (params, expected) in [
        ("", "iot.firmware.CancelOptionIsMandatory"),
        ("CancelQueuedTask=false CancelNotifiedTask=false", "iot.firmware.CancelOptionIsMandatory"),
        ("CancelQueuedTask=maybe", "iot.common.InvalidFormattedParameter"),
        ("CancelScheduledTask=true", "iot.firmware.JobHasNoScheduleTime"),
        ("CancelScheduledTask=false CancelInProgressTask=true", ""),
    ] {
        assert_eq!(bench.code("CancelOTATaskByJob", &format!("JobId={id} {params}")), expected, "{params}");
    }
    assert_eq!(bench.code("CancelOTATaskByJob", "JobId=x CancelQueuedTask=true"), "iot.firmware.InvalidOTAJobId");
    let mut lax = Bench::switched(|s| s.all_false_is_an_option = true);
    let id = lax.job("TargetSelection=ALL");
    lax.ok("CancelOTATaskByJob", &format!("JobId={id} CancelQueuedTask=false"));
    assert_eq!(lax.count(&id, "QUEUED"), 103);
}
