//! Two operators that nobody disturbs, and groups.

use serde_json::json;

use super::pair::Pair;
use crate::harness::wait::until;
use crate::operator::scene::LIMIT;

#[test]
fn of_two_operators_one_acts() {
    let pair = Pair::new("two", "15s");
    pair.start_rollout();
    pair.finish();
    let record = pair.record();
    assert_eq!((pair.owner().as_deref(), &record["spec"]["leaseTransitions"]), (Some("first"), &json!(0)));
    let log = pair.second.log_tail(200);
    assert!(!log.contains("ours") && !log.contains("job created"), "{log}");
}

#[test]
fn accounts_that_name_one_group_have_one_lease_and_one_without_keys_is_told_of() {
    let pair = Pair::new("groups", "15s");
    for (name, group, secret) in
        [("one", Some("shared"), "keys"), ("two", Some("shared"), "keys"), ("three", None, "nothing")]
    {
        let mut spec = json!({"endpoint": "http://127.0.0.1:1", "credentials": {"secretRef": {"name": secret}}});
        spec["quotaGroup"] = json!(group);
        spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        pair.scene.apply(&json!({"apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount",
                                 "metadata": {"name": name}, "spec": spec}));
    }
    for (name, reason) in [("one", "CloudUnreachable"), ("two", "CloudUnreachable"), ("three", "SecretNotFound")] {
        pair.until(&format!("{name} is {reason}"), || {
            pair.scene.kubectl(&["get", "otaaccount", name, "--no-headers"]).contains(reason)
        });
    }
    let mut leases: Vec<String> =
        pair.scene.kubectl(&["get", "lease", "-o", "name"]).lines().map(str::to_owned).collect();
    leases.sort();
    let expected = [pair.lease.as_str(), "fota-group-shared", "fota-unusable"];
    let mut expected = expected.map(|name| format!("lease.coordination.k8s.io/{name}"));
    expected.sort();
    assert_eq!(leases, expected);
    // Its last account is gone, and so is the owner; the record stays.
    pair.scene.kubectl(&["delete", "otaaccount", "one", "two"]);
    let released = until("it is released", LIMIT, || {
        let holder =
            pair.scene.kubectl(&["get", "lease", "fota-group-shared", "-o", "jsonpath={.spec.holderIdentity}"]);
        Ok(holder.is_empty().then_some(()))
    });
    released.unwrap_or_else(|error| panic!("{error}\n{}", pair.logs()));
}
