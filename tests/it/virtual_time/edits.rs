//! What users do to a rollout on its way: suspend it, change its firmware, change their mind, delete it.

use fota::api::status::{Phase, StageState};
use fota::api::{FINALIZER, ORPHAN, Percent, condition};
use fota::cloud::Switches;
use fota::rollout::observed::Trouble;

use super::drive::{Run, stalled};
use super::world::{Setting, State};
use super::{GOOD, OTHER, audit, fleet, gated, manifest, switches};

fn run() -> Run {
    Run::new(Setting { fleet: fleet(300, 1.0, 0.0), seed: 11, switches: switches(), rollout: manifest(), speed: 60 })
}

/// A tenth of the fleet is offline, so that something is always left over.
fn leftovers() -> Run {
    Run::new(Setting { fleet: fleet(300, 0.9, 0.0), seed: 11, switches: switches(), rollout: manifest(), speed: 60 })
}

#[test]
fn suspend_holds_before_the_promotion_and_goes_on_afterwards() {
    let mut run = leftovers();
    run.until_stage(1, "pilots");
    run.state().edit(|r| r.spec.suspend = Some(true));
    run.turns(60);
    let status = run.status();
    assert_eq!(status.phase, Some(Phase::Paused));
    assert_eq!(status.next.unwrap().reason, "Suspended");
    let pilots = status.stages.last().unwrap();
    assert_eq!((pilots.name.as_str(), pilots.state), ("pilots", StageState::Soaking));
    assert_eq!(audit::accepted(&run.state().cloud).len(), 3);
    assert_eq!(audit::cancels(&run.state().cloud), [] as [&str; 0]);
    run.state().edit(|r| r.spec.suspend = Some(false));
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 5);
}

#[test]
fn suspend_in_front_of_a_fresh_ticket_withdraws_the_claim() {
    let mut run = run();
    run.state().after_claim = Some(|state: &mut State| state.edit(|r| r.spec.suspend = Some(true)));
    run.turns(10);
    let status = run.status();
    assert_eq!((status.claim.as_ref(), status.stages[0].epoch), (None, 1));
    assert_eq!(status.stages[0].state, StageState::Pending);
    assert_eq!(audit::creates(&run.state().cloud), [], "nothing was sent");
    run.state().edit(|r| r.spec.suspend = None);
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 5);
    assert_eq!(run.status().stages[0].epoch, 2);
}

#[test]
fn a_status_written_meanwhile_does_not_lose_the_record_of_a_job() {
    let mut run = run();
    run.state().after_claim = Some(|state: &mut State| {
        state.edit(|r| r.metadata.labels = Some([("touched".to_owned(), "yes".to_owned())].into()));
    });
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::creates(&run.state().cloud).len(), 5);
}

#[test]
fn new_firmware_cancels_the_old_run_before_its_own_first_create() {
    let mut run = leftovers();
    run.until_stage(1, "broad");
    run.turns(1);
    let old = audit::upgrade_jobs(&run.status());
    assert!(old.iter().any(|id| audit::pending(&run.state().cloud, id) > 0), "nothing to cancel makes no test");
    run.state().edit(|r| {
        r.spec.firmware.id = Some(OTHER.to_owned());
        // One percent of what is left is one device, and that one may be offline.
        r.spec.gray.as_mut().unwrap()[0].percent = Some(Percent::whole(5));
    });
    let before = audit::creates(&run.state().cloud).len();
    run.until("creating again", 100, |state| audit::creates(&state.cloud).len() > before);
    {
        let state = run.state();
        for id in &old {
            assert_eq!(audit::pending(&state.cloud, id), 0, "{id}");
        }
        let calls = state.cloud.calls();
        let create = calls.iter().rposition(|c| c.operation == "CreateOTAStaticUpgradeJob").unwrap();
        let cancel = calls.iter().rposition(|c| c.operation == "CancelOTATaskByJob").unwrap();
        assert!(cancel < create);
        assert_eq!(calls[create].params["FirmwareId"], OTHER);
        let status = state.status();
        assert_eq!((status.run, status.stages.len()), (2, 2), "verify was skipped, canary runs");
        assert_eq!(status.stages[0].state, StageState::Skipped);
    }
    run.until_end();
    run.expect_completed();
    run.until_rest();
    assert_eq!(run.status().last_completed.unwrap().firmware.id, OTHER);
}

#[test]
fn back_to_the_completed_firmware_creates_nothing() {
    let mut run = run();
    run.until_end();
    run.expect_completed();
    run.state().edit(|r| {
        r.spec.firmware.id = Some(OTHER.to_owned());
        r.spec.source_versions = Some(vec!["1.0".to_owned(), "2.0".to_owned()]);
    });
    run.until_stage(2, "pilots");
    let jobs = audit::upgrade_jobs(&run.status());
    let before = audit::creates(&run.state().cloud).len();
    run.state().edit(|r| {
        r.spec.firmware.id = Some(GOOD.to_owned());
        r.spec.source_versions = Some(vec!["1.0".to_owned()]);
    });
    run.turns(60);
    let state = run.state();
    let status = state.status();
    assert_eq!(audit::creates(&state.cloud).len(), before, "nothing is created for a revert");
    for id in &jobs {
        assert_eq!(audit::pending(&state.cloud, id), 0, "{id}");
    }
    assert_eq!(status.phase, Some(Phase::Completed));
    let ready = condition::find(&status.conditions, "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Reverted"));
    assert!(ready.message.contains("devices stay on the version that was stopped"), "{}", ready.message);
    assert_eq!(status.firmware.as_ref().unwrap().id, GOOD);
    assert_eq!(status.last_completed.unwrap().run, 1);
}

#[test]
fn forward_again_after_a_revert_is_a_new_run() {
    let mut run = run();
    run.until_end();
    let sources = |state: &mut State, id: &str| {
        state.edit(|r| r.spec.firmware.id = Some(id.to_owned()));
    };
    sources(&mut run.state(), OTHER);
    run.turns(5);
    sources(&mut run.state(), GOOD);
    run.turns(20);
    assert_eq!(condition::find(&run.status().conditions, "Ready").unwrap().reason, "Reverted");
    sources(&mut run.state(), OTHER);
    run.until("a fourth run", 50, |state| state.status().run == 4);
}

fn gone(run: &mut Run) {
    run.until("gone", 100, |state| state.stored.is_none());
    let before = audit::creates(&run.state().cloud).len();
    let jobs = audit::accepted(&run.state().cloud);
    run.turns(5);
    let state = run.state();
    assert_eq!(audit::creates(&state.cloud).len(), before);
    for id in jobs {
        assert_eq!(audit::pending(&state.cloud, &id), 0, "{id}");
    }
}

#[test]
fn deletion_cancels_what_is_pending_and_lets_go() {
    for stage in ["verify", "canary", "broad", "full"] {
        let mut run = leftovers();
        run.until_stage(1, stage);
        run.state().delete();
        assert!(run.state().stored.is_some(), "held by {FINALIZER}");
        gone(&mut run);
    }
}

#[test]
fn deletion_waits_for_tasks_that_are_still_being_created() {
    // The first tasks appear 2 s after the job: to begin with there is nothing to cancel.
    let switches = Switches { creation_spread_seconds: 20.0, ..switches() };
    let rollout = gated(OTHER, 5);
    let mut run = Run::new(Setting { fleet: fleet(300, 1.0, 0.0), seed: 11, switches, rollout, speed: 1 });
    run.state().account.as_mut().unwrap().list_lag = std::time::Duration::from_secs(5);
    run.interval = jiff::SignedDuration::from_millis(300);
    run.until_stage(1, "canary");
    run.state().delete();
    gone(&mut run);
    run.interval = jiff::SignedDuration::from_secs(60);
    run.turns(5);
    let state = run.state();
    for id in audit::accepted(&state.cloud) {
        assert_eq!(audit::pending(&state.cloud, &id), 0, "{id}");
    }
}

#[test]
fn deletion_before_anything_was_sent_lets_go_at_once() {
    let mut run = run();
    run.state().after_claim = Some(State::delete);
    run.until("gone", 5, |state| state.stored.is_none());
    assert_eq!(audit::creates(&run.state().cloud), []);
}

#[test]
fn deletion_with_an_unresolved_claim_only_looks_and_cancels_what_it_finds() {
    let mut run = leftovers();
    run.until_stage(1, "pilots");
    run.state().lose_creates = 1;
    run.until("claimed", 100, |state| state.cloud.calls().iter().any(|c| c.lost));
    assert!(run.status().claim.is_some());
    run.state().delete();
    gone(&mut run);
    let state = run.state();
    assert_eq!(audit::creates(&state.cloud).len(), 4);
    let broad = audit::accepted(&state.cloud).pop().unwrap();
    assert!(audit::cancels(&state.cloud).contains(&broad), "the job that was found is cancelled");
}

#[test]
fn deletion_with_a_claim_that_had_no_effect_waits_until_no_copy_can_arrive() {
    let mut run = run();
    run.die_after_claim();
    let claimed = run.status().claim.unwrap().at.0;
    run.state().delete();
    run.until("gone", 400, |state| state.stored.is_none());
    let state = run.state();
    assert!(state.wall.duration_since(claimed).as_secs() >= 16 * 60, "a copy could still have arrived");
    assert_eq!(audit::creates(&state.cloud), []);
}

#[test]
fn a_deletion_without_an_account_names_its_jobs_after_ten_minutes_and_goes_on_when_it_is_back() {
    let mut run = leftovers();
    run.until_stage(1, "broad");
    let account = run.state().account.clone();
    let message = "there is no Secret keys".to_owned();
    run.state().account = Err(Trouble { reason: "SecretNotFound", message, stalled: false });
    run.state().delete();
    let deleted = run.state().wall;
    let named = |state: &State| state.notes.iter().find(|n| n.reason == "CredentialsGone").cloned();
    run.turns(60);
    assert_eq!(stalled(&run.status()).unwrap().0, "SecretNotFound");
    // Since when is known to whoever comes next.
    run.restart();
    run.until("named", 70, |state| named(state).is_some());
    let after = run.state().wall.duration_since(deleted).as_secs();
    assert!((600..=615).contains(&after), "{after} s");
    let note = named(&run.state()).unwrap();
    assert!(note.warning && note.note.contains(ORPHAN) && note.note.contains("Secret keys"), "{note:?}");
    for id in run.status().stages.iter().flat_map(|s| &s.jobs) {
        assert!(note.note.contains(&id.id), "{note:?}");
    }
    run.state().account = account;
    run.until("cancelling", 20, |state| stalled(&state.status()).is_none());
    gone(&mut run);
}

#[test]
fn an_orphan_is_released_with_its_jobs_untouched() {
    let mut run = run();
    run.until_stage(1, "broad");
    let before = audit::cancels(&run.state().cloud).len();
    run.state().edit(|r| r.metadata.annotations = Some([(ORPHAN.to_owned(), "1".to_owned())].into()));
    run.state().delete();
    run.until("gone", 3, |state| state.stored.is_none());
    assert_eq!(audit::cancels(&run.state().cloud).len(), before);
}

#[test]
fn a_step_added_to_a_completed_run_goes_on_and_an_earlier_one_does_not() {
    let mut rollout = gated(OTHER, 5);
    let full = rollout.spec.full.take();
    let mut run = Run::new(Setting { fleet: fleet(300, 1.0, 0.0), seed: 11, switches: switches(), rollout, speed: 60 });
    run.until_end();
    run.expect_completed();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 3);
    run.state().edit(|r| r.spec.full = full);
    run.turn();
    run.until_end();
    run.expect_completed();
    run.until_rest();
    assert_eq!(audit::accepted(&run.state().cloud).len(), 4);
}
