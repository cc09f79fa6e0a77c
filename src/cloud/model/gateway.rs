//! The gateway in front of the product: who calls, is the call genuine, fresh, known, complete and within quota.
//!
//! Here belong the checks that are the same for every operation, in their order of precedence. It runs on the wall
//! clock alone and knows nothing of packages, jobs or devices.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::Call;
use super::answer::Refusal;
use super::parameters::Given;
use super::switches::{DeniedBy, NonceBurnedBy, Switches};
use crate::cloud::fleet::Account;
use crate::ota::Operation;
use crate::ota::sign::canonical_query;
use crate::ota::sign::v1::{string_to_sign, verify};

/// How far a Timestamp may be off, and how long a nonce is remembered.
const FRESH_MS: i64 = 15 * 60 * 1000;
const VERSION: &str = "2018-01-20";

/// The gateway and what it remembers.
#[derive(Debug)]
pub(super) struct Gateway {
    callers: BTreeMap<String, Caller>,
}

#[derive(Debug)]
struct Caller {
    account: Account,
    nonces: Nonces,
    /// Per operation, the wall second last called in and how often.
    used: BTreeMap<Operation, (i64, u32)>,
}

/// Nonces seen, each until it may be used again, and the order in which that happens.
#[derive(Debug, Default)]
struct Nonces {
    until: BTreeMap<String, i64>,
    order: VecDeque<(i64, String)>,
}

/// A call that the gateway lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) operation: Operation,
    pub(super) instance_id: String,
}

impl Gateway {
    pub(super) fn new(accounts: &[Account]) -> Self {
        let caller = |a: &Account| Caller { account: a.clone(), nonces: Nonces::default(), used: BTreeMap::new() };
        Self { callers: accounts.iter().map(|a| (a.access_key_id.clone(), caller(a))).collect() }
    }

    /// Lets a call through or says why not.
    pub(super) fn admit(
        &mut self,
        call: &Call,
        given: &Given<'_>,
        wall: Timestamp,
        switches: &Switches,
    ) -> Result<Pass, Refusal> {
        // The simulated cloud speaks JSON only; the real default is XML, so silence would hide a client's omission.
        if !given.text("Format").eq_ignore_ascii_case("JSON") {
            return Err(Refusal::gateway(400, "UnsupportedParameter", "This cloud answers Format=JSON only."));
        }
        let key = required(given, "AccessKeyId")?;
        let unknown = || Refusal::gateway(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.");
        let caller = self.callers.get_mut(key).ok_or_else(unknown)?;
        if !switches.unsigned {
            genuine(call, given, &caller.account.access_key_secret)?;
        }
        let now = wall.as_millisecond();
        if !switches.unsigned || given.get("Timestamp").is_some() {
            fresh(required(given, "Timestamp")?, now)?;
        }
        if !switches.unsigned || given.get("SignatureNonce").is_some() {
            let nonce = required(given, "SignatureNonce")?;
            if switches.nonce != NonceBurnedBy::Never && caller.nonces.knows(nonce, now) {
                let message = "Specified signature nonce was used already.";
                return Err(Refusal::gateway(400, "SignatureNonceUsed", message));
            }
            if switches.nonce == NonceBurnedBy::Any {
                caller.nonces.burn(nonce, now);
            }
        }
        if required(given, "Version")? != VERSION {
            return Err(Refusal::gateway(400, "NoSuchVersion", "Specified version is not found."));
        }
        let no_api = || {
            let message = "Specified api is not found, please check your url and method.";
            Refusal::gateway(404, "InvalidApi.NotFound", message)
        };
        let operation = Operation::from_name(required(given, "Action")?).ok_or_else(no_api)?;
        if caller.account.denied.iter().any(|denied| denied == operation.name()) {
            return Err(not_allowed(operation, switches.denied_by));
        }
        if let Some(absent) = mandatory(operation).iter().find(|name| !given.has(name)) {
            return Err(Refusal::missing(absent));
        }
        if switches.quotas {
            caller.spend(operation, now)?;
        }
        Ok(Pass { operation, instance_id: caller.account.instance_id.clone() })
    }

    /// The product layer carried the call out: under [`NonceBurnedBy::Accepted`] its nonce is used up now.
    pub(super) fn accepted(&mut self, given: &Given<'_>, wall: Timestamp, switches: &Switches) {
        if switches.nonce == NonceBurnedBy::Accepted
            && let Some(caller) = self.callers.get_mut(given.text("AccessKeyId"))
            && let Some(nonce) = given.get("SignatureNonce")
        {
            caller.nonces.burn(nonce, wall.as_millisecond());
        }
    }
}

impl Caller {
    /// Counts a call against its operation's quota in the current wall second.
    fn spend(&mut self, operation: Operation, now: i64) -> Result<(), Refusal> {
        let second = now.div_euclid(1000);
        let used = self.used.entry(operation).or_default();
        if used.0 != second {
            *used = (second, 0);
        }
        if used.1 >= operation.qps() {
            let rest = u64::try_from((second + 1) * 1000 - now).ok();
            return Err(Refusal::throttled(rest));
        }
        used.1 += 1;
        Ok(())
    }
}

impl Nonces {
    fn knows(&mut self, nonce: &str, now: i64) -> bool {
        while let Some((until, _)) = self.order.front()
            && *until <= now
        {
            if let Some((_, old)) = self.order.pop_front() {
                self.until.remove(&old);
            }
        }
        self.until.get(nonce).is_some_and(|until| *until > now)
    }

    fn burn(&mut self, nonce: &str, now: i64) {
        if self.until.insert(nonce.to_owned(), now + FRESH_MS).is_none() {
            self.order.push_back((now + FRESH_MS, nonce.to_owned()));
        }
    }
}

fn not_allowed(operation: Operation, by: DeniedBy) -> Refusal {
    let message = format!("You are not authorized to do this action: iot:{operation}.");
    match by {
        DeniedBy::Gateway => Refusal::gateway(403, "Forbidden.RAM", message),
        DeniedBy::Product => Refusal::product("iot.common.RamActionPermissionDeny", message),
    }
}

fn required<'a>(given: &Given<'a>, name: &str) -> Result<&'a str, Refusal> {
    given.get(name).filter(|value| !value.is_empty()).ok_or_else(|| Refusal::missing(name))
}

/// Whether the signature is the caller's.
fn genuine(call: &Call, given: &Given<'_>, secret: &str) -> Result<(), Refusal> {
    let method = required(given, "SignatureMethod")?;
    let version = required(given, "SignatureVersion")?;
    let claimed = required(given, "Signature")?;
    if !method.eq_ignore_ascii_case("HMAC-SHA1") || version != "1.0" {
        let message = "Only SignatureMethod HMAC-SHA1 and SignatureVersion 1.0 are known.";
        return Err(Refusal::gateway(400, "IncompleteSignature", message));
    }
    let pairs = call.pairs.iter().filter(|(k, _)| k != "Signature").map(|(k, v)| (k.as_str(), v.as_str()));
    let text = string_to_sign(&call.verb, &canonical_query(pairs));
    if verify(secret, &text, claimed) {
        return Ok(());
    }
    let message = format!("Specified signature is not matched with our calculation. server string to sign is:{text}");
    Err(Refusal::gateway(400, "SignatureDoesNotMatch", message))
}

/// Whether a Timestamp is well-formed and within 15 minutes of the wall clock.
fn fresh(text: &str, now: i64) -> Result<(), Refusal> {
    let plain = text.len() == "2018-01-20T00:00:00Z".len() && text.ends_with('Z');
    let parsed = plain.then(|| text.parse::<Timestamp>().ok()).flatten();
    let Some(at) = parsed else {
        let message = "Timestamp must be YYYY-MM-DDThh:mm:ssZ.";
        return Err(Refusal::gateway(400, "InvalidTimeStamp.Format", message));
    };
    if (at.as_millisecond() - now).abs() > FRESH_MS {
        let message = "Specified time stamp or date value is expired.";
        return Err(Refusal::gateway(400, "InvalidTimeStamp.Expired", message));
    }
    Ok(())
}

/// The operation's own mandatory parameters.
fn mandatory(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::CreateOTAVerifyJob => &["FirmwareId", "ProductKey", "TargetDeviceName"],
        Operation::CreateOTAStaticUpgradeJob => &["FirmwareId", "ProductKey", "TargetSelection"],
        Operation::QueryOTAJob | Operation::ListOTATaskByJob | Operation::CancelOTATaskByJob => &["JobId"],
        Operation::ListOTAJobByFirmware => &["FirmwareId", "CurrentPage", "PageSize"],
        Operation::QueryOTAFirmware => &["FirmwareId"],
        Operation::ListOTAFirmware => &["CurrentPage", "PageSize"],
        // Not offered: the product layer says so.
        _ => &[],
    }
}
