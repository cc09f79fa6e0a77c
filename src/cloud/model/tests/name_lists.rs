//! Files of device names: the form, its minute, and what a file may hold.

use std::collections::BTreeMap;

use super::*;

fn form(bench: &mut Bench) -> BTreeMap<String, String> {
    let call = Call {
        host: "c:1".to_owned(),
        ..Call::unsigned("key", Operation::GenerateDeviceNameListURL, &BTreeMap::new(), None)
    };
    let answer: Value = serde_json::from_str(&bench.cloud.handle(&call, bench.clocks).body).unwrap();
    let field = |name: &str| answer["Data"][name].as_str().unwrap().to_owned();
    assert_eq!(field("Host"), "http://c:1/_oss");
    [
        ("key", "Key"),
        ("policy", "Policy"),
        ("OSSAccessKeyId", "AccessKeyId"),
        ("Signature", "Signature"),
        ("url", "FileUrl"),
    ]
    .map(|(to, from)| (to.to_owned(), field(from)))
    .into()
}

fn post(bench: &mut Bench, fields: &BTreeMap<String, String>, file: Option<&str>) -> (u16, String) {
    let form = Form { fields: fields.clone(), file: file.map(|file| file.as_bytes().to_vec()) };
    let stored = bench.cloud.post_object(form, bench.clocks);
    let code = stored.body.split("<Code>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_default();
    (stored.http_status, code.to_owned())
}

fn create(bench: &mut Bench, firmware: &str, url: &str) -> String {
    let params = format!("FirmwareId={firmware} ProductKey=pk TargetSelection=SPECIFIC DnListFileUrl={url}");
    bench.code("CreateOTAStaticUpgradeJob", &params)
}

#[test]
fn a_form_is_good_for_a_minute_and_a_file_for_an_hour() {
    let mut bench = Bench::new();
    let fields = form(&mut bench);
    assert_eq!(create(&mut bench, "fw", &fields["url"]), "iot.common.InvalidFormattedParameter", "not uploaded yet");
    bench.minutes(600);
    bench.wall_ms(60_000);
    assert_eq!(post(&mut bench, &fields, Some("lab-1\n")), (204, String::new()), "fleet time does not count");
    bench.wall_ms(1);
    assert_eq!(post(&mut bench, &fields, Some("lab-1\n")), (403, "AccessDenied".to_owned()));
    bench.wall_ms(59 * 60_000 - 1);
    assert_eq!(create(&mut bench, "fw", &fields["url"]), "");
    bench.wall_ms(1);
    assert_eq!(create(&mut bench, "next", &fields["url"]), "iot.common.InvalidFormattedParameter");
}

#[test]
fn a_form_must_be_posted_as_it_was_given() {
    let mut bench = Bench::new();
    let fields = form(&mut bench);
    for (name, value, expected) in [
        ("key", "device_name_list/other.csv", (403, "AccessDenied")),
        ("OSSAccessKeyId", "x", (403, "InvalidAccessKeyId")),
        ("policy", "x", (403, "SignatureDoesNotMatch")),
        ("Signature", "x", (403, "SignatureDoesNotMatch")),
    ] {
        let mut wrong = fields.clone();
        wrong.insert(name.to_owned(), value.to_owned());
        let answer = post(&mut bench, &wrong, Some("lab-1"));
        assert_eq!((answer.0, answer.1.as_str()), expected, "{name}");
    }
    assert_eq!(post(&mut bench, &fields, None), (400, "IncorrectNumberOfFilesInPOSTRequest".to_owned()));
    let big = "x".repeat(5 * 1024 * 1024 + 1);
    assert_eq!(post(&mut bench, &fields, Some(&big)), (400, "EntityTooLarge".to_owned()));
    let mut lower = fields.clone();
    let signature = lower.remove("Signature").unwrap();
    lower.insert("signature".to_owned(), signature);
    lower.insert("success_action_status".to_owned(), "200".to_owned());
    assert_eq!(post(&mut bench, &lower, Some("lab-1")), (200, String::new()));
}

#[test]
fn what_a_file_holds_is_judged_when_it_is_used() {
    let many: String = (0..10_001).map(|i| format!("n{i}\n")).collect();
    for (firmware, file, expected) in [
        ("fw", "lab-1\r\nlab-2,\n\ndev-07", ""),
        ("fw", "\u{feff}lab-1", ""),
        ("fw", "\n", "iot.firmware.NullTargetDeviceNames"),
        ("fw", "lab-1\nlab-1", "iot.common.InvalidFormattedParameter"),
        ("fw", "lab-1\nnobody", "iot.common.InvalidFormattedParameter"),
        ("fw", "lab-1\nmcu-1", "iot.firmware.NonVersionedDeviceInArray"),
        ("fw", &many, "iot.firmware.ParameterSizeExceedMax"),
        // Differential: those at another source version are left out.
        ("diff", "lab-1\ndev-07", ""),
        ("diff", "lab-1", "iot.firmware.NoDeviceCanUpgrade"),
    ] {
        let mut bench = Bench::new();
        let fields = form(&mut bench);
        assert_eq!(post(&mut bench, &fields, Some(file)).0, 204);
        assert_eq!(create(&mut bench, firmware, &fields["url"]), expected, "{}", &file[..file.len().min(20)]);
    }
    let mut bench = Bench::new();
    let fields = form(&mut bench);
    let all: String = (0..100).map(|i| format!("dev-{i:02}\n")).collect();
    post(&mut bench, &fields, Some(&all));
    assert_eq!(create(&mut bench, "fw", &fields["url"]), "");
    assert_eq!(bench.cloud.jobs()[0].total(), 100);
    assert_eq!(bench.cloud.jobs()[0].text("TargetSelection"), "SPECIFIC");
}
