//! The cluster that the demo runs in: a control plane of its own, or the one that `DEMO_KUBECONFIG` names.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kube::config::Kubeconfig;

use super::harness::binaries::Binaries;
use super::harness::control_plane::{ControlPlane, Options, SERVICE_ACCOUNT, rbac};
use super::harness::{Result, kubeconfig, root};

/// Where the operator's ServiceAccount lives, as the chart's README says.
const SYSTEM: &str = "fota-system";
/// Where the examples go. A number is added where a given cluster has one already.
const NAMESPACE: &str = "fota-demo";

/// A cluster with the CRDs, the operator's rights, and a namespace for the examples.
pub struct Cluster {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    dir: PathBuf,
    namespace: String,
    /// What a given cluster did not have before, newest last: removed at the end.
    made: Vec<String>,
    /// None: the cluster was given to us.
    own: Option<ControlPlane>,
}

impl Cluster {
    /// Starts one, or takes the one that `DEMO_KUBECONFIG` names. `dir` is for files that only we may read.
    pub fn start(dir: &Path) -> Result<Self> {
        let (own, kubeconfig) = match env::var_os("DEMO_KUBECONFIG").filter(|path| !path.is_empty()) {
            Some(given) => (None, PathBuf::from(given)),
            None => {
                let own = ControlPlane::start(&Options::default())?;
                let kubeconfig = own.kubeconfig();
                (Some(own), kubeconfig)
            }
        };
        let kubectl = Binaries::find()?.kubectl();
        let namespace = NAMESPACE.to_owned();
        Ok(Self { kubeconfig, kubectl, dir: dir.to_owned(), namespace, made: Vec::new(), own })
    }

    /// What it is, for a person.
    pub fn describe(&self) -> String {
        match &self.own {
            Some(_) => "etcd and kube-apiserver are ready".to_owned(),
            None => format!("using the cluster of {}", self.kubeconfig.display()),
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A command line for a person.
    pub fn kubectl(&self) -> &Path {
        &self.kubectl
    }

    /// The examples' namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The operator's namespace.
    pub const fn system(&self) -> &'static str {
        SYSTEM
    }

    /// Whether it is the demo's own.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Its servers still run, as far as we started them.
    pub fn alive(&self) -> bool {
        self.own.as_ref().is_none_or(ControlPlane::alive)
    }

    /// The administrator's client.
    pub async fn client(&self) -> Result<kube::Client> {
        let config = kubeconfig::load(&self.kubeconfig).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Installs CRDs, rights and namespaces.
    pub fn install(&mut self) -> Result<()> {
        let crds = root().join("crds");
        let mut names = Vec::new();
        for name in self.run(["create", "--dry-run=client", "-o", "name", "-f", text(&crds)?])?.lines() {
            if !self.has(name) {
                self.made.push(name.to_owned());
            }
            names.push(name.to_owned());
        }
        self.run(["apply", "-f", text(&crds)?])?;
        let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
        self.run(wait.into_iter().chain(names.iter().map(String::as_str)))?;

        if !self.has(&format!("namespace/{SYSTEM}")) {
            self.run(["create", "namespace", SYSTEM])?;
            self.made.push(format!("namespace/{SYSTEM}"));
        }
        let rights = rbac(SYSTEM, SERVICE_ACCOUNT)?;
        for name in self.feed(["create", "--dry-run=client", "-o", "name", "-f", "-"], &rights)?.lines() {
            if !self.has(&format!("{name} -n {SYSTEM}")) {
                self.made.push(format!("{name} -n {SYSTEM}"));
            }
        }
        self.feed(["apply", "-f", "-"], &rights)?;

        let mut number = 1;
        while self.has(&format!("namespace/{}", self.namespace)) {
            number += 1;
            self.namespace = format!("{NAMESPACE}-{number}");
        }
        self.run(["create", "namespace", &self.namespace])?;
        self.made.push(format!("namespace/{}", self.namespace));
        Ok(())
    }

    /// A kubeconfig with which the operator has the chart's rights and no others.
    pub fn operator_kubeconfig(&self) -> Result<PathBuf> {
        if let Some(own) = &self.own {
            return own.operator_kubeconfig(SYSTEM, SERVICE_ACCOUNT);
        }
        let token = self.run(["create", "token", SERVICE_ACCOUNT, "-n", SYSTEM, "--duration=1h"])?;
        let mut file = Kubeconfig::read_from(&self.kubeconfig)?;
        let current = file.current_context.clone().ok_or("DEMO_KUBECONFIG has no current context")?;
        let context = file.contexts.iter_mut().find(|c| c.name == current).and_then(|c| c.context.as_mut());
        let context = context.ok_or("DEMO_KUBECONFIG's current context is not in it")?;
        context.user = Some(SERVICE_ACCOUNT.to_owned());
        let cluster = context.cluster.clone();
        file.contexts.retain(|c| c.name == current);
        file.clusters.retain(|c| c.name == cluster);
        let mut value = serde_json::to_value(&file)?;
        value["users"] = serde_json::json!([{"name": SERVICE_ACCOUNT, "user": {"token": token.trim()}}]);
        let path = self.dir.join("operator.kubeconfig");
        fs::write(&path, value.to_string())?;
        Ok(path)
    }

    /// `kubectl apply -f FILE` in the examples' namespace.
    pub fn apply(&self, file: &Path) -> Result<String> {
        self.run(["apply", "-n", &self.namespace, "-f", text(file)?])
    }

    /// `kubectl` in the examples' namespace.
    pub fn ask<'a>(&'a self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        self.run(["-n", &self.namespace].into_iter().chain(arguments))
    }

    /// Deletes the examples, and from a given cluster everything that the demo put there. The operator must still run:
    /// the finalizers of rollouts and accounts are its to remove.
    pub fn clean(&self) -> Result<()> {
        if self.is_own() {
            return Ok(());
        }
        self.ask(["delete", "firmwarerollouts.fota.dev", "--all", "--timeout=60s"])?;
        self.ask(["delete", "otaaccounts.fota.dev", "--all", "--timeout=60s"])?;
        for made in self.made.iter().rev() {
            self.run(["delete", "--wait=false", "--ignore-not-found"].into_iter().chain(made.split(' ')))?;
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.run(["get", "-o", "name"].into_iter().chain(name.split(' '))).is_ok()
    }

    fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        self.feed(arguments, "")
    }

    /// Runs `kubectl` as the administrator, without reading or writing anything in the user's home.
    fn feed<'a>(&self, arguments: impl IntoIterator<Item = &'a str>, input: &str) -> Result<String> {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", self.dir.join("kubectl-cache"));
        command.env("KUBERC", "off").args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A broken pipe means that kubectl has ended: its message says more than ours could.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(format!("kubectl {}: {}", arguments.join(" "), complaint.trim_end()).into())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not text", path.display()).into())
}
