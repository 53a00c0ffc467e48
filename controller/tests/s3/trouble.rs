//! Servers and networks that refuse, break off or lie.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use airlock::config::TimeSpan;
use airlock::source::SourceFault;
use airlock_policy::digest::Digest;
use airlock_protocol::control::ErrorClass;

use crate::proxy::{self, Trouble};
use crate::stage::{MIB, Stage, content};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named_and_asked_for_once() {
    let mut stage = Stage::new("missing").await;
    let proxy = stage.through(Trouble::None).await;
    let fault = stage.fetch("nothing/here").await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("source.not_found", ErrorClass::NotFound));
    assert_eq!(proxy.requests(), 2, "one HEAD, and one GET for its reason");
    stage.bucket = "airlock-no-such-bucket".to_owned();
    let fault = stage.fetch("x").await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("source.bucket", ErrorClass::NotFound));
    assert_eq!(proxy.requests(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_denied_once_and_told_to_nobody() {
    let mut stage = Stage::new("denied").await;
    stage.put("x", b"private").await;
    let proxy = stage.through(Trouble::None).await;
    stage.credentials("a-wrong-secret-key");
    let fault = stage.fetch("x").await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("source.denied", ErrorClass::Refused));
    assert_eq!(proxy.requests(), 2);
    let told = format!("{fault} {fault:?} {:?}", fault.fault());
    assert!(!told.contains("a-wrong-secret-key") && !told.contains("Signature="), "{told}");
    assert!(told.contains("SignatureDoesNotMatch"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_nothing_is_asked_anonymously() {
    let mut stage = Stage::new("anonymous").await;
    stage.put("x", b"private").await;
    let proxy = stage.through(Trouble::None).await;
    fs::write(stage.folder.join("credentials"), "[default]\n").unwrap();
    let fault = stage.fetch("x").await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("source.credentials", ErrorClass::Unavailable));
    assert_eq!(proxy.requests(), 0);
    // Said aloud, it is tried, and the private bucket says no.
    stage.config.s3.credentials_file = None;
    stage.config.s3.anonymous = true;
    stage.apply();
    assert_eq!(stage.fetch("x").await.unwrap_err().code(), "source.denied");
    assert!(proxy.requests() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_is_unreachable_in_bounded_time() {
    let mut stage = Stage::new("dead").await;
    stage.config.s3.endpoint = Some(format!("http://127.0.0.1:{}", proxy::unused_port().await));
    stage.config.s3.attempts = 4;
    stage.apply();
    let started = Instant::now();
    let fault = stage.fetch("x").await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("source.unreachable", ErrorClass::Unavailable));
    assert!(matches!(fault, SourceFault::GaveUp { tries: 4, .. }) && fault.is_retryable());
    assert!(fault.fault().cause.iter().any(|why| why.contains("refused")), "{:?}", fault.fault());
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_cut_midway_cost_only_what_was_lost() {
    let mut stage = Stage::new("cut").await;
    let bytes = content(8 * MIB);
    stage.put("x", &bytes).await;
    let info = stage.head("x").await.unwrap();
    let proxy = stage.through(Trouble::CutAfter { bytes: 700_000, connections: 5 }).await;
    let fetched = stage.fetch_as("x", &info, None).await.unwrap();
    assert_eq!(fetched.digest.0, Digest::of(&bytes));
    assert_eq!(proxy.troubled(), 5);
    assert!(stage.progress.figures().retries >= 5);
    // What came before a cut is not fetched again.
    assert_eq!(fetched.fetched_bytes, bytes.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_slow_down_is_asked_again() {
    let mut stage = Stage::new("slow-down").await;
    let bytes = content(3 * MIB);
    stage.put("x", &bytes).await;
    let proxy = stage.through(Trouble::Unavailable { connections: 3 }).await;
    assert_eq!(stage.fetch("x").await.unwrap().digest.0, Digest::of(&bytes));
    assert_eq!(proxy.troubled(), 3);
    // Not for ever: the end says what the server said.
    stage.config.s3.attempts = 3;
    drop(stage.through(Trouble::Unavailable { connections: u64::MAX }).await);
    let fault = stage.fetch("x").await.unwrap_err();
    assert_eq!((fault.code(), fault.is_retryable()), ("source.server", true));
    assert!(fault.fault().cause.iter().any(|why| why.contains("503")), "{:?}", fault.fault());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_stalls_is_taken_up_again() {
    let mut stage = Stage::new("stall").await;
    let bytes = content(2 * MIB);
    stage.put("x", &bytes).await;
    let info = stage.head("x").await.unwrap();
    stage.config.s3.stall_timeout = TimeSpan::seconds(1);
    let proxy = stage.through(Trouble::StallAfter { bytes: 300_000, connections: 2 }).await;
    let started = Instant::now();
    let fetched = stage.fetch_as("x", &info, None).await.unwrap();
    assert_eq!(fetched.digest.0, Digest::of(&bytes));
    assert_eq!(proxy.troubled(), 2);
    assert!((1..20).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_the_pin_or_the_range_is_found_out() {
    let mut stage = Stage::new("lies").await;
    stage.put("x", &content(2 * MIB)).await;
    let info = stage.head("x").await.unwrap();
    let etag = info.etag.clone().unwrap();
    for (head, code) in [
        (
            format!("206 OK\r\nETag: \"other\"\r\nContent-Range: bytes 0-1048575/{}", 2 * MIB),
            "source.changed",
        ),
        (
            format!("206 OK\r\nETag: {etag}\r\nContent-Range: bytes 1-1048576/{}", 2 * MIB),
            "source.not_s3",
        ),
        (format!("206 OK\r\nETag: {etag}\r\nContent-Range: bytes 0-1048575/9"), "source.not_s3"),
        (format!("200 OK\r\nETag: {etag}"), "source.not_s3"),
    ] {
        stage.config.s3.concurrency = 1;
        drop(stage.through(Trouble::Answer { head, body: content(MIB) }).await);
        let fault = stage.fetch_as("x", &info, None).await.unwrap_err();
        assert_eq!(fault.code(), code, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_the_configured_authority_and_nobody_else() {
    let mut stage = Stage::new("tls").await;
    let bytes = content(3 * MIB);
    stage.put("x", &bytes).await;
    stage.config.s3.attempts = 2;
    let tls = stage.through_tls().await;
    let fetch = async |stage: &mut Stage, ca_file: Option<&Path>| {
        stage.config.s3.ca_file = ca_file.map(Path::to_owned);
        stage.apply();
        stage.fetch("x").await
    };
    assert_eq!(fetch(&mut stage, Some(&tls.authority)).await.unwrap().digest.0, Digest::of(&bytes));
    for stranger in [None, Some(tls.stranger.as_path())] {
        let fault = fetch(&mut stage, stranger).await.unwrap_err();
        assert_eq!(fault.code(), "source.unreachable", "{fault:?}");
        assert!(fault.fault().remedy.iter().any(|text| text.contains("s3.ca_file")), "{fault:?}");
    }
    // No file, no certificate in it, a damaged one: said, and no panic.
    let broken = stage.folder.join("broken.pem");
    for text in
        [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")]
    {
        if let Some(text) = text {
            fs::write(&broken, text).unwrap();
        }
        let fault = fetch(&mut stage, Some(&broken)).await.unwrap_err();
        assert_eq!((fault.code(), fault.class()), ("source.setting", ErrorClass::Usage));
    }
}
