//! Where etcd, kube-apiserver and kubectl are.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Result, root};

/// The folder that `tests/kube/build.sh` found or filled.
#[derive(Debug, Clone)]
pub struct Binaries {
    dir: PathBuf,
}

impl Binaries {
    /// Asks `tests/kube/build.sh`; the first time on a machine that takes minutes, and it says so on stderr.
    pub fn find() -> Result<Self> {
        let script = root().join("tests/kube/build.sh");
        let output = Command::new(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|e| format!("cannot run {}: {e}", script.display()))?;
        if !output.status.success() {
            return Err(format!("{} failed: {}; see its message above", script.display(), output.status).into());
        }
        Ok(Self { dir: PathBuf::from(String::from_utf8(output.stdout)?.trim_end()) })
    }

    pub fn etcd(&self) -> PathBuf {
        self.dir.join("etcd")
    }

    pub fn api_server(&self) -> PathBuf {
        self.dir.join("kube-apiserver")
    }

    pub fn kubectl(&self) -> PathBuf {
        self.dir.join("kubectl")
    }
}
