//! The cloud as a model: a call goes in, an answer comes out, devices move as the fleet clock does. Pure: no I/O, no
//! clock, no randomness but from the seed, so one seed and one sequence of calls mean one history.
//!
//! Here belongs everything the simulated cloud decides. Sockets, real clocks and waiting never come in here.
//!
//! A call passes the `gateway`, then the faults that happen to strike, then the operation's own module (`create`,
//! `query`, `firmware`, `inventory`, `actions`, `cancel`, `name_lists`), which works on the `world`; `life` and `dynamic`
//! move the world on between calls.

mod actions;
mod answer;
mod call;
mod cancel;
mod create;
mod devices;
mod dynamic;
mod firmware;
mod gateway;
mod inventory;
mod jobs;
mod life;
mod name_lists;
mod operations;
mod parameters;
mod policy;
mod query;
mod random;
mod report;
mod switches;
mod targets;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

pub use call::{Call, Headers};
pub use jobs::Failures;
pub use name_lists::{Form, STORAGE_PATH, Stored};
pub use report::{DevicesReport, JobReport, Ledger, LedgerQuery};
pub use switches::{
    BusyDevices, Completion, DeniedBy, DestinationInArray, Edition, EmptyList, GrayBase, JobEnd, ListOrder,
    NonceBurnedBy, SuccessCode, Switches, VerifiedAgain, VerifyCancelled, VerifyVerdict,
};

use self::answer::{Done, Format, Refusal};
use self::cancel::Cancel;
use self::gateway::{Gateway, Pass};
use self::parameters::Given;
use self::random::Random;
use self::world::World;
use super::faults::{Faults, FaultsPatch};
use super::fleet::Fleet;
use super::log::Entry;
use crate::ota::Operation;

/// Domains of random streams.
const REQUEST_IDS: u64 = 0x1D;
const MISFORTUNE: u64 = 0xBAD;
const LIST_ORDER: u64 = 0x0D3;

/// The instant of a call on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// Timestamp window, nonces, quotas, list lag, delay of cancels.
    pub wall: Timestamp,
    /// Everything that devices and jobs do.
    pub fleet: Timestamp,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub http_status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body, in the format that was asked for.
    pub body: String,
    /// Must not be sent: the connection breaks instead.
    pub lost: bool,
    /// `x-acs-retry-after`, when a quota said so.
    pub retry_after_ms: Option<u64>,
}

/// Where and when a call is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Context<'a> {
    edition: Edition,
    /// The wall clock, Unix milliseconds.
    wall: i64,
    region: &'a str,
    /// Whether the instance has an id: enterprise instances and new public ones do.
    has_instance: bool,
}

impl Context<'_> {
    fn has_dynamic_groups(&self) -> bool {
        self.edition == Edition::Current && self.has_instance && self.region == "cn-shanghai"
    }
}

/// The simulated cloud.
#[derive(Debug)]
pub struct Cloud {
    edition: Edition,
    gateway: Gateway,
    world: World,
    log: Vec<Entry>,
    /// Cancels that were answered but not applied, by the wall time at which they are due.
    cancels: Vec<(i64, Cancel)>,
    /// The clocks of the last call, to tell the fleet time at which something was due by the wall clock.
    last: Option<Clocks>,
    request_ids: Random,
    misfortune: Random,
    list_order: Random,
}

impl Cloud {
    /// A cloud with a fleet. Whatever chance decides, the seed decides.
    pub fn new(fleet: &Fleet, seed: u64, edition: Edition, switches: Switches) -> Self {
        Self {
            edition,
            gateway: Gateway::new(&fleet.accounts),
            world: World::new(fleet, seed, switches),
            log: Vec::new(),
            cancels: Vec::new(),
            last: None,
            request_ids: Random::of([seed, REQUEST_IDS]),
            misfortune: Random::of([seed, MISFORTUNE]),
            list_order: Random::of([seed, LIST_ORDER]),
        }
    }

    /// Answers a call at an instant, and logs it.
    pub fn handle(&mut self, call: &Call, clocks: Clocks) -> Response {
        self.tick(clocks);
        let given = Given::new(&call.pairs);
        let request_id = self.request_id();
        let (result, lost) = self.decide(call, &given, clocks);
        // A cancel without delay is seen by the very next call, and by whoever looks at the model before it.
        self.tick(clocks);
        let product_status = self.world.switches.product_error_status;
        let (http_status, code, created, retry_after_ms) = match &result {
            Ok(done) => (200, None, done.created_job.clone(), None),
            Err(refusal) => {
                let hint = match refusal {
                    Refusal::Gateway { retry_after_ms, .. } => *retry_after_ms,
                    Refusal::Product { .. } => None,
                };
                (refusal.status(product_status), Some(refusal.code().to_owned()), None, hint)
            }
        };
        let action = given.text("Action");
        let format = Format::wanted(&given).unwrap_or(Format::Json);
        let body = match result {
            Ok(done) => done.body(&request_id, action, format, self.world.switches.success_code),
            Err(refusal) => refusal.body(&request_id, action, format),
        };
        let params = call.pairs.iter().filter(|(name, _)| name != "Signature").cloned().collect();
        self.log.push(Entry {
            at: clocks.wall,
            operation: action.to_owned(),
            params,
            access_key_id: given.text("AccessKeyId").to_owned(),
            http_status,
            code,
            request_id,
            job_id: created.or_else(|| given.get("JobId").map(str::to_owned)),
            lost,
        });
        Response { http_status, content_type: format.content_type(), body, lost, retry_after_ms }
    }

    /// The gateway, then misfortune, then the work; and whether its answer gets lost.
    fn decide(&mut self, call: &Call, given: &Given<'_>, clocks: Clocks) -> (Result<Done, Refusal>, bool) {
        let pass = match self.gateway.admit(call, given, clocks.wall, &self.world.switches) {
            Ok(pass) => pass,
            Err(refusal) => return (Err(refusal), false),
        };
        if let Some(refusal) = self.misfortune() {
            return (Err(refusal), false);
        }
        let result = self.perform(&pass, given, &call.host, clocks);
        if result.is_ok() {
            self.gateway.accepted(given, clocks.wall, &self.world.switches);
        }
        let rate = self.world.faults.lost_reply_rate;
        (result, self.strikes(rate))
    }

    fn perform(&mut self, pass: &Pass, given: &Given<'_>, host: &str, clocks: Clocks) -> Result<Done, Refusal> {
        if given.text("IotInstanceId") != pass.instance_id {
            return Err(Refusal::product("iot.system.InstanceNotFound", "The instance does not exist."));
        }
        let context = Context {
            edition: self.edition,
            wall: clocks.wall.as_millisecond(),
            region: &pass.region,
            has_instance: !pass.instance_id.is_empty(),
        };
        let world = &mut self.world;
        match pass.operation {
            Operation::CreateOTAVerifyJob => world.create_verify_job(given, &context),
            Operation::CreateOTAStaticUpgradeJob => world.create_static_job(given, &context),
            Operation::CreateOTADynamicUpgradeJob => world.create_dynamic_job(given, &context),
            Operation::QueryOTAJob => world.query_job(given, self.edition),
            Operation::ListOTATaskByJob => world.list_tasks(given),
            Operation::ListOTAJobByFirmware => world.list_jobs(given, context.wall, &mut self.list_order),
            Operation::ListOTAJobByDevice => world.list_jobs_of_device(given),
            Operation::QueryOTAFirmware => world.query_firmware(given),
            Operation::ListOTAFirmware => world.list_firmware(given),
            Operation::ListOTAUnfinishedTaskByDevice => world.list_unfinished(given),
            Operation::CreateOTAFirmware => world.create_firmware(given),
            Operation::DeleteOTAFirmware => world.delete_firmware(given),
            Operation::QueryDeviceDetail => world.query_device(given, &pass.region),
            Operation::ListOTAModuleVersionsByDevice => world.list_modules(given),
            Operation::GenerateDeviceNameListURL => Ok(world.generate_name_list(host, context.wall)),
            Operation::CancelOTATaskByJob => {
                let accepted = world.accept_cancel(given)?;
                Ok(self.cancel_later(accepted, context.wall))
            }
            Operation::CancelOTATaskByDevice => {
                let accepted = world.accept_cancel_of_devices(given)?;
                Ok(self.cancel_later(accepted, context.wall))
            }
            Operation::CancelOTAStrategyByJob => world.cancel_strategy(given),
            Operation::ConfirmOTATask => world.confirm_tasks(given),
            Operation::ReupgradeOTATask => world.reupgrade_tasks(given),
            Operation::UpdateOTAJob => world.update_job(given, &context),
        }
    }

    /// Answers now and cancels after the delay.
    fn cancel_later(&mut self, (done, cancel): (Done, Cancel), wall: i64) -> Done {
        let delay = (self.world.switches.cancel_delay_seconds * 1000.0) as i64;
        self.cancels.push((wall + delay, cancel));
        done
    }

    /// What GenerateDeviceNameListURL and an upload by its form lead to, for callers without HTTP: the file's URL.
    pub fn list_file(&mut self, names: &[String], clocks: Clocks) -> String {
        self.world.list_file(names, clocks.wall.as_millisecond())
    }

    /// PostObject of the object storage that GenerateDeviceNameListURL leads to.
    pub fn post_object(&mut self, form: Form, clocks: Clocks) -> Stored {
        self.tick(clocks);
        let request_id = self.request_id();
        self.world.post_object(form, clocks.wall.as_millisecond(), &request_id)
    }

    /// A device reports a version by itself; false: there is no such device, or it has no such module.
    pub fn report(&mut self, product_key: &str, device_name: &str, module: &str, version: &str) -> bool {
        self.world.report_of_device(product_key, device_name, module, version)
    }

    /// Lets QueryOTAJob show a job's fields with these values, whatever they are in truth; false: no such job.
    pub fn pretend(&mut self, job_id: &str, fields: serde_json::Map<String, serde_json::Value>) -> bool {
        let number = self.world.job_ids.get(job_id).copied();
        let job = number.and_then(|number| self.world.job_mut(number));
        job.map(|job| job.pretence.extend(fields)).is_some()
    }

    /// The switches in force.
    pub fn switches(&self) -> &Switches {
        &self.world.switches
    }

    /// Changes some switches, by name; says what is wrong with the change, which then changes nothing.
    pub fn change_switches(&mut self, patch: &serde_json::Map<String, serde_json::Value>) -> Result<(), String> {
        let next = self.world.switches.changed(patch)?;
        if patch.contains_key("listLagMs") {
            self.world.faults.list_lag_ms = next.list_lag_ms;
        }
        self.world.switches = next;
        Ok(())
    }

    /// A fault that strikes before any work is done.
    fn misfortune(&mut self) -> Option<Refusal> {
        let (throttle_rate, error_rate) = (self.world.faults.throttle_rate, self.world.faults.error_rate);
        if self.strikes(throttle_rate) {
            return Some(Refusal::throttled(self.world.switches.throttle_status, None));
        }
        if !self.strikes(error_rate) {
            return None;
        }
        Some(if self.misfortune.below(2) == 0 {
            let message = "The request has failed due to a temporary failure of the server.";
            Refusal::gateway(503, "ServiceUnavailable", message)
        } else {
            let message = "The request processing has failed due to some unknown error, exception or failure.";
            Refusal::gateway(500, "InternalError", message)
        })
    }

    /// Draws only when a rate is set, so that a fault switched on and off again leaves no other trace.
    fn strikes(&mut self, rate: f64) -> bool {
        rate > 0.0 && self.misfortune.unit() < rate
    }

    /// Moves both clocks on: devices by the fleet clock, cancels by the wall clock.
    pub fn tick(&mut self, clocks: Clocks) {
        let last = self.last.unwrap_or(clocks);
        let wall = clocks.wall.as_millisecond();
        let (due, later): (Vec<_>, Vec<_>) = self.cancels.drain(..).partition(|(at, _)| *at <= wall);
        self.cancels = later;
        for (at, cancel) in due {
            self.world.advance(fleet_at(at, last, clocks));
            self.world.apply_cancel(cancel);
        }
        self.advance(clocks.fleet);
        self.last = Some(clocks);
    }

    /// Moves devices and jobs on to an instant of the fleet clock. Earlier instants change nothing.
    pub fn advance(&mut self, fleet: Timestamp) {
        self.world.advance(fleet.as_millisecond());
    }

    /// The faults in force.
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// How far its clocks are ahead of this machine's.
    pub fn clock_ahead(&self) -> SignedDuration {
        SignedDuration::try_from_secs_f64(self.world.switches.clock_ahead_seconds).unwrap_or_default()
    }

    /// Changes some faults; says which value is out of bounds.
    pub fn change_faults(&mut self, patch: &FaultsPatch) -> Result<(), String> {
        self.world.faults.apply(patch)
    }

    /// Replaces all faults.
    pub fn set_faults(&mut self, faults: Faults) {
        self.world.faults = faults;
    }

    /// Every request, in order.
    pub fn calls(&self) -> &[Entry] {
        &self.log
    }

    /// Every job, oldest first.
    pub fn jobs(&self) -> Vec<JobReport> {
        self.world.job_reports(self.edition)
    }

    /// A job's tasks by `TaskStatus`, as of the fleet clock's last instant; none for an unknown job.
    pub fn task_counts(&self, job_id: &str) -> Option<BTreeMap<&'static str, usize>> {
        self.world.task_counts(job_id)
    }

    /// Removes a job, as somebody with the right to do so might: no operation knows it any more, its devices go on.
    pub fn forget_job(&mut self, id: &str) {
        self.world.forget_job(id);
    }

    /// The true ledger of a product, by the fleet clock's last instant; none for an unknown product.
    pub fn ledger(&self, product_key: &str, query: &LedgerQuery) -> Option<Ledger> {
        self.world.ledger(product_key, query)
    }

    /// A product's devices by version, and its ledger.
    pub fn devices(&self, product_key: &str, query: &LedgerQuery) -> Option<DevicesReport> {
        self.world.devices_report(product_key, query)
    }

    fn request_id(&mut self) -> String {
        let (high, low) = (self.request_ids.next(), self.request_ids.next());
        format!(
            "{:08X}-{:04X}-4{:03X}-8{:03X}-{:012X}",
            high >> 32,
            (high >> 16) & 0xFFFF,
            high & 0xFFF,
            low >> 52,
            low & 0xFFFF_FFFF_FFFF
        )
    }
}

/// The fleet time that went with a wall time between two instants.
fn fleet_at(wall_ms: i64, last: Clocks, now: Clocks) -> i64 {
    let (wall_from, wall_to) = (last.wall.as_millisecond(), now.wall.as_millisecond());
    let (fleet_from, fleet_to) = (last.fleet.as_millisecond(), now.fleet.as_millisecond());
    let span = (wall_to - wall_from).max(1) as f64;
    let share = ((wall_ms - wall_from) as f64 / span).clamp(0.0, 1.0);
    fleet_from + ((fleet_to - fleet_from) as f64 * share) as i64
}
