//! `fota doctor`: which assumptions about the cloud hold on one account.
//!
//! Here belongs the examination: what is asked, what the answers mean, how it is told and kept. What a rollout does
//! with a finding never comes in: `controller::accounts` takes it from the account's status.
//!
//! [`examine`] asks and [`seen`] holds what was seen; [`judge`] and [`gray`] are pure and make findings of it;
//! [`record`] is the account on the API server, [`report`] the words for a person.

pub mod examine;
pub mod gray;
pub mod harmless;
pub mod history;
pub mod judge;
pub mod laboratory;
pub mod record;
pub mod report;
pub mod seen;
pub mod witness;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::api::Time;
use crate::clock;
use crate::controller::accounts::resolve;
use crate::controller::keys::{Keys, Rules};
use crate::ota::calls::CallContext;
use crate::ota::client::Client;
use crate::ota::endpoint::AllowedEndpoints;
use crate::ota::limits::Limits;
use crate::ota::quota::Quota;
use crate::ota::{DeviceName, FirmwareId};

use self::examine::Patient;
use self::harmless::Sending;
use self::laboratory::Leftover;
use self::report::Report;
use self::witness::Witness;

/// Share of the account's quota that an examination takes: a controller may be at work beside it.
const SHARE: f64 = 0.4;

/// What is to be examined.
#[derive(Debug, Clone)]
pub struct Order {
    /// Namespace of the OTAAccount.
    pub namespace: String,
    /// Its name.
    pub account: String,
    /// The product that rollouts are for.
    pub product_key: String,
    /// The package to look at, and to verify in the laboratory.
    pub firmware: Option<FirmwareId>,
    /// The device of the one verify job; none: no job is made.
    pub lab_device: Option<DeviceName>,
    /// Longest wait until that job is listed.
    pub list_timeout: Duration,
    /// Hosts that may be called.
    pub allowed: AllowedEndpoints,
}

/// Why there is no report, or it could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server does not say what the account is.
    #[error("OTAAccount {0}: {1}")]
    Account(String, String),
    /// Its Secret or its endpoint cannot be used.
    #[error("OTAAccount {0} cannot be used: {1}")]
    Unusable(String, String),
    /// Somebody said stop.
    #[error("stopped before the end, nothing was kept{0}")]
    Stopped(String),
    /// The findings are not in the account's status.
    #[error("the findings could not be kept in the status of OTAAccount {0}: {1}")]
    NotKept(String, String),
}

/// Examines an account and keeps what was found in its status. `announce` is called once before a verify job is made,
/// with what is about to happen; `stop` ends the examination, after the pending tasks of that job were cancelled.
///
/// The report comes with an error when it could not be kept.
///
/// # Errors
/// As [`Error`] says.
pub async fn run(
    kube: &kube::Client,
    order: &Order,
    announce: impl Fn(&str) + Send + Sync,
    stop: impl Future<Output = ()> + Send,
) -> Result<(Report, Option<Error>), Error> {
    let name = format!("{}/{}", order.namespace, order.account);
    let resource = record::read(kube, order).await.map_err(|why| Error::Account(name.clone(), why))?;
    // A person's own process: there is no identity of an operator to lend.
    let keys = Keys::new(Rules::without_own_identity(order.allowed.clone()));
    let resolved = resolve(kube, &keys, &order.namespace, &resource)
        .await
        .map_err(|trouble| Error::Unusable(name.clone(), trouble.message))?;
    let ctx = CallContext { instance_id: resolved.account.instance_id.clone() };
    let quota = Arc::new(Mutex::new(Quota::new(SHARE)));
    // Nobody's claim runs out meanwhile: a copy of a request may wait for its slot.
    let limits = Limits { patience: Duration::from_secs(60), ..Limits::default() };
    let client = Client::new(resolved.endpoint, resolved.credentials, quota, limits)
        .map_err(|error| Error::Unusable(name.clone(), error.to_string()))?;
    let sending = Sending { sender: resolved.account.sender(), signature: resolved.account.signature };
    let patient = Patient { api: Witness::new(client), ctx, sending, order, announce: &announce };
    let leftover = Leftover::default();
    let seen = tokio::select! {
        seen = examine::examine(&patient, &leftover) => seen,
        () = stop => return Err(Error::Stopped(laboratory::clean_up(&patient, &leftover).await)),
    };
    let spec = seen::Spec {
        endpoint: resolved.account.endpoint.clone(),
        instance_id: resolved.account.instance_id.clone(),
        product_key: order.product_key.clone(),
        replay: resource.spec.replay,
        list_lag: resource.spec.list_lag.as_ref().map(crate::api::Span::length),
    };
    let found = judge::diagnosis(&spec, &seen, resolved.account.subject(), Time::whole_seconds(clock::wall()));
    let earlier = resource.status.as_ref().and_then(|status| status.doctor.as_ref());
    let kept = judge::with_earlier(found.clone(), earlier);
    let written = record::write(kube, order, &resource, &kept).await;
    let report = Report { account: name.clone(), spec, diagnosis: kept, verify_job: judge::verify_job(&seen) };
    Ok((report, written.err().map(|why| Error::NotKept(name, why))))
}
