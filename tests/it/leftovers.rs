//! Nothing that the harness starts outlives the process that started it, whichever way that ends.

use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::harness::control_plane::{ControlPlane, Options};
use super::harness::process::Process;
use super::harness::supervised::{Supervised, private_dir, temporary_dir};
use super::harness::wait;

/// Which part [`helper`] shall play; without it, it plays none.
const PART: &str = "FOTA_TEST_HELPER";
/// The file in which it says what it started.
const REPORT: &str = "FOTA_TEST_REPORT";

const LIMIT: Duration = Duration::from_secs(30);

/// What must be gone.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    processes: Vec<Process>,
    dir: PathBuf,
}

impl Started {
    fn gone(&self) -> bool {
        !self.dir.exists() && self.processes.iter().all(|process| !process.alive())
    }
}

/// A folder of this test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(temporary_dir("test").unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that would run for ten minutes, with a file in its folder.
fn sleeper(home: &Path) -> (Supervised, Started) {
    private_dir(home).unwrap();
    let dir = home.join("server");
    private_dir(&dir).unwrap();
    fs::write(dir.join("data"), "data").unwrap();
    let server = Supervised::spawn("sleep", &dir, Path::new("sleep"), ["600"]).unwrap();
    let started = Started { processes: vec![server.process()], dir: home.to_owned() };
    (server, started)
}

/// Not a test: the body of the child processes below, which run this binary with this name as the filter.
#[test]
fn helper() {
    let Some(part) = env::var_os(PART) else { return };
    let report = PathBuf::from(env::var_os(REPORT).unwrap());
    let say = |started: &Started| {
        let part = report.with_extension("part");
        fs::write(&part, serde_json::to_vec(started).unwrap()).unwrap();
        fs::rename(part, &report).unwrap();
    };
    let sleeps = || sleeper(&report.with_extension("home"));
    match part.to_str().unwrap() {
        "sleep" => {
            let (_server, started) = sleeps();
            say(&started);
            loop {
                std::thread::park();
            }
        }
        "panic" => {
            let (_server, started) = sleeps();
            say(&started);
            panic!("as asked");
        }
        // As a `static` is left: never dropped.
        "exit" => {
            let (server, started) = sleeps();
            say(&started);
            std::mem::forget(server);
        }
        "control-plane" => {
            let control_plane = ControlPlane::start(&Options::default()).unwrap();
            let processes = control_plane.processes().map(|(_, process)| process).into();
            say(&Started { processes, dir: control_plane.home().to_owned() });
            loop {
                std::thread::park();
            }
        }
        other => panic!("no part {other}"),
    }
}

/// Runs [`helper`] in a process of its own, until it has said what it started.
fn child(part: &str, scratch: &Scratch) -> (Child, Started) {
    let report = scratch.0.join("report");
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "leftovers::helper", "--nocapture"])
        .env(PART, part)
        .env(REPORT, &report)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = wait::until("the helper's report", Duration::from_secs(120), || {
        if report.exists() {
            return Ok(Some(serde_json::from_slice::<Started>(&fs::read(&report)?)?));
        }
        // It may have ended right after its report.
        match child.try_wait()? {
            Some(status) if !report.exists() => Err(format!("the helper ended without a report: {status}").into()),
            _ => Ok(None),
        }
    });
    (child, started.unwrap())
}

fn killed(mut child: Child, started: &Started) -> ExitStatus {
    assert!(!started.gone() && started.processes.iter().all(|process| process.alive()), "{started:?}");
    child.kill().unwrap();
    let status = child.wait().unwrap();
    wait::until_true("everything gone after SIGKILL", LIMIT, || started.gone()).unwrap();
    status
}

#[test]
fn a_killed_process_leaves_no_server() {
    let scratch = Scratch::new();
    let (child, started) = child("sleep", &scratch);
    assert_eq!(killed(child, &started).signal(), Some(9));
}

#[test]
fn a_killed_process_leaves_no_control_plane() {
    let scratch = Scratch::new();
    let (child, started) = child("control-plane", &scratch);
    assert_eq!(killed(child, &started).signal(), Some(9));
}

#[test]
fn a_panic_leaves_no_server() {
    let scratch = Scratch::new();
    let (mut child, started) = child("panic", &scratch);
    assert!(!child.wait().unwrap().success());
    wait::until_true("everything gone after a panic", LIMIT, || started.gone()).unwrap();
}

#[test]
fn a_process_that_forgets_its_server_leaves_none() {
    let scratch = Scratch::new();
    let (mut child, started) = child("exit", &scratch);
    assert!(child.wait().unwrap().success());
    wait::until_true("everything gone after the end", LIMIT, || started.gone()).unwrap();
}

#[test]
fn dropping_it_returns_when_all_is_gone() {
    let scratch = Scratch::new();
    let (server, started) = sleeper(&scratch.0.join("home"));
    assert!(server.alive());
    drop(server);
    assert!(started.gone(), "{started:?}");
}

#[test]
fn a_server_that_ended_by_itself_is_seen_and_its_log_kept() {
    let scratch = Scratch::new();
    let home = scratch.0.join("home");
    private_dir(&home).unwrap();
    let dir = home.join("server");
    private_dir(&dir).unwrap();
    let server = Supervised::spawn("broken", &dir, Path::new("sh"), ["-c", "echo no such flag >&2; exit 1"]).unwrap();
    wait::until_true("its end", LIMIT, || !server.alive()).unwrap();
    assert_eq!(server.log_tail(5), "  broken: no such flag\n");
}

#[test]
fn a_child_that_was_reaped_before_anyone_looked_has_ended() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let gone = Process::of_child(child.id());
    assert!(!gone.alive());
    // Sending to it does nothing, whoever has its number by now.
    gone.signal("KILL").unwrap();
}

#[test]
fn a_number_that_passed_to_another_process_is_not_the_same_process() {
    let current = Process::current().unwrap();
    assert!(current.alive());
    let earlier = Process { start: current.start - 1, ..current };
    assert!(!earlier.alive());
    // Were it sent, this test would not come to its end.
    earlier.signal("KILL").unwrap();
}
