//! How a command reaches the API server, and which hosts it may call: the flags that several commands share.

use std::path::PathBuf;

use crate::ota::endpoint::AllowedEndpoints;

/// Flags of every command that reads accounts.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Connect {
    /// Kubeconfig; default: $KUBECONFIG, ~/.kube/config, or the pod's ServiceAccount
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Hosts that may be called, `*.` for any subdomain
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', default_value = "*.aliyuncs.com")]
    allowed_endpoints: Vec<String>,
    /// Also allow plain http and any host: for a simulated cloud only
    #[arg(long)]
    pub(super) allow_insecure_endpoints: bool,
}

impl Connect {
    /// How to reach the API server. Its default namespace is the pod's own, or that of the kubeconfig's context.
    pub(super) async fn config(&self) -> Result<kube::Config, String> {
        let Some(path) = &self.kubeconfig else {
            return kube::Config::infer().await.map_err(|e| format!("no way to reach an API server: {e}"));
        };
        let file = kube::config::Kubeconfig::read_from(path).map_err(|e| format!("{}: {e}", path.display()))?;
        kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
            .await
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Which hosts may be called.
    pub(super) fn allowed(&self) -> Result<AllowedEndpoints, String> {
        AllowedEndpoints::new(&self.allowed_endpoints, self.allow_insecure_endpoints)
            .map_err(|error| format!("--allowed-endpoints: {error}"))
    }
}

/// A client of the API server.
pub(super) fn client(config: kube::Config) -> Result<kube::Client, String> {
    kube::Client::try_from(config).map_err(|e| format!("the API server's settings: {e}"))
}
