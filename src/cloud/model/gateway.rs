//! The gateway in front of the product: who calls, is the call genuine, fresh, known, complete and within quota.
//!
//! Here belong the checks that are the same for every operation, in their order of precedence. It runs on the wall
//! clock alone and knows nothing of packages, jobs or devices.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;

use super::answer::{Format, Refusal};
use super::call::{Call, Headers};
use super::operations::{mandatory, post_only, unsupported};
use super::parameters::Given;
use super::switches::{DeniedBy, NonceBurnedBy, Switches};
use crate::cloud::fleet::Account;
use crate::ota::Operation;
use crate::ota::sign::{canonical_query, v1, v3};

/// How far a Timestamp may be off, and how long a nonce is remembered.
const FRESH_MS: i64 = 15 * 60 * 1000;
const VERSION: &str = "2018-01-20";

/// The gateway and what it remembers.
#[derive(Debug)]
pub(super) struct Gateway {
    callers: BTreeMap<String, Caller>,
    /// What was spent, per cloud account.
    spent: Vec<Spent>,
}

#[derive(Debug)]
struct Caller {
    account: Account,
    nonces: Nonces,
    /// Which cloud account's quota it spends.
    quota: usize,
}

/// Per operation, the wall second last called in and how often.
#[derive(Debug, Default)]
struct Spent(BTreeMap<Operation, (i64, u32)>);

/// Nonces seen, each until it may be used again, and the order in which that happens.
#[derive(Debug, Default)]
struct Nonces {
    until: BTreeMap<String, i64>,
    order: VecDeque<(i64, String)>,
}

/// A call that the gateway lets through, and where it wants to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pass {
    pub(super) operation: Operation,
    pub(super) instance_id: String,
    pub(super) region: String,
}

impl Gateway {
    pub(super) fn new(accounts: &[Account]) -> Self {
        let whose: BTreeSet<&str> = accounts.iter().map(Account::whose_quota).collect();
        let caller = |a: &Account| {
            let quota = whose.range(..a.whose_quota()).count();
            (a.access_key_id.clone(), Caller { account: a.clone(), nonces: Nonces::default(), quota })
        };
        let callers = accounts.iter().map(caller).collect();
        Self { callers, spent: whose.iter().map(|_| Spent::default()).collect() }
    }

    /// Lets a call through or says why not.
    pub(super) fn admit(
        &mut self,
        call: &Call,
        given: &Given<'_>,
        wall: Timestamp,
        switches: &Switches,
    ) -> Result<Pass, Refusal> {
        if Format::wanted(given).is_none() {
            return Err(Refusal::unsupported("Format"));
        }
        let key = required(given, "AccessKeyId")?;
        let unknown = || Refusal::gateway(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.");
        let caller = self.callers.get_mut(key).ok_or_else(unknown)?;
        if caller.account.inactive {
            return Err(Refusal::gateway(400, "InvalidAccessKeyId.Inactive", "Specified access key is disabled."));
        }
        if !switches.unsigned {
            match &call.headers {
                None => genuine_v1(call, given, &caller.account.access_key_secret)?,
                Some(headers) => genuine_v3(call, headers, &caller.account.access_key_secret)?,
            }
            caller.session(given)?;
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
        if post_only(operation) && call.verb != "POST" {
            return Err(Refusal::gateway(403, "UnsupportedHTTPMethod", "This action takes POST only."));
        }
        if let Some(absent) = mandatory(operation).iter().find(|name| !given.has(name)) {
            return Err(Refusal::missing(absent));
        }
        if let Some(stray) = unsupported(operation).iter().find(|name| given.has(name)) {
            return Err(Refusal::unsupported(stray));
        }
        if switches.quotas
            && let Some(spent) = self.spent.get_mut(caller.quota)
        {
            spent.spend(operation, now, switches.throttle_status)?;
        }
        Ok(Pass { operation, instance_id: caller.account.instance_id.clone(), region: caller.account.region.clone() })
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
    /// Whether the STS token is the one that goes with the access key.
    fn session(&self, given: &Given<'_>) -> Result<(), Refusal> {
        let sent = given.text("SecurityToken");
        let own = self.account.security_token.as_deref().unwrap_or_default();
        let mismatch = "Specified SecurityToken does not match with specified AccessKeyId.";
        match (sent, own) {
            ("", "") => Ok(()),
            ("", _) => Err(Refusal::missing("SecurityToken")),
            (sent, own) if sent != own => {
                Err(Refusal::gateway(400, "InvalidSecurityToken.MismatchWithAccessKey", mismatch))
            }
            _ if self.account.security_token_expired => {
                Err(Refusal::gateway(400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired."))
            }
            _ => Ok(()),
        }
    }
}

impl Spent {
    /// Counts a call against an operation's quota in the current wall second.
    fn spend(&mut self, operation: Operation, now: i64, status: u16) -> Result<(), Refusal> {
        let second = now.div_euclid(1000);
        let used = self.0.entry(operation).or_default();
        if used.0 != second {
            *used = (second, 0);
        }
        if used.1 >= operation.qps() {
            let rest = u64::try_from((second + 1) * 1000 - now).ok();
            return Err(Refusal::throttled(status, rest));
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

/// Whether signature v1 is the caller's.
fn genuine_v1(call: &Call, given: &Given<'_>, secret: &str) -> Result<(), Refusal> {
    let method = required(given, "SignatureMethod")?;
    let version = required(given, "SignatureVersion")?;
    let claimed = required(given, "Signature")?;
    if !method.eq_ignore_ascii_case("HMAC-SHA1") || version != "1.0" {
        return Err(incomplete("Only SignatureMethod HMAC-SHA1 and SignatureVersion 1.0 are known."));
    }
    let text =
        v1::string_to_sign(&call.verb, &canonical_query(call_pairs(&call.pairs).filter(|(k, _)| *k != "Signature")));
    if v1::verify(secret, &text, claimed) { Ok(()) } else { Err(mismatch(&text)) }
}

/// Whether signature V3 is the caller's, and covers what it must.
fn genuine_v3(call: &Call, headers: &Headers, secret: &str) -> Result<(), Refusal> {
    let Some(claimed) = v3::Authorization::parse(&headers.authorization) else {
        return Err(incomplete("The Authorization header is missing, or not formatted as ACS3-HMAC-SHA256 is."));
    };
    let names: Vec<&str> = claimed.signed_headers.split(';').collect();
    let always =
        ["host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"];
    let sent = headers.all.iter().map(|(name, _)| name.as_str());
    let sent = sent.filter(|name| name.starts_with("x-acs-") || *name == "content-type");
    if let Some(unsigned) = always.into_iter().chain(sent).find(|name| !names.contains(name)) {
        return Err(incomplete(&format!("The header {unsigned} must be signed.")));
    }
    if let Some(absent) = names.iter().find(|name| headers.get(name).is_none()) {
        return Err(incomplete(&format!("The header {absent} is signed but was not sent.")));
    }
    let query = canonical_query(call_pairs(&headers.query));
    let signed = names.iter().filter_map(|name| Some((*name, headers.get(name)?)));
    let request = v3::canonical_request(&call.verb, "/", &query, signed, &headers.body_hash);
    let text = v3::string_to_sign(&request);
    let untouched = headers.get("x-acs-content-sha256").is_some_and(|hash| hash == headers.body_hash);
    if untouched && v3::verify(secret, &text, &claimed.signature) { Ok(()) } else { Err(mismatch(&text)) }
}

fn call_pairs(pairs: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()))
}

fn incomplete(why: &str) -> Refusal {
    Refusal::gateway(400, "IncompleteSignature", format!("The request signature does not conform to standards. {why}"))
}

/// The SDKs compare what follows the colon with their own text, and blame the secret when the two are equal.
fn mismatch(text: &str) -> Refusal {
    let message = format!("Specified signature is not matched with our calculation. server string to sign is:{text}");
    Refusal::gateway(400, "SignatureDoesNotMatch", message)
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
