//! A Git repository on this machine, as the people who declare rollouts use it: commits, reverts, removals.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::harness::Result;

/// The one branch.
pub const BRANCH: &str = "main";

/// A repository with a work tree.
pub struct Repository {
    dir: PathBuf,
}

impl Repository {
    /// One with an empty folder `rollouts`.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("rollouts"))?;
        let repository = Self { dir: dir.to_owned() };
        repository.git(["init", "--quiet", "--initial-branch", BRANCH])?;
        Ok(repository)
    }

    /// As Argo CD is told of it.
    pub fn url(&self) -> String {
        format!("file://{}", self.dir.display())
    }

    /// Writes a file; it is not committed yet.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.dir.join(file), text)?)
    }

    /// Removes a file; it is not committed yet.
    pub fn remove(&self, file: &str) -> Result<()> {
        Ok(fs::remove_file(self.dir.join(file))?)
    }

    /// Commits everything, and returns the commit.
    pub fn commit(&self, message: &str) -> Result<String> {
        self.git(["add", "--all"])?;
        self.git(["commit", "--quiet", "--message", message])?;
        self.head()
    }

    /// `git revert` of the last commit.
    pub fn revert(&self) -> Result<String> {
        self.git(["revert", "--no-edit", "HEAD"])?;
        self.head()
    }

    fn head(&self) -> Result<String> {
        Ok(self.git(["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Runs git without reading what the user or the machine configured.
    fn git<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut command = Command::new("git");
        command.current_dir(&self.dir).stdin(Stdio::null());
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "story").env(format!("GIT_{who}_EMAIL"), "story@example.invalid");
        }
        let output = command.args(arguments).output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        Err(format!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end()).into())
    }
}
