//! What each operation must and must not be sent (ota-api: sections 2 to 6).
//!
//! Here belong the names that the gateway looks for before anybody looks at values.

use crate::ota::Operation;

/// The parameters without which a call is refused as `Missing<Name>`.
pub(super) const fn mandatory(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::CreateOTAVerifyJob => &["FirmwareId", "ProductKey", "TargetDeviceName"],
        Operation::CreateOTAStaticUpgradeJob => &["FirmwareId", "ProductKey", "TargetSelection"],
        Operation::CreateOTADynamicUpgradeJob => &["FirmwareId", "ProductKey"],
        Operation::QueryOTAJob
        | Operation::ListOTATaskByJob
        | Operation::CancelOTATaskByJob
        | Operation::CancelOTAStrategyByJob => &["JobId"],
        Operation::ListOTAJobByFirmware => &["FirmwareId", "CurrentPage", "PageSize"],
        Operation::ListOTAJobByDevice => &["FirmwareId", "ProductKey", "DeviceName", "CurrentPage", "PageSize"],
        Operation::QueryOTAFirmware | Operation::DeleteOTAFirmware => &["FirmwareId"],
        Operation::ListOTAFirmware | Operation::ListOTAModuleVersionsByDevice => &["CurrentPage", "PageSize"],
        Operation::CreateOTAFirmware => &["FirmwareName", "DestVersion"],
        Operation::CancelOTATaskByDevice => &["FirmwareId", "ProductKey", "DeviceName"],
        Operation::ConfirmOTATask => &["TaskId"],
        Operation::ReupgradeOTATask => &["JobId", "TaskId"],
        Operation::UpdateOTAJob => &["JobId", "UpgradeType", "TargetSelection", "MaximumPerMinute"],
        Operation::ListOTAUnfinishedTaskByDevice
        | Operation::QueryDeviceDetail
        | Operation::GenerateDeviceNameListURL => &[],
    }
}

/// The parameters of other creates that this one does not take. Names that no operation knows are ignored.
pub(super) const fn unsupported(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::CreateOTAVerifyJob => &[
            "SrcVersion",
            "TargetSelection",
            "GrayPercent",
            "DnListFileUrl",
            "GroupId",
            "GroupType",
            "DynamicMode",
            "ScheduleTime",
            "ScheduleFinishTime",
            "RetryInterval",
            "RetryCount",
            "MaximumPerMinute",
            "OverwriteMode",
            "MultiModuleMode",
        ],
        Operation::CreateOTAStaticUpgradeJob => &["DynamicMode"],
        // TargetSelection, GrayPercent and TargetDeviceName have codes of their own.
        Operation::CreateOTADynamicUpgradeJob => &["DnListFileUrl", "ScheduleTime", "ScheduleFinishTime"],
        _ => &[],
    }
}

/// Whether a call must be sent with POST.
pub(super) const fn post_only(operation: Operation) -> bool {
    matches!(operation, Operation::ConfirmOTATask)
}
