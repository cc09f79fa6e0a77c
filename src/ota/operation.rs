//! The operations of the OTA API, and their documented quotas. Not all are called by this product; the simulated cloud
//! and the quota know them all.

use std::fmt;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, $qps:literal;)*) => {
        /// An OTA operation of product `Iot`, version `2018-01-20`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation { $($(#[$doc])* $name,)* }

        impl Operation {
            /// Every operation, in a fixed order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The value of `Action`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Documented requests per second, per Alibaba Cloud account (ota-api: section 1.3).
            pub const fn qps(self) -> u32 {
                match self { $(Self::$name => $qps,)* }
            }
        }
    };
}

operations! {
    /// Starts verification on up to 10 test devices (section 2).
    CreateOTAVerifyJob, 10;
    /// Upgrades a set of devices fixed at creation (section 3).
    CreateOTAStaticUpgradeJob, 20;
    /// A standing policy for devices that match now and later (section 4).
    CreateOTADynamicUpgradeJob, 20;
    /// Reads one job (section 6.1).
    QueryOTAJob, 10;
    /// Lists a job's tasks, a page at a time (section 6.2).
    ListOTATaskByJob, 10;
    /// Lists a package's jobs with their tags, a page at a time (section 6.3).
    ListOTAJobByFirmware, 10;
    /// Lists a device's jobs of a package (section 6.4).
    ListOTAJobByDevice, 10;
    /// Reads one package (section 6.5).
    QueryOTAFirmware, 20;
    /// Lists packages, a page at a time (section 6.6).
    ListOTAFirmware, 10;
    /// Lists a device's tasks that have not ended (section 6.7).
    ListOTAUnfinishedTaskByDevice, 10;
    /// Makes a package (section 6.8).
    CreateOTAFirmware, 10;
    /// Deletes a package (section 6.8).
    DeleteOTAFirmware, 10;
    /// Reads one device, with its default module's version (section 6.8a).
    QueryDeviceDetail, 50;
    /// Lists the versions of a device's modules (section 6.8a).
    ListOTAModuleVersionsByDevice, 10;
    /// Makes a form by which a list of device names is uploaded (section 6.8b).
    GenerateDeviceNameListURL, 10;
    /// Cancels a job's tasks in the named states (section 6.9).
    CancelOTATaskByJob, 5;
    /// Ends a dynamic job's policy; its tasks stay (section 6.9).
    CancelOTAStrategyByJob, 10;
    /// Cancels the named devices' tasks (section 6.9).
    CancelOTATaskByDevice, 10;
    /// Lets tasks go on that wait for a confirmation (section 6.9).
    ConfirmOTATask, 20;
    /// Runs failed tasks again (section 6.9).
    ReupgradeOTATask, 20;
    /// Changes a running upgrade job (section 6.9).
    UpdateOTAJob, 10;
}

impl Operation {
    /// The operation with this `Action`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|o| o.name() == name)
    }

    /// Whether carrying it out twice makes two jobs.
    pub const fn creates(self) -> bool {
        matches!(self, Self::CreateOTAVerifyJob | Self::CreateOTAStaticUpgradeJob | Self::CreateOTADynamicUpgradeJob)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
