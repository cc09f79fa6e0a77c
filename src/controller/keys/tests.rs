//! What an account's keys are, source by source; the cloud's side is a server on this machine.

use super::*;
use axum::Router;
use axum::extract::State;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Lends keys, each time others, and keeps the tokens that it was shown.
#[derive(Clone, Default)]
struct Lender {
    shown: Arc<Mutex<Vec<String>>>,
    /// Seconds that the next keys live.
    life: Arc<Mutex<i64>>,
    down: Arc<Mutex<bool>>,
}

impl Lender {
    async fn start(&self) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        async fn lend(State(lender): State<Lender>, form: String) -> (axum::http::StatusCode, String) {
            if *lender.down.lock().unwrap() {
                return (axum::http::StatusCode::SERVICE_UNAVAILABLE, "busy".to_owned());
            }
            let token = form.split('&').find_map(|pair| pair.strip_prefix("OIDCToken=")).unwrap().to_owned();
            let mut shown = lender.shown.lock().unwrap();
            shown.push(token);
            let life = jiff::SignedDuration::from_secs(*lender.life.lock().unwrap());
            let expires = clock::wall().checked_add(life).unwrap();
            let keys = json!({"AccessKeyId": format!("STS.{}", shown.len()), "AccessKeySecret": "s",
                              "SecurityToken": "t", "Expiration": expires.to_string()});
            (axum::http::StatusCode::OK, json!({"RequestId": "R", "Credentials": keys}).to_string())
        }
        *self.life.lock().unwrap() = 3600;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(lend).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        host
    }
}

/// A file that goes with its test.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str, token: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fota-{name}-{}", std::process::id()));
        std::fs::write(&path, token).unwrap();
        Self(path)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn account(credentials: &Value, endpoint: &str) -> OTAAccount {
    serde_json::from_value(json!({
        "apiVersion": "fota.dev/v1alpha1", "kind": "OTAAccount", "metadata": {"name": "prod", "namespace": "heating"},
        "spec": {"endpoint": endpoint, "credentials": credentials},
    }))
    .unwrap()
}

fn identity(sts: &str) -> Value {
    json!({"workloadIdentity": {"roleArn": "acs:ram::1:role/ota", "oidcProviderArn": "acs:ram::1:oidc-provider/c",
                                "stsEndpoint": sts}})
}

fn rules(token: &TokenFile, variables: &[(&str, &str)]) -> Rules {
    let mut environment =
        Environment::read(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()));
    environment.token_file = token.0.clone();
    Rules {
        allowed: AllowedEndpoints::new(["*.aliyuncs.com"], true).unwrap(),
        own_endpoints: AllowedEndpoints::listed(["127.0.0.1", "*.aliyuncs.com"], true).unwrap(),
        own_namespaces: Namespaces::new(["heating"]),
        environment,
    }
}

/// Never connected to: the sources under test ask no API server.
fn nowhere() -> kube::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    kube::Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap()
}

#[tokio::test]
async fn lent_keys_are_kept_and_renewed_ahead_with_the_token_of_that_moment() {
    let (lender, token) = (Lender::default(), TokenFile::new("renewed", "first\n"));
    let host = lender.start().await;
    let keys = Keys::new(rules(&token, &[]));
    let account = account(&identity(&host), "iot.cn-shanghai.aliyuncs.com");
    let read = async || {
        keys.read(&nowhere(), "heating", &account).await.map(|found| (found.id().to_owned(), found.principal()))
    };
    let (id, principal) = read().await.unwrap();
    assert_eq!((id.as_str(), read().await.unwrap().0.as_str()), ("STS.1", "STS.1"), "kept");
    // As if three quarters of their life had passed: then the kubelet has replaced the token, too.
    let age = |keys: &Keys, seconds: i64| {
        for slot in keys.lent.lock().unwrap().values() {
            let mut slot = slot.try_lock().unwrap();
            let lent = slot.as_mut().unwrap();
            let earlier = jiff::SignedDuration::from_secs(seconds);
            lent.taken = lent.taken.checked_sub(earlier).unwrap();
            lent.expires = lent.expires.checked_sub(earlier).unwrap();
        }
    };
    std::fs::write(&token.0, "second").unwrap();
    age(&keys, 2_690);
    assert_eq!(read().await.unwrap().0, "STS.1", "more than 15 minutes are left");
    age(&keys, 20);
    let renewed = read().await.unwrap();
    assert_eq!(renewed, ("STS.2".to_owned(), principal), "other keys of the same principal");
    assert_eq!(*lender.shown.lock().unwrap(), ["first", "second"]);
    // Nobody lends: what is left is used to its end, and not beyond.
    *lender.down.lock().unwrap() = true;
    age(&keys, 3_000);
    assert_eq!(read().await.unwrap().0, "STS.2");
    age(&keys, 600);
    let trouble = read().await.unwrap_err();
    assert_eq!((trouble.reason, trouble.stalled), ("RoleUnavailable", false));
}

#[tokio::test]
async fn the_operators_identity_is_lent_only_where_a_flag_says_so() {
    let (lender, token) = (Lender::default(), TokenFile::new("lent", "token"));
    let host = lender.start().await;
    let variables = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hush")];
    let keys = Keys::new(rules(&token, &variables));
    for source in [identity(&host), json!({"operator": {}})] {
        let account = account(&source, "iot.cn-shanghai.aliyuncs.com");
        let trouble = keys.read(&nowhere(), "tenant", &account).await.unwrap_err();
        assert_eq!((trouble.reason, trouble.stalled), ("IdentityNotLent", true), "{source}");
        assert!(trouble.message.contains("--own-identity-namespaces tenant"), "{}", trouble.message);
        assert!(keys.read(&nowhere(), "heating", &account).await.is_ok(), "{source}");
    }
    assert!(Namespaces::new(["*"]).contain("anything") && !Namespaces::default().contain("anything"));
    assert_eq!(lender.shown.lock().unwrap().len(), 1, "a token that nobody may use is not shown to anyone");
}

#[tokio::test]
async fn the_operators_identity_goes_to_listed_hosts_only() {
    let (lender, token) = (Lender::default(), TokenFile::new("hosts", "token"));
    let host = lender.start().await;
    let keys = Keys::new(rules(&token, &[]));
    // Any host may be called in such an operator, but not with its own identity, and not to be shown its token.
    let evil = account(&identity(&host), "http://evil.example");
    let trouble = keys.endpoint(&evil).unwrap_err();
    assert_eq!((trouble.reason, trouble.stalled), ("EndpointRefused", true));
    assert!(trouble.message.contains("--own-identity-endpoints"), "{}", trouble.message);
    let secret = account(&json!({"secretRef": {"name": "keys"}}), "http://evil.example");
    assert!(keys.endpoint(&secret).is_ok());
    let lured = account(&identity("http://evil.example"), "iot.cn-shanghai.aliyuncs.com");
    let trouble = keys.read(&nowhere(), "heating", &lured).await.unwrap_err();
    assert_eq!(trouble.reason, "EndpointRefused");
    // By default only the vendor's hosts, over HTTPS.
    let strict = Keys::new(Rules {
        own_namespaces: Namespaces::new(["*"]),
        ..Rules::without_own_identity(AllowedEndpoints::new(["*"; 0], true).unwrap())
    });
    let trouble = strict.read(&nowhere(), "heating", &account(&identity(&host), "a.aliyuncs.com")).await.unwrap_err();
    assert_eq!(trouble.reason, "EndpointRefused");
    assert!(lender.shown.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_operators_environment_gives_keys_or_a_role() {
    let (lender, token) = (Lender::default(), TokenFile::new("environment", "token"));
    let host = lender.start().await;
    let account = account(&json!({"operator": {}}), "iot.cn-shanghai.aliyuncs.com");
    let role = [("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/own"), ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p")];
    let mut by_role = rules(&token, &role);
    by_role.environment.sts = host;
    let found = Keys::new(by_role).read(&nowhere(), "heating", &account).await.unwrap();
    assert_eq!(found.id(), "STS.1");
    let trouble = Keys::new(rules(&token, &[])).read(&nowhere(), "heating", &account).await.unwrap_err();
    assert_eq!(trouble.reason, "CredentialsInvalid");
    assert!(trouble.message.contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{}", trouble.message);
    std::fs::write(&token.0, "").unwrap();
    let trouble = Keys::new(rules(&token, &role)).read(&nowhere(), "heating", &account).await.unwrap_err();
    assert_eq!((trouble.reason, trouble.stalled), ("OidcTokenMissing", true));
}

#[test]
fn a_session_is_named_after_its_account() {
    let identity: WorkloadIdentity =
        serde_json::from_value(json!({"roleArn": "r", "oidcProviderArn": "p", "duration": "15m"})).unwrap();
    let found = role(&identity, "heating", &"n".repeat(80));
    assert!(found.session.starts_with("fota-heating-nnn") && found.session.len() == 64);
    assert_eq!(found.seconds, 900);
    let named = WorkloadIdentity { session_name: Some("mine".into()), duration: None, ..identity };
    assert_eq!((role(&named, "a", "b").session.as_str(), role(&named, "a", "b").seconds), ("mine", 3600));
}
