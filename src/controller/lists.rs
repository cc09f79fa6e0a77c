//! Lists of device names out of ConfigMaps. What a text of them says is `rollout::names`' affair.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use crate::api::rollout::DevicesFrom;
use crate::rollout::names;
use crate::rollout::observed::Trouble;

use super::accounts::{API_TIMEOUT, stalled, waiting};

/// Reads a list.
///
/// # Errors
/// ConfigMapNotFound and ConfigMapUnreadable wait; DevicesInvalid needs a person.
pub async fn read(kube: &kube::Client, namespace: &str, from: &DevicesFrom) -> Result<Arc<[String]>, Trouble> {
    let key = &from.config_map_key_ref;
    let maps: Api<ConfigMap> = Api::namespaced(kube.clone(), namespace);
    let map = match tokio::time::timeout(API_TIMEOUT, maps.get_opt(&key.name)).await {
        Ok(Ok(Some(map))) => map,
        Ok(Ok(None)) => {
            let message =
                format!("there is no ConfigMap {} in namespace {namespace}, which devicesFrom names", key.name);
            return Err(waiting("ConfigMapNotFound", message));
        }
        Ok(Err(error)) => {
            return Err(waiting("ConfigMapUnreadable", format!("ConfigMap {} cannot be read: {error}", key.name)));
        }
        Err(_) => {
            return Err(waiting("ConfigMapUnreadable", format!("ConfigMap {} cannot be read in time", key.name)));
        }
    };
    let Some(text) = map.data.as_ref().and_then(|data| data.get(&key.key)) else {
        let message = format!("ConfigMap {} has no key {} in its data, which devicesFrom names", key.name, key.key);
        return Err(waiting("ConfigMapNotFound", message));
    };
    match names::parse(text) {
        Ok(names) => Ok(names.into()),
        Err(why) => Err(stalled("DevicesInvalid", format!("{key}: {why}"))),
    }
}
