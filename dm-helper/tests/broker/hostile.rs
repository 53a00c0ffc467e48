//! What a peer that lies, hurries or stalls can and cannot do.

use std::time::{Duration, Instant};

use airlock_protocol::PROTOCOL;
use airlock_protocol::not_done::{NotDone, Refusal, Step};
use airlock_protocol::reply::Outcome;
use airlock_protocol::request::Hello;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::client::{Caller, chain, connect, context, request};
use super::rig::Host;

async fn hello(broker: &Caller, protocol: u32) -> Result<u32, NotDone> {
    let hello = Hello { request: request(), protocol };
    broker.client.hello(context(), hello).await.unwrap().map(|welcome| welcome.protocol)
}

/// Whether the other side hangs up, within a second.
async fn is_closed(stream: &mut UnixStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(1), stream.read_u8()).await;
    matches!(read, Ok(Err(_)))
}

#[tokio::test]
async fn another_uid_gets_no_answer() {
    let host = Host::new();
    let uid = rustix::process::getuid().as_raw();
    let broker = host.start_for(uid + 1).await;
    let mut stream = UnixStream::connect(&broker.socket).await.unwrap();
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn connections_are_bounded_and_given_back() {
    let mut host = Host::new();
    host.config.limits.connections = 2;
    let broker = host.start().await;
    hello(&broker, PROTOCOL).await.unwrap();
    let second = UnixStream::connect(&broker.socket).await.unwrap();
    let mut third = UnixStream::connect(&broker.socket).await.unwrap();
    assert!(is_closed(&mut third).await);
    drop(second);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let client = connect(&broker.socket).await;
    let hello = Hello { request: request(), protocol: PROTOCOL };
    client.hello(context(), hello).await.unwrap().unwrap();
}

#[tokio::test]
async fn another_protocol_is_refused_by_name() {
    let host = Host::new();
    let broker = host.start().await;
    assert_eq!(hello(&broker, PROTOCOL + 1).await, Err(NotDone::Refused(Refusal::ProtocolVersion)));
}

#[tokio::test]
async fn nonsense_ends_its_own_connection_and_no_other() {
    let host = Host::new();
    let broker = host.up().await;
    let trace = r#"{"trace_id":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"span_id":0,"sampling_decision":"Unsampled"}"#;
    let frame = |secs: u64, message: &str| {
        format!(
            r#"{{"Request":{{"id":0,"message":{message},"context":{{"deadline":{{"secs":{secs},"nanos":0}},"trace_context":{trace}}}}}}}"#
        )
    };
    let good = r#"{"PoolStatus":{"request":{"request":"r"}}}"#;
    for bad in [
        frame(3601, good),
        frame(u64::MAX, good),
        frame(5, r#"{"PoolStatus":{"request":{"request":"r","path":"/etc"}}}"#),
        frame(5, r#"{"PoolStatus":{"request":{"request":"../etc"}}}"#),
        frame(5, r#"{"Map":{"request":{"request":"r","name":"../../etc/passwd"}}}"#),
        frame(5, r#"{"DestroyPool":{"request":{"request":"r"}}}"#),
        frame(
            5,
            r#"{"CreateVolume":{"request":{"request":"r","volume":"sha256:00","parent":null}}}"#,
        ),
        "\0".to_owned(),
        "[".repeat(60_000),
    ] {
        let stream = UnixStream::connect(&broker.socket).await.unwrap();
        let mut wire = Framed::new(stream, LengthDelimitedCodec::new());
        wire.send(Bytes::from(bad.clone())).await.unwrap();
        let reply = tokio::time::timeout(Duration::from_secs(2), wire.next()).await.unwrap();
        assert!(reply.is_none_or(|frame| frame.is_err()), "{bad}");
    }
    let stream = UnixStream::connect(&broker.socket).await.unwrap();
    let mut wire = Framed::new(stream, LengthDelimitedCodec::new());
    wire.send(Bytes::from(frame(5, good))).await.unwrap();
    assert!(wire.next().await.unwrap().is_ok(), "the good frame is answered");
    hello(&broker, PROTOCOL).await.unwrap();
}

#[tokio::test]
async fn half_frames_and_huge_ones_keep_nobody_waiting() {
    let host = Host::new();
    let broker = host.start().await;
    let mut half = UnixStream::connect(&broker.socket).await.unwrap();
    half.write_all(&[0, 0, 1, 0, b'{']).await.unwrap();
    let mut huge = UnixStream::connect(&broker.socket).await.unwrap();
    huge.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert!(is_closed(&mut huge).await);
    hello(&broker, PROTOCOL).await.unwrap();
    drop(half);
}

#[tokio::test]
async fn work_outlives_its_caller() {
    let host = Host::new();
    let broker = host.up().await;
    host.sim.0.lock().unwrap().slow = 300;
    let call = broker.create(&[1]);
    tokio::time::timeout(Duration::from_millis(100), call).await.unwrap_err();
    assert_eq!(broker.create(&[1]).await, Ok(Outcome::AlreadyThere));
    // The deadline that passed is the peer's own.
    let mut context = context();
    context.deadline = Instant::now() + Duration::from_millis(50);
    let request = airlock_protocol::request::CreateVolume {
        request: request(),
        volume: chain(&[2]),
        parent: None,
    };
    broker.client.create_volume(context, request).await.unwrap_err();
    assert_eq!(broker.create(&[2]).await, Ok(Outcome::AlreadyThere));
}

#[tokio::test]
async fn a_device_that_hangs_is_answered_late_and_not_waited_for() {
    let host = Host::new();
    let broker = host.up().await;
    // device_seconds is 1: two calls of 1.5 seconds are too late.
    host.sim.0.lock().unwrap().slow = 1500;
    assert_eq!(broker.create(&[1]).await, Err(NotDone::Late(Step::PoolMessage)));
    hello(&broker, PROTOCOL).await.unwrap();
    host.sim.0.lock().unwrap().slow = 0;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(broker.create(&[1]).await, Ok(Outcome::AlreadyThere));
}

#[tokio::test]
async fn a_flood_of_abandoned_requests_is_bounded_and_then_forgotten() {
    let host = Host::new();
    let broker = host.up().await;
    host.sim.0.lock().unwrap().slow = 20;
    for _connection in 0..20 {
        let client = connect(&broker.socket).await;
        for seed in 0..16 {
            let request = airlock_protocol::request::CreateVolume {
                request: request(),
                volume: chain(&[seed]),
                parent: None,
            };
            let mut soon = context();
            soon.deadline = Instant::now() + Duration::from_millis(1);
            drop(client.create_volume(soon, request).await);
        }
    }
    host.sim.0.lock().unwrap().slow = 0;
    assert_eq!(broker.usage().await.volumes, 16);
}
