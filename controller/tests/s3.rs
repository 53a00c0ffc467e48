//! Downloads from a real S3 server, with a proxy in between where something has to go wrong.

#![forbid(unsafe_code)]
#![expect(clippy::tests_outside_test_module, reason = "this whole file is a test module")]

#[path = "s3/proxy.rs"]
mod proxy;
#[path = "s3/server.rs"]
mod server;
#[path = "s3/stage.rs"]
mod stage;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airlock::blob::{PartialId, Wanted};
use airlock::config::TimeSpan;
use airlock::source::SourceFault;
use airlock_policy::digest::Digest;
use airlock_policy::size::ByteSize;
use airlock_protocol::control::ErrorClass;
use proxy::Trouble;
use stage::{MIB, Stage, content};

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_arrives_whole_under_its_digest() {
    let stage = Stage::new("whole").await;
    let bytes = content(17 * MIB + 12_345);
    stage.put("images/a.tar", &bytes).await;
    let fetched = stage.fetch("images/a.tar").await.unwrap();
    assert_eq!(fetched.digest.0, Digest::of(&bytes));
    assert_eq!((fetched.bytes, fetched.fetched_bytes), (bytes.len() as u64, bytes.len() as u64));
    let file = stage.folder.join("sha256").join(fetched.digest.0.hex());
    assert!(fs::read(&file).unwrap() == bytes, "the file is not the object");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(stage.store.stat(fetched.digest).unwrap(), Some(fetched.stat));
    assert_eq!(stage.partials(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_object_and_one_of_exactly_a_part_arrive() {
    let stage = Stage::new("small").await;
    for length in [0, 1, MIB, MIB + 1] {
        let bytes = content(length);
        stage.put("x", &bytes).await;
        let fetched = stage.fetch("x").await.unwrap();
        assert_eq!(fetched.digest.0, Digest::of(&bytes), "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_look_like_paths_or_urls_are_only_keys() {
    let stage = Stage::new("keys").await;
    for key in ["a b+c%20d&e=f", "ü/é", "images/golang/2.tar?versionId=3#x", "k@ey"] {
        stage.put(key, key.as_bytes()).await;
        let fetched = stage.fetch(key).await.unwrap();
        assert_eq!(fetched.digest.0, Digest::of(key.as_bytes()), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cancel_only_what_is_missing_is_fetched() {
    let mut stage = Stage::new("resume").await;
    let bytes = content(24 * MIB);
    stage.put("x", &bytes).await;
    let info = stage.head("x").await.unwrap();
    stage.config.s3.rate_limit = Some(ByteSize::mib(8));
    stage.apply();
    let (place, progress) = (stage.place("x"), Arc::clone(&stage.progress));
    let wanted = Wanted { place: &place, info: &info, pin: None };
    let cancel_midway = async {
        while progress.figures().done_bytes < 9 * MIB as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stage.cancel.cancel();
    };
    let first = stage.store.fetch(&stage.sources, wanted, &progress, &stage.cancel);
    let (first, ()) = tokio::join!(first, cancel_midway);
    assert!(matches!(first, Err(SourceFault::Cancelled)), "{first:?}");
    let kept = progress.figures().done_bytes;
    assert_eq!(stage.partials(), 2);

    let proxy = stage.through(Trouble::None).await;
    stage.config.s3.rate_limit = None;
    stage.apply();
    let before = proxy.downstream();
    let second = stage.fetch_as("x", &info, None).await.unwrap();
    assert_eq!(second.digest.0, Digest::of(&bytes));
    let total = bytes.len() as u64;
    // Of a part that was begun nothing is kept, so at most one part each worker comes again.
    let at_most = total - kept + 4 * MIB as u64;
    assert!((total - kept..=at_most).contains(&second.fetched_bytes), "{second:?} {kept}");
    let on_the_wire = proxy.downstream() - before;
    let headers = on_the_wire.checked_sub(second.fetched_bytes);
    assert!(headers.is_some_and(|bytes| bytes < 64 << 10), "{on_the_wire} {second:?}");
}

/// The same, by SIGKILL to the whole process: this test starts itself as the one to be killed.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_only_what_is_missing_is_fetched() {
    const LENGTH: usize = 16 * MIB;
    if let Some(mut stage) = Stage::of_parent() {
        stage.config.s3.rate_limit = Some(ByteSize::mib(8));
        stage.apply();
        assert!(stage.fetch("x").await.is_ok());
        return;
    }
    let stage = Stage::new("kill").await;
    let bytes = content(LENGTH);
    stage.put("x", &bytes).await;
    let info = stage.head("x").await.unwrap();
    let mut child = stage.child("after_a_kill_only_what_is_missing_is_fetched");
    let mut child = child.stdout(Stdio::null()).spawn().unwrap();
    let id = PartialId::of(&stage.place("x"), &info);
    let journal = stage.folder.join("partial").join(format!("{id}.journal"));
    let noted = || {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("part ")).count()
    };
    let started = Instant::now();
    while noted() < 5 {
        assert!(started.elapsed() < Duration::from_secs(60), "the child fetches nothing");
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = noted();
    assert!(kept < 15, "the child was too fast to be killed midway");
    let fetched = stage.fetch_as("x", &info, None).await.unwrap();
    assert_eq!(fetched.digest.0, Digest::of(&bytes));
    assert_eq!(fetched.fetched_bytes, (LENGTH - kept * MIB) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_changed_after_the_look_is_an_error_and_never_a_mixture() {
    let mut stage = Stage::new("changed").await;
    stage.put("x", &content(8 * MIB)).await;
    let info = stage.head("x").await.unwrap();
    let other = vec![7; 8 * MIB];
    stage.put("x", &other).await;
    let fault = stage.fetch_as("x", &info, None).await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("source.changed", ErrorClass::Conflict));
    assert!(!fault.is_retryable());
    assert_eq!(stage.partials(), 0, "of no use to anybody");

    // Midway: the first part is there before the object changes.
    let info = stage.head("x").await.unwrap();
    stage.config.s3.rate_limit = Some(ByteSize::mib(2));
    stage.config.s3.concurrency = 1;
    stage.apply();
    let change = async {
        while stage.progress.figures().done_bytes < MIB as u64 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stage.put("x", &content(8 * MIB)).await;
    };
    let (fetched, ()) = tokio::join!(stage.fetch_as("x", &info, None), change);
    assert_eq!(fetched.unwrap_err().code(), "source.changed");
    assert!(stage.store.list().unwrap().is_empty());
    // A new look starts over.
    assert_eq!(stage.fetch("x").await.unwrap().digest.0, Digest::of(&content(8 * MIB)));
}

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
async fn a_pin_that_does_not_hold_leaves_nothing_behind() {
    let stage = Stage::new("pin").await;
    let bytes = content(2 * MIB);
    stage.put("x", &bytes).await;
    let info = stage.head("x").await.unwrap();
    let fault = stage.fetch_as("x", &info, Some(Digest::of(b"else"))).await.unwrap_err();
    assert_eq!((fault.code(), fault.class()), ("blob.digest", ErrorClass::Refused));
    assert_eq!((stage.partials(), stage.store.list().unwrap().len()), (0, 0));
    let fetched = stage.fetch_as("x", &info, Some(Digest::of(&bytes))).await.unwrap();
    assert_eq!(fetched.digest.0, Digest::of(&bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetches_of_one_object_do_not_meet_in_one_file() {
    let mut stage = Stage::new("twice").await;
    let bytes = content(6 * MIB);
    stage.put("x", &bytes).await;
    let info = stage.head("x").await.unwrap();
    stage.config.s3.rate_limit = Some(ByteSize::mib(6));
    stage.apply();
    let late = async {
        while stage.progress.figures().done_bytes == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let swept = stage.store.sweep(&HashSet::new()).unwrap();
        assert_eq!(swept.files, 0, "a download that runs is not swept");
        stage.fetch_quietly("x", &info).await
    };
    let (first, second) = tokio::join!(stage.fetch_as("x", &info, None), late);
    assert_eq!(first.unwrap().digest.0, Digest::of(&bytes));
    let second = second.unwrap_err();
    assert_eq!((second.code(), second.class()), ("source.busy", ErrorClass::Busy));
}
