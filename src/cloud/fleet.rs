//! The fleet file: which accounts, products, devices and packages the simulated cloud starts with.
//!
//! Here belong its shape, its defaults and the checks with messages that name the field. What devices then do lives in
//! [`super::model`]; nothing here changes once it is read.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::model::Switches;
use crate::ota::Operation;

/// The module a package or device group belongs to when the file names none.
const DEFAULT_MODULE: &str = "default";

/// A fleet file, read and checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fleet {
    /// Who may call.
    pub accounts: Vec<Account>,
    /// Products with their devices.
    pub products: Vec<Product>,
    /// Update packages.
    #[serde(default)]
    pub firmware: Vec<Firmware>,
    /// Conduct that the vendor's documents leave open.
    #[serde(default)]
    pub switches: Switches,
}

/// One cloud account: a key pair, its quota, and the instance it works in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// `AccessKeyId`.
    pub access_key_id: String,
    /// The secret that signs. Invented: a simulated cloud holds no real ones.
    pub access_key_secret: String,
    /// The `IotInstanceId` that calls must carry; empty means an old-style public instance, and they must carry none.
    #[serde(default)]
    pub instance_id: String,
    /// The region it works in: some features exist in some regions only.
    #[serde(default = "shanghai")]
    pub region: String,
    /// Whose quota it spends: keys with the same value share one. Absent: its own.
    pub account_id: Option<String>,
    /// The STS token that calls must carry.
    pub security_token: Option<String>,
    /// Whether that token has expired.
    #[serde(default)]
    pub security_token_expired: bool,
    /// Whether the key is disabled.
    #[serde(default)]
    pub inactive: bool,
    /// Operations that its RAM policy does not allow.
    #[serde(default)]
    pub denied: Vec<String>,
}

/// A product and its devices.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Product {
    /// `ProductKey`.
    pub product_key: String,
    /// Device groups of this file: devices that are alike.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Device groups of the platform, which jobs may name as their target.
    #[serde(default)]
    pub platform_groups: Vec<PlatformGroup>,
}

/// A device group of the platform.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlatformGroup {
    /// `GroupId`.
    pub id: String,
    /// `GroupName`.
    #[serde(default)]
    pub name: String,
    /// Whether `GroupType` is `LINK_PLATFORM_DYNAMIC`, for dynamic jobs, in place of `LINK_PLATFORM`, for static ones.
    #[serde(default)]
    pub dynamic: bool,
}

/// Devices that are alike. Either `prefix` and `count`, or `names`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Names are the prefix and an index from 0, padded with zeros to the width of the last one.
    pub prefix: Option<String>,
    /// How many devices the prefix stands for.
    pub count: Option<u32>,
    /// Names written out.
    pub names: Option<Vec<String>>,
    /// The version they run at first.
    pub version: String,
    /// The module that version is of.
    #[serde(default = "default_module")]
    pub module: String,
    /// Further modules and the versions they run at first.
    #[serde(default)]
    pub modules: BTreeMap<String, String>,
    /// The platform groups they belong to.
    #[serde(default)]
    pub member_of: Vec<String>,
    /// They join the product between these fleet minutes, least and most, after the clock's start; absent: at once.
    pub joins_after: Option<[f64; 2]>,
    /// Versions that they report by themselves later.
    #[serde(default)]
    pub reports: Vec<Report>,
    /// How soon they ask for an update that is not pushed, at most, in fleet minutes; absent: never.
    pub asks_within: Option<f64>,
    /// The share that is reachable, 0..1; the others are offline.
    #[serde(default = "whole")]
    pub online: f64,
    /// From push to end, least and most, in fleet minutes.
    #[serde(default = "usual_minutes")]
    pub minutes: [f64; 2],
    /// The share of updates that fail, 0..1.
    #[serde(default)]
    pub failure_rate: f64,
    /// The share that is pushed to and never reports anything, 0..1.
    #[serde(default)]
    pub silent_rate: f64,
    /// The share that starts to report progress and then stops for ever, 0..1: these time out, where a timeout is set.
    #[serde(default)]
    pub hang_rate: f64,
}

/// A version that a group's devices report by themselves, as after a visit of a technician.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// When, in fleet minutes after the clock's start.
    pub after: f64,
    /// What they run from then on.
    pub version: String,
    /// The module it is of.
    #[serde(default = "default_module")]
    pub module: String,
}

/// A file of a package.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// An update package.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Firmware {
    /// `FirmwareId`.
    pub id: String,
    /// Its product.
    pub product_key: String,
    /// `DestVersion`.
    pub version: String,
    /// `ModuleName`.
    #[serde(default = "default_module")]
    pub module: String,
    /// Whether it must be verified before upgrade jobs; false gives Status −1.
    #[serde(default = "yes")]
    pub need_to_verify: bool,
    /// In place of the groups' failure rate.
    pub failure_rate: Option<f64>,
    /// In place of the groups' silent rate.
    pub silent_rate: Option<f64>,
    /// Makes it a differential package that upgrades from this version only.
    pub src_version: Option<String>,
    /// `FirmwareName`; absent: made of module and version.
    pub name: Option<String>,
    /// `FirmwareSize`, in bytes.
    #[serde(default = "usual_size")]
    pub size: u64,
    /// Its files, where it has more than one.
    #[serde(default)]
    pub files: Vec<File>,
}

/// Why a fleet file is refused.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Not YAML, or not of this shape.
    #[error("{0}")]
    Syntax(String),
    /// A value that makes no sense, by the name of its field.
    #[error("{field}: {why}")]
    Field {
        /// The path of the field, such as `products[0].groups[1].online`.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

fn default_module() -> String {
    DEFAULT_MODULE.to_owned()
}

fn shanghai() -> String {
    "cn-shanghai".to_owned()
}

const fn usual_size() -> u64 {
    900
}

const fn whole() -> f64 {
    1.0
}

const fn yes() -> bool {
    true
}

const fn usual_minutes() -> [f64; 2] {
    [2.0, 6.0]
}

impl Fleet {
    /// Reads and checks a fleet file.
    pub fn parse(text: &str) -> Result<Self, FleetError> {
        let fleet: Self = serde_yaml::from_str(text).map_err(|e| FleetError::Syntax(e.to_string()))?;
        fleet.check()?;
        Ok(fleet)
    }

    /// Whether the file's values agree with each other.
    pub fn check(&self) -> Result<(), FleetError> {
        let mut keys = BTreeSet::new();
        for (i, account) in self.accounts.iter().enumerate() {
            filled(&account.access_key_id, || format!("accounts[{i}].accessKeyId"))?;
            filled(&account.access_key_secret, || format!("accounts[{i}].accessKeySecret"))?;
            if let Some(stranger) = account.denied.iter().find(|name| Operation::from_name(name).is_none()) {
                return bad(format!("accounts[{i}].denied"), &format!("{stranger} is no operation of this cloud"));
            }
            if !keys.insert(&account.access_key_id) {
                return bad(format!("accounts[{i}].accessKeyId"), "is given twice");
            }
        }
        let mut products = BTreeSet::new();
        for (i, product) in self.products.iter().enumerate() {
            filled(&product.product_key, || format!("products[{i}].productKey"))?;
            if !products.insert(product.product_key.as_str()) {
                return bad(format!("products[{i}].productKey"), "is given twice; give it one list of groups");
            }
            let mut platform = BTreeSet::new();
            for (j, group) in product.platform_groups.iter().enumerate() {
                filled(&group.id, || format!("products[{i}].platformGroups[{j}].id"))?;
                if !platform.insert(&group.id) {
                    return bad(format!("products[{i}].platformGroups[{j}].id"), "is given twice");
                }
            }
            let mut names = BTreeSet::new();
            for (j, group) in product.groups.iter().enumerate() {
                let at = format!("products[{i}].groups[{j}]");
                group.check(&at)?;
                if let Some(stranger) = group.member_of.iter().find(|id| !platform.contains(id)) {
                    let why = format!("{stranger} is not among the product's platformGroups");
                    return bad(format!("{at}.memberOf"), &why);
                }
                for k in 0..group.len() {
                    let name = group.name(k);
                    if names.contains(&name) {
                        return bad(at, &format!("device {name} is already in this product"));
                    }
                    names.insert(name);
                }
            }
        }
        let (mut ids, mut versions) = (BTreeSet::new(), BTreeSet::new());
        for (i, firmware) in self.firmware.iter().enumerate() {
            let at = |field: &str| format!("firmware[{i}].{field}");
            filled(&firmware.id, || at("id"))?;
            filled(&firmware.version, || at("version"))?;
            filled(&firmware.module, || at("module"))?;
            if !ids.insert(&firmware.id) {
                return bad(at("id"), "is given twice");
            }
            if !products.contains(firmware.product_key.as_str()) {
                return bad(at("productKey"), "names no product of this file");
            }
            if !versions.insert((&firmware.product_key, &firmware.module, &firmware.version)) {
                return bad(at("version"), "is given twice for one product and module");
            }
            if firmware.src_version.as_ref() == Some(&firmware.version) {
                return bad(at("srcVersion"), "equals version");
            }
            share(firmware.failure_rate.unwrap_or(0.0), || at("failureRate"))?;
            share(firmware.silent_rate.unwrap_or(0.0), || at("silentRate"))?;
        }
        self.switches.check().or_else(|why| bad("switches".to_owned(), &why))
    }
}

impl Account {
    /// The name of the quota it spends.
    pub fn whose_quota(&self) -> &str {
        self.account_id.as_deref().unwrap_or(&self.access_key_id)
    }
}

impl Group {
    /// How many devices it has.
    pub fn len(&self) -> u32 {
        match &self.names {
            Some(names) => u32::try_from(names.len()).unwrap_or(u32::MAX),
            None => self.count.unwrap_or(0),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of its device at an index.
    pub fn name(&self, index: u32) -> String {
        match &self.names {
            Some(names) => names.get(index as usize).cloned().unwrap_or_default(),
            None => format!("{}{index:0width$}", self.prefix.as_deref().unwrap_or_default(), width = self.width()),
        }
    }

    /// The index of the device with this name.
    pub fn index(&self, name: &str) -> Option<u32> {
        if let Some(names) = &self.names {
            return names.iter().position(|n| n == name).and_then(|i| u32::try_from(i).ok());
        }
        let digits = name.strip_prefix(self.prefix.as_deref()?)?;
        if digits.len() != self.width() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().filter(|index| *index < self.len())
    }

    fn width(&self) -> usize {
        self.len().saturating_sub(1).to_string().len()
    }

    fn check(&self, at: &str) -> Result<(), FleetError> {
        match (&self.prefix, self.count, &self.names) {
            (Some(_), Some(count), None) if count > 0 => {}
            (None, None, Some(names)) if !names.is_empty() && names.iter().all(|n| !n.is_empty()) => {}
            (Some(_), Some(_), None) => return bad(format!("{at}.count"), "must be at least 1"),
            (None, None, Some(_)) => return bad(format!("{at}.names"), "must hold names that are not empty"),
            (Some(_), None, None) => return bad(format!("{at}.count"), "is missing beside prefix"),
            (None, Some(_), None) => return bad(format!("{at}.prefix"), "is missing beside count"),
            _ => return bad(at.to_owned(), "give either prefix and count, or names"),
        }
        filled(&self.version, || format!("{at}.version"))?;
        filled(&self.module, || format!("{at}.module"))?;
        share(self.online, || format!("{at}.online"))?;
        share(self.failure_rate, || format!("{at}.failureRate"))?;
        share(self.silent_rate, || format!("{at}.silentRate"))?;
        share(self.hang_rate, || format!("{at}.hangRate"))?;
        let [least, most] = self.minutes;
        if !(least > 0.0 && least <= most && most.is_finite()) {
            return bad(format!("{at}.minutes"), "must be [least, most], above 0 and in this order");
        }
        if let Some([least, most]) = self.joins_after
            && !(least >= 0.0 && least <= most && most.is_finite())
        {
            return bad(format!("{at}.joinsAfter"), "must be [least, most], not below 0 and in this order");
        }
        if self.asks_within.is_some_and(|minutes| !(minutes > 0.0 && minutes.is_finite())) {
            return bad(format!("{at}.asksWithin"), "must be above 0");
        }
        for (module, version) in &self.modules {
            filled(module, || format!("{at}.modules"))?;
            filled(version, || format!("{at}.modules.{module}"))?;
        }
        if self.modules.contains_key(&self.module) {
            return bad(format!("{at}.modules"), "repeats the group's module");
        }
        for (k, report) in self.reports.iter().enumerate() {
            let at = |field: &str| format!("{at}.reports[{k}].{field}");
            filled(&report.version, || at("version"))?;
            if !(report.after >= 0.0 && report.after.is_finite()) {
                return bad(at("after"), "must not be below 0");
            }
            if report.module != self.module && !self.modules.contains_key(&report.module) {
                return bad(at("module"), "is none of the group's modules");
            }
        }
        Ok(())
    }
}

fn bad<T>(field: String, why: &str) -> Result<T, FleetError> {
    Err(FleetError::Field { field, why: why.to_owned() })
}

fn filled(text: &str, field: impl Fn() -> String) -> Result<(), FleetError> {
    if text.is_empty() { bad(field(), "must not be empty") } else { Ok(()) }
}

fn share(rate: f64, field: impl Fn() -> String) -> Result<(), FleetError> {
    if (0.0..=1.0).contains(&rate) { Ok(()) } else { bad(field(), "must be between 0 and 1") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the design, word for word.
    const EXAMPLE: &str = r#"
accounts: [{accessKeyId: testAccessKeyId, accessKeySecret: testAccessKeySecret, instanceId: ""}]
products:
- productKey: a1Le6d0abcd
  groups:
  - {prefix: dev-, count: 10000, version: "3.2.0", module: default, online: 0.99, minutes: [2, 6], failureRate: 0.002, silentRate: 0.001}
  - {names: [lab-001, lab-002, lab-003], version: "3.2.0", online: 1}
firmware:
- {id: nx3xxVvFdwvn6dim50PY030100, productKey: a1Le6d0abcd, version: "4.0.0", module: default, needToVerify: true}
- {id: badbadbadbadbadbadba030100, productKey: a1Le6d0abcd, version: "4.0.1-bad", needToVerify: false, failureRate: 0.2}
"#;

    #[test]
    fn reads_the_example_and_names_its_devices() {
        let fleet = Fleet::parse(EXAMPLE).unwrap();
        let groups = &fleet.products[0].groups;
        assert_eq!((groups[0].name(0).as_str(), groups[0].name(9999).as_str()), ("dev-0000", "dev-9999"));
        assert_eq!(groups[0].index("dev-0042"), Some(42));
        assert_eq!(groups[0].index("dev-42"), None);
        assert_eq!(groups[0].index("dev-+042"), None);
        assert_eq!(groups[1].index("lab-003"), Some(2));
        assert_eq!((groups[1].minutes, groups[1].module.as_str()), ([2.0, 6.0], "default"));
        assert!(fleet.firmware[0].need_to_verify);
        assert_eq!(fleet.firmware[1].failure_rate, Some(0.2));
    }

    #[test]
    fn refusals_name_the_field() {
        let group = "{prefix: dev-, count: 10000, version: \"3.2.0\", module: default, online: 0.99, minutes: [2, 6], \
                     failureRate: 0.002, silentRate: 0.001}";
        assert!(EXAMPLE.contains(group));
        for (replacement, expected) in [
            ("{prefix: dev-, count: 0, version: v}", "products[0].groups[0].count: must be at least 1"),
            ("{prefix: dev-, version: v}", "products[0].groups[0].count: is missing"),
            ("{count: 3, version: v}", "products[0].groups[0].prefix: is missing"),
            ("{version: v}", "products[0].groups[0]: give either"),
            ("{names: [], version: v}", "products[0].groups[0].names: must hold names"),
            ("{names: [a], version: v, online: 1.5}", "products[0].groups[0].online: must be between"),
            ("{names: [a], version: v, hangRate: -1}", "products[0].groups[0].hangRate: must be between"),
            ("{names: [a], version: v, minutes: [6, 2]}", "products[0].groups[0].minutes: must be"),
            ("{names: [lab-002], version: v}", "products[0].groups[1]: device lab-002 is already"),
            ("{names: [a], version: v, memberOf: [g]}", "products[0].groups[0].memberOf: g is not among"),
            ("{names: [a], version: v, joinsAfter: [2, 1]}", "products[0].groups[0].joinsAfter: must be"),
            ("{names: [a], version: v, asksWithin: 0}", "products[0].groups[0].asksWithin: must be above"),
            ("{names: [a], version: v, modules: {default: v}}", "products[0].groups[0].modules: repeats"),
            ("{names: [a], version: v, modules: {mcu: \"\"}}", "products[0].groups[0].modules.mcu: must not"),
            ("{names: [a], version: v, reports: [{after: -1, version: w}]}", "reports[0].after: must not"),
            ("{names: [a], version: v, reports: [{after: 1, version: w, module: x}]}", "reports[0].module: is none"),
            ("{names: [a], version: v, colour: red}", "colour"),
            ("{names: [a]}", "version"),
        ] {
            let error = Fleet::parse(&EXAMPLE.replace(group, replacement)).unwrap_err().to_string();
            assert!(error.contains(expected), "{replacement}: {error}");
        }
        for (from, to, expected) in [
            ("badbadbadbadbadbadba030100", "nx3xxVvFdwvn6dim50PY030100", "firmware[1].id: is given twice"),
            ("4.0.1-bad", "4.0.0", "firmware[1].version: is given twice"),
            (
                "productKey: a1Le6d0abcd, version: \"4.0.0\"",
                "productKey: x, version: v",
                "firmware[0].productKey: names",
            ),
            ("accessKeySecret: testAccessKeySecret", "accessKeySecret: \"\"", "accounts[0].accessKeySecret: must not"),
            ("instanceId: \"\"", "denied: [Fly]", "accounts[0].denied: Fly is no operation"),
        ] {
            let error = Fleet::parse(&EXAMPLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{from}: {error}");
        }
    }

    #[test]
    fn switches_may_be_set_in_the_file() {
        let fleet = Fleet::parse(&format!("{EXAMPLE}switches: {{nonce: any, tagsListed: false}}\n")).unwrap();
        assert_eq!(fleet.switches.nonce, crate::cloud::model::NonceBurnedBy::Any);
        assert!(!fleet.switches.tags_listed);
        assert!(Fleet::parse(&format!("{EXAMPLE}switches: {{nonsense: true}}\n")).is_err());
    }
}
