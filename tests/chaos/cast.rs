//! Who plays: the fleet of the simulated cloud, the accounts and the rollouts. Small, quick, and each rollout with a
//! product of its own, so that nobody waits for anybody.

use serde_json::{Value, json};

use super::judge::{End, Promise, Step};

/// Fleet minutes in a minute of ours: an update takes a device a fifth of a second.
pub const SPEED: &str = "600";

/// The steps of every rollout, by the marks that the judge knows them by.
const VERIFY: Step = Step { name: "verify", operation: "CreateOTAVerifyJob", rate: None };
const CANARY: Step = Step { name: "canary", operation: "CreateOTAStaticUpgradeJob", rate: Some("501") };
const FULL: Step = Step { name: "full", operation: "CreateOTAStaticUpgradeJob", rate: Some("601") };

/// How many accounts and products a cloud has.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    pub accounts: usize,
    pub products: usize,
}

impl Cast {
    /// The fleet file.
    pub fn fleet(self) -> Value {
        let accounts =
            (0..self.accounts).map(|a| json!({"accessKeyId": key(a), "accessKeySecret": secret(a), "instanceId": ""}));
        let products = (0..self.products).map(|p| {
            let groups = json!([
                {"prefix": "dev-", "count": 20, "version": "1.0.0", "online": 1, "minutes": [1, 2]},
                {"names": ["lab-1", "lab-2"], "version": "1.0.0", "online": 1, "minutes": [1, 2]},
            ]);
            json!({"productKey": product(p), "groups": groups})
        });
        let firmware = (0..self.products).map(|p| {
            json!({"id": format!("firmware-{p}"), "productKey": product(p), "version": "2.0.0", "needToVerify": true})
        });
        let (accounts, products, firmware): (Vec<_>, Vec<_>, Vec<_>) =
            (accounts.collect(), products.collect(), firmware.collect());
        json!({"accounts": accounts, "products": products, "firmware": firmware})
    }

    /// The accounts and their Secrets, as one list to apply.
    pub fn accounts(self, namespace: &str, endpoint: &str) -> Value {
        let objects = (0..self.accounts).flat_map(|a| {
            let name = account(a);
            let metadata = json!({"name": name, "namespace": namespace});
            let keys = json!({"ALIBABA_CLOUD_ACCESS_KEY_ID": key(a), "ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret(a)});
            // A new job is listed at once, and a second copy of a request is refused.
            let spec = json!({"endpoint": endpoint, "listLag": "200ms", "replay": "Nonce",
                              "credentials": {"secretRef": {"name": name}}});
            [
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": keys}),
                json!({"apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount", "metadata": metadata, "spec": spec}),
            ]
        });
        json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()})
    }

    /// A rollout over a product of its own.
    pub fn rollout(self, namespace: &str, number: usize) -> Value {
        let gate = json!({"matureAfter": "60s", "soak": "30s", "minDecided": 1});
        let rate = |step: &Step| json!({"maximumPerMinute": step.rate.and_then(|r| r.parse::<i32>().ok())});
        json!({
            "apiVersion": "fota.dev/v1alpha1",
            "kind": "FirmwareRollout",
            "metadata": {"name": name(number), "namespace": namespace},
            "spec": {
                "accountRef": {"name": account(number % self.accounts)},
                "productKey": product(number),
                "firmware": {"version": "2.0.0"},
                "sourceVersions": ["1.0.0"],
                "verify": {"devices": ["lab-1", "lab-2"]},
                "gray": [{"name": CANARY.name, "percent": 25, "gate": gate, "delivery": rate(&CANARY)}],
                "full": {"static": {}, "gate": gate, "delivery": rate(&FULL)},
            },
        })
    }
}

/// What a rollout promises.
pub fn promise(number: usize, end: End) -> Promise {
    Promise { rollout: name(number), product: product(number), steps: vec![VERIFY, CANARY, FULL], end }
}

/// The name of a rollout.
pub fn name(number: usize) -> String {
    format!("rollout-{number}")
}

fn product(number: usize) -> String {
    format!("product-{number}")
}

fn account(number: usize) -> String {
    format!("account-{number}")
}

fn key(number: usize) -> String {
    format!("testAccessKeyId{number}")
}

fn secret(number: usize) -> String {
    format!("testAccessKeySecret{number}")
}
