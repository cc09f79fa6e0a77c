//! etcd and kube-apiserver, as one thing to start, ask and stop.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::binaries::Binaries;
use super::process::Process;
use super::supervised::{Supervised, private_dir, random, temporary_dir};
use super::{Result, kubeconfig, root, wait};

/// The chart's ServiceAccount.
pub const SERVICE_ACCOUNT: &str = "fota";

/// How long the servers may take; three seconds are usual, and a compiler next door makes it seven.
const START_LIMIT: Duration = Duration::from_secs(90);

/// How often other ports are tried when somebody took ours between our looking and the server's listening.
const PORT_ATTEMPTS: u32 = 5;

/// What may differ from one control plane to the next.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Appended to kube-apiserver's command line.
    pub api_server_flags: Vec<String>,
}

/// A running control plane. Dropping it stops the servers and removes their data.
#[derive(Debug)]
pub struct ControlPlane {
    // Dropped in this order: without etcd the API server would fill its log while it is waiting to be stopped.
    api_server: Mutex<Supervised>,
    etcd: Supervised,
    binaries: Binaries,
    /// The API server's folder; kubeconfigs go in it.
    dir: PathBuf,
    url: String,
    ca: Vec<u8>,
    /// `kubectl apply` of the same cluster-wide object by two tests at once: both would create, and one be refused.
    cluster_wide: Mutex<()>,
    counter: AtomicU32,
}

/// Why an attempt did not come up.
enum Failure {
    PortTaken(String),
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    pub fn start(options: &Options) -> Result<Self> {
        let binaries = Binaries::find()?;
        let mut taken = String::new();
        for _ in 0..PORT_ATTEMPTS {
            match Self::attempt(options, &binaries) {
                Ok(control_plane) => return Ok(control_plane),
                Err(Failure::PortTaken(log)) => taken = log,
                Err(Failure::Other(error)) => return Err(error),
            }
        }
        Err(format!("no free port in {PORT_ATTEMPTS} attempts; the last one:\n{taken}").into())
    }

    fn attempt(options: &Options, binaries: &Binaries) -> Result<Self, Failure> {
        let home = temporary_dir("kube")?;
        let etcd_dir = home.join("etcd");
        let dir = home.join("kube-apiserver");
        private_dir(&etcd_dir)?;

        let etcd_port = free_port()?;
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let etcd = Supervised::spawn(
            "etcd",
            &etcd_dir,
            &binaries.etcd(),
            [
                // The data is thrown away: a test need not wait for the disk.
                "--unsafe-no-fsync",
                "--log-level=warn",
                "--listen-peer-urls=http://127.0.0.1:0",
                &format!("--listen-client-urls={etcd_url}"),
                &format!("--advertise-client-urls={etcd_url}"),
                &format!("--data-dir={}", etcd_dir.join("data").display()),
            ],
        )?;
        // kube-apiserver gives up on an etcd that is not there yet.
        ready("etcd", &etcd, || connects(etcd_port))?;

        // Not earlier: until its server runs, nobody would remove it.
        private_dir(&dir)?;
        let token = random() + &random();
        let tokens = dir.join("tokens.csv");
        fs::write(&tokens, format!("{token},admin,admin,system:masters\n"))?;
        let port = free_port()?;
        let flags = [
            format!("--etcd-servers={etcd_url}"),
            format!("--secure-port={port}"),
            format!("--cert-dir={}", dir.display()),
            format!("--token-auth-file={}", tokens.display()),
            // The serving key signs the ServiceAccount tokens too. It is made before they are set up, and this saves
            // us making a key.
            format!("--service-account-signing-key-file={}", dir.join("apiserver.key").display()),
            format!("--service-account-key-file={}", dir.join("apiserver.key").display()),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            // It would refuse a loopback address, and nobody needs the `kubernetes` Endpoints here.
            "--endpoint-reconciler-type=none".into(),
            // The default allows everything to everybody.
            "--authorization-mode=RBAC".into(),
        ];
        let flags = flags.iter().chain(&options.api_server_flags);
        let api_server = Supervised::spawn("kube-apiserver", &dir, &binaries.api_server(), flags)?;
        ready("kube-apiserver", &api_server, || connects(port))?;

        let url = format!("https://127.0.0.1:{port}");
        let ca = fs::read(dir.join("apiserver.crt"))?;
        kubeconfig::write(&dir.join("admin.kubeconfig"), &url, &ca, "admin", "default", &token)?;
        let control_plane = Self {
            api_server: Mutex::new(api_server),
            etcd,
            binaries: binaries.clone(),
            dir,
            url,
            ca,
            cluster_wide: Mutex::new(()),
            counter: AtomicU32::new(0),
        };
        // Only our server knows this token, so an answer is never somebody else's who got the port.
        ready("kube-apiserver", &control_plane.api_server(), || control_plane.answers())?;
        // An etcd that found its port taken has ended by now, and then the API server spoke to a stranger's.
        ready("etcd", &control_plane.etcd, || true)?;
        Ok(control_plane)
    }

    fn api_server(&self) -> MutexGuard<'_, Supervised> {
        self.api_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answers(&self) -> bool {
        self.kubectl(["get", "--raw=/readyz", "--request-timeout=10s"]).is_ok_and(|o| o.status.success())
    }

    /// Kills the API server, starts it again at the same address, and waits until it is ready.
    pub fn restart_api_server(&self) -> Result<()> {
        let mut server = self.api_server();
        server.restart()?;
        ready("kube-apiserver", &server, || self.answers()).map_err(|failure| match failure {
            Failure::PortTaken(log) => log.into(),
            Failure::Other(error) => error,
        })
    }

    /// The servers, by what they are called.
    pub fn processes(&self) -> [(&'static str, Process); 2] {
        [("etcd", self.etcd.process()), ("kube-apiserver", self.api_server().process())]
    }

    /// Whether both servers run.
    pub fn alive(&self) -> bool {
        self.etcd.alive() && self.api_server().alive()
    }

    /// The last lines of both logs.
    pub fn log_tail(&self) -> String {
        self.etcd.log_tail(20) + &self.api_server().log_tail(40)
    }

    /// The folder that everything is in; gone when this is.
    pub fn home(&self) -> &Path {
        self.dir.parent().unwrap_or(&self.dir)
    }

    /// The administrator's kubeconfig file (group `system:masters`).
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// The administrator's client configuration.
    pub async fn admin_config(&self) -> Result<kube::Config> {
        kubeconfig::load(&self.kubeconfig()).await
    }

    /// A client for the administrator. It belongs to the runtime that it is made in: one for each test.
    pub async fn admin_client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(self.admin_config().await?)?)
    }

    /// A client for whoever a kubeconfig of this control plane names.
    pub async fn client(&self, kubeconfig: &Path) -> Result<kube::Client> {
        Ok(kube::Client::try_from(kubeconfig::load(kubeconfig).await?)?)
    }

    /// A kubeconfig file for a ServiceAccount that exists, with a token of its own that is good for a day.
    pub fn operator_kubeconfig(&self, namespace: &str, service_account: &str) -> Result<PathBuf> {
        self.kubeconfig_with_token(service_account, namespace, &self.token(namespace, service_account)?)
    }

    /// A token for a ServiceAccount that exists, good for a day.
    pub fn token(&self, namespace: &str, service_account: &str) -> Result<String> {
        let token = self.kubectl_ok(["create", "token", service_account, "-n", namespace, "--duration=24h"])?;
        Ok(token.trim().to_owned())
    }

    /// A kubeconfig file with any token.
    pub fn kubeconfig_with_token(&self, user: &str, namespace: &str, token: &str) -> Result<PathBuf> {
        self.kubeconfig_by_way_of(&self.url, user, namespace, token)
    }

    /// A kubeconfig file for somebody who reaches the API server by way of another address.
    pub fn kubeconfig_by_way_of(&self, url: &str, user: &str, namespace: &str, token: &str) -> Result<PathBuf> {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{user}-{n}.kubeconfig"));
        kubeconfig::write(&path, url, &self.ca, user, namespace, token)?;
        Ok(path)
    }

    /// Makes a namespace that nobody else uses; its name says what for.
    pub fn namespace(&self, purpose: &str) -> Result<String> {
        let name = format!("{purpose}-{}", self.counter.fetch_add(1, Ordering::Relaxed));
        self.kubectl_ok(["create", "namespace", &name])?;
        Ok(name)
    }

    /// A `kubectl` command for the administrator, which neither reads nor writes anything in the user's home: a
    /// discovery cache there is keyed by host and port, and ours are used again for other control planes.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.binaries.kubectl());
        command.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.dir.join("kubectl-cache"));
        command.env("KUBERC", "off").stdin(Stdio::null());
        command
    }

    /// Runs `kubectl` as the administrator; the output is captured and the exit code not judged.
    pub fn kubectl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
        Ok(self.kubectl_command().args(arguments).output()?)
    }

    /// Runs `kubectl` as the administrator and returns what it printed; fails with its complaint when it fails.
    pub fn kubectl_ok<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        let output = command.output()?;
        judged(&command, output)
    }

    /// `kubectl apply -f FILE` (or folder), as users do it.
    pub fn apply_file(&self, path: &Path) -> Result<String> {
        self.kubectl_ok([OsStr::new("apply"), OsStr::new("-f"), path.as_os_str()])
    }

    /// `kubectl apply -f -` of this text.
    pub fn apply_yaml(&self, yaml: &str) -> Result<String> {
        let mut command = self.kubectl_command();
        command.args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A broken pipe means that kubectl has ended: its message says more than ours could.
            let _ = stdin.write_all(yaml.as_bytes());
        }
        let output = child.wait_with_output()?;
        judged(&command, output)
    }

    /// Installs the chart's ServiceAccount and rights into a namespace that exists.
    pub fn install_rbac(&self, namespace: &str) -> Result<()> {
        let yaml = rbac(namespace, SERVICE_ACCOUNT)?;
        let _one = self.cluster_wide.lock().unwrap_or_else(PoisonError::into_inner);
        self.apply_yaml(&yaml)?;
        Ok(())
    }

    /// Installs every file of `crds/`, waits until they are served, and returns their names.
    pub fn install_crds(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        let dir = root().join("crds");
        if dir.is_dir() {
            for entry in fs::read_dir(&dir)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "yaml") {
                    files.push(path);
                }
            }
        }
        files.sort();
        let _one = self.cluster_wide.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Vec::new();
        for file in files {
            let arguments = ["apply", "-o", "name", "-f"].map(OsStr::new).into_iter().chain([file.as_os_str()]);
            names.extend(self.kubectl_ok(arguments)?.lines().map(str::to_owned));
        }
        if !names.is_empty() {
            let wait = ["wait", "--for=condition=Established", "--timeout=60s"];
            self.kubectl_ok(wait.into_iter().chain(names.iter().map(String::as_str)))?;
        }
        Ok(names)
    }
}

/// The chart's rights, with the two values that the chart fills in.
pub fn rbac(namespace: &str, service_account: &str) -> Result<String> {
    let text = fs::read_to_string(root().join("charts/fota/files/rbac.yaml"))?;
    let text = text
        .replace("{{ .Release.Namespace }}", namespace)
        .replace("{{ .Values.serviceAccount.name }}", service_account);
    if text.contains("{{") {
        return Err("charts/fota/files/rbac.yaml has a placeholder that only helm could fill".into());
    }
    Ok(text)
}

fn judged(command: &Command, output: Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?);
    }
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("kubectl {}: {}: {}", arguments.join(" "), output.status, stderr.trim_end()).into())
}

/// Waits for `probe` as long as the server lives.
fn ready(name: &str, server: &Supervised, mut probe: impl FnMut() -> bool) -> Result<(), Failure> {
    let mut ended = false;
    let waited = wait::until(&format!("{name} ready"), START_LIMIT, || {
        ended = !server.alive();
        Ok((ended || probe()).then_some(()))
    });
    if !ended && waited.is_ok() {
        return Ok(());
    }
    let log = server.log_tail(40);
    if ended && log.contains("address already in use") {
        return Err(Failure::PortTaken(log));
    }
    let why = waited.err().map_or_else(|| format!("{name} ended while it was starting"), |e| e.to_string());
    Err(Failure::Other(format!("{why}\n{log}").into()))
}

fn connects(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port that is free now, for servers that cannot be told to pick one and tell us.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
