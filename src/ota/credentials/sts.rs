//! Keys of a role, lent for a while against an OIDC token (AssumeRoleWithOIDC; ota-api: section 11).
//!
//! One exchange, and when its result is to be renewed. Whose token it is, where it is read and who may use it never comes
//! in. The call is a POST with a form, not the GET of the vendor's client: URLs get logged, and the token would be in it.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::Credentials;
use crate::ota::client::{bounded_body, http, reason, scrub};
use crate::ota::endpoint::Endpoint;
use crate::ota::limits::Limits;
use crate::ota::outcome::{CallError, clean};
use crate::ota::wire;
use crate::ota::{code, sign};

const VERSION: &str = "2015-04-01";
/// Longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Keys are renewed so long before they expire, if they live long enough.
const AHEAD: Duration = Duration::from_secs(15 * 60);

/// A role, and how it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role {
    /// `RoleArn`.
    pub arn: String,
    /// `OIDCProviderArn`.
    pub provider_arn: String,
    /// `RoleSessionName`, which the cloud's audit shows: 2 to 64 of `[A-Za-z0-9.@_-]`.
    pub session: String,
    /// `DurationSeconds`: 900 to the role's own maximum.
    pub seconds: u32,
}

/// Keys that were lent.
#[derive(Debug, Clone)]
pub struct Lent {
    /// The keys.
    pub credentials: Credentials,
    /// When they were asked for, by our clock.
    pub taken: Timestamp,
    /// `Expiration`.
    pub expires: Timestamp,
}

impl Lent {
    /// Whether they have to be renewed: 15 minutes before they expire, or halfway where they live shorter.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        let life = self.expires.duration_since(self.taken);
        let ahead = jiff::SignedDuration::try_from(AHEAD).map_or(life / 2, |ahead| ahead.min(life / 2));
        self.expires.duration_since(now) <= ahead
    }

    /// Whether they are of no use any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires
    }
}

/// Why nothing was lent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StsError {
    /// A person has to change the role, its trust policy, the provider or the token.
    #[error("{0}")]
    Refused(CallError),
    /// No clear answer: it may be asked again.
    #[error("{0}")]
    Unavailable(String),
}

/// Asks for a role's keys.
///
/// # Errors
/// [`StsError::Refused`] for an answer with a code and a status of 400 to 499 that is no throttle, else
/// [`StsError::Unavailable`].
pub async fn assume(
    endpoint: &Endpoint,
    role: &Role,
    token: &SecretString,
    limits: Limits,
    now: Timestamp,
) -> Result<Lent, StsError> {
    let unavailable = |why: String| StsError::Unavailable(clean(&why, 256));
    let seconds = role.seconds.to_string();
    let timestamp = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let form = sign::canonical_query([
        ("Action", "AssumeRoleWithOIDC"),
        ("DurationSeconds", seconds.as_str()),
        ("Format", "JSON"),
        ("OIDCProviderArn", role.provider_arn.as_str()),
        ("OIDCToken", token.expose_secret()),
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", role.session.as_str()),
        ("Timestamp", timestamp.as_str()),
        ("Version", VERSION),
    ]);
    let client = http(endpoint, limits).map_err(|error| unavailable(error.to_string()))?;
    let post =
        client.post(endpoint.url().clone()).header("content-type", "application/x-www-form-urlencoded").body(form);
    let response = post.send().await.map_err(|error| unavailable(reason(error)))?;
    let status = response.status().as_u16();
    let body = bounded_body(response, LONGEST_ANSWER).await.map_err(|error| unavailable(error.to_string()))?;
    let unreadable = || unavailable(format!("HTTP {status} with {} bytes that are no keys", body.len()));
    let root = wire::fields(&body).ok_or_else(unreadable)?;
    let root = wire::Node::of(&root);
    let text = |node: wire::Node<'_>, name| node.text(name).ok_or_else(unreadable);
    if let Some(keys) = root.node("Credentials").filter(|_| status < 300) {
        let expires = keys.time("Expiration").ok_or_else(unreadable)?;
        let (id, secret, token) =
            (text(keys, "AccessKeyId")?, text(keys, "AccessKeySecret")?, text(keys, "SecurityToken")?);
        let credentials = Credentials::new(id, secret.into(), Some(token.into())).of(&role.arn);
        return Ok(Lent { credentials, taken: now, expires });
    }
    let code = text(root, "Code")?;
    // What went in may come back in the message.
    let message = scrub(root.text("Message").unwrap_or_default(), &[token.expose_secret()]);
    if !(400..500).contains(&status) || code::is_throttling(&code, status) {
        return Err(unavailable(format!("{code}: {message}")));
    }
    let error = CallError::new(code::Class::Terminal, &code, &message);
    Err(StsError::Refused(error.with_request_id(&root.text("RequestId").unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::AllowedEndpoints;
    use axum::Router;
    use axum::http::{Method, StatusCode, Uri};
    use serde_json::Value;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    type Heard = Arc<Mutex<Vec<(Method, String, String)>>>;

    async fn answering(status: u16, body: String) -> (Endpoint, Heard) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let heard = Heard::default();
        let kept = heard.clone();
        let handle = move |method: Method, uri: Uri, form: String| async move {
            kept.lock().unwrap().push((method, uri.to_string(), form));
            (StatusCode::from_u16(status).unwrap(), body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
        (AllowedEndpoints::listed(["127.0.0.1"], true).unwrap().endpoint(&url).unwrap(), heard)
    }

    fn exchanges() -> Value {
        serde_json::from_str(include_str!("../../../tests/vectors/credential-exchanges.json")).unwrap()
    }

    fn role(query: &Value) -> Role {
        let text = |name: &str| query[name].as_str().unwrap().to_owned();
        Role {
            arn: text("RoleArn"),
            provider_arn: text("OIDCProviderArn"),
            session: text("RoleSessionName"),
            seconds: text("DurationSeconds").parse().unwrap(),
        }
    }

    fn decoded(form: &str) -> BTreeMap<String, String> {
        let part = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        form.split('&').map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (part(k), part(v))).collect()
    }

    #[tokio::test]
    async fn every_recorded_exchange_of_a_role_is_reproduced() {
        let file = exchanges();
        let token = SecretString::from(file["token_file_content"].as_str().unwrap());
        let mut reproduced = Vec::new();
        for vector in file["vectors"].as_array().unwrap() {
            let name = vector["name"].as_str().unwrap();
            if !name.starts_with("rrsa") {
                continue;
            }
            let exchange = &vector["exchanges"][0];
            let query = &exchange["request"]["query"];
            let status = u16::try_from(exchange["response"]["status"].as_u64().unwrap()).unwrap();
            let (endpoint, heard) = answering(status, exchange["response"]["body"].as_str().unwrap().to_owned()).await;
            let now = query["Timestamp"].as_str().unwrap().parse().unwrap();
            let lent = assume(&endpoint, &role(query), &token, Limits::default(), now).await;
            let (method, uri, form) = heard.lock().unwrap()[0].clone();
            assert_eq!((method, uri.as_str()), (Method::POST, "/"), "{name}: nothing of it in a URL");
            let sent: Value = serde_json::to_value(decoded(&form)).unwrap();
            assert_eq!(sent, *query, "{name}");
            match lent {
                Ok(lent) => {
                    let keys = &lent.credentials;
                    let got = serde_json::json!({"access_key_id": keys.id(), "access_key_secret":
                        keys.secret().expose_secret(), "security_token": keys.token().unwrap().expose_secret()});
                    assert_eq!(got, vector["result"], "{name}");
                    assert_eq!(lent.expires, "2099-05-04T07:00:00Z".parse().unwrap());
                    assert_eq!(
                        keys.principal(),
                        Credentials::new("x", "y".into(), None).of(&role(query).arn).principal()
                    );
                }
                Err(StsError::Refused(error)) => {
                    assert!(vector["result"]["error"].is_string(), "{name}: {error}");
                    assert_eq!(error.code, "AuthenticationFail.OIDCToken.Expired");
                    assert_eq!(error.request_id.as_deref(), Some("5EED0002-0000-4000-8000-000000000002"));
                }
                Err(error) => panic!("{name}: {error}"),
            }
            reproduced.push(name.to_owned());
        }
        assert_eq!(reproduced, ["rrsa-oidc", "rrsa-oidc-regional-vpc", "rrsa-oidc-refused"]);
    }

    #[tokio::test]
    async fn what_is_no_clear_answer_may_be_asked_again_and_shows_no_token() {
        let role = role(&exchanges()["vectors"][0]["exchanges"][0]["request"]["query"]);
        let token = SecretString::from("hush-hush-hush");
        let now = "2024-05-04T06:00:00Z".parse().unwrap();
        for (status, body) in [
            (200, "<html>busy</html>".to_owned()),
            (200, r#"{"Credentials":{"AccessKeyId":"a"}}"#.to_owned()),
            (503, r#"{"Code":"ServiceUnavailable","Message":"hush-hush-hush"}"#.to_owned()),
            (400, r#"{"Code":"Throttling.User","Message":"hush-hush-hush"}"#.to_owned()),
            (200, "x".repeat(LONGEST_ANSWER + 1)),
        ] {
            let (endpoint, _) = answering(status, body).await;
            let error = assume(&endpoint, &role, &token, Limits::default(), now).await.unwrap_err();
            assert!(matches!(error, StsError::Unavailable(_)), "{error:?}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        let (endpoint, _) = answering(400, r#"{"Code":"X","Message":"no hush-hush-hush"}"#.to_owned()).await;
        let error = assume(&endpoint, &role, &token, Limits::default(), now).await.unwrap_err();
        assert!(matches!(&error, StsError::Refused(e) if e.message == "no ***"), "{error:?}");
    }

    #[test]
    fn keys_are_renewed_a_quarter_of_an_hour_ahead_or_halfway() {
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let lent = |minutes| {
            let credentials = Credentials::new("a", "b".into(), None);
            Lent { credentials, taken: at(0), expires: at(minutes) }
        };
        assert!(!lent(60).is_stale(at(44)) && lent(60).is_stale(at(45)));
        assert!(!lent(15).is_stale(at(7)) && lent(15).is_stale(at(8)));
        assert!(!lent(15).is_expired(at(14)) && lent(15).is_expired(at(15)));
    }
}
