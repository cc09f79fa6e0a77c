//! The operations of the OTA API that this product calls, and their documented quotas.

use std::fmt;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, $qps:literal;)*) => {
        /// An operation of product `Iot`, version `2018-01-20`.
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
    /// Reads one job (section 6.1).
    QueryOTAJob, 10;
    /// Lists a job's tasks, a page at a time (section 6.2).
    ListOTATaskByJob, 10;
    /// Lists a package's jobs with their tags, a page at a time (section 6.3).
    ListOTAJobByFirmware, 10;
    /// Reads one package (section 6.5).
    QueryOTAFirmware, 20;
    /// Lists packages, a page at a time (section 6.6).
    ListOTAFirmware, 10;
    /// Cancels a job's tasks in the named states (section 6.9).
    CancelOTATaskByJob, 5;
}

impl Operation {
    /// The operation with this `Action`, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|o| o.name() == name)
    }

    /// Whether carrying it out twice makes two jobs.
    pub const fn creates(self) -> bool {
        matches!(self, Self::CreateOTAVerifyJob | Self::CreateOTAStaticUpgradeJob)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
