//! Servers that end when we do.
//!
//! A destructor does not run on SIGKILL, nor for a `static`. The kernel's parent-death signal does not fit either: it
//! follows the spawning *thread*, which under libtest ends with the first test, and setting it takes `unsafe`. So each
//! server gets a small shell as its parent, which holds the read end of a pipe. Rust marks the write end
//! close-on-exec, so this process alone holds it; when it is gone, however it went, the shell reads end-of-file, kills
//! the server and removes its data. A line in the pipe means: kill it and start it again.

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::Result;
use super::process::Process;

/// `$1` the folder to remove, `$2` the log, then the server's command line. Prints the server's process number at every
/// start. The log goes on over restarts.
///
/// The folder above goes too once it is empty: the last of several servers removes it.
///
/// A server must not inherit that its supervisor is deaf: a SIGTERM before its own handler would be lost. So it says its
/// number itself, once it hears again.
const SUPERVISOR: &str = r#"
trap '' HUP INT QUIT TERM
dir=$1 log=$2
shift 2
: >"$log"
start() {
  (
    trap - HUP INT QUIT TERM
    exec /bin/sh -c 'echo "$$" >&3; exec "$@" 3>&-' server "$@"
  ) </dev/null 3>&1 >>"$log" 2>&1 &
  server=$!
}
end() {
  kill -KILL "$server"
  wait "$server"
}
start "$@"
while read -r _; do
  end
  start "$@"
done
end
rm -rf -- "$dir"
rmdir -- "${dir%/*}"
"#;

/// A running server and its folder. Dropping it ends both.
#[derive(Debug)]
pub struct Supervised {
    name: &'static str,
    supervisor: Child,
    /// Some while the server shall run; closing it is the signal to end.
    hold: Option<ChildStdin>,
    /// Where the supervisor says the server's number.
    said: BufReader<ChildStdout>,
    server: Process,
    dir: PathBuf,
}

impl Supervised {
    /// Starts `program`. From here on `dir` belongs to it: it holds the log, and is removed with it.
    pub fn spawn<A: AsRef<OsStr>>(
        name: &'static str,
        dir: &Path,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let mut supervisor = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(dir)
            .arg(log(dir))
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Its own group: a Ctrl-C at the terminal is for us. Our end is what ends the server.
            .process_group(0)
            .spawn()
            .map_err(|e| format!("{name}: cannot run /bin/sh: {e}"))?;
        let hold = supervisor.stdin.take();
        let stdout = supervisor.stdout.take().ok_or_else(|| format!("{name}: its supervisor is mute"))?;
        let mut said = BufReader::new(stdout);
        let server = started(name, &mut said)?;
        Ok(Self { name, supervisor, hold, said, server, dir: dir.to_owned() })
    }

    /// SIGKILL, if it still runs, and then the same again.
    pub fn restart(&mut self) -> Result<()> {
        let hold = self.hold.as_mut().ok_or_else(|| format!("{} was stopped", self.name))?;
        hold.write_all(b"\n")?;
        self.server = started(self.name, &mut self.said)?;
        Ok(())
    }

    /// The server itself.
    pub fn process(&self) -> Process {
        self.server
    }

    /// Whether it runs.
    pub fn alive(&self) -> bool {
        self.server.alive()
    }

    /// What it wrote, at most the last `lines` lines.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(log(&self.dir)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<_> = text.lines().collect();
        let tail = all.iter().skip(all.len().saturating_sub(lines)).map(|line| format!("  {}: {line}\n", self.name));
        tail.collect()
    }

    /// Ends it and waits until it and its folder are gone.
    pub fn stop(&mut self) {
        self.hold = None;
        // An error means that it was waited for before.
        let _ = self.supervisor.wait();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server that the supervisor has just started.
fn started(name: &str, said: &mut BufReader<ChildStdout>) -> Result<Process> {
    let mut line = String::new();
    said.read_line(&mut line)?;
    let pid = line.trim().parse().map_err(|_| format!("{name}: its supervisor did not start it"))?;
    // Some shells reap a child as soon as it ends: a server that failed at once may be gone by now.
    Ok(Process::of_child(pid))
}

fn log(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// A new folder under the system's temporary one, which only we can read: tokens and keys go into it.
pub fn temporary_dir(label: &str) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("fota-{label}-{}-{}", std::process::id(), random()));
    private_dir(&dir)?;
    Ok(dir)
}

/// Makes a folder that only we can read.
pub fn private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()).into())
}

/// Sixteen hex digits from the randomness that hash maps are seeded with: enough for names and throw-away tokens.
pub fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
