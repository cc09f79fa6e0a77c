//! The model in virtual time. Here: a bench that makes calls; the cases live beside it, by subject.

mod actions;
mod dynamic;
mod gateway;
mod life;
mod name_lists;
mod rules;
mod shapes;
mod v3;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::*;
use crate::cloud::fleet::Fleet;

const FLEET: &str = r#"
accounts:
- {accessKeyId: key, accessKeySecret: secret}
- {accessKeyId: other, accessKeySecret: secret2, instanceId: iot-1}
products:
- productKey: pk
  groups:
  - {prefix: dev-, count: 100, version: "1.0"}
  - {names: [lab-1, lab-2, lab-3], version: "1.1"}
  - {names: [mcu-1], version: "1.0", module: mcu}
- {productKey: pk2}
firmware:
- {id: fw, productKey: pk, version: "2.0", needToVerify: false}
- {id: next, productKey: pk, version: "3.0", needToVerify: false}
- {id: unverified, productKey: pk, version: "4.0"}
- {id: diff, productKey: pk, version: "5.0", needToVerify: false, srcVersion: "1.0"}
- {id: mcu, productKey: pk, version: "2.0", module: mcu, needToVerify: false}
"#;

/// A cloud, its two clocks, and somebody who calls it.
struct Bench {
    cloud: Cloud,
    clocks: Clocks,
    key: &'static str,
    verb: &'static str,
    /// `IotInstanceId` of every call; empty: none.
    instance: &'static str,
}

impl Bench {
    fn new() -> Self {
        Self::with(FLEET, |_| {})
    }

    fn switched(change: impl FnOnce(&mut Switches)) -> Self {
        Self::with(FLEET, change)
    }

    fn with(fleet: &str, change: impl FnOnce(&mut Switches)) -> Self {
        Self::seeded(fleet, 1, Edition::Current, change)
    }

    fn seeded(fleet: &str, seed: u64, edition: Edition, change: impl FnOnce(&mut Switches)) -> Self {
        let fleet = Fleet::parse(fleet).unwrap();
        let mut switches = Switches { unsigned: true, quotas: false, cancel_delay_seconds: 0.0, ..Switches::default() };
        change(&mut switches);
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let cloud = Cloud::new(&fleet, seed, edition, switches);
        Self { cloud, clocks: Clocks { wall: now, fleet: now }, key: "key", verb: "POST", instance: "" }
    }

    /// Moves the fleet clock.
    fn minutes(&mut self, minutes: i64) {
        self.clocks.fleet += SignedDuration::from_mins(minutes);
        self.cloud.tick(self.clocks);
    }

    /// Moves the wall clock.
    fn wall_ms(&mut self, ms: i64) {
        self.clocks.wall += SignedDuration::from_millis(ms);
    }

    /// A call from `A=1 B=2`; `~` stands for a space in a value.
    fn send(&mut self, operation: &str, params: &str) -> Response {
        let mut pairs: Vec<(String, String)> = vec![];
        for (k, v) in [("Action", operation), ("Version", "2018-01-20"), ("Format", "JSON"), ("AccessKeyId", self.key)]
        {
            pairs.push((k.to_owned(), v.to_owned()));
        }
        if !self.instance.is_empty() {
            pairs.push(("IotInstanceId".to_owned(), self.instance.to_owned()));
        }
        for pair in params.split_whitespace() {
            let (k, v) = pair.split_once('=').unwrap();
            pairs.push((k.to_owned(), v.replace('~', " ")));
        }
        self.cloud.handle(&Call { verb: self.verb.to_owned(), pairs, ..Call::default() }, self.clocks)
    }

    fn ok(&mut self, operation: &str, params: &str) -> Value {
        let answer = self.send(operation, params);
        assert_eq!(answer.http_status, 200, "{operation} {params}: {}", answer.body);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["Success"], true, "{operation} {params}: {body}");
        body
    }

    /// The code of a refusal; empty on success.
    fn code(&mut self, operation: &str, params: &str) -> String {
        let body: Value = serde_json::from_str(&self.send(operation, params).body).unwrap();
        body["Code"].as_str().unwrap_or_default().to_owned()
    }

    /// A static job of package `fw`; its id.
    fn job(&mut self, params: &str) -> String {
        let params = format!("FirmwareId=fw ProductKey=pk {params}");
        self.ok("CreateOTAStaticUpgradeJob", &params)["Data"]["JobId"].as_str().unwrap().to_owned()
    }

    fn data(&mut self, job: &str) -> Value {
        self.ok("QueryOTAJob", &format!("JobId={job}"))["Data"].clone()
    }

    fn status(&mut self, job: &str) -> String {
        self.data(job)["JobStatus"].as_str().unwrap().to_owned()
    }

    fn count(&mut self, job: &str, status: &str) -> u64 {
        let params = format!("JobId={job} CurrentPage=1 PageSize=1 TaskStatus={status}");
        self.ok("ListOTATaskByJob", &params)["Total"].as_u64().unwrap()
    }

    fn tasks(&mut self, job: &str) -> Vec<Value> {
        let params = format!("JobId={job} CurrentPage=1 PageSize=100");
        let list = self.ok("ListOTATaskByJob", &params);
        list["Data"]["SimpleOTATaskInfo"].as_array().unwrap().clone()
    }

    fn ledger(&self) -> Ledger {
        self.cloud.ledger("pk", &LedgerQuery::default()).unwrap()
    }

    fn fault(&mut self, patch: &str) {
        self.cloud.change_faults(&serde_json::from_str(patch).unwrap()).unwrap();
    }
}

#[test]
fn the_documentation_names_every_operation_and_switch_and_its_fleet_is_read() {
    let page = include_str!("../../../../docs/simulated-cloud.md");
    for operation in Operation::ALL {
        assert!(page.contains(&format!("| `{operation}` | {} |", operation.qps())), "{operation}");
    }
    let Ok(Value::Object(switches)) = serde_json::to_value(Switches::default()) else { panic!("no map") };
    for (name, default) in switches {
        let row = page.lines().find(|line| line.contains(&format!("`{name}`")) && line.starts_with("| `"));
        let row = row.unwrap_or_else(|| panic!("{name}"));
        let shown = match default {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
            other => other.to_string(),
        };
        assert!(row.contains(&format!("| `{shown}` |")), "{name} is {shown}: {row}");
    }
    let fleet = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    Fleet::parse(fleet).unwrap();
}
