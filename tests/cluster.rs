//! `make cluster`: the test control plane, kept running in the background for a person to play with.
//!
//! `up` starts this program once more, detached from the terminal, and returns when the control plane is ready. That
//! second process owns the servers, so ending it is all that `down` has to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

mod harness;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use harness::binaries::Binaries;
use harness::control_plane::{ControlPlane, Options, SERVICE_ACCOUNT};
use harness::process::Process;
use harness::{Result, wait};
use serde::{Deserialize, Serialize};

/// Where the chart goes, as its README says.
const NAMESPACE: &str = "fota-system";

/// What `up` left for `down` and for the next `up`.
#[derive(Debug, Serialize, Deserialize)]
struct Running {
    /// The background process.
    process: Process,
    /// The servers' folder: gone when they are.
    home: PathBuf,
}

/// One control plane for each user; tests pass `--dir` to have one aside.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn default_dir() -> Result<PathBuf> {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cache")));
        Ok(cache.ok_or("neither HOME nor XDG_CACHE_HOME is set")?.join("fota/cluster"))
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    fn state(&self) -> PathBuf {
        self.dir.join("running.json")
    }

    /// What runs, if its process is still the one that was written down.
    fn running(&self) -> Option<Running> {
        let running: Running = serde_json::from_slice(&fs::read(self.state()).ok()?).ok()?;
        running.process.alive().then_some(running)
    }

    /// Keeps a second `up` or `down` waiting until the first is through.
    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.dir)?;
        let file = File::create(self.dir.join("lock"))?;
        file.lock()?;
        Ok(file)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (command, dir) = match arguments.as_slice() {
        [command] => (*command, Place::default_dir()?),
        [command, "--dir", dir] => (*command, PathBuf::from(dir)),
        _ => ("", PathBuf::new()),
    };
    let place = Place { dir };
    match command {
        "up" => up(&place),
        "down" => down(&place),
        "serve" => serve(&place),
        _ => Err("usage: cluster up|down [--dir DIR]".into()),
    }
}

fn up(place: &Place) -> Result<()> {
    let _lock = place.lock()?;
    if place.running().is_some() {
        println!("The control plane is already up.");
        return how_to(place);
    }
    // Here and not in the background, because it may take minutes and says so.
    Binaries::find()?;
    let log = File::create(place.log())?;
    // A new session: closing the terminal is not its end.
    let mut server = Command::new("setsid")
        .arg(env::current_exe()?)
        .args(["serve", "--dir"])
        .arg(&place.dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|e| format!("cannot run setsid (package util-linux): {e}"))?;
    let up = wait::until("the control plane ready", Duration::from_secs(300), || {
        let ended = server.try_wait()?.is_some();
        Ok(if ended { Some(false) } else { place.running().map(|_| true) })
    });
    match up {
        Ok(true) => {
            println!("The control plane is up: etcd and kube-apiserver, no nodes, no controllers.");
            how_to(place)
        }
        Ok(false) => Err(format!("it did not start:\n{}", fs::read_to_string(place.log())?).into()),
        Err(error) => {
            // Ours alone, and its servers end with it.
            let _ = server.kill();
            Err(error)
        }
    }
}

fn how_to(place: &Place) -> Result<()> {
    let kubectl = Binaries::find()?.kubectl();
    println!();
    println!("  export KUBECONFIG={}", place.kubeconfig().display());
    println!("  {} get namespaces", kubectl.display());
    println!();
    println!("The operator's ServiceAccount is {NAMESPACE}/{SERVICE_ACCOUNT}. `make cluster-down` ends it all.");
    Ok(())
}

fn down(place: &Place) -> Result<()> {
    let _lock = place.lock()?;
    if let Some(Running { process, home }) = place.running() {
        process.signal("TERM")?;
        let gone = || !process.alive() && !home.exists();
        wait::until_true(&format!("{process} and {} gone", home.display()), Duration::from_secs(30), gone)?;
        println!("The control plane is down.");
    } else {
        println!("No control plane is up.");
    }
    for file in [place.state(), place.kubeconfig(), place.log()] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// The background process. It ends by a signal, and what supervises the servers sees to the rest.
fn serve(place: &Place) -> Result<()> {
    let control_plane = ControlPlane::start(&Options::default())?;
    control_plane.install_crds()?;
    control_plane.kubectl_ok(["create", "namespace", NAMESPACE])?;
    control_plane.install_rbac(NAMESPACE)?;
    fs::copy(control_plane.kubeconfig(), place.kubeconfig())?;
    let running = Running { process: Process::current()?, home: control_plane.home().to_owned() };
    write_whole(&place.state(), &serde_json::to_vec(&running)?)?;
    while control_plane.alive() {
        std::thread::sleep(Duration::from_secs(1));
    }
    // Then the next `up` starts afresh, instead of calling half a control plane up.
    Err(format!("a server ended:\n{}", control_plane.log_tail()).into())
}

/// Who reads it finds all or nothing.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, bytes)?;
    Ok(fs::rename(part, path)?)
}
