//! The fixtures beside the Lua files, in the format of Argo CD's own tests, through the real `argocd admin settings
//! resource-overrides`. What the results should be stands in the fixtures, never here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde::Deserialize;
use serde_json::Value;

use super::argo;
use super::ground::{PAUSED_IS_HEALTHY, PAUSED_IS_SUSPENDED};
use super::harness::supervised::temporary_dir;
use super::harness::{Result, root};
use super::report::Report;

const LANE: &str = "fixtures";

#[derive(Deserialize)]
struct HealthTests {
    tests: Vec<HealthTest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HealthTest {
    input_path: String,
    health_status: Health,
}

#[derive(Deserialize)]
struct Health {
    status: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActionTests {
    discovery_tests: Vec<DiscoveryTest>,
    action_tests: Vec<ActionTest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DiscoveryTest {
    input_path: String,
    result: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    disabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActionTest {
    action: String,
    input_path: String,
    expected_output_path: String,
}

/// Runs every fixture.
pub fn run(report: &Report) -> Result<()> {
    let examples = root().join("examples/argocd");
    let scripts = examples.join("resource_customizations/fota.dev");
    let argocd = Argocd { program: argo::program()?, home: temporary_dir("fixtures")? };
    let outcome = [
        health(report, &argocd, &scripts.join("FirmwareRollout"), PAUSED_IS_SUSPENDED),
        health(report, &argocd, &examples.join("paused-is-healthy/fota.dev/FirmwareRollout"), PAUSED_IS_HEALTHY),
        health(report, &argocd, &scripts.join("OTAAccount"), PAUSED_IS_SUSPENDED),
        actions(report, &argocd, &scripts.join("FirmwareRollout/actions")),
        every_reason(report, &argocd),
    ];
    fs::remove_dir_all(&argocd.home)?;
    outcome.into_iter().collect()
}

/// The health of every object under `testdata`, by the customizations of a variant.
fn health(report: &Report, argocd: &Argocd, dir: &Path, config: &str) -> Result<()> {
    let tests: HealthTests = read(&dir.join("health_test.yaml"))?;
    let mut named = BTreeSet::new();
    let jobs: Vec<_> = tests.tests.iter().collect();
    let wrong = each(&jobs, |test| {
        let said = argocd.ask(config, "health", &[text(&dir.join(&test.input_path))?])?;
        let expected = format!("STATUS: {}\nMESSAGE: {}\n", test.health_status.status, test.health_status.message);
        Ok((said != expected).then(|| format!("{}: expected {expected:?}, got {said:?}", test.input_path)))
    })?;
    for test in &tests.tests {
        named.insert(dir.join(&test.input_path).canonicalize()?);
    }
    let data = named.iter().next().and_then(|file| file.parent()).ok_or("no fixture")?;
    let forgotten: Vec<_> = files(data)?.into_iter().filter(|file| !named.contains(file)).collect();
    let kind = dir.file_name().unwrap_or_default().to_string_lossy();
    let variant = variant(config);
    report.check(
        LANE,
        wrong.is_empty() && forgotten.is_empty(),
        format!("{kind}{variant}: health of {} objects {}{forgotten:?}", jobs.len(), wrong.join("; "))
            .replace("[]", ""),
    )
}

/// Which actions are offered, and what each makes of an object.
fn actions(report: &Report, argocd: &Argocd, dir: &Path) -> Result<()> {
    let tests: ActionTests = read(&dir.join("action_test.yaml"))?;
    for config in [PAUSED_IS_SUSPENDED, PAUSED_IS_HEALTHY] {
        let jobs: Vec<_> = tests.discovery_tests.iter().collect();
        let wrong = each(&jobs, |test| {
            let said = argocd.ask(config, "list-actions", &[text(&dir.join(&test.input_path))?])?;
            let mut said: Vec<_> =
                said.lines().skip(1).map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            said.sort();
            let mut expected: Vec<_> = test.result.iter().map(|a| format!("{} {}", a.name, a.disabled)).collect();
            expected.sort();
            Ok((said != expected).then(|| format!("{}: expected {expected:?}, got {said:?}", test.input_path)))
        })?;
        let variant = variant(config);
        let text = format!("FirmwareRollout: actions offered in {} states{variant}", jobs.len());
        report.check(LANE, wrong.is_empty(), told(&text, &wrong, &[]))?;
    }
    let jobs: Vec<_> = tests.action_tests.iter().collect();
    let wrong = each(&jobs, |test| {
        let expected: Value = read(&dir.join(&test.expected_output_path))?;
        let first = argocd.act(&dir.join(&test.input_path), &test.action)?;
        // At once: most often within the same second, where only a careful script finds another value.
        let again = argocd.home.join(format!("{}-again.yaml", test.action));
        fs::write(&again, first.to_string())?;
        let second = argocd.act(&again, &test.action)?;
        let key = format!("fota.dev/{}", test.action);
        let value = |object: &Value| object["metadata"]["annotations"][&key].as_str().unwrap_or_default().to_owned();
        let mut wrong = Vec::new();
        let mut found = first.clone();
        found["metadata"]["annotations"][&key] = "NOW".into();
        if found != expected {
            wrong.push(format!("expected {expected}, got {first}"));
        }
        if !is_now(&value(&first)) {
            wrong.push(format!("{:?} is not the time of the click", value(&first)));
        }
        if value(&first) == value(&second) {
            wrong.push(format!("the second click says {:?} again", value(&second)));
        }
        Ok((!wrong.is_empty()).then(|| format!("{} {}: {}", test.action, test.input_path, wrong.join(", "))))
    })?;
    let text = format!("FirmwareRollout: {} actions run, each twice", jobs.len());
    report.check(LANE, wrong.is_empty(), told(&text, &wrong, &[]))
}

/// Every object that `make test-flux` judges is as healthy to Argo CD as it is to Flux.
fn every_reason(report: &Report, argocd: &Argocd) -> Result<()> {
    let objects: BTreeMap<String, Value> = read(&root().join("tests/flux/testdata/objects.json"))?;
    let judged = fs::read_to_string(root().join("tests/flux/health.txt"))?;
    let lines = judged.lines().filter(|line| !line.starts_with('#'));
    let jobs: Vec<_> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let wrong = each(&jobs.iter().collect::<Vec<_>>(), |line| {
        let [kind, standing, reason, flux] = line[..] else { return Err(format!("what is {line:?}?").into()) };
        let name = format!("{kind} {standing} {reason}");
        let file = argocd.home.join(format!("{kind}-{standing}-{reason}.json"));
        fs::write(&file, objects.get(&name).ok_or_else(|| format!("no object {name}"))?.to_string())?;
        let said = argocd.ask(PAUSED_IS_SUSPENDED, "health", &[text(&file)?])?;
        let expected = match flux {
            "Current" => "STATUS: Healthy",
            "Failed" => "STATUS: Degraded",
            _ => "STATUS: Progressing",
        };
        Ok((said.lines().next() != Some(expected)).then(|| format!("{name}: {flux} to Flux, {said:?}")))
    })?;
    let text = format!("{} objects, one of each reason: as healthy as to Flux", jobs.len());
    report.check(LANE, wrong.is_empty() && jobs.len() == objects.len(), told(&text, &wrong, &[]))
}

fn variant(config: &str) -> &'static str {
    if config == PAUSED_IS_HEALTHY { ", paused is Healthy" } else { "" }
}

/// A finding with what is wrong about it, line by line, and the fixtures that nobody names.
fn told(what: &str, wrong: &[String], forgotten: &[PathBuf]) -> String {
    let forgotten = forgotten.iter().map(|file| format!("no test names {}", file.display()));
    let wrong: String = wrong.iter().cloned().chain(forgotten).map(|why| format!("\n         {why}")).collect();
    format!("{what}{wrong}")
}

/// A time of the last minutes, perhaps with a number behind it.
fn is_now(value: &str) -> bool {
    let time = value.get(..20).and_then(|time| time.parse::<jiff::Timestamp>().ok());
    time.is_some_and(|time| jiff::Timestamp::now().duration_since(time).as_secs().abs() < 300)
}

/// Argo CD's command line, without a cluster.
struct Argocd {
    program: PathBuf,
    home: PathBuf,
}

impl Argocd {
    fn ask(&self, config: &str, what: &str, arguments: &[&str]) -> Result<String> {
        let config = root().join(config);
        let mut command = Command::new(&self.program);
        command.env_clear().env("ARGOCD_BINARY_NAME", "argocd").env("HOME", &self.home).env("TMPDIR", &self.home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // What run-action shows is a difference; the object that it made is wanted whole.
        command.env("KUBECTL_EXTERNAL_DIFF", "sh -c 'cat \"$1\"'");
        command.args(["admin", "settings", "resource-overrides", what]).args(arguments);
        command.args(["--argocd-cm-path", text(&config)?]).stdin(Stdio::null());
        let output = command.output()?;
        if !output.status.success() {
            // Before the error it logs what it does.
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("argocd {what}: {}", complaint.lines().last().unwrap_or_default()).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The object that an action makes of another.
    fn act(&self, object: &Path, action: &str) -> Result<Value> {
        let said = self.ask(PAUSED_IS_SUSPENDED, "run-action", &[text(object)?, action])?;
        let made = said.split_once("\n\n").map(|(_, made)| made).unwrap_or_default();
        serde_yaml::from_str(made).map_err(|error| format!("{action}: {error}: {said}").into())
    }
}

/// Some at a time: each takes the program a second to start. Returns what was wrong, in order.
fn each<T: Sync>(jobs: &[&T], run: impl Fn(&T) -> Result<Option<String>> + Sync) -> Result<Vec<String>> {
    let (next, outcomes) = (Mutex::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let index = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    let Some(job) = jobs.get(index) else { return };
                    let outcome = run(job);
                    outcomes.lock().unwrap().push((index, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(index, _)| *index);
    let wrong: Result<Vec<_>> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    Ok(wrong?.into_iter().flatten().collect())
}

fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_yaml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path().canonicalize()?)).collect()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not text", path.display()).into())
}
