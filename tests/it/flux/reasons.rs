//! Every reason that the operator's conditions can show, and which standings it comes in.
//!
//! `sources` holds it against the literals in the code, and each status that the tests in virtual time and on the real API
//! server see is held against it too: so a reason that is missing here is told.

use std::collections::BTreeSet;

use fota::controller::poll;
use fota::ota::code;
use fota::ota::outcome::CallError;
use fota::rollout::absorb;
use fota::rollout::story::Kind;
use serde_json::{Value, json};

use Kind::{Ready, Stalled, Waiting};

/// Of rollouts, by their own course.
const OF_ROLLOUTS: &[(Kind, &[&str])] = &[
    (Ready, &["Completed", "DynamicActive", "Reverted"]),
    (
        Waiting,
        &[
            "AccountNotFound",
            "CancellingDuplicates",
            "ClaimExpired",
            "ClaimWithdrawn",
            "ConfigMapNotFound",
            "ConfigMapUnreadable",
            "Counting",
            "Creating",
            "Deleting",
            "Draining",
            "HoldingAccount",
            "JobStarted",
            "Maturing",
            "NothingLeft",
            "OutcomeUnknown",
            "PolicyEnding",
            "Pushing",
            "ReadingAccount",
            "ReadingDevices",
            "ReadingFirmware",
            "ReadingJobs",
            "ReadingPolicies",
            "Recreating",
            "RetiringPolicy",
            "ScheduleAhead",
            "Soaking",
            "Starting",
            "Superseding",
            "Suspended",
            "Verifying",
            "VerifyingElsewhere",
            "WaitingForDevices",
            "WaitingForRollout",
        ],
    ),
    (
        Stalled,
        &[
            "Aborted",
            "AccountChanged",
            "AccountDeleting",
            "AccountNotFound",
            "Ambiguous",
            "ClockSkew",
            "CreateRefused",
            "CredentialsGone",
            "DevicesInvalid",
            "EditedMeanwhile",
            "EditionRefuses",
            "ExternalChange",
            "FirmwareAmbiguous",
            "FirmwareMismatch",
            "FirmwareNotFound",
            "ForeignOwner",
            "GateFailed",
            "GateUnreachable",
            "GroupPolicyDiffers",
            "GroupRefused",
            "HoldingAccount",
            "InstanceRequired",
            "InvalidSpec",
            "PolicyOver",
            "ProtocolRefused",
            "QueueBlocked",
            "ReadingAccount",
            "RetryListChanged",
            "RetryTooLarge",
            "ScheduleMissed",
            "SourceVersionMismatch",
            "StatusFull",
            "StatusInvalid",
            "StepRemoved",
            "VerifyFailed",
            "VerifyRequired",
        ],
    ),
];

/// Of accounts. A rollout shows its account's trouble as its own; while it is being deleted, waiting for it takes a person.
const OF_ACCOUNTS: &[(Kind, &[&str])] = &[
    (Ready, &["CloudAnswers"]),
    (Waiting, &["ReadingAccount", "RoleUnavailable", "SecretNotFound", "SecretUnreadable"]),
    (
        Stalled,
        &[
            "ClientInvalid",
            "CredentialsInvalid",
            "EndpointRefused",
            "IdentityNotLent",
            "OidcTokenMissing",
            "RoleRefused",
        ],
    ),
];

/// Conditions of a rollout beside its standing, with their reasons. `AccountUnusable` has its account's.
pub const REMARKS: &[(&str, &str)] = &[
    ("AccountUnusable", "SecretNotFound"),
    ("EditsIgnored", "StageStarted"),
    ("Queued", "NewFirmwareWaits"),
    ("Shadowed", "YoungerPolicy"),
];

/// A condition of an account beside its standing.
pub const IN_USE: (&str, &str) = ("Deleting", "InUse");

type Reasons = BTreeSet<(&'static str, &'static str)>;

/// Orders, as a kind of standing itself has no order.
fn named((kind, reason): (Kind, &'static str)) -> (&'static str, &'static str) {
    let name = match kind {
        Ready => "Ready",
        Waiting => "Waiting",
        Stalled => "Stalled",
    };
    (name, reason)
}

fn kind(name: &str) -> Kind {
    [Ready, Waiting, Stalled].into_iter().find(|kind| named((*kind, "")).0 == name).unwrap()
}

fn flat(all: &'static [(Kind, &[&str])]) -> impl Iterator<Item = (Kind, &'static str)> {
    all.iter().flat_map(|(kind, reasons)| reasons.iter().map(|reason| (*kind, *reason)))
}

fn sorted(all: impl Iterator<Item = (Kind, &'static str)>) -> Vec<(Kind, &'static str)> {
    let all: Reasons = all.map(named).collect();
    all.into_iter().map(|(name, reason)| (kind(name), reason)).collect()
}

/// What a read that failed says, for each code that is known.
fn of_reads() -> Vec<(Kind, &'static str)> {
    let codes = code::groups().iter().flat_map(|group| group.codes.iter().map(|code| (group.class, *code)));
    let troubles = codes.map(|(class, code)| poll::trouble(&CallError::new(class, code, "")));
    troubles.map(|trouble| (if trouble.stalled { Stalled } else { Waiting }, trouble.reason)).collect()
}

/// What a create that was refused says, for each code that is known.
fn of_creates() -> Vec<(Kind, &'static str)> {
    let codes = code::groups().iter().flat_map(|group| group.codes);
    let situations = codes.map(|code| {
        let refusal = json!({"code": code, "message": "", "generation": 1, "count": 1});
        absorb::refused("canary", &serde_json::from_value(refusal).unwrap())
    });
    situations.map(|situation| (situation.kind, situation.reason)).collect()
}

/// Each standing of a rollout with each of its reasons.
pub fn of_rollouts() -> Vec<(Kind, &'static str)> {
    let troubles = || flat(OF_ACCOUNTS).chain(of_reads()).filter(|(kind, _)| *kind != Ready);
    let held_up = flat(OF_ACCOUNTS).filter(|(kind, _)| *kind == Waiting).map(|(_, reason)| (Stalled, reason));
    sorted(flat(OF_ROLLOUTS).chain(troubles()).chain(held_up).chain(of_creates()))
}

/// Each standing of an account with each of its reasons.
pub fn of_accounts() -> Vec<(Kind, &'static str)> {
    sorted(flat(OF_ACCOUNTS).chain(of_reads()))
}

/// Every word that is a reason.
pub fn words() -> BTreeSet<&'static str> {
    let all = of_rollouts().into_iter().chain(of_accounts()).map(|(_, reason)| reason);
    all.chain(REMARKS.iter().map(|(_, reason)| *reason)).chain([IN_USE.1]).collect()
}

/// Those that stand in the code as they are, and not in the table of codes.
pub fn literal() -> BTreeSet<&'static str> {
    let all = flat(OF_ROLLOUTS).chain(flat(OF_ACCOUNTS)).map(|(_, reason)| reason);
    all.chain(REMARKS.iter().map(|(_, reason)| *reason)).chain([IN_USE.1]).collect()
}

/// Fails with a condition that is not listed here.
#[track_caller]
pub fn check(object: &str, conditions: &Value) {
    let (standings, beside) = match object {
        "FirmwareRollout" => (of_rollouts(), REMARKS),
        _ => (of_accounts(), &[IN_USE][..]),
    };
    for condition in conditions.as_array().into_iter().flatten().filter(|c| c["status"] == "True") {
        let (name, reason) = (condition["type"].as_str().unwrap(), condition["reason"].as_str().unwrap());
        let standing = match name {
            "Ready" => Some(Ready),
            "Reconciling" => Some(Waiting),
            "Stalled" => Some(Stalled),
            _ => None,
        };
        let listed = match standing {
            Some(kind) => standings.contains(&(kind, reason)),
            None if name == "AccountUnusable" => of_rollouts().contains(&(Stalled, reason)),
            None => beside.contains(&(name, reason)),
        };
        assert!(listed, "tests/it/flux/reasons.rs does not list {name} with reason {reason} of a {object}");
    }
}
