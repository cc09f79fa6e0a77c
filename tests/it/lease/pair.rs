//! Two operators over one scene, and what can be seen of them from outside.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::supervised::Supervised;
use crate::harness::wait::{until, until_true};
use crate::operator::scene::{Devices, LIMIT, Scene};

pub struct Pair {
    pub scene: Scene,
    pub first: Supervised,
    pub second: Supervised,
    /// The Lease of the scene's only account.
    pub lease: String,
}

impl Pair {
    /// The first owns the account, the second stands by.
    pub fn new(purpose: &str, lease: &str) -> Self {
        let scene = Scene::new(purpose, &Devices { online: 1.0, ..Devices::default() });
        let first = scene.another_operator("first", lease);
        let found = until("the Lease", LIMIT, || {
            let all = scene.kubectl(&["get", "lease", "-o", "name"]);
            Ok(all.lines().find_map(|l| l.strip_prefix("lease.coordination.k8s.io/fota-key-").map(str::to_owned)))
        });
        let name = format!("fota-key-{}", found.unwrap_or_else(|error| panic!("{error}\n{}", first.log_tail(20))));
        let second = scene.another_operator("second", lease);
        let pair = Self { scene, first, second, lease: name };
        pair.until("the second stands by", || pair.second.log_tail(20).contains("takes part"));
        assert_eq!(pair.owner(), Some("first".to_owned()));
        pair
    }

    pub fn record(&self) -> Value {
        let found = self.scene.kubectl(&["get", "lease", &self.lease, "--ignore-not-found", "-o", "json"]);
        if found.is_empty() { Value::Null } else { serde_json::from_str(&found).unwrap() }
    }

    /// Whose the Lease is: the part of the identity that the scene gave.
    pub fn owner(&self) -> Option<String> {
        let record = self.record();
        let holder = record["spec"]["holderIdentity"].as_str()?;
        Some(holder.rsplit_once('_').unwrap().0.to_owned())
    }

    pub fn until_owner(&self, name: &str) {
        self.until(&format!("{name} owns it"), || self.owner().as_deref() == Some(name));
    }

    pub fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        let came = until_true(what, LIMIT, holds);
        came.unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.record(), self.logs()));
    }

    pub fn logs(&self) -> String {
        self.first.log_tail(40) + &self.second.log_tail(40)
    }

    /// When each call arrived at the cloud, by the wall clock of this machine, which is also the operators'.
    pub fn calls(&self) -> Vec<Timestamp> {
        self.scene.cloud.with(|cloud, _| cloud.calls().iter().map(|call| call.at).collect())
    }

    /// Waits until no call is on its way any more from operators that are all stopped.
    pub fn until_quiet(&self) {
        self.until("the cloud is quiet", || {
            let last = self.calls().last().copied();
            last.is_none_or(|at| Timestamp::now().duration_since(at) > jiff::SignedDuration::from_millis(400))
        });
    }

    /// What changes with every write to a rollout or an account: their versions, and the events about them.
    pub fn versions(&self) -> Vec<String> {
        let all = self.scene.kubectl(&["get", "fwr,otaaccount,events.events.k8s.io", "-o", "json"]);
        let all: Value = serde_json::from_str(&all).unwrap();
        let items = all["items"].as_array().unwrap().iter();
        items.map(|i| format!("{}/{} {}", i["kind"], i["metadata"]["name"], i["metadata"]["resourceVersion"])).collect()
    }

    /// When the Lease's owner became it.
    pub fn acquired(&self) -> Timestamp {
        self.record()["spec"]["acquireTime"].as_str().unwrap().parse().unwrap()
    }

    pub fn start_rollout(&self) {
        self.scene.apply(&Scene::rollout("shared", &json!({})));
        self.until("the canary runs", || self.scene.creates().len() >= 2);
    }

    /// It goes to its end, with one job per stage.
    pub fn finish(&self) {
        self.until("Completed", || self.scene.get("shared")["status"]["phase"] == "Completed");
        self.scene.assert_created_once(4);
        assert_eq!(self.scene.get("shared")["status"]["run"], 1);
    }
}

/// As the flag takes it.
pub fn text(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}
