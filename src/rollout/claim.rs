//! Claims: the promise of one create, written before it is sent, and the request that is made from it alone.
//!
//! The create calls take no idempotency token, and an answer can be lost (ota-api: section 12). So the claim carries
//! the whole call; its tag finds the job again, and its nonce and timestamp make a repetition byte-identical.

use crate::api::status::{Call, Claim, DeviceList};
use crate::api::{Signature, Time};
use crate::ota::{Operation, Params, Request, Sender, Stamp};

use super::revision;
use crate::sabotage::{Bad, on};

/// Which create, among all that a rollout may ever send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    /// `metadata.uid`: a re-created object is another owner.
    pub uid: &'a str,
    /// `status.run`.
    pub run: i64,
    /// Stage name.
    pub stage: &'a str,
    /// Attempt of the stage.
    pub attempt: i32,
    /// Part of the attempt.
    pub part: i32,
}

/// The value of the tag `fota.id`: 26 characters of base 32, opaque and the same for every epoch of a part.
pub fn token(part: &Part) -> String {
    const DIGITS: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v',
        'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
    ];
    let (run, attempt, number) = (part.run.to_string(), part.attempt.to_string(), part.part.to_string());
    let number = if on(Bad::TokenWithoutPart) { String::new() } else { number };
    let hash = revision::sha256(["token", part.uid, run.as_str(), part.stage, attempt.as_str(), number.as_str()]);
    let (mut text, mut bits, mut held) = (String::new(), 0u32, 0u32);
    // 17 bytes hold the 130 bits of 26 characters.
    for byte in hash.into_iter().take(17) {
        bits = (bits << 8) | u32::from(byte);
        held += 8;
        while held >= 5 && text.len() < 26 {
            held -= 5;
            text.extend(DIGITS.get(((bits >> held) & 31) as usize));
        }
        bits &= (1 << held) - 1;
    }
    text
}

/// `SignatureNonce` of a claim: the same for whoever executes it, so that the gateway refuses a second copy.
pub fn nonce(token: &str, epoch: i32) -> String {
    revision::hex(["nonce", token, epoch.to_string().as_str()], 16)
}

/// Digest of device names in order.
pub fn device_list(names: &[String]) -> Option<DeviceList> {
    let count = i32::try_from(names.len()).ok().filter(|n| *n > 0)?;
    Some(DeviceList { count, digest: revision::hex(names.iter().map(String::as_str), 16) })
}

/// Who may send a call: by anybody else's keys it would be another request, which no gateway takes for a copy.
pub fn sender(call: &Call) -> Sender {
    Sender { endpoint: call.endpoint.clone(), region: call.region.clone(), access_key: call.access_key.clone() }
}

/// The request that a claim means, from the claim alone plus the names that reproduce its digest: those of a list file
/// go beside the parameters. None: they do not, or the claim was written by a version that knew other operations.
pub fn request(claim: &Claim, devices: &[String]) -> Option<Request> {
    let operation = Operation::from_name(&claim.call.operation)?;
    if device_list(devices) != claim.call.devices {
        return None;
    }
    let mut parameters: Params = claim.call.parameters.clone();
    let list = claim.call.list_file.then(|| devices.into());
    if list.is_none() {
        let names = (1..).zip(devices).map(|(n, name)| (format!("TargetDeviceName.{n}"), name.clone()));
        parameters.extend(names);
    }
    Some(Request {
        operation,
        parameters,
        list,
        stamp: Some(Stamp {
            nonce: nonce(&claim.token, claim.epoch),
            at: claim.at.0,
            signature: claim.call.signature.unwrap_or(Signature::V1),
            sender: sender(&claim.call),
        }),
    })
}

/// `claim.at` for an instant: whole seconds, because the wire has no finer ones.
pub fn at(now: jiff::Timestamp) -> Time {
    Time::whole_seconds(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_coordinate_makes_another_token() {
        let base = Part { uid: "u", run: 1, stage: "canary", attempt: 1, part: 1 };
        let all = [
            base.clone(),
            Part { uid: "v", ..base.clone() },
            Part { run: 2, ..base.clone() },
            Part { stage: "broad", ..base.clone() },
            Part { attempt: 2, ..base.clone() },
            Part { part: 2, ..base.clone() },
        ];
        let tokens: BTreeSet<_> = all.iter().map(token).collect();
        assert_eq!(tokens.len(), all.len());
        assert!(tokens.iter().all(|t| t.len() == 26 && t.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))));
        assert_eq!(token(&base), token(&base));
    }

    #[test]
    fn what_is_kept_in_claims_and_clouds_never_changes_with_a_version() {
        // Worked out apart: base 32 and hex of SHA-256 over the parts, each with its length before it.
        let part = Part { uid: "u", run: 1, stage: "canary", attempt: 1, part: 1 };
        assert_eq!(token(&part), "a65i3iowdmylqgar4twfd4ohmq");
        assert_eq!(nonce(&token(&part), 1), "1321f6a85e4c8cde0ef0cabc84235aa3");
        let names = ["dev-1".to_owned(), "dev-2".to_owned()];
        let digest = "235f4a63ff8beb9d009079f86a425c99".to_owned();
        assert_eq!(device_list(&names), Some(DeviceList { count: 2, digest }));
    }

    #[test]
    fn a_nonce_changes_with_the_epoch_only() {
        assert_eq!(nonce("t", 1), nonce("t", 1));
        assert_ne!(nonce("t", 1), nonce("t", 2));
        assert_eq!(nonce("t", 1).len(), 32);
    }

    #[test]
    fn names_must_reproduce_the_digest() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert_ne!(device_list(&names), device_list(&["ab".to_owned()]));
        assert_ne!(device_list(&names), device_list(&["b".to_owned(), "a".to_owned()]));
        assert_eq!(device_list(&[]), None);
    }
}
