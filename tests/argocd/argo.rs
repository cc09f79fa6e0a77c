//! Argo CD: its repo-server, application-controller and API server, with a Redis, as processes that end with this one.
//! What an Application is to do never comes in here.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::harness::control_plane::{ControlPlane, free_port};
use super::harness::supervised::{Supervised, private_dir};
use super::harness::{Result, root, wait};

/// Where Argo CD lives.
pub const NAMESPACE: &str = "argocd";

const START_LIMIT: Duration = Duration::from_secs(90);

/// The program, all parts of Argo CD in one.
pub fn program() -> Result<PathBuf> {
    Ok(PathBuf::from(ask_build(&[])?))
}

fn ask_build(arguments: &[&str]) -> Result<String> {
    let script = root().join("tests/argocd/build.sh");
    let output = Command::new(&script).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{} failed: {}; see its message above", script.display(), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// What runs. Dropped in this order.
pub struct ArgoCd {
    server: Supervised,
    controller: Supervised,
    repo_server: Supervised,
    redis: Supervised,
    program: PathBuf,
    /// A home for the command line, in the API server's folder.
    home: PathBuf,
    /// Where the API server listens.
    address: String,
}

impl ArgoCd {
    /// Installs it into a control plane, and starts it in folders under `home`.
    pub fn start(control_plane: &ControlPlane, home: &Path, config: &Path) -> Result<Self> {
        let program = program()?;
        install(control_plane, config)?;

        let redis_port = free_port()?;
        let dir = folder(home, "redis")?;
        let flags = ["--bind 127.0.0.1", "--save ''", "--appendonly no", &format!("--port {redis_port}")].join(" ");
        let line = ["sh", "-c", &format!("cd \"$0\" && exec redis-server {flags}"), text(&dir)?];
        let redis = Supervised::spawn("redis", &dir, Path::new("/usr/bin/env"), line)?;
        listens(&redis, redis_port)?;
        let redis_at = format!("127.0.0.1:{redis_port}");

        let part = |name: &'static str, arguments: &[&str]| -> Result<Supervised> {
            let dir = folder(home, name)?;
            let environment = environment(control_plane, &dir, name)?;
            let line = environment.iter().map(String::as_str).chain([text(&program)?]).chain(arguments.iter().copied());
            Supervised::spawn(name, &dir, Path::new("/usr/bin/env"), line)
        };
        let (port, metrics) = (free_port()?.to_string(), free_port()?.to_string());
        let local = ["--address", "127.0.0.1", "--metrics-address", "127.0.0.1", "--logformat", "text"];
        let own = ["--port", &port, "--metrics-port", &metrics, "--redis", &redis_at, "--disable-tls"];
        let repo_server = part("argocd-repo-server", &[&local[..], &own].concat())?;
        listens(&repo_server, port.parse()?)?;
        let repo_server_at = format!("127.0.0.1:{port}");

        let shared = ["--namespace", NAMESPACE, "--redis", &redis_at];
        let shared = [&shared[..], &["--repo-server", &repo_server_at, "--repo-server-plaintext"]].concat();
        let metrics = free_port()?.to_string();
        let own = ["--metrics-port", &metrics, "--logformat", "text"];
        let controller = part("argocd-application-controller", &[&shared[..], &own].concat())?;

        let (port, metrics) = (free_port()?.to_string(), free_port()?.to_string());
        let own = ["--port", &port, "--metrics-port", &metrics, "--insecure", "--disable-auth", "--staticassets", "."];
        let server = part("argocd-server", &[&shared[..], &local, &own].concat())?;
        listens(&server, port.parse()?)?;
        let home = home.join("argocd-server");
        Ok(Self { server, controller, repo_server, redis, program, home, address: format!("127.0.0.1:{port}") })
    }

    /// What it is, as it says.
    pub fn version(&self) -> Result<String> {
        let version = self.command(["version", "--client", "--short"])?;
        Ok(version.trim().replace("argocd: ", "Argo CD "))
    }

    /// Whether all of it runs.
    pub fn alive(&self) -> bool {
        self.parts().iter().all(|part| part.alive())
    }

    /// The last lines of its logs.
    pub fn log_tail(&self, lines: usize) -> String {
        self.parts().iter().map(|part| part.log_tail(lines)).collect()
    }

    /// Copies its logs to where they survive us.
    pub fn keep_logs(&self, dir: &Path) -> Result<()> {
        let servers = self.home.parent().unwrap_or(&self.home);
        for name in ["argocd-server", "argocd-application-controller", "argocd-repo-server"] {
            let kept = dir.join(format!("{name}.log"));
            fs::copy(servers.join(name).join("log"), &kept)?;
            eprintln!("log: {}", kept.display());
        }
        Ok(())
    }

    fn parts(&self) -> [&Supervised; 4] {
        [&self.server, &self.controller, &self.repo_server, &self.redis]
    }

    /// Runs a resource's action, as a person does it with Argo CD's command line.
    pub fn act(&self, application: &str, rollout: &str, action: &str) -> Result<()> {
        let resource = ["--kind", "FirmwareRollout", "--resource-name", rollout];
        self.command(["app", "actions", "run", application, action].into_iter().chain(resource)).map(drop)
    }

    /// The actions of a resource that are enabled, in order.
    pub fn actions(&self, application: &str, rollout: &str) -> Result<Vec<String>> {
        let resource = ["--kind", "FirmwareRollout", "--resource-name", rollout];
        let table = self.command(["app", "actions", "list", application].into_iter().chain(resource))?;
        let columns = table.lines().skip(1).map(|line| line.split_whitespace().skip(3).collect::<Vec<_>>());
        let enabled = columns.filter(|columns| columns.get(1) == Some(&"false"));
        let mut names: Vec<_> = enabled.filter_map(|columns| columns.first().map(|name| (*name).to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Argo CD's command line, which neither reads nor writes anything in the user's home.
    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.env_clear().env("HOME", &self.home).env("PATH", path()).env("ARGOCD_BINARY_NAME", "argocd");
        command.args(arguments).args(["--server", &self.address, "--plaintext"]).stdin(Stdio::null());
        let output = command.output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?);
        }
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(format!("argocd {}: {}", arguments.join(" "), complaint.trim_end()).into())
    }
}

/// Argo CD's definitions, its namespace, the settings that it does not run without, and the customizations.
fn install(control_plane: &ControlPlane, config: &Path) -> Result<()> {
    let crds = ask_build(&["crds"])?;
    for kind in ["application", "applicationset", "appproject"] {
        // Server-side: the definitions are too large for the annotation that a client-side apply leaves.
        control_plane.kubectl_ok(["apply", "--server-side", "-f", &format!("{crds}/{kind}-crd.yaml")])?;
    }
    // Not `kubectl wait`: it fails on a definition that has no conditions yet.
    let served = ["get", "applications.argoproj.io,applicationsets.argoproj.io,appprojects.argoproj.io", "-A"];
    wait::until_true("Argo CD's resources served", START_LIMIT, || {
        control_plane.kubectl(served).is_ok_and(|output| output.status.success())
    })?;
    let part = "labels: {app.kubernetes.io/part-of: argocd}";
    control_plane.apply_yaml(&format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: argocd-secret, namespace: {NAMESPACE}, {part}}}
stringData: {{server.secretkey: only-for-this-story}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: argocd-rbac-cm, namespace: {NAMESPACE}, {part}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: argocd-cm, namespace: {NAMESPACE}, {part}}}
data: {{}}
---
apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {{name: default, namespace: {NAMESPACE}}}
spec:
  sourceRepos: ['*']
  destinations: [{{namespace: '*', server: '*'}}]
  clusterResourceWhitelist: [{{group: '*', kind: '*'}}]
"
    ))?;
    customize(control_plane, config)
}

/// Brings the customizations to a running Argo CD, as docs/argocd.md says.
pub fn customize(control_plane: &ControlPlane, config: &Path) -> Result<()> {
    let patch = ["patch", "configmap", "argocd-cm", "-n", NAMESPACE, "--type", "merge", "--patch-file", text(config)?];
    control_plane.kubectl_ok(patch).map(drop)
}

/// Everything that a part is told by its environment, and nothing of ours.
fn environment(control_plane: &ControlPlane, dir: &Path, name: &str) -> Result<Vec<String>> {
    let dir = text(dir)?;
    let kubeconfig = control_plane.kubeconfig();
    Ok(vec![
        "-i".to_owned(),
        format!("PATH={}", path()),
        format!("HOME={dir}"),
        format!("TMPDIR={dir}"),
        format!("KUBECONFIG={}", text(&kubeconfig)?),
        format!("ARGOCD_BINARY_NAME={name}"),
        // https://kubernetes.default.svc is the kubeconfig's cluster.
        "ARGOCD_FAKE_IN_CLUSTER=true".to_owned(),
        "ARGOCD_GPG_ENABLED=false".to_owned(),
        format!("ARGOCD_TLS_DATA_PATH={dir}/tls"),
        format!("ARGOCD_SSH_DATA_PATH={dir}/ssh"),
        format!("ARGOCD_PLUGINSOCKFILEPATH={dir}/plugins"),
        format!("ARGOCD_ASK_PASS_SOCK={dir}/ask-pass.sock"),
    ])
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned())
}

fn folder(home: &Path, name: &str) -> Result<PathBuf> {
    let dir = home.join(name);
    private_dir(&dir)?;
    for inner in ["tls", "ssh", "plugins"] {
        fs::create_dir(dir.join(inner))?;
    }
    Ok(dir)
}

/// Waits until somebody listens there, as long as the server lives.
fn listens(server: &Supervised, port: u16) -> Result<()> {
    let found = wait::until(&format!("port {port} open"), START_LIMIT, || {
        if !server.alive() {
            return Err("it ended while it was starting".into());
        }
        Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(()))
    });
    found.map_err(|error| format!("{error}\n{}", server.log_tail(30)).into())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is not text", path.display()).into())
}
