//! Calls about single devices: which versions their modules have (ota-api: section 6.8a).
//!
//! Tasks of devices belong to `calls`. What a version means for a rollout never comes in.

use jiff::Timestamp;

use super::calls::{CallContext, Pages, ask};
use super::code::{self, Class};
use super::decode;
use super::id::DeviceName;
use super::outcome::{CallError, Read};
use super::{Api, Operation};

/// Modules on a page of ListOTAModuleVersionsByDevice.
pub const MODULES_PER_PAGE: u64 = 200;

/// A device, as QueryDeviceDetail shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// The default module's version; none: it never reported one.
    pub firmware_version: Option<String>,
    /// `ONLINE`, `OFFLINE`, `UNACTIVE` or `DISABLE`, as the cloud wrote it; empty if it left it out.
    pub status: String,
    /// When it last came online.
    pub utc_online: Option<Timestamp>,
}

/// The version of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleVersion {
    /// The module's name.
    pub module: String,
    /// Its version; none: not reported.
    pub version: Option<String>,
}

/// Reads one device.
pub async fn query_device<A: Api>(
    api: &A,
    ctx: &CallContext,
    product_key: &str,
    device: &DeviceName,
) -> Result<Read<Device>, CallError> {
    let own = [("ProductKey", product_key.to_owned()), ("DeviceName", device.to_string())];
    ask(api, &ctx.request(Operation::QueryDeviceDetail, own)).await?.read(decode::device)
}

/// Reads the versions of all of a device's modules.
///
/// # Errors
/// `IncompleteList` (class `Transient`) when the list shifted while its pages were read.
pub async fn list_module_versions<A: Api>(
    api: &A,
    ctx: &CallContext,
    product_key: &str,
    device: &DeviceName,
) -> Result<Read<Vec<ModuleVersion>>, CallError> {
    let mut pages = Pages::new(MODULES_PER_PAGE, |module: &ModuleVersion| module.module.clone());
    while let Some(number) = pages.wanted() {
        let own = [
            ("ProductKey", product_key.to_owned()),
            ("DeviceName", device.to_string()),
            ("CurrentPage", number.to_string()),
            ("PageSize", MODULES_PER_PAGE.to_string()),
        ];
        let request = ctx.request(Operation::ListOTAModuleVersionsByDevice, own);
        pages.take(ask(api, &request).await?.read(decode::modules)?);
    }
    if !pages.complete() {
        let why = "modules came or went while they were read";
        return Err(CallError::new(Class::Transient, code::INCOMPLETE_LIST, why));
    }
    pages.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::calls::tests::Script;
    use serde_json::json;

    #[tokio::test]
    async fn a_device_is_read_by_product_and_name() {
        let data = json!({"DeviceName": "d", "IotId": "i", "FirmwareVersion": "1.0", "Status": "OFFLINE",
                          "UtcOnline": "2024-05-04T06:22:19.566Z"});
        let script = Script::json([
            json!({"Success": true, "RequestId": "R", "Data": data}),
            json!({"Success": true, "Data": {"DeviceName": "d", "Status": "UNACTIVE", "FirmwareVersion": ""}}),
            json!({"Success": true, "Data": {"Status": "ONLINE"}}),
        ]);
        let ctx = CallContext::default();
        let expected = Device {
            name: "d".into(),
            firmware_version: Some("1.0".into()),
            status: "OFFLINE".into(),
            utc_online: Some("2024-05-04T06:22:19.566Z".parse().unwrap()),
        };
        assert_eq!(query_device(&script, &ctx, "p", &"d".into()).await.unwrap().value, expected);
        assert_eq!(script.params(0), "DeviceName=d ProductKey=p");
        let new = query_device(&script, &ctx, "p", &"d".into()).await.unwrap().value;
        assert_eq!((new.firmware_version, new.utc_online), (None, None));
        let nameless = query_device(&script, &ctx, "p", &"d".into()).await.unwrap_err();
        assert_eq!(nameless.code, code::UNREADABLE_ANSWER);
    }

    #[tokio::test]
    async fn modules_are_read_to_the_last_page() {
        let page = |total: u64, from: u64, to: u64| {
            let modules: Vec<_> =
                (from..to).map(|n| json!({"ModuleName": format!("m{n}"), "ModuleVersion": "1"})).collect();
            json!({"Success": true, "Total": total, "Data": {"SimpleOTAModuleInfo": modules}})
        };
        let script = Script::json([page(201, 0, 200), page(201, 200, 201), page(2, 0, 1)]);
        let ctx = CallContext::default();
        let all = list_module_versions(&script, &ctx, "p", &"d".into()).await.unwrap().value;
        assert_eq!((all.len(), all[200].module.as_str(), all[0].version.as_deref()), (201, "m200", Some("1")));
        assert_eq!(script.params(1), "CurrentPage=2 DeviceName=d PageSize=200 ProductKey=p");
        let error = list_module_versions(&script, &ctx, "p", &"d".into()).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.class), (code::INCOMPLETE_LIST, Class::Transient));
    }
}
