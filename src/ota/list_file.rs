//! Lists of more device names than a create takes: a file, and the form by which it is uploaded (ota-api: section 6.8b).
//!
//! The form and the file's URL are signed: whoever has them can write or read the list. They live in `secrecy` types and
//! are shown nowhere. When to make a file never comes in.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::calls::{CallContext, ask};
use super::client::{Client, bounded_body, reason};
use super::code::{self, Class};
use super::endpoint::AllowedEndpoints;
use super::id::MOST_LISTED;
use super::outcome::{CallError, Outcome, Read};
use super::wire::Node;
use super::{Api, NoAnswer, Operation, Request, SIGNED_URL, calls, decode};

/// Longest file, in bytes.
pub const LONGEST_FILE: usize = 5 * 1024 * 1024;
/// Longest answer of the storage service that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The form by which one file may be uploaded within a minute.
#[derive(Clone)]
pub struct UploadForm {
    host: String,
    key: SecretString,
    access_key_id: SecretString,
    signature: SecretString,
    policy: SecretString,
    /// What a create takes as `DnListFileUrl`, within an hour.
    pub file_url: SecretString,
}

impl fmt::Debug for UploadForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadForm").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The answer to GenerateDeviceNameListURL.
pub(super) fn form(root: Node<'_>) -> Result<UploadForm, CallError> {
    let data = root.node("Data").unwrap_or(root);
    let secret = |name| decode::required(data, name).map(SecretString::from);
    Ok(UploadForm {
        host: decode::required(data, "Host")?,
        key: secret("Key")?,
        access_key_id: secret("AccessKeyId")?,
        signature: secret("Signature")?,
        policy: secret("Policy")?,
        file_url: secret("FileUrl")?,
    })
}

/// Asks for a form.
pub async fn upload_form<A: Api>(api: &A, ctx: &CallContext) -> Result<Read<UploadForm>, CallError> {
    ask(api, &ctx.request(Operation::GenerateDeviceNameListURL, [])).await?.read(form)
}

/// The file: one name a line.
///
/// # Errors
/// Class `Terminal`: no name, too many, a name that cannot stand on a line of its own, or too long a file.
pub fn file(names: &[String]) -> Result<String, CallError> {
    let refused = |code, why: &str| Err(CallError::new(Class::Terminal, code, why));
    if names.is_empty() {
        return refused(code::NULL_TARGET_DEVICE_NAMES, "no device name to upload");
    }
    if names.len() > MOST_LISTED {
        return refused(code::PARAMETER_SIZE_EXCEED_MAX, "at most 10000 device names a file");
    }
    let plain = |name: &String| !name.is_empty() && !name.contains([',', '"', '\n', '\r']);
    if let Some(odd) = names.iter().find(|name| !plain(name)) {
        return refused("iot.common.InvalidFormattedParameter", &format!("{odd:?} cannot be a device's name"));
    }
    let file = names.join("\n") + "\n";
    if file.len() > LONGEST_FILE {
        return refused(code::PARAMETER_SIZE_EXCEED_MAX, "at most 5 MB a file");
    }
    Ok(file)
}

impl Client {
    /// Sends a create. The names that go along as a list file are uploaded first, to a host that may be called; as long as
    /// that fails, nothing was created.
    pub async fn create(&self, allowed: &AllowedEndpoints, request: &Request) -> Outcome {
        let Some(names) = &request.list else { return calls::create(self, request).await };
        let instance_id = request.parameters.get("IotInstanceId").cloned();
        let listed = async {
            let file = file(names)?;
            let form = upload_form(self, &CallContext { instance_id }).await?.value;
            self.upload(allowed, &form, file).await?;
            Ok::<_, CallError>(form.file_url)
        };
        match listed.await {
            Ok(url) => {
                let mut request = Request { list: None, ..request.clone() };
                request.parameters.insert(SIGNED_URL.to_owned(), url.expose_secret().to_owned());
                calls::create(self, &request).await
            }
            Err(error) if error.class == Class::Terminal => Outcome::Rejected(error),
            Err(error) => Outcome::Rejected(CallError { class: Class::Transient, ..error }),
        }
    }

    /// Uploads a file by its form, to a host that may be called. May be repeated as long as the form holds.
    ///
    /// # Errors
    /// Class `Terminal` if the host may not be called or the storage service refuses; else `Transient`: what was
    /// half uploaded is nobody's list.
    pub async fn upload(&self, allowed: &AllowedEndpoints, form: &UploadForm, file: String) -> Result<(), CallError> {
        let refused = |why: &str| CallError::new(Class::Terminal, code::LIST_FILE_REFUSED, why);
        let place = allowed.storage(&form.host).map_err(|why| refused(&why.to_string()))?;
        let text = |secret: &SecretString| secret.expose_secret().to_owned();
        let part = reqwest::multipart::Part::text(file).file_name("devices.csv");
        // The storage service reads nothing that comes after the file.
        let body = reqwest::multipart::Form::new()
            .text("key", text(&form.key))
            .text("OSSAccessKeyId", text(&form.access_key_id))
            .text("policy", text(&form.policy))
            .text("Signature", text(&form.signature))
            .text("success_action_status", "200")
            .part("file", part);
        let lost = |why: NoAnswer| CallError { class: Class::Transient, ..CallError::from(why) };
        let sent = self.http().post(place).multipart(body).send().await;
        let response = sent.map_err(|error| lost(NoAnswer::Lost(reason(error))))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // <Error><Code>…</Code>: its message may repeat the policy, so only the code is kept.
        let answer = bounded_body(response, LONGEST_ANSWER).await.map_err(lost)?;
        let code = super::wire::code_of(&answer).unwrap_or_default();
        let why = format!("the storage service refused the list file with HTTP {} {code}", status.as_u16());
        if status.is_server_error() {
            return Err(CallError::new(Class::Transient, code::NOT_SENT, &why));
        }
        Err(refused(why.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ota::calls::tests::Script;
    use crate::ota::client::SharedQuota;
    use crate::ota::credentials::Credentials;
    use crate::ota::limits::Limits;
    use axum::Router;
    use axum::http::StatusCode;
    use serde_json::json;
    use std::sync::{Arc, Mutex};

    fn answer(host: &str) -> serde_json::Value {
        let data = json!({"Host": host, "Key": "lists/k.csv", "AccessKeyId": "ossKeyId", "Signature": "hush+sig/=",
                          "Policy": "hush-policy", "FileUrl": "https://x.example/k.csv?Signature=hush",
                          "UtcCreate": "2024-05-04T06:22:19.566Z"});
        json!({"Success": true, "RequestId": "R", "Data": data})
    }

    async fn form_for(host: &str) -> UploadForm {
        let script = Script::json([answer(host)]);
        let form = upload_form(&script, &CallContext::default()).await.unwrap().value;
        assert_eq!(script.params(0), "");
        form
    }

    #[tokio::test]
    async fn a_form_is_read_and_shows_nothing() {
        let form = form_for("https://b.oss-cn-shanghai.aliyuncs.com").await;
        assert_eq!(form.file_url.expose_secret(), "https://x.example/k.csv?Signature=hush");
        let shown = format!("{form:?}");
        assert!(!shown.contains("hush") && !shown.contains("ossKeyId"), "{shown}");
        let short = json!({"Success": true, "Data": {"Host": "h"}});
        let error = upload_form(&Script::json([short]), &CallContext::default()).await.unwrap_err();
        assert_eq!(error.code, code::UNREADABLE_ANSWER);
    }

    #[test]
    fn a_file_has_a_name_a_line_within_its_bounds() {
        let names = |n: usize| (0..n).map(|n| format!("dev-{n}")).collect::<Vec<_>>();
        assert_eq!(file(&names(2)).unwrap(), "dev-0\ndev-1\n");
        assert!(file(&names(MOST_LISTED)).is_ok());
        for wrong in [vec![], names(MOST_LISTED + 1), vec![String::new()], vec!["a,b".into()], vec!["a\nb".into()]] {
            assert_eq!(file(&wrong).unwrap_err().class, Class::Terminal);
        }
        assert!(file(&vec!["x".repeat(1_000); 9_000]).is_err());
    }

    #[tokio::test]
    async fn the_file_is_posted_as_the_storage_service_reads_it_and_nowhere_else() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seen = Arc::new(Mutex::new(Vec::<String>::new()));
        let kept = seen.clone();
        let handle = move |body: String| async move {
            let refused = body.contains("refuse-me");
            kept.lock().unwrap().push(body);
            match refused {
                true => (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code><Message>hush</Message></Error>"),
                false => (StatusCode::OK, ""),
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(handle)).await });
        let loopback = AllowedEndpoints::new(["127.0.0.1"], true).unwrap();
        let endpoint = loopback.endpoint(&host).unwrap();
        let keys = Credentials::new("id", "secret-secret".into(), None);
        let client = Client::new(endpoint, keys, SharedQuota::default(), Limits::default()).unwrap();
        let form = form_for(&host).await;
        client.upload(&loopback, &form, file(&["d1".into(), "d2".into()]).unwrap()).await.unwrap();
        let body = seen.lock().unwrap()[0].clone();
        let at = |text: &str| body.find(text).unwrap_or_else(|| panic!("{text} is missing: {body}"));
        assert!(body.contains("name=\"key\"\r\n\r\nlists/k.csv\r\n"), "{body}");
        assert!(body.contains("name=\"OSSAccessKeyId\"\r\n\r\nossKeyId\r\n"), "{body}");
        assert!(at("hush-policy") < at("name=\"file\"") && at("hush+sig/=") < at("name=\"file\""), "the file is last");
        assert!(body.contains("\r\n\r\nd1\nd2\n\r\n"), "{body}");
        let error = client.upload(&loopback, &form, "refuse-me\n".into()).await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (Class::Terminal, code::LIST_FILE_REFUSED));
        assert!(error.to_string().contains("HTTP 403 AccessDenied"), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
        let elsewhere = client.upload(&AllowedEndpoints::default(), &form, "d\n".into()).await.unwrap_err();
        assert_eq!((elsewhere.class, seen.lock().unwrap().len()), (Class::Terminal, 2));
        assert!(!elsewhere.to_string().contains("hush"), "{elsewhere}");
    }
}
