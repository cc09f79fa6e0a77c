//! The exchange over real HTTP: what goes out, byte for byte, and what is made of what comes back.

mod answers;

use super::*;
use crate::ota::{AllowedEndpoints, Params, Stamp};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Response, Uri};
use percent_encoding::percent_decode_str;
use secrecy::SecretString;

/// What arrived: verb, path and query, user agent, length of the body.
type Seen = Arc<Mutex<Vec<(Method, String, String, usize)>>>;
type Reply = fn(usize) -> Response<Body>;

struct Cloud {
    seen: Seen,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
    port: u16,
}

impl Cloud {
    /// Answers the `n`th request, from 0, with `reply(n)`.
    async fn start(reply: Reply) -> Self {
        type Shared = (Seen, Arc<Mutex<Vec<HeaderMap>>>, Reply);
        async fn handle(
            State((seen, all, reply)): State<Shared>,
            method: Method,
            uri: Uri,
            headers: HeaderMap,
            body: axum::body::Bytes,
        ) -> Response<Body> {
            let n = {
                let mut seen = seen.lock().unwrap();
                let agent = header(&headers, "user-agent").unwrap_or_default().to_owned();
                seen.push((method, uri.to_string(), agent, body.len()));
                seen.len() - 1
            };
            if uri.query().is_some_and(|q| q.contains("Stall=1")) {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            all.lock().unwrap().push(headers);
            reply(n)
        }
        let seen = Seen::default();
        let headers = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(handle).with_state((seen.clone(), headers.clone(), reply));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { seen, headers, port }
    }

    fn queries(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, uri, ..)| uri.trim_start_matches("/?").to_owned()).collect()
    }
}

const SECRET: &str = "testAccess+Key/Secret";
const TOKEN: &str = "CAIS+token/with=signs";

fn client(port: u16, limits: Limits) -> Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let allowed = AllowedEndpoints::new(["127.0.0.1"], true).unwrap();
    let endpoint = allowed.endpoint(&format!("http://127.0.0.1:{port}")).unwrap().with_region("cn-shanghai");
    let credentials = Credentials::new("testAccessKeyId", SecretString::from(SECRET), Some(TOKEN.into()));
    Client::new(endpoint, credentials, SharedQuota::default(), limits).unwrap()
}

fn request(parameters: &[(&str, &str)], stamp: Option<Stamp>) -> Request {
    let parameters: Params = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Request { operation: Operation::CreateOTAStaticUpgradeJob, parameters, list: None, stamp }
}

fn stamp(client: &Client) -> Option<Stamp> {
    stamped(client, Signature::V1)
}

fn stamped(client: &Client, signature: Signature) -> Option<Stamp> {
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    Some(Stamp { nonce: "0123456789abcdef".into(), at, signature, sender: client.sender() })
}

fn ok(_: usize) -> Response<Body> {
    Response::new(Body::from(r#"{"Success":true,"Data":{"JobId":"j"}}"#))
}

fn decoded(query: &str) -> Params {
    let decode = |t: &str| percent_decode_str(t).decode_utf8().unwrap().into_owned();
    query.split('&').map(|p| p.split_once('=').unwrap()).map(|(k, v)| (decode(k), decode(v))).collect()
}

#[tokio::test]
async fn the_request_is_signed_as_the_gateway_checks_it() {
    let cloud = Cloud::start(ok).await;
    let client = client(cloud.port, Limits::default());
    let odd = [("SrcVersion.1", "a b*~'()!"), ("SrcVersion.10", "升级"), ("SrcVersion.2", "+/&="), ("Empty", "")];
    client.exchange(&request(&odd, None)).await.unwrap();
    let (method, uri, agent, length) = cloud.seen.lock().unwrap()[0].clone();
    assert_eq!((method, length), (Method::POST, 0));
    assert_eq!(agent, concat!("fota/", env!("CARGO_PKG_VERSION")));
    assert!(uri.starts_with("/?"), "{uri}");
    let mut params = decoded(&cloud.queries()[0]);
    let signature = params.remove("Signature").unwrap();
    let canonical = sign::canonical_query(params.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    assert!(sign::v1::verify(SECRET, &sign::v1::string_to_sign("POST", &canonical), &signature));
    for (name, value) in odd {
        assert_eq!(params.remove(name).as_deref(), Some(value));
    }
    let nonce = params.remove("SignatureNonce").unwrap();
    assert!(nonce.len() == 32 && nonce.chars().all(|c| c.is_ascii_hexdigit()), "{nonce}");
    let timestamp = params.remove("Timestamp").unwrap();
    assert_eq!(timestamp.len(), "2026-01-02T03:04:05Z".len());
    let age = clock::wall().duration_since(timestamp.parse().unwrap());
    assert!(age.as_secs().abs() <= 5, "{timestamp}");
    let common = params.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
    let expected = "AccessKeyId=testAccessKeyId Action=CreateOTAStaticUpgradeJob Format=JSON RegionId=cn-shanghai \
                    SecurityToken=CAIS+token/with=signs SignatureMethod=HMAC-SHA1 SignatureVersion=1.0 \
                    Version=2018-01-20";
    assert_eq!(common, expected);
}

#[tokio::test]
async fn a_stamp_makes_the_request_repeat_byte_for_byte() {
    let cloud = Cloud::start(ok).await;
    let client = client(cloud.port, Limits::default());
    for _ in 0..2 {
        client.exchange(&request(&[("FirmwareId", "f")], stamp(&client))).await.unwrap();
    }
    for _ in 0..2 {
        client.exchange(&request(&[("FirmwareId", "f")], None)).await.unwrap();
    }
    let queries = cloud.queries();
    assert_eq!(queries[0], queries[1]);
    assert!(queries[0].contains("SignatureNonce=0123456789abcdef&"));
    assert!(queries[0].contains("Timestamp=2026-01-02T03%3A04%3A05Z&"));
    assert_ne!(queries[2], queries[3]);
}

/// Everything that a client sends until it pauses for an answer, twice over the same stamp.
async fn raw(signature: Signature) -> Vec<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") {
                text.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
            heard.push(String::from_utf8(text).unwrap());
        }
        heard
    });
    for _ in 0..2 {
        // Another client, as another replica has.
        let client = client(port, Limits::default());
        client.exchange(&request(&[("FirmwareId", "a b")], stamped(&client, signature))).await.unwrap();
    }
    // Ports differ from test to test, and are all that does.
    server.await.unwrap().into_iter().map(|text| text.replace(&format!(":{port}"), ":PORT")).collect()
}

#[tokio::test]
async fn a_stamped_request_is_the_same_bytes_whoever_sends_it_and_however_it_is_signed() {
    for signature in [Signature::V1, Signature::V3] {
        let heard = raw(signature).await;
        assert_eq!(heard[0], heard[1], "{signature:?}");
        assert!(heard[0].starts_with("POST /?") && heard[0].contains("FirmwareId=a%20b"), "{}", heard[0]);
    }
}

#[tokio::test]
async fn a_v3_request_is_signed_as_the_gateway_checks_it() {
    let cloud = Cloud::start(ok).await;
    let client = client(cloud.port, Limits::default()).signing(Signature::V3);
    let odd = [("SrcVersion.1", "a b*~'()!"), ("SrcVersion.10", "升级"), ("SrcVersion.2", "+/&="), ("Empty", "")];
    client.exchange(&request(&odd, None)).await.unwrap();
    let (_, uri, _, length) = cloud.seen.lock().unwrap()[0].clone();
    let headers = cloud.headers.lock().unwrap()[0].clone();
    let value = |name: &str| header(&headers, name).unwrap_or_else(|| panic!("{name} is missing"));
    assert_eq!((value("host"), length), (format!("127.0.0.1:{}", cloud.port).as_str(), 0));
    assert_eq!((value("x-acs-action"), value("x-acs-version")), ("CreateOTAStaticUpgradeJob", "2018-01-20"));
    assert_eq!((value("x-acs-security-token"), value("x-acs-accesskey-id")), (TOKEN, "testAccessKeyId"));
    assert!(clock::wall().duration_since(value("x-acs-date").parse().unwrap()).as_secs().abs() <= 5);
    assert_eq!(value("x-acs-signature-nonce").len(), 32);
    let claimed = sign::v3::Authorization::parse(value("authorization")).unwrap();
    assert_eq!(claimed.credential, "testAccessKeyId");
    let names: Vec<_> = claimed.signed_headers.split(';').collect();
    assert!(headers.keys().filter(|n| n.as_str().starts_with("x-acs-")).all(|n| names.contains(&n.as_str())));
    let params = decoded(uri.trim_start_matches("/?"));
    let canonical = sign::canonical_query(params.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let signed = names.iter().map(|name| (*name, value(name)));
    let request = sign::v3::canonical_request("POST", "/", &canonical, signed, value("x-acs-content-sha256"));
    assert!(sign::v3::verify(SECRET, &sign::v3::string_to_sign(&request), &claimed.signature));
    let sent: Vec<_> = params.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut expected = odd;
    expected.sort();
    assert_eq!(sent, expected, "nothing but the operation's own parameters");
}

#[tokio::test]
async fn a_stamped_request_of_another_sender_is_not_sent() {
    let cloud = Cloud::start(ok).await;
    let client = client(cloud.port, Limits::default());
    let sender = client.sender();
    for other in [
        Sender { access_key: "other".into(), ..sender.clone() },
        Sender { endpoint: "http://127.0.0.1/".into(), ..sender.clone() },
        Sender { region: None, ..sender },
    ] {
        let stamp = stamp(&client).map(|stamp| Stamp { sender: other, ..stamp });
        let result = client.exchange(&request(&[], stamp)).await;
        assert!(matches!(&result, Err(NoAnswer::NotSent(why)) if why.contains("other keys")), "{result:?}");
    }
    assert_eq!(cloud.queries(), [""; 0]);
}

#[tokio::test]
async fn an_answer_arrives_with_its_clocks_and_pause() {
    let cloud = Cloud::start(|n| {
        let mut response = Response::builder().status(418).header("date", "Fri, 02 Jan 2026 03:04:05 GMT");
        if n == 0 {
            response = response.header("x-fota-now", "2027-05-06T07:08:09.5Z").header("x-acs-retry-after", "1500");
        }
        response.body(Body::from("tea")).unwrap()
    })
    .await;
    let client = client(cloud.port, Limits::default());
    let date = "2026-01-02T03:04:05Z".parse().ok();
    let first = client.exchange(&request(&[], None)).await.unwrap();
    let expected = Answer {
        http_status: 418,
        body: b"tea".to_vec(),
        date,
        now: "2027-05-06T07:08:09.5Z".parse().ok(),
        retry_after: Some(Duration::from_millis(1500)),
    };
    assert_eq!(first, expected);
    let second = client.exchange(&request(&[], None)).await.unwrap();
    assert_eq!(second, Answer { now: date, retry_after: None, ..expected });
}

#[test]
fn pauses_are_positive_milliseconds_and_capped() {
    assert_eq!(pause("1"), Some(Duration::from_millis(1)));
    assert_eq!(pause("99999999"), Some(LONGEST_RETRY_AFTER));
    assert_eq!((pause("0"), pause("-5"), pause("soon")), (None, None, None));
}

#[tokio::test]
async fn silence_is_lost_and_names_no_url() {
    let cloud = Cloud::start(ok).await;
    let client = client(cloud.port, Limits { total: Duration::from_millis(200), ..Limits::default() });
    match client.exchange(&request(&[("Stall", "1")], stamp(&client))).await {
        Err(NoAnswer::Lost(why)) => {
            assert!(why.contains("timed out"), "{why}");
            assert!(!why.contains("Signature") && !why.contains("CAIS"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cloud.queries().len(), 1, "it did arrive, and was not repeated");
}

#[tokio::test]
async fn without_a_permit_nothing_is_sent_and_a_stamped_request_asks_for_its_whole_time() {
    let cloud = Cloud::start(ok).await;
    let limits = Limits { stamped: Duration::from_secs(3), ..Limits::default() };
    let client = client(cloud.port, limits).permitted(Permit::new(|longest| longest < Duration::from_secs(3)));
    client.exchange(&request(&[], None)).await.unwrap();
    let result = client.exchange(&request(&[], stamp(&client))).await;
    assert!(matches!(&result, Err(NoAnswer::NotSent(why)) if why.contains("replica")), "{result:?}");
    assert_eq!(cloud.queries().len(), 1);
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = client(port, Limits::default());
    match client.exchange(&request(&[], stamp(&client))).await {
        Err(NoAnswer::NotSent(why)) => assert!(!why.contains("Signature"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_lost() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.readable().await.unwrap();
            stream.try_read(&mut [0; 16]).unwrap();
        }
    });
    let client = client(port, Limits::default());
    let result = client.exchange(&request(&[], stamp(&client))).await;
    assert!(matches!(result, Err(NoAnswer::Lost(_))), "{result:?}");
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_not_swallowed() {
    let cloud = Cloud::start(|n| Response::new(Body::from(vec![b' '; LONGEST_BODY + 1 - n]))).await;
    let client = client(cloud.port, Limits::default());
    let result = client.exchange(&request(&[], None)).await;
    assert!(matches!(&result, Err(NoAnswer::Lost(why)) if why.contains("longer")));
    assert_eq!(client.exchange(&request(&[], None)).await.unwrap().body.len(), LONGEST_BODY);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let cloud =
        Cloud::start(|_| Response::builder().status(307).header("location", "/elsewhere").body(Body::empty()).unwrap())
            .await;
    let answer = client(cloud.port, Limits::default()).exchange(&request(&[], None)).await.unwrap();
    assert_eq!((answer.http_status, cloud.queries().len()), (307, 1));
}

#[tokio::test]
async fn a_throttle_holds_the_next_call_and_turns_a_stamped_one_away() {
    let cloud = Cloud::start(|n| match n {
        0 => Response::builder().status(400).body(Body::from(r#"{"Code":"Throttling.Api"}"#)).unwrap(),
        _ => ok(n),
    })
    .await;
    let client = client(cloud.port, Limits { patience: Duration::from_millis(100), ..Limits::default() });
    client.exchange(&request(&[], None)).await.unwrap();
    let refused = clock::monotonic();
    let result = client.exchange(&request(&[], stamp(&client))).await;
    assert!(matches!(&result, Err(NoAnswer::NotSent(why)) if why.contains("quota")), "{result:?}");
    client.exchange(&request(&[], None)).await.unwrap();
    assert!(refused.elapsed() >= Duration::from_millis(900), "{:?}", refused.elapsed());
    assert_eq!(cloud.queries().len(), 2);
}

#[tokio::test]
async fn an_echoed_secret_is_struck_out() {
    let cloud = Cloud::start(|_| {
        let once = sign::encode(TOKEN);
        let echo = format!("{TOKEN} {once} {} {SECRET}.", sign::encode(&once));
        Response::builder().status(400).body(Body::from(echo)).unwrap()
    })
    .await;
    let client = client(cloud.port, Limits::default());
    let answer = client.exchange(&request(&[], None)).await.unwrap();
    assert_eq!(String::from_utf8(answer.body).unwrap(), "*** *** *** ***.");
    let debug = format!("{client:?}");
    assert!(!debug.contains(SECRET) && !debug.contains(TOKEN), "{debug}");
}

#[test]
fn nonces_do_not_repeat() {
    let drawn: std::collections::BTreeSet<_> = (0..10_000).map(|_| fresh_nonce()).collect();
    assert_eq!(drawn.len(), 10_000);
}
