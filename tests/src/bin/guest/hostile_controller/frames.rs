//! Frames that are none, hurry, stall or lie.

use std::io::Write as _;
use std::thread::sleep;
use std::time::Duration;

use airlock_tests::helper_client::{Client, frame, request};
use serde_json::json;

use super::{Attempt, Ground, Saw, must_refuse, saw};

const GOOD: &str = r#"{"PoolStatus":{"request":{"request":"r"}}}"#;

/// One frame of this text. It must not be answered with anything done.
fn text(ground: &Ground, text: &str) -> Saw {
    let mut client = ground.connect();
    let sent = client.send(text.as_bytes()).and_then(|()| client.receive());
    must_refuse(saw(sent.map(|frame| {
        frame["message"]["Ok"]
            .as_object()
            .and_then(|verbs| verbs.values().next().cloned())
            .unwrap_or_default()
    })))
}

fn message(ground: &Ground, message: &str) -> Saw {
    text(ground, &frame(1, 5, message))
}

fn bytes(ground: &Ground, bytes: &[u8]) -> Saw {
    let mut client = ground.connect();
    let sent = client.stream.write_all(bytes).and_then(|()| client.receive());
    must_refuse(saw(sent))
}

/// What is accepted, as it changes nothing: the helper's own answer afterwards counts.
fn harmless(what: impl Into<String>) -> Saw {
    Saw::Done(what.into())
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    ("half a frame, and the connection kept", |ground| {
        let mut client = ground.connect();
        client.stream.write_all(&[0, 0, 1, 0, b'{']).unwrap();
        sleep(Duration::from_millis(300));
        harmless("others are served meanwhile")
    }),
    ("a frame byte by byte", |ground| {
        let mut client = ground.connect();
        let text = request(1, "PoolStatus", json!({}));
        client.stream.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
        for byte in text.bytes().take(40) {
            client.stream.write_all(&[byte]).unwrap();
            sleep(Duration::from_millis(10));
        }
        harmless("others are served meanwhile")
    }),
    ("a frame of 4 GiB, announced", |ground| bytes(ground, &u32::MAX.to_be_bytes())),
    ("a frame beyond the limit, sent", |ground| {
        let mut all = 65_537_u32.to_be_bytes().to_vec();
        all.resize(65_541, b' ');
        bytes(ground, &all)
    }),
    ("an empty frame", |ground| text(ground, "")),
    ("a frame of noise", |ground| text(ground, "\0\u{1}\u{7f}")),
    ("a frame that is no UTF-8", |ground| bytes(ground, &[0, 0, 0, 3, 0xff, 0xfe, 0xfd])),
    ("60,000 brackets", |ground| text(ground, &"[".repeat(60_000))),
    ("a message nested 10,000 deep", |ground| {
        message(ground, &format!("{}{}", "{\"a\":".repeat(9_000), "}".repeat(9_000)))
    }),
    ("a deadline of for ever", |ground| text(ground, &frame(1, u64::MAX, GOOD))),
    ("a deadline a second past the bound", |ground| text(ground, &frame(1, 3601, GOOD))),
    ("a negative deadline", |ground| {
        text(ground, &frame(1, 5, GOOD).replace("\"secs\":5", "\"secs\":-5"))
    }),
    ("a deadline said twice", |ground| {
        let twice = "\"deadline\":{\"secs\":5,\"nanos\":0},\"deadline\":{\"secs\":99999999";
        text(ground, &frame(1, 5, GOOD).replace("\"deadline\":{\"secs\":5", twice))
    }),
    ("a context in array form", |ground| {
        text(
            ground,
            r#"{"Request":{"id":1,"message":{},"context":[{"secs":69000000,"nanos":0},{}]}}"#,
        )
    }),
    ("a field said twice", |ground| {
        message(ground, r#"{"Map":{"request":{"request":"r","name":"web","name":"other"}}}"#)
    }),
    ("a field that nobody knows", |ground| {
        message(ground, r#"{"Map":{"request":{"request":"r","name":"web","path":"/etc"}}}"#)
    }),
    ("a request in array form", |ground| message(ground, r#"{"Map":{"request":["r","../x"]}}"#)),
    ("two verbs in one message", |ground| {
        message(
            ground,
            r#"{"PoolStatus":{"request":{"request":"r"}},"Map":{"request":{"request":"r","name":"web"}}}"#,
        )
    }),
    ("a verb that nobody knows", |ground| {
        message(ground, r#"{"DestroyPool":{"request":{"request":"r"}}}"#)
    }),
    ("an answer instead of a request", |ground| {
        text(ground, r#"{"request_id":1,"message":{"Ok":{"Map":{"Ok":{"outcome":"done"}}}}}"#)
    }),
    ("another version of the protocol", |ground| {
        must_refuse(ground.ask("Hello", json!({"protocol": 4_000_000_000_u32})))
    }),
    ("a version that is no number", |ground| {
        message(ground, r#"{"Hello":{"request":{"request":"r","protocol":1e99}}}"#)
    }),
    ("a request id that would be a line of the log", |ground| {
        message(ground, r#"{"PoolStatus":{"request":{"request":"a\nb=c"}}}"#)
    }),
    ("a request id of 60,000 characters", |ground| {
        let long = "a".repeat(60_000);
        message(ground, &format!(r#"{{"PoolStatus":{{"request":{{"request":"{long}"}}}}}}"#))
    }),
    ("200 connections at once", |ground| {
        let all: Vec<_> = (0..200).filter_map(|_| Client::connect(ground.user).ok()).collect();
        sleep(Duration::from_millis(200));
        let count = all.len();
        drop(all);
        harmless(format!("{count} were made, 8 are served, all are gone"))
    }),
    ("1,000 requests without reading an answer", |ground| {
        let mut client = ground.connect();
        client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let sent = (0..1000)
            .take_while(|id| {
                client.send(request(*id, "ListVolumes", json!({"after": null})).as_bytes()).is_ok()
            })
            .count();
        harmless(format!("{sent} were taken before the pipe was full"))
    }),
    ("500 requests that nobody waits for", |ground| {
        let mut client = ground.connect();
        let sent =
            (0..500).take_while(|id| client.send(frame(*id, 0, GOOD).as_bytes()).is_ok()).count();
        harmless(format!("{sent} were sent with a deadline of now"))
    }),
    ("one number for two requests", |ground| {
        let mut client = ground.connect();
        let same = request(7, "PoolStatus", json!({}));
        drop(client.send(same.as_bytes()));
        drop(client.send(same.as_bytes()));
        drop(client.receive());
        harmless("answered once or twice, or closed")
    }),
    ("a storm of cancels", |ground| {
        let mut client = ground.connect();
        let trace = r#"{"trace_id":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"span_id":0,"sampling_decision":"Unsampled"}"#;
        for id in 0..300 {
            drop(client.send(request(id, "PoolStatus", json!({})).as_bytes()));
            let cancel = format!(r#"{{"Cancel":{{"trace_context":{trace},"request_id":{id}}}}}"#);
            if client.send(cancel.as_bytes()).is_err() {
                break;
            }
        }
        harmless("each request was cancelled at once")
    }),
    ("50 connections that end in the midst of a request", |ground| {
        for _ in 0..50 {
            let mut client = ground.connect();
            drop(client.send(request(1, "ListVolumes", json!({"after": null})).as_bytes()));
            drop(client.stream.shutdown(std::net::Shutdown::Both));
        }
        harmless("what was taken was done, and nobody was told")
    }),
];
