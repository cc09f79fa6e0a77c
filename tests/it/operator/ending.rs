//! Asked to end at an awkward moment.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::scene::{Devices, LIMIT, Scene};
use crate::harness::supervised::{Supervised, temporary_dir};
use crate::harness::wait;
use crate::shared;

/// An operator before an API server that takes connections, and says nothing.
fn before_a_mute_server() -> (Supervised, TcpListener) {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", mute.local_addr().unwrap());
    let home = temporary_dir("mute").unwrap();
    let dir = home.join("operator");
    fs::create_dir(&dir).unwrap();
    let config = shared().kubeconfig_by_way_of(&url, "fota", "default", "token").unwrap();
    let config = config.to_str().unwrap();
    let arguments = [env!("CARGO_BIN_EXE_fota"), "controller", "--telemetry-addr=off", "--kubeconfig", config];
    (Supervised::spawn("operator", &dir, Path::new("/usr/bin/env"), arguments).unwrap(), mute)
}

/// A signal that came before its handler was lost once: the supervisor's own deafness had been handed on.
#[test]
fn asked_to_end_at_any_moment_of_its_start_it_ends() {
    let (mut operator, _mute) = before_a_mute_server();
    for moment in [0, 0, 1, 2, 3, 5, 8, 13, 21, 34] {
        std::thread::sleep(Duration::from_millis(moment));
        operator.process().signal("TERM").unwrap();
        let ended = wait::until_true("it ends", LIMIT, || !operator.alive());
        ended.unwrap_or_else(|error| panic!("after {moment} ms: {error}\n{}", operator.log_tail(20)));
        operator.restart().unwrap();
    }
}

#[test]
fn asked_to_end_before_the_api_server_has_answered_anything_it_ends() {
    let (operator, mute) = before_a_mute_server();
    wait::until_true("it starts", LIMIT, || operator.log_tail(9).contains("takes part in the election")).unwrap();
    let (caller, _) = mute.accept().unwrap();
    operator.process().signal("TERM").unwrap();
    let ended = wait::until_true("it ends", LIMIT, || !operator.alive());
    ended.unwrap_or_else(|error| panic!("{error}\n{}", operator.log_tail(20)));
    assert!(operator.log_tail(9).contains("the controller stopped"), "{}", operator.log_tail(9));
    drop(caller);
}

/// Whether a start is left asleep depended on the order in which its parts first asked for the list: about one in two was.
#[test]
fn every_one_that_starts_works_and_ends_when_asked() {
    let scene = Scene::new("starts", &Devices { count: 10, ..Devices::default() });
    let suspended = json!({"suspend": true});
    for nth in 0..6 {
        let name = format!("rollout-{nth}");
        scene.apply(&Scene::rollout(&name, &suspended));
        let operator = scene.another_operator("operator", "2s");
        scene.until(&name, "it is looked at", |r| r["metadata"]["finalizers"][0].is_string());
        operator.process().signal("TERM").unwrap();
        let ended = wait::until_true("it ends", LIMIT, || !operator.alive());
        ended.unwrap_or_else(|error| panic!("start {nth}: {error}\n{}", operator.log_tail(20)));
    }
}
