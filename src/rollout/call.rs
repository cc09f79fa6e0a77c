//! From a spec to a create's wire parameters: one table, which is also the document `docs/api-mapping.md`.
//!
//! A parameter that has no row cannot be sent. When a call is made, and whether it may be sent, is decided elsewhere.

use std::collections::BTreeMap;

use crate::api::delivery::{Overwrite, Protocol};
use crate::api::rollout::DynamicMode;
use crate::api::status::{Call, StageKind};
use crate::api::{Percent, Span, TAG_KEY};
use crate::ota::Operation;

use super::claim::device_list;
use super::observed::Account;
use super::stage::Stage;

/// GroupType of a static job's group (ota-api: section 3).
const STATIC_GROUP: &str = "LINK_PLATFORM";
/// GroupType of a policy's group (section 4).
const DYNAMIC_GROUP: &str = "LINK_PLATFORM_DYNAMIC";

/// Everything that a create is made of.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// ProductKey of the rollout.
    pub product_key: &'a str,
    /// The run's source versions; none: any.
    pub source_versions: &'a [String],
    /// The stage, with what it inherits.
    pub stage: &'a Stage,
    /// The pinned package.
    pub firmware_id: &'a str,
    /// Where the call goes.
    pub account: &'a Account,
    /// The value of our tag.
    pub token: &'a str,
    /// GrayPercent, as planned.
    pub percent: Option<Percent>,
}

/// A parameter's value on the wire.
enum Wire {
    /// Not sent.
    Absent,
    /// One value.
    One(String),
    /// `Name.1`, `Name.2`, …
    List(Vec<String>),
    /// `Name.1.Key`, `Name.1.Value`, …
    Pairs(Vec<(String, String)>),
}

impl<T: ToString> From<Option<T>> for Wire {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, |v| Self::One(v.to_string()))
    }
}

/// One parameter of the create operations.
pub struct Row {
    /// Its name; `.N` and what follows stands for a list's numbers.
    pub parameter: &'static str,
    /// The operations that take it.
    pub operations: &'static [Operation],
    /// The field of the resource that it comes from.
    pub field: &'static str,
    /// What it may be, and what is sent when the field is absent.
    pub range: &'static str,
    /// Where the API's documents describe it: a section of ota-api.
    pub section: &'static str,
    wire: fn(&Source) -> Wire,
}

const VERIFY: Operation = Operation::CreateOTAVerifyJob;
const STATIC: Operation = Operation::CreateOTAStaticUpgradeJob;
const DYNAMIC: Operation = Operation::CreateOTADynamicUpgradeJob;

/// Every parameter of the create operations.
pub const ROWS: &[Row] = &[
    Row {
        parameter: "FirmwareId",
        operations: &[VERIFY, STATIC, DYNAMIC],
        field: "spec.firmware (id, or version and module), pinned in status.firmware.id",
        range: "the one package that fits; always sent",
        section: "2, 3",
        wire: |s| Wire::One(s.firmware_id.to_owned()),
    },
    Row {
        parameter: "ProductKey",
        operations: &[VERIFY, STATIC, DYNAMIC],
        field: "spec.productKey",
        range: "1 to 64 characters; always sent",
        section: "2, 3",
        wire: |s| Wire::One(s.product_key.to_owned()),
    },
    Row {
        parameter: "IotInstanceId",
        operations: &[VERIFY, STATIC, DYNAMIC],
        field: "OTAAccount spec.instanceId",
        range: "1 to 128 characters; absent: not sent",
        section: "1.2",
        wire: |s| s.account.instance_id.clone().into(),
    },
    Row {
        parameter: "TargetSelection",
        operations: &[STATIC],
        field: "the kind of step: spec.gray[].percent, .devices, .devicesFrom or .group, spec.full.static",
        range: "GRAY, SPECIFIC, GROUP, ALL; always sent",
        section: "3",
        wire: |s| Wire::One(selection(s.stage).to_owned()),
    },
    Row {
        parameter: "SrcVersion.N",
        operations: &[STATIC, DYNAMIC],
        field: "spec.sourceVersions",
        range: "up to 10; only with GRAY, ALL and policies without a group; anySourceVersion: true: not sent",
        section: "3.1, 4",
        wire: |s| if takes_sources(s.stage) { Wire::List(s.source_versions.to_vec()) } else { Wire::Absent },
    },
    Row {
        parameter: "TargetDeviceName.N",
        operations: &[VERIFY, STATIC],
        field: "spec.verify.devices, spec.gray[].devices",
        range: "1 to 10 (verify), 1 to 200 (SPECIFIC); a claim keeps their digest",
        section: "2, 3",
        wire: |_| Wire::Absent,
    },
    Row {
        parameter: "DnListFileUrl",
        operations: &[STATIC],
        field: "spec.gray[].devicesFrom",
        range: "1 to 10000 names, uploaded by GenerateDeviceNameListURL; only with SPECIFIC, instead of names; a claim \
                keeps their digest, and nothing shows the URL",
        section: "3, 6.8b",
        wire: |_| Wire::Absent,
    },
    Row {
        parameter: "GrayPercent",
        operations: &[STATIC],
        field: "spec.gray[].percent, through the percent planner",
        range: "0.001 to 100, at most 3 decimals; only with GRAY",
        section: "3",
        wire: |s| s.percent.into(),
    },
    Row {
        parameter: "GroupId",
        operations: &[STATIC, DYNAMIC],
        field: "spec.gray[].group.id, spec.full.static.group.id, spec.full.dynamic.group.id",
        range: "1 to 128 characters; only for groups",
        section: "3, 4",
        wire: |s| s.stage.target.group.clone().into(),
    },
    Row {
        parameter: "GroupType",
        operations: &[STATIC, DYNAMIC],
        field: "follows the group",
        range: "LINK_PLATFORM (static), LINK_PLATFORM_DYNAMIC (dynamic); only for groups",
        section: "3, 4",
        wire: |s| {
            let dynamic = s.stage.target.kind == StageKind::Dynamic;
            s.stage.target.group.as_ref().map(|_| if dynamic { DYNAMIC_GROUP } else { STATIC_GROUP }).into()
        },
    },
    Row {
        parameter: "DynamicMode",
        operations: &[DYNAMIC],
        field: "spec.full.dynamic.mode",
        range: "Always (1), OnReport (2); absent: not sent, the cloud takes 1",
        section: "4",
        wire: |s| {
            let mode = s.stage.target.policy.as_ref().and_then(|policy| policy.mode);
            let mode = mode.map(|mode| match mode {
                DynamicMode::Always => 1,
                DynamicMode::OnReport => 2,
            });
            mode.into()
        },
    },
    Row {
        parameter: "ScheduleTime",
        operations: &[STATIC],
        field: "spec.full.static.schedule.start",
        range: "5 minutes to 7 days ahead, in milliseconds; absent: not sent, the job starts at once",
        section: "3",
        wire: |s| s.stage.target.schedule.as_ref().map(|t| t.start.0.as_millisecond()).into(),
    },
    Row {
        parameter: "ScheduleFinishTime",
        operations: &[STATIC],
        field: "spec.full.static.schedule.finish",
        range: "1 hour to 30 days after the start, in milliseconds; absent: not sent",
        section: "3",
        wire: |s| s.stage.target.schedule.as_ref().and_then(|t| t.finish).map(|t| t.0.as_millisecond()).into(),
    },
    Row {
        parameter: "RetryInterval",
        operations: &[STATIC, DYNAMIC],
        field: "delivery.retry.interval",
        range: "0, 10, 30, 60 or 1440 minutes, less than TimeoutInMinutes; absent: not sent",
        section: "3",
        wire: |s| s.stage.delivery.retry.as_ref().map(|r| minutes(&r.interval)).into(),
    },
    Row {
        parameter: "RetryCount",
        operations: &[STATIC, DYNAMIC],
        field: "delivery.retry.count",
        range: "1, 2 or 5; absent: not sent",
        section: "3",
        wire: |s| s.stage.delivery.retry.as_ref().map(|r| r.count).into(),
    },
    Row {
        parameter: "TimeoutInMinutes",
        operations: &[VERIFY, STATIC, DYNAMIC],
        field: "delivery.deviceTimeout, spec.verify.delivery.deviceTimeout",
        range: "1 to 1440; absent: not sent",
        section: "2, 3, 5.4",
        wire: |s| s.stage.delivery.device_timeout.as_ref().map(minutes).into(),
    },
    Row {
        parameter: "MaximumPerMinute",
        operations: &[STATIC, DYNAMIC],
        field: "delivery.maximumPerMinute",
        range: "10 to 10000 (edition Legacy: to 1000); absent: 1000",
        section: "5.2",
        wire: |s| s.stage.delivery.maximum_per_minute.into(),
    },
    Row {
        parameter: "OverwriteMode",
        operations: &[STATIC, DYNAMIC],
        field: "delivery.overwrite",
        range: "Never (1), Pending (2, excludes multiModule); absent: not sent, the cloud takes 1",
        section: "3, 5.3",
        wire: |s| {
            let mode = s.stage.delivery.overwrite.map(|overwrite| match overwrite {
                Overwrite::Never => 1,
                Overwrite::Pending => 2,
            });
            mode.into()
        },
    },
    Row {
        parameter: "NeedPush",
        operations: &[VERIFY, STATIC, DYNAMIC],
        field: "delivery.push, spec.verify.delivery.push",
        range: "absent: not sent, the cloud takes true",
        section: "2, 3",
        wire: |s| s.stage.delivery.push.into(),
    },
    Row {
        parameter: "NeedConfirm",
        operations: &[VERIFY, STATIC, DYNAMIC],
        field: "delivery.confirm; for verify spec.verify.delivery.confirm alone",
        range: "absent: not sent, the cloud takes false",
        section: "2, 3",
        wire: |s| s.stage.delivery.confirm.into(),
    },
    Row {
        parameter: "DownloadProtocol",
        operations: &[VERIFY, STATIC, DYNAMIC],
        field: "delivery.protocol, spec.verify.delivery.protocol",
        range: "HTTPS, MQTT; absent: not sent, the cloud takes HTTPS",
        section: "2, 3, 5.4",
        wire: |s| {
            let protocol = s.stage.delivery.protocol.map(|protocol| match protocol {
                Protocol::Https => "HTTPS",
                Protocol::Mqtt => "MQTT",
            });
            protocol.into()
        },
    },
    Row {
        parameter: "MultiModuleMode",
        operations: &[STATIC, DYNAMIC],
        field: "delivery.multiModule",
        range: "excludes overwrite: Pending; absent: not sent, the cloud takes false",
        section: "3, 5.3",
        wire: |s| s.stage.delivery.multi_module.into(),
    },
    Row {
        parameter: "Tag.N.Key, Tag.N.Value",
        operations: &[VERIFY, STATIC, DYNAMIC],
        field: "delivery.tags; fota.id is ours and always sent",
        range: "at most 9 of the user's, 4063 characters together; a value to 1024 (edition Legacy: 128)",
        section: "5.1",
        wire: |s| {
            let ours = (TAG_KEY.to_owned(), s.token.to_owned());
            let users = s.stage.delivery.tags.iter().flatten().map(|(k, v)| (k.clone(), v.clone()));
            Wire::Pairs(std::iter::once(ours).chain(users).collect())
        },
    },
];

/// Whether a stage's job takes source versions (ota-api: sections 3.1 and 4).
pub const fn takes_sources(stage: &Stage) -> bool {
    match stage.target.kind {
        StageKind::Percent => true,
        StageKind::Full | StageKind::Dynamic => stage.target.group.is_none(),
        StageKind::Verify | StageKind::Devices | StageKind::Group => false,
    }
}

/// `TargetSelection` of a static job.
const fn selection(stage: &Stage) -> &'static str {
    match stage.target.kind {
        StageKind::Percent => "GRAY",
        StageKind::Devices => "SPECIFIC",
        StageKind::Group => "GROUP",
        _ if stage.target.group.is_some() => "GROUP",
        _ => "ALL",
    }
}

fn minutes(span: &Span) -> u64 {
    span.length().as_secs() / 60
}

/// The call of a stage: the only place where a spec becomes wire parameters.
pub fn call(source: &Source) -> Call {
    let operation = match source.stage.target.kind {
        StageKind::Verify => VERIFY,
        StageKind::Dynamic => DYNAMIC,
        StageKind::Percent | StageKind::Devices | StageKind::Group | StageKind::Full => STATIC,
    };
    let mut parameters = BTreeMap::new();
    for row in ROWS.iter().filter(|row| row.operations.contains(&operation)) {
        let name = row.parameter.split_once(".N").map_or(row.parameter, |(name, _)| name);
        match (row.wire)(source) {
            Wire::Absent => {}
            Wire::One(value) => {
                parameters.insert(name.to_owned(), value);
            }
            Wire::List(values) => {
                parameters.extend((1..).zip(values).map(|(n, value)| (format!("{name}.{n}"), value)));
            }
            Wire::Pairs(pairs) => {
                for (n, (key, value)) in (1..).zip(pairs) {
                    parameters.insert(format!("{name}.{n}.Key"), key);
                    parameters.insert(format!("{name}.{n}.Value"), value);
                }
            }
        }
    }
    let account = source.account;
    Call {
        operation: operation.name().to_owned(),
        parameters,
        devices: device_list(&source.stage.target.devices),
        list_file: source.stage.target.devices_from.is_some(),
        firmware_id: source.firmware_id.to_owned(),
        endpoint: account.endpoint.clone(),
        region: account.region.clone(),
        instance_id: account.instance_id.clone(),
        access_key: account.access_key.clone(),
        signature: Some(account.signature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every parameter of the operations' documents, copied from them by hand: common ones and lists of lists aside.
    const DOCUMENTED: &[(Operation, &str)] = &[
        (
            VERIFY,
            "FirmwareId ProductKey TargetDeviceName.N TimeoutInMinutes NeedPush NeedConfirm DownloadProtocol Tag.N.Key \
             Tag.N.Value IotInstanceId",
        ),
        (
            STATIC,
            "FirmwareId ProductKey TargetSelection SrcVersion.N TargetDeviceName.N DnListFileUrl GrayPercent GroupId GroupType \
             ScheduleTime ScheduleFinishTime RetryInterval RetryCount TimeoutInMinutes MaximumPerMinute OverwriteMode \
             NeedPush NeedConfirm DownloadProtocol MultiModuleMode Tag.N.Key Tag.N.Value IotInstanceId",
        ),
        (
            DYNAMIC,
            "FirmwareId ProductKey SrcVersion.N GroupId GroupType DynamicMode RetryInterval RetryCount \
             TimeoutInMinutes MaximumPerMinute OverwriteMode NeedPush NeedConfirm DownloadProtocol MultiModuleMode \
             Tag.N.Key Tag.N.Value IotInstanceId",
        ),
    ];

    #[test]
    fn every_documented_parameter_has_a_row_and_every_row_is_documented() {
        for (operation, documented) in DOCUMENTED {
            let mut documented: Vec<_> = documented.split_whitespace().collect();
            let rows = ROWS.iter().filter(|row| row.operations.contains(operation));
            let mut rows: Vec<_> = rows.flat_map(|row| row.parameter.split(", ")).collect();
            documented.sort_unstable();
            rows.sort_unstable();
            assert_eq!(rows, documented, "{operation}");
        }
    }
}
