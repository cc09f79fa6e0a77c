//! Naming a process so that a later one with the same number is not taken for it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Result;

/// A process: its number, and when it started (clock ticks since boot).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub start: u64,
}

impl Process {
    /// This one.
    pub fn current() -> Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has this number now.
    pub fn of(pid: u32) -> Result<Self> {
        let (_, start) = stat(pid).ok_or_else(|| format!("no process {pid}"))?;
        Ok(Self { pid, start })
    }

    /// The process that has this number now, or had it until a moment ago.
    ///
    /// For a number that a parent just reported: a child that ended at once may be gone already, and no later process
    /// started at tick 0.
    pub fn of_child(pid: u32) -> Self {
        Self::of(pid).unwrap_or(Self { pid, start: 0 })
    }

    /// Whether it still runs. One that has ended and was not waited for yet does not.
    pub fn alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X'))
    }

    /// Sends a signal (`KILL`, `TERM`), unless the number has passed to another process.
    ///
    /// Through the `kill` program: the system call would need `unsafe`.
    pub fn signal(self, name: &str) -> Result<()> {
        if self.alive() {
            std::process::Command::new("kill").args(["-s", name, &self.pid.to_string()]).status()?;
        }
        Ok(())
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

/// State and start time, from proc(5). The name before them is in parentheses and may hold anything, `)` included.
fn stat(pid: u32) -> Option<(char, u64)> {
    let path: PathBuf = ["/proc", &pid.to_string(), "stat"].iter().collect();
    let text = std::fs::read_to_string(path).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    // starttime is field 22 of the line, state field 3.
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}
