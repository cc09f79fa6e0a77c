//! Kubeconfig files, whole in themselves: they can be copied anywhere.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::Result;

/// Writes one for a bearer token, readable by us alone. `ca` is PEM.
pub fn write(path: &Path, server: &str, ca: &[u8], user: &str, namespace: &str, token: &str) -> Result<()> {
    let ca = STANDARD.encode(ca);
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: fota
  cluster: {{server: \"{server}\", certificate-authority-data: {ca}}}
users:
- name: {user}
  user: {{token: \"{token}\"}}
contexts:
- name: fota
  context: {{cluster: fota, user: {user}, namespace: {namespace}}}
current-context: fota
"
    );
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// The client configuration in a file.
pub async fn load(path: &Path) -> Result<kube::Config> {
    // kube and reqwest link rustls with one provider; whoever installs it first wins, and it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // kube takes HTTPS_PROXY for loopback addresses too, unlike kubectl.
    config.proxy_url = None;
    Ok(config)
}
