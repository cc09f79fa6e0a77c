//! What becomes of answers that no honest cloud gives, over real HTTP: byte for byte, a broken connection included.

use super::*;
use crate::ota::calls::{self, CallContext};
use crate::ota::code::{self, Class};
use crate::ota::outcome::{CallError, Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a server does with a connection once it has read the request.
#[derive(Clone)]
enum Play {
    /// Writes this and closes.
    Say(Vec<u8>),
    /// Writes this and then nothing, with the connection open.
    Stall(Vec<u8>),
    /// Writes this head and then spaces for ever.
    Flood(Vec<u8>),
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

async fn server(play: Play) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let play = play.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                match play {
                    // The client may have gone: it need not hear the end.
                    Play::Say(bytes) => drop(stream.write_all(&bytes).await),
                    Play::Stall(bytes) => {
                        let _ = stream.write_all(&bytes).await;
                        std::future::pending::<()>().await;
                    }
                    Play::Flood(head) => {
                        let _ = stream.write_all(&head).await;
                        while stream.write_all(&[b' '; 64 * 1024]).await.is_ok() {}
                    }
                }
            });
        }
    });
    port
}

/// What a create and a read make of it.
async fn both(play: Play, limits: Limits) -> (Outcome, CallError) {
    let client = client(server(play).await, limits);
    let created = calls::create(&client, &request(&[("FirmwareId", "f")], stamp(&client))).await;
    let read = calls::query_job(&client, &CallContext::default(), &"j".into()).await;
    (created, read.expect_err("no job was read"))
}

#[tokio::test]
async fn whatever_is_no_clear_answer_leaves_a_create_open_and_lets_a_read_be_repeated() {
    let json = r#"{"RequestId":"R","Success":true,"Data":{"JobId":"j","UtcCreate":"2024-05-04T06:22:19.566Z"}}"#;
    let truncated = |body: &str| {
        let mut bytes = answer("200 OK", body);
        bytes.truncate(bytes.len() - 20);
        Play::Say(bytes)
    };
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let unknown = r#"{"RequestId":"R","Success":false,"Code":"iot.firmware.NeverHeardOf","ErrorMessage":"?"}"#;
    for (what, play, code) in [
        ("a code that nobody knows", Play::Say(answer("200 OK", unknown)), "iot.firmware.NeverHeardOf"),
        (
            "a proxy's page",
            Play::Say(answer("502 Bad Gateway", "<html><body>busy<br></body>")),
            code::UNREADABLE_ANSWER,
        ),
        ("nothing", Play::Say(answer("200 OK", "")), code::UNREADABLE_ANSWER),
        (
            "bytes that are no text",
            Play::Say([&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"[..], &[0xff, 0xfe]].concat()),
            code::UNREADABLE_ANSWER,
        ),
        ("cut off JSON that says it is whole", Play::Say(answer("200 OK", &json[..60])), code::UNREADABLE_ANSWER),
        ("cut off XML", Play::Say(answer("200 OK", "<R><Success>true</Success><Data>")), code::UNREADABLE_ANSWER),
        ("a connection cut off in the body", truncated(json), code::NO_ANSWER),
        ("a connection cut off in the head", Play::Say(b"HTTP/1.1 200 OK\r\nconte".to_vec()), code::NO_ANSWER),
        ("no HTTP", Play::Say(b"SSH-2.0-OpenSSH\r\n".to_vec()), code::NO_ANSWER),
        ("deep nesting", Play::Say(answer("200 OK", &nested)), code::UNREADABLE_ANSWER),
        (
            "a success without an id",
            Play::Say(answer("200 OK", r#"{"Success":true,"Data":{}}"#)),
            code::UNREADABLE_ANSWER,
        ),
        (
            "more than fits",
            Play::Flood(b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\nconnection: close\r\n\r\n".to_vec()),
            code::NO_ANSWER,
        ),
        (
            "a length that lies",
            Play::Flood(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec()),
            code::NO_ANSWER,
        ),
    ] {
        let (created, read) = both(play, Limits::default()).await;
        match created {
            Outcome::Unknown(error) => assert_eq!((error.class, error.code.as_str()), (Class::Unknown, code), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!((read.class, read.code.as_str()), (Class::Unknown, code), "{what}");
    }
}

#[tokio::test]
async fn slow_answers_end_with_the_limit_wherever_they_stall() {
    let limits = Limits { total: Duration::from_millis(300), ..Limits::default() };
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n".to_vec();
    for (what, said) in [
        ("before the head", Vec::new()),
        ("in the head", b"HTTP/1.1 200".to_vec()),
        ("before the body", head.clone()),
        ("in the body", [head, b"{\"Success\":".to_vec()].concat()),
    ] {
        let (created, read) = both(Play::Stall(said), limits).await;
        assert!(matches!(&created, Outcome::Unknown(e) if e.code == code::NO_ANSWER), "{what}: {created:?}");
        assert_eq!(read.code, code::NO_ANSWER, "{what}");
        assert!(read.message.contains("timed out"), "{what}: {read}");
    }
}

#[tokio::test]
async fn an_answer_in_xml_is_as_good_as_one_in_json() {
    let accepted = "<?xml version=\"1.0\"?><CreateOTAStaticUpgradeJobResponse><RequestId>R</RequestId><Success>true</Success>\
                    <Data><JobId>j1</JobId><UtcCreate>2024-05-04T06:22:19.566Z</UtcCreate></Data>\
                    </CreateOTAStaticUpgradeJobResponse>";
    let client = client(server(Play::Say(answer("200 OK", accepted))).await, Limits::default());
    let created = calls::create(&client, &request(&[("FirmwareId", "f")], stamp(&client))).await;
    assert!(
        matches!(&created, Outcome::Accepted { job_id, request_id, .. } if job_id.as_str() == "j1" && request_id == "R")
    );
    let refused =
        "<Error><RequestId>R</RequestId><HostId>h</HostId><Code>Throttling.User</Code><Message>m</Message></Error>";
    let client = super::client(server(Play::Say(answer("400 Bad Request", refused))).await, Limits::default());
    let created = calls::create(&client, &request(&[("FirmwareId", "f")], stamp(&client))).await;
    assert!(matches!(&created, Outcome::Rejected(e) if e.class == Class::Transient && e.message == "m"), "{created:?}");
    assert!(
        client.quota().held_until(Operation::CreateOTAStaticUpgradeJob).is_some(),
        "a throttle is seen in XML, too"
    );
}

#[tokio::test]
async fn a_forbidden_operation_is_remembered_until_it_works() {
    let denied = r#"{"RequestId":"R","HostId":"h","Code":"Forbidden.RAM","Message":"not authorized"}"#;
    let client = client(server(Play::Say(answer("403 Forbidden", denied))).await, Limits::default());
    assert_eq!(client.forbidden(), []);
    let error = calls::query_job(&client, &CallContext::default(), &"j".into()).await.unwrap_err();
    assert_eq!((error.class, error.missing_action().as_deref()), (Class::Terminal, Some("iot:QueryOTAJob")));
    assert_eq!(client.forbidden(), [Operation::QueryOTAJob]);
}
