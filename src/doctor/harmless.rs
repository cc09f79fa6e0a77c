//! Requests that surely have no effect. Reads have none by their nature; of creates and cancels it is argued here, for
//! each one, why it cannot have any. A request that could change something never comes in.

use crate::api::Signature;
use crate::ota::calls::CallContext;
use crate::ota::client::fresh_nonce;
use crate::ota::{Operation, Request, Sender, Stamp};

/// Ids and names that nothing in the cloud has. The cloud draws its own ids, and nobody has ever seen the 128 random
/// bits in these; a person's device could only be called so by somebody who copied it from this very run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nothing(String);

impl Nothing {
    /// Draws them anew.
    pub fn draw() -> Self {
        Self(format!("fota-doctor-none-{}", fresh_nonce()))
    }

    /// A request of one of the [`ACTIONS`]: answered by the product where the account may call it, refused for lack of
    /// permission where it may not. None for any other operation.
    pub fn request(&self, ctx: &CallContext, product_key: &str, operation: Operation) -> Option<Request> {
        let id = || self.0.clone();
        Some(match operation {
            // Reads. An id that there is not is refused by the product, which shows that RAM let the call through.
            Operation::QueryOTAJob => ctx.request(operation, [("JobId", id())]),
            Operation::QueryOTAFirmware => ctx.request(operation, [("FirmwareId", id())]),
            Operation::ListOTATaskByJob => {
                ctx.request(operation, [("JobId", id()), ("CurrentPage", one()), ("PageSize", one())])
            }
            Operation::ListOTAJobByFirmware => {
                ctx.request(operation, [("FirmwareId", id()), ("CurrentPage", one()), ("PageSize", one())])
            }
            Operation::ListOTAFirmware => ctx.request(operation, [("CurrentPage", one()), ("PageSize", one())]),
            // A verify job is made of a package and of named devices of its product (ota-api: section 2). Here neither
            // exists: even a cloud that overlooked one of the two would have nothing to make a task of.
            Operation::CreateOTAVerifyJob => {
                let own = [("FirmwareId", id()), ("ProductKey", product_key.to_owned()), ("TargetDeviceName.1", id())];
                ctx.request(operation, own)
            }
            // As above, and by name on purpose: with SPECIFIC the cloud takes the devices that are named and no others
            // (section 3.1). ALL and GRAY, which draw devices from the product, are never sent.
            Operation::CreateOTAStaticUpgradeJob => {
                let own = [
                    ("FirmwareId", id()),
                    ("ProductKey", product_key.to_owned()),
                    ("TargetSelection", "SPECIFIC".to_owned()),
                    ("TargetDeviceName.1", id()),
                ];
                ctx.request(operation, own)
            }
            // There is no such job to cancel tasks of. And of a job that there were, only tasks that wait for the time
            // of a schedule would be meant, which no job of a rollout has (section 6.9: of any other job the whole call
            // is refused).
            Operation::CancelOTATaskByJob => {
                let own = [
                    ("JobId", id()),
                    ("CancelScheduledTask", true.to_string()),
                    ("CancelQueuedTask", false.to_string()),
                    ("CancelNotifiedTask", false.to_string()),
                    ("CancelInProgressTask", false.to_string()),
                    ("CancelUnconfirmedTask", false.to_string()),
                ];
                ctx.request(operation, own)
            }
            // A policy gives a package to devices of named versions (section 4). There is no such package, and should a cloud
            // make a policy all the same, no device has or will ever have the version; and the policy is ended at once.
            Operation::CreateOTADynamicUpgradeJob => {
                let own = [("FirmwareId", id()), ("ProductKey", product_key.to_owned()), ("SrcVersion.1", id())];
                ctx.request(operation, own)
            }
            // There is no such policy to end.
            Operation::CancelOTAStrategyByJob => ctx.request(operation, [("JobId", id())]),
            // Rollouts do not call it: of what nobody has argued here that it has no effect, nothing is sent.
            _ => return None,
        })
    }
}

/// The actions that rollouts call.
pub const ACTIONS: [Operation; 10] = [
    Operation::CreateOTAVerifyJob,
    Operation::CreateOTAStaticUpgradeJob,
    Operation::CreateOTADynamicUpgradeJob,
    Operation::QueryOTAJob,
    Operation::ListOTATaskByJob,
    Operation::ListOTAJobByFirmware,
    Operation::QueryOTAFirmware,
    Operation::ListOTAFirmware,
    Operation::CancelOTATaskByJob,
    Operation::CancelOTAStrategyByJob,
];

/// Who sends, and how it is signed.
#[derive(Debug, Clone)]
pub struct Sending {
    /// Whose requests go where.
    pub sender: Sender,
    /// How they are signed.
    pub signature: Signature,
}

/// A read with a nonce and a timestamp of its own, to be sent twice.
pub fn stamped(request: Request, at: jiff::Timestamp, by: &Sending) -> Request {
    let Sending { sender, signature } = by.clone();
    Request { stamp: Some(Stamp { nonce: fresh_nonce(), at, signature, sender }), ..request }
}

fn one() -> String {
    "1".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What may not be in a request that creates or cancels: anything that exists.
    #[test]
    fn whatever_changes_something_names_nothing_that_exists() {
        let (nothing, ctx) = (Nothing::draw(), CallContext { instance_id: Some("iot-1".into()) });
        for operation in Operation::ALL {
            let request = nothing.request(&ctx, "pk", *operation);
            assert_eq!(request.is_some(), ACTIONS.contains(operation), "{operation}");
            let Some(request) = request else { continue };
            let get = |name: &str| request.parameters.get(name).map(String::as_str);
            assert_eq!((request.operation, get("IotInstanceId")), (*operation, Some("iot-1")));
            let of_nothing = |name: &str| get(name) == Some(nothing.0.as_str());
            if operation.creates() {
                let target = of_nothing("TargetDeviceName.1") || of_nothing("SrcVersion.1");
                assert!(of_nothing("FirmwareId") && target, "{operation}");
                assert_eq!((get("GroupId"), get("SrcVersion.2")), (None, None), "{operation}");
                assert_eq!(get("TargetDeviceName.2"), None);
                assert!(get("TargetSelection").is_none_or(|selection| selection == "SPECIFIC"));
            }
            if operation.name().starts_with("Cancel") {
                assert!(of_nothing("JobId"), "{operation}");
                let taken: Vec<_> = request.parameters.iter().filter(|(_, v)| *v == "true").map(|(k, _)| k).collect();
                let flags =
                    if *operation == Operation::CancelOTATaskByJob { &["CancelScheduledTask"][..] } else { &[] };
                assert_eq!(taken, flags, "{operation}");
            }
        }
        assert_ne!(Nothing::draw(), Nothing::draw());
    }
}
