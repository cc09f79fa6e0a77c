//! What the cloud refuses: put off and sent again as it was, or told to a person.

use fota::api::FirmwareRollout;
use fota::api::status::{Phase, StageState};

use super::drive::{Run, stalled};
use super::world::Setting;
use super::{OTHER, audit, fleet, gated, manifest, switches};

fn run(rollout: FirmwareRollout) -> Run {
    Run::new(Setting { fleet: fleet(300, 1.0, 0.0), seed: 7, switches: switches(), rollout, speed: 60 })
}

#[test]
fn a_throttled_create_is_sent_again_as_it_was() {
    let mut run = run(manifest());
    run.state().throttle_creates = 3;
    run.until("throttled", 10, |state| state.status().stages.iter().any(|s| s.refusal.is_some()));
    let status = run.status();
    assert!(status.claim.is_some_and(|c| c.epoch == 1 && !c.sent), "a throttle ends nothing");
    let refusal = status.stages[0].refusal.clone().unwrap();
    assert!(refusal.retry_at.is_some() && refusal.code == "Throttling.User", "{refusal:?}");
    assert_eq!(status.next.unwrap().reason, "CloudBusy");
    run.until_end();
    run.expect_completed();
    let state = run.state();
    let creates = audit::creates(&state.cloud);
    assert_eq!((creates.len(), audit::accepted(&state.cloud).len()), (8, 5));
    let first: Vec<_> = creates.iter().take(4).map(|(tag, _)| tag.clone()).collect();
    assert!(first.iter().all(|tag| *tag == first[0]), "the same part, the same tag");
    let sent = state.cloud.calls().iter().filter(|c| c.operation == "CreateOTAVerifyJob");
    let nonces: std::collections::BTreeSet<_> = sent.map(|c| c.params["SignatureNonce"].clone()).collect();
    assert_eq!(nonces.len(), 1, "the gateway would refuse a second copy");
    assert_eq!(state.status().stages[0].epoch, 1);
}

#[test]
fn keys_that_rotate_between_the_decision_and_the_send_send_nothing() {
    let mut run = run(manifest());
    run.state().before_create = Some(|state| {
        state.account.as_mut().unwrap().access_key = "rotated".to_owned();
    });
    run.until_end();
    run.expect_completed();
    assert_eq!(run.status().stages[0].epoch, 2, "claimed anew, for the new keys");
    assert_eq!(audit::creates(&run.state().cloud).len(), 5, "sent by other keys than the claim's");
    assert_eq!(audit::accepted(&run.state().cloud).len(), 5);
}

#[test]
fn when_no_device_fits_at_first_a_person_is_asked() {
    let mut rollout = gated(OTHER, 5);
    rollout.spec.source_versions = Some(vec!["0.9".to_owned()]);
    let mut run = run(rollout);
    run.until_end();
    let (reason, message) = stalled(&run.status()).unwrap();
    assert_eq!(reason, "NoDeviceCanUpgrade");
    assert!(message.contains("check sourceVersions") && message.contains("RequestId"), "{message}");
    run.turns(20);
    assert_eq!(audit::creates(&run.state().cloud).len(), 1, "nothing is tried again before an edit");
    run.state().edit(|r| r.spec.gray.as_mut().unwrap()[0].percent = Some(fota::api::Percent::whole(2)));
    run.turn();
    assert_eq!(audit::creates(&run.state().cloud).len(), 2, "an edit tries again");
}

#[test]
fn when_no_device_is_left_later_the_step_has_passed() {
    let mut rollout = gated(OTHER, 50);
    // Everyone is in the first step; two jobs of named devices and the full one find nobody.
    let steps = rollout.spec.gray.as_mut().unwrap();
    steps[0].percent = Some(fota::api::Percent::ALL);
    steps[1].percent = None;
    steps[1].devices = Some(vec!["lab-1".to_owned()]);
    steps.truncate(2);
    let mut fleet = fleet(300, 1.0, 0.0);
    for package in &mut fleet.firmware {
        (package.failure_rate, package.silent_rate) = (Some(0.0), Some(0.0));
    }
    let mut run = Run::new(Setting { fleet, seed: 7, switches: switches(), rollout, speed: 60 });
    run.until_end();
    run.expect_completed();
    let status = run.status();
    for stage in &status.stages[1..] {
        assert_eq!((stage.state, stage.reason.as_deref()), (StageState::Passed, Some("NothingLeft")), "{}", stage.name);
        assert!(stage.jobs.is_empty());
    }
    assert_eq!(audit::creates(&run.state().cloud).len(), 3);
    run.until_rest();
}

#[test]
fn a_failed_verification_reaches_nobody_else() {
    let mut fleet = fleet(300, 1.0, 0.0);
    fleet.firmware[0].failure_rate = Some(1.0);
    let mut run = Run::new(Setting { fleet, seed: 7, switches: switches(), rollout: manifest(), speed: 60 });
    run.until_end();
    assert_eq!(run.status().phase, Some(Phase::Failed));
    assert_eq!(stalled(&run.status()).unwrap().0, "VerifyFailed");
    run.turns(20);
    assert_eq!(audit::creates(&run.state().cloud).len(), 1);
}

#[test]
fn a_rival_is_waited_for() {
    let mut run = run(manifest());
    run.state().rival = Some("heating/older".to_owned());
    run.turns(10);
    assert_eq!(run.status().next.unwrap().reason, "WaitingForRollout");
    assert_eq!(audit::creates(&run.state().cloud), []);
    run.state().rival = None;
    run.until_end();
    run.expect_completed();
}
