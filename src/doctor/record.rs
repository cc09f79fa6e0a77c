//! The account on the API server: read once, and its `status.doctor` written once.
//!
//! By a field manager of its own: the controller applies the rest of the status, and neither takes away what is the
//! other's. Nothing else of an account is written here.

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::json;

use crate::api::account::Diagnosis;
use crate::api::{DOCTOR_FIELD_MANAGER, OTAAccount};
use crate::controller::accounts::API_TIMEOUT;

use super::Order;

/// Reads the account.
///
/// # Errors
/// A sentence that says why not.
pub async fn read(kube: &kube::Client, order: &Order) -> Result<OTAAccount, String> {
    let accounts: Api<OTAAccount> = Api::namespaced(kube.clone(), &order.namespace);
    match tokio::time::timeout(API_TIMEOUT, accounts.get_opt(&order.account)).await {
        Ok(Ok(Some(account))) => Ok(account),
        Ok(Ok(None)) => Err("there is none of this name in this namespace".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server did not answer in time".to_owned()),
    }
}

/// Writes what was found.
///
/// # Errors
/// A sentence that says why not.
pub async fn write(
    kube: &kube::Client,
    order: &Order,
    account: &OTAAccount,
    diagnosis: &Diagnosis,
) -> Result<(), String> {
    let accounts: Api<OTAAccount> = Api::namespaced(kube.clone(), &order.namespace);
    let body = json!({
        "apiVersion": OTAAccount::api_version(&()),
        "kind": OTAAccount::kind(&()),
        // The uid: what was found is not of an account that was made anew under the same name meanwhile.
        "metadata": {"name": order.account, "namespace": order.namespace, "uid": account.metadata.uid},
        "status": {"doctor": diagnosis},
    });
    let params = PatchParams::apply(DOCTOR_FIELD_MANAGER).force();
    match tokio::time::timeout(API_TIMEOUT, accounts.patch_status(&order.account, &params, &Patch::Apply(&body))).await
    {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server did not answer in time".to_owned()),
    }
}
