//! The operations on single devices: QueryDeviceDetail, ListOTAModuleVersionsByDevice, ListOTAJobByDevice,
//! ListOTAUnfinishedTaskByDevice (ota-api: sections 6.4, 6.7, 6.8a).
//!
//! Here belongs how a device is named in a call, and what is said of it. Nothing here changes anything.

use serde_json::{Value, json};

use super::answer::{Done, Fields, Refusal, utc};
use super::devices::DeviceId;
use super::jobs::{Job, TaskStatus};
use super::parameters::Given;
use super::query::Page;
use super::switches::EmptyList;
use super::world::World;

const DEFAULT_MODULE: &str = "default";
const JOBS_PAGE_MAX: usize = 100;
const MODULES_PAGE_MAX: usize = 200;
const IOT_ID: &str = "iotid";

impl World {
    /// The device that IotId or, without it, ProductKey and DeviceName name.
    fn wanted_device(&self, given: &Given<'_>) -> Result<DeviceId, Refusal> {
        let unknown = || Refusal::product("iot.device.NotExistedDevice", "The device does not exist.");
        match given.text("IotId") {
            "" => {
                for name in ["ProductKey", "DeviceName"] {
                    if given.text(name).is_empty() {
                        return Err(Refusal::missing(name));
                    }
                }
                let product = self.devices.products.get(self.wanted_product(given)?);
                product.and_then(|p| self.devices.find(p, given.text("DeviceName"))).ok_or_else(unknown)
            }
            id => {
                let number = id.strip_prefix(IOT_ID).and_then(|digits| digits.parse().ok());
                number.filter(|n| self.devices.get(*n).is_some_and(|d| d.joined)).ok_or_else(unknown)
            }
        }
    }

    /// The key of a device's product.
    fn product_of(&self, device: DeviceId) -> &str {
        self.devices.products.iter().find(|p| p.devices.contains(&device)).map_or("", |p| p.key.as_str())
    }

    /// QueryDeviceDetail.
    pub(super) fn query_device(&self, given: &Given<'_>, region: &str) -> Result<Done, Refusal> {
        let id = self.wanted_device(given)?;
        let online = self.devices.get(id).is_some_and(|d| d.online);
        let module = self.devices.texts.known(DEFAULT_MODULE);
        let version = module.and_then(|m| self.devices.slot(id, m)).map_or("", |s| self.devices.texts.text(s.version));
        let key = self.product_of(id);
        let detail = json!({
            "IotId": iot_id(id),
            "ProductKey": key,
            "ProductName": key,
            "DeviceName": self.devices.name(id),
            "FirmwareVersion": version,
            "Status": if online { "ONLINE" } else { "OFFLINE" },
            "NodeType": 0,
            "Owner": true,
            "Region": region,
            "UtcOnline": utc(self.now),
        });
        Ok(Done::object("Data", detail))
    }

    /// ListOTAModuleVersionsByDevice.
    pub(super) fn list_modules(&self, given: &Given<'_>) -> Result<Done, Refusal> {
        let page = Page::of(given, MODULES_PAGE_MAX)?;
        let id = self.wanted_device(given)?;
        let name = self.devices.name(id);
        let texts = &self.devices.texts;
        let all: Vec<Value> = self
            .devices
            .slots(id)
            .map(|(module, slot)| {
                json!({
                    "IotId": iot_id(id),
                    "ProductKey": self.product_of(id),
                    "DeviceName": name,
                    "ModuleName": texts.text(module),
                    "ModuleVersion": texts.text(slot.version),
                })
            })
            .collect();
        let entries = page.of_all(&all).cloned().collect();
        Ok(page.answer(all.len(), "Data", "SimpleOTAModuleInfo", entries, &self.switches))
    }

    /// ListOTAJobByDevice: the package's jobs that have a task for the device.
    pub(super) fn list_jobs_of_device(&self, given: &Given<'_>) -> Result<Done, Refusal> {
        let page = Page::of(given, JOBS_PAGE_MAX)?;
        let package = self.package(self.wanted_package(given)?);
        let device = self.wanted_device(given)?;
        let jobs = package.into_iter().flat_map(|p| p.jobs.iter().rev()).filter_map(|number| self.job(*number));
        let all: Vec<&Job> = jobs.filter(|job| job.tasks.iter().any(|task| task.device == device)).collect();
        let entries = page.of_all(&all).map(|job| self.job_entry(job)).collect();
        Ok(page.answer(all.len(), "Data", "SimpleOTAJobInfo", entries, &self.switches))
    }

    /// ListOTAUnfinishedTaskByDevice.
    pub(super) fn list_unfinished(&self, given: &Given<'_>) -> Result<Done, Refusal> {
        let status = |name: &str| {
            let status = TaskStatus::from_name(name).filter(|status| !status.terminal());
            status.ok_or_else(|| Refusal::firmware("InvalidTaskStatus", "TaskStatus is unknown, or is final."))
        };
        let mut wanted = Vec::new();
        for name in given.get("TaskStatus").into_iter().chain(given.list("TaskStatusList")?) {
            wanted.push(status(name)?);
        }
        let device = self.wanted_device(given)?;
        let texts = &self.devices.texts;
        let module = given.text("ModuleName");
        let open = self.devices.slots(device).filter(|(m, _)| module.is_empty() || texts.text(*m) == module);
        let task = |(module, (number, task)): (u32, (u32, u32))| {
            let job = self.job(number)?;
            let status = job.tasks.get(task)?.status;
            if !wanted.is_empty() && !wanted.contains(&status) {
                return None;
            }
            let mut view = self.task_view(job, task)?;
            let fields = view.as_object_mut()?;
            for absent in ["Progress", "Timeout", "TaskDesc"] {
                fields.remove(absent);
            }
            fields.insert("ModuleName".to_owned(), texts.text(module).into());
            Some(view)
        };
        let tasks: Vec<Value> = open.filter_map(|(module, slot)| Some((module, slot.open?))).filter_map(task).collect();
        let data = match (tasks.is_empty(), self.switches.empty_list) {
            (true, EmptyList::EmptyObject) => json!({}),
            (true, EmptyList::Null) => Value::Null,
            (true, EmptyList::Absent) => return Ok(Done::nothing()),
            _ => Value::Object(Fields::from_iter([("SimpleOTATaskInfo".to_owned(), tasks.into())])),
        };
        Ok(Done::object("Data", data))
    }
}

/// `IotId`.
pub(super) fn iot_id(device: DeviceId) -> String {
    format!("{IOT_ID}{device:023}")
}
