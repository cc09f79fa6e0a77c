//! Where a schedule plays: how the cloud behaves, what the account says of it, and the rollout. All of it follows from
//! one number, so that a schedule is that number and a list of events.

use std::sync::LazyLock;
use std::time::Duration;

use fota::api::rollout::{DevicesFrom, DynamicFull, KeyRef, OnExternalChange, Supersede};
use fota::api::{FirmwareRollout, Percent, Replay};
use fota::cloud::model::{Completion, ListOrder, NonceBurnedBy};
use fota::cloud::{Call, Clocks, Cloud, Edition, Fleet, Switches};
use fota::ota::Operation;
#[cfg(test)]
use fota::rollout::observed::Account;
use serde_json::json;

use super::state::at;

/// Never in a status or an event: the echo of a refusal carries it.
pub const SECRET: &str = "xYzSecretOfTheAccessKey";
/// When every schedule begins, Unix milliseconds: 2026-03-01T00:00:00Z.
pub const SCENE_START: i64 = 1_772_323_200_000;
/// The product.
pub const PRODUCT: &str = "pk";
/// The packages that a user may choose, the first one first.
pub const PACKAGES: [&str; 3] = ["good", "other", "third"];
/// Names of the access keys, in the order in which they are put into the Secret.
pub const KEYS: [&str; 8] = ["key-0", "key-1", "key-2", "key-3", "key-4", "key-5", "key-6", "key-7"];

/// The access key of somebody else.
pub const STRANGER: &str = "stranger";

/// The parameters of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// The number that all follows from.
    pub number: u64,
    /// What uses up a nonce.
    pub nonce: NonceBurnedBy,
    /// Whether listings show tags.
    pub tags_listed: bool,
    /// Whether QueryOTAJob shows them.
    pub tags_queried: bool,
    /// The order of listings.
    pub order: ListOrder,
    /// How long a new job is missing from listings.
    pub lag_ms: u64,
    /// The account's `listLag`.
    pub list_lag: Duration,
    /// Whether the account is known to list jobs later than that.
    pub unlisted: bool,
    /// What the account says of replays: never `Nonce` where a nonce is not used up.
    pub replay: Replay,
    /// Whether the account is known to show tags.
    pub echoed: bool,
    /// Whether the package has to be verified.
    pub verify: bool,
    /// Whether most devices fail.
    pub failing: bool,
    /// Whether a cancel shows its effect late.
    pub slow_cancel: bool,
    /// Whether tasks appear after their job.
    pub spread: bool,
    /// Whether jobs end by themselves.
    pub completion: Completion,
    /// Whether some devices never report anything.
    pub silent: bool,
    /// Whether somebody else made more jobs of the package than a page of a listing shows.
    pub crowd: bool,
    /// Whether there are more devices than a job by names takes, and all fail, and a user retries them.
    pub wide: bool,
    /// Whether a user who deletes without an account gives the jobs up, rather than bringing the account back.
    pub orphans: bool,
    /// What the rollout says of changes in the console.
    pub external: OnExternalChange,
    /// Whether new firmware waits for the run under way.
    pub queues: bool,
    /// Whether the last stage is a policy that stands.
    pub dynamic: bool,
    /// Whether the gray step takes its devices from a list.
    pub listed: bool,
}

/// How many choices each digit of a scene's number has, the last digit first.
const BASES: [u64; 20] = [3, 4, 3, 3, 3, 4, 2, 4, 3, 4, 2, 2, 4, 64, 64, 3, 4, 4, 3, 4];
/// Where lists are slow, a new job is missing from them for so many times longer, and the account says so: longer than the
/// time between two polls.
const SLOW_LISTS: u32 = 7;

impl Scene {
    /// The numbers of the scenes that have one peculiarity less.
    pub fn plainer(number: u64) -> Vec<u64> {
        let mut place = 1;
        let mut all = Vec::new();
        for base in BASES {
            let digit = number / place % base;
            if digit > 0 {
                all.push(number - digit * place);
            }
            place *= base;
        }
        all
    }

    /// The scene of a number; 0 is the plain one.
    pub fn new(number: u64) -> Self {
        let mut rest = number;
        let mut bases = BASES.iter();
        let mut digit = || {
            let base = bases.next().copied().unwrap_or(1);
            let digit = rest % base;
            rest /= base;
            digit
        };
        let nonce = [NonceBurnedBy::Accepted, NonceBurnedBy::Any, NonceBurnedBy::Never][digit() as usize];
        let settles = digit() == 1;
        let replay = if settles || nonce == NonceBurnedBy::Never { Replay::Settle } else { Replay::Nonce };
        let mut scene = Self {
            number: number % BASES.iter().product::<u64>(),
            nonce,
            replay,
            tags_listed: digit() != 1,
            tags_queried: true,
            order: [ListOrder::NewestFirst, ListOrder::Shuffled, ListOrder::OldestFirst][digit() as usize],
            lag_ms: [0, 900, 3_900][digit() as usize],
            list_lag: Duration::from_secs(1),
            unlisted: false,
            echoed: digit() != 1,
            verify: digit() == 0,
            failing: digit() == 1,
            slow_cancel: digit() == 1,
            spread: digit() == 1,
            completion: [Completion::AllTerminal, Completion::Never][digit() as usize],
            orphans: digit() == 1,
            silent: digit() == 1,
            crowd: digit() == 1,
            wide: digit() == 1,
            external: [OnExternalChange::Pause, OnExternalChange::Recreate, OnExternalChange::Accept][digit() as usize],
            queues: digit() == 1,
            dynamic: digit() == 1,
            listed: false,
        };
        if digit() == 1 {
            scene.list_lag *= SLOW_LISTS;
            scene.lag_ms *= u64::from(SLOW_LISTS);
        }
        scene.listed = digit() == 1;
        scene.fitting()
    }

    /// The same with a cloud of these habits, and with what the account was found to be.
    #[cfg(test)]
    pub fn under(self, switches: &Switches, account: &Account) -> Self {
        Self {
            nonce: switches.nonce,
            tags_listed: switches.tags_listed,
            tags_queried: switches.tags_queried,
            order: switches.list_order,
            lag_ms: switches.list_lag_ms,
            replay: account.replay,
            list_lag: account.list_lag,
            echoed: account.tag_echoed,
            unlisted: account.unlisted,
            // A crowd needs lists with tags.
            crowd: self.crowd && switches.tags_listed,
            ..self
        }
    }

    /// What goes with a crowd, and with a wide fleet.
    const fn fitting(mut self) -> Self {
        self.wide = self.wide && !self.crowd;
        self.listed = self.listed && !self.wide;
        if self.crowd {
            // A stranger can make jobs only of a package that needs no verification; nobody asks 201 jobs for their tags.
            (self.verify, self.tags_listed, self.slow_cancel) = (false, true, false);
        }
        self
    }

    /// The cloud's conduct.
    pub fn switches(&self) -> Switches {
        Switches {
            unsigned: true,
            nonce: self.nonce,
            tags_listed: self.tags_listed,
            tags_queried: self.tags_queried,
            list_order: self.order,
            list_lag_ms: self.lag_ms,
            completion: self.completion,
            cancel_delay_seconds: if self.slow_cancel { 2.0 } else { 0.0 },
            creation_spread_seconds: if self.spread { 90.0 } else { 0.0 },
            ..Switches::default()
        }
    }

    /// A cloud of this scene.
    pub fn cloud(&self) -> Cloud {
        let mut fleet = FLEET.clone();
        let package = &mut fleet.firmware[0];
        package.need_to_verify = self.verify;
        package.failure_rate = self.failing.then_some(0.6);
        package.silent_rate = self.silent.then_some(0.4);
        if self.wide {
            fleet.products[0].groups[0].count = Some(NAMES_PER_JOB + 3);
            fleet.products[0].groups[0].failure_rate = 1.0;
        }
        let mut cloud = Cloud::new(&fleet, self.number, Edition::Current, self.switches());
        if self.crowd {
            for nth in 0..=JOBS_PER_PAGE {
                strangers_job(&mut cloud, nth);
            }
        }
        cloud
    }

    /// The rollout, as a user applies it for the `nth` time, from 1.
    pub fn rollout(&self, nth: u32) -> FirmwareRollout {
        let mut rollout = MANIFEST.clone();
        rollout.metadata.uid = Some(format!("uid-{nth}"));
        if !self.verify {
            rollout.spec.verify = None;
        }
        rollout.spec.on_external_change = Some(self.external);
        rollout.spec.supersede = self.queues.then_some(Supersede::Queue);
        if let Some(full) = rollout.spec.full.as_mut().filter(|_| self.dynamic) {
            (full.fixed, full.dynamic) = (None, Some(DynamicFull { mode: None, until: None, group: None }));
        }
        if self.listed {
            let reference = KeyRef { name: "sites".to_owned(), key: "names".to_owned() };
            for step in rollout.spec.gray.iter_mut().flatten() {
                step.percent = None;
                step.devices_from = Some(DevicesFrom { config_map_key_ref: reference.clone() });
            }
        }
        if self.wide {
            rollout.spec.gray.iter_mut().flatten().for_each(|step| step.percent = Some(Percent::whole(100)));
        }
        rollout
    }
}

/// The names in the list, before it was edited and after.
pub const LISTS: [&[&str]; 2] = [&["dev-0", "dev-2", "far-1"], &["dev-0", "dev-1", "dev-2"]];

/// Jobs on a page of a listing, and names that a job takes: the cloud's limits (ota-api: sections 3 and 6.3).
const JOBS_PER_PAGE: i64 = 200;
const NAMES_PER_JOB: u32 = 200;

/// Somebody else makes a job of the package, an hour before all begins, and cancels it.
fn strangers_job(cloud: &mut Cloud, nth: i64) {
    let at = at(nth * 1_000 - 3_600_000);
    let clocks = Clocks { wall: at, fleet: at };
    let params = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let create = params(&[
        ("FirmwareId", PACKAGES[0]),
        ("ProductKey", PRODUCT),
        ("TargetSelection", "SPECIFIC"),
        ("TargetDeviceName.1", "far-1"),
    ]);
    cloud.handle(&Call::unsigned(STRANGER, Operation::CreateOTAStaticUpgradeJob, &create, None), clocks);
    let entry = cloud.calls().last().unwrap();
    let job = entry.job_id.clone().unwrap_or_else(|| panic!("a stranger's job was refused: {:?}", entry.code));
    let cancel = params(&[("JobId", &job), ("CancelQueuedTask", "true")]);
    cloud.handle(&Call::unsigned(STRANGER, Operation::CancelOTATaskByJob, &cancel, None), clocks);
}

static FLEET: LazyLock<Fleet> = LazyLock::new(|| {
    let accounts: String = KEYS
        .iter()
        .chain([&STRANGER])
        .map(|key| format!("- {{accessKeyId: {key}, accessKeySecret: {SECRET}}}\n"))
        .collect();
    let others: String = PACKAGES[1..]
        .iter()
        .zip(3..)
        .map(|(id, n)| format!("- {{id: {id}, productKey: {PRODUCT}, version: \"{n}.0\", needToVerify: false}}\n"))
        .collect();
    let text = format!(
        r#"
accounts:
{accounts}
products:
- productKey: {PRODUCT}
  groups:
  - {{prefix: dev-, count: 5, version: "1.0", minutes: [0.2, 0.5]}}
  - {{names: [far-1], version: "1.0", online: 0}}
  - {{names: [lab-1], version: "1.0", minutes: [0.2, 0.5]}}
firmware:
- {{id: {}, productKey: {PRODUCT}, version: "2.0"}}
{others}
"#,
        PACKAGES[0]
    );
    Fleet::parse(&text).unwrap()
});

static MANIFEST: LazyLock<FirmwareRollout> = LazyLock::new(|| {
    let gate = json!({"matureAfter": "1s", "soak": "1s", "silentAfter": "30m", "minDecided": 1});
    let full = json!({"matureAfter": "1s", "soak": "0s", "silentAfter": "30m", "minDecided": 1});
    let object = json!({
        "apiVersion": "fota.dev/v1alpha1",
        "kind": "FirmwareRollout",
        "metadata": {
            "name": "thermostat", "namespace": "heating", "uid": "uid-1", "generation": 1, "resourceVersion": "1",
            "creationTimestamp": "2026-03-01T00:00:00Z",
        },
        "spec": {
            "accountRef": {"name": "account"},
            "productKey": PRODUCT,
            "firmware": {"id": PACKAGES[0]},
            "sourceVersions": ["1.0"],
            "verify": {"devices": ["lab-1"]},
            "gray": [{"name": "canary", "percent": 50, "gate": gate}],
            "full": {"static": {}, "gate": full},
        },
    });
    serde_json::from_value(object).unwrap()
});
