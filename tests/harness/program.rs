//! `fota` as a process of its own: the operator, or the simulated cloud.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::Process;
use super::supervised::{Supervised, private_dir};
use super::{Result, wait};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Asks nobody's proxy for addresses of this machine.
const NO_PROXY: &[&str] = &["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// `fota`, running. It ends when this process does, however that ends.
pub struct Program {
    name: &'static str,
    server: Supervised,
    log: PathBuf,
}

impl Program {
    /// Starts `fota` with these arguments; its log goes into a folder of its own under `home`. The process that owns the
    /// last such folder takes `home` with it.
    pub fn start(name: &'static str, home: &Path, proxy: bool, arguments: &[&str]) -> Result<Self> {
        let dir = home.join(name);
        private_dir(&dir)?;
        let fota = fota()?;
        let fota = fota.to_str().ok_or("the path of fota is not text")?;
        let mut line = Vec::new();
        for variable in NO_PROXY.iter().filter(|_| !proxy) {
            line.extend(["-u", *variable]);
        }
        line.push(fota);
        line.extend(arguments);
        let server = Supervised::spawn(name, &dir, Path::new("/usr/bin/env"), line)?;
        Ok(Self { name, server, log: dir.join("log") })
    }

    /// Whether it runs.
    pub fn alive(&self) -> bool {
        self.server.alive()
    }

    /// The folder that goes when it does.
    pub fn dir(&self) -> &Path {
        self.log.parent().unwrap_or(&self.log)
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its last lines.
    pub fn tail(&self, lines: usize) -> String {
        self.server.log_tail(lines)
    }

    /// Waits until its log has a line that `pick` takes.
    pub fn says<T>(&self, what: &str, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let found = wait::until(what, START_LIMIT, || {
            // The shell makes the file when it starts the program, which may be later than now.
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let found = text.lines().find_map(&pick);
            match found {
                None if !self.alive() => Err(format!("{} ended while it was starting", self.name).into()),
                found => Ok(found),
            }
        });
        found.map_err(|error| format!("{error}\n{}", self.tail(20)).into())
    }

    /// The process that runs now.
    pub fn process(&self) -> Process {
        self.server.process()
    }

    /// SIGKILL, if it still runs, and then the same again; the log goes on.
    pub fn restart(&mut self) -> Result<()> {
        self.server.restart()
    }

    /// Copies its log to where it survives us.
    pub fn keep_log(&self, dir: &Path) -> Result<PathBuf> {
        let kept = dir.join(format!("{}.log", self.name));
        fs::copy(&self.log, &kept)?;
        Ok(kept)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> Result<()> {
        self.server.process().signal("TERM")?;
        let ended = wait::until_true(&format!("{} gone", self.name), STOP_LIMIT, || !self.server.alive());
        self.server.stop();
        ended
    }
}

/// The binary that cargo put next to the folder of examples, or of tests, that this one is in.
fn fota() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let fota = this.parent().and_then(Path::parent).ok_or("this program is in no folder")?.join("fota");
    if fota.is_file() {
        return Ok(fota);
    }
    Err(format!("{} is missing: run `cargo build --bin fota` (make does)", fota.display()).into())
}
