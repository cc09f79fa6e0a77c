//! The table of codes against the reference's list, and the page that is written from it.

use super::table::ALL;
use super::*;
use crate::ota::outcome::{CallError, Outcome};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The reference's list: code, HTTP status, what it says about a create.
fn reference() -> Vec<(&'static str, u16, &'static str)> {
    let lines = include_str!("../../../tests/vectors/error-codes.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            (words[0], words[1].parse().unwrap(), words[2])
        })
        .collect()
}

#[test]
fn every_code_of_the_reference_has_its_class_its_reason_and_a_message_for_a_person() {
    let all = reference();
    assert!(all.len() > 115, "{}", all.len());
    for (code, status, expected) in all {
        let class = match expected {
            "permanent" => Class::Terminal,
            "later" => Class::Transient,
            "unknown" => Class::Unknown,
            "done" => Class::Done,
            other => panic!("{other}"),
        };
        assert_eq!(class_of(code, status), class, "{code} at {status}");
        let group = meaning(code, status);
        for reason in [group.reason, group.reason_of_read] {
            assert!(reason.starts_with(|c: char| c.is_ascii_uppercase()), "{code}: {reason}");
            assert!(reason.chars().all(|c| c.is_ascii_alphanumeric()) && reason.len() <= 32, "{code}: {reason}");
        }
        assert!(group.advice.len() > 20, "{code}");
        // What comes later, or may have come, comes by itself unless a person has to mend something first.
        match class {
            Class::Unknown => assert_eq!(group.requeue, Requeue::Soon, "{code}"),
            Class::Transient => assert_ne!(group.requeue, Requeue::AfterEdit, "{code}"),
            Class::Terminal | Class::Done => {}
        }
        let error = CallError::new(class, code, "the cloud's words").with_request_id("5EED");
        let told = error.told();
        for part in [code, "the cloud's words", "RequestId 5EED", group.advice] {
            assert!(told.contains(part), "{told}");
        }
        let outcome = Outcome::from(error);
        assert_eq!(matches!(outcome, Outcome::Unknown(_)), class == Class::Unknown, "{code}");
    }
}

#[test]
fn no_code_is_in_two_groups_and_none_in_the_table_that_the_reference_lacks() {
    let reference: BTreeSet<_> = reference().into_iter().map(|(code, ..)| without_prefix(code)).collect();
    let ours = [NOT_SENT, NO_ANSWER, UNREADABLE_ANSWER, INCOMPLETE_LIST, LIST_FILE_REFUSED];
    let mut seen = BTreeSet::new();
    for group in ALL {
        for code in group.codes {
            assert!(seen.insert(without_prefix(code)), "{code} is listed twice");
            assert!(reference.contains(without_prefix(code)) || ours.contains(code), "{code}");
            // A code that is known decides alone.
            for status in [200, 400, 403, 404, 500, 503] {
                assert_eq!(class_of(code, status), group.class, "{code} at {status}");
            }
        }
    }
}

#[test]
fn a_stranger_is_unknown_unless_it_is_a_throttle() {
    for status in [200, 302, 400, 404, 500, 502, 504] {
        assert_eq!(class_of("iot.firmware.NeverHeardOf", status), Class::Unknown);
        assert_eq!(class_of("", status), Class::Unknown);
    }
    assert_eq!(class_of("NeverHeardOf", 429), Class::Transient);
    assert_eq!(class_of("Throttling.SomethingNew", 400), Class::Transient);
    assert_eq!(class_of("MissingReplica", 503), Class::Unknown);
    // Not the family, only its first letters.
    assert_eq!(class_of("ThrottlingDisabled", 400), Class::Unknown);
}

/// docs/errors.md, from the table.
fn page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         What `fota` makes of an error of the cloud. The page is written from the table in `src/ota/code/table.rs`:\n\
         `FOTA_WRITE_DOCS=1 cargo test --lib errors_page`. Codes that begin with `iot.firmware.` are shown without it.\n\n\
         The reason stands in the conditions of the rollout or account; the message has the code, the cloud's own words,\n\
         what to do, and the RequestId, which the vendor's support desk asks for.\n\n\
         | effect | of a create | of a read or cancel |\n|---|---|---|\n\
         | permanent | the claim is closed, nothing was made | shown; not taken for an answer |\n\
         | later | the identical request is sent again after a pause | repeated after a pause |\n\
         | unknown | the job is looked for by its tag before anything else is sent ([exactly-once.md](exactly-once.md)) | repeated after a pause |\n\
         | done | the job is looked for by its tag: it may be ours | success |\n\n\
         Tried again: *soon* is after 2 to 5 seconds, with pauses that grow to 5 minutes; *slowly* is every 5 minutes (an\n\
         account's check: every 10 seconds), and a person has to change something outside of the rollout; *after an edit* is\n\
         when the manifest changes. Of the last two the rollout is `Stalled`.\n\n\
         | reason | effect | tried again | what to do | codes |\n|---|---|---|---|---|\n",
    );
    for group in ALL {
        let effect = match group.class {
            Class::Terminal => "permanent",
            Class::Transient => "later",
            Class::Unknown => "unknown",
            Class::Done => "done",
        };
        let again = match group.requeue {
            Requeue::Soon => "soon",
            Requeue::Slowly => "slowly",
            Requeue::AfterEdit => "after an edit",
        };
        let reason = match (group.reason, group.reason_of_read) {
            (one, other) if one == other => format!("`{one}`"),
            (create, read) => format!("`{create}`, of a read `{read}`"),
        };
        let codes: Vec<_> =
            group.codes.iter().map(|c| format!("`{}`", c.trim_start_matches("iot.firmware."))).collect();
        let _ = writeln!(page, "| {reason} | {effect} | {again} | {} | {} |", group.advice, codes.join(" "));
    }
    page.push_str(
        "\nFamilies: `Throttling.…`, `ListOTA…Failed` and `iot.common.Query…ActionError` are read as `CloudBusy`, `Missing…` \
         and `iot.check.…`\nas `RequestRefused` (unless they come with HTTP 5xx). Every other code, and an answer that is neither \
         JSON nor XML,\nis cut off or is too long, counts as unknown; with HTTP 429 as `CloudBusy`. `NotSent`, `NoAnswer`, \
         `UnreadableAnswer`,\n`IncompleteList` and `ListFileRefused` are `fota`'s own.\n",
    );
    page
}

#[test]
fn the_errors_page_is_the_tables() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    if std::env::var_os("FOTA_WRITE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, page(), "docs/errors.md: FOTA_WRITE_DOCS=1 cargo test --lib errors_page");
}
