//! Downloads: whole, resumed, pinned, one at a time.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use airlock::blob::{PartialId, Wanted};
use airlock::source::SourceFault;
use airlock_policy::digest::Digest;
use airlock_policy::size::ByteSize;
use airlock_protocol::control::ErrorClass;

use crate::proxy::Trouble;
use crate::stage::{MIB, Stage, content};

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
    let missing = (bytes.len() as u64).saturating_sub(kept);
    // Of a part that was begun nothing is kept, so at most one part each worker comes again.
    let again = second.fetched_bytes.checked_sub(missing);
    assert!(again.is_some_and(|bytes| bytes <= 4 << 20), "{second:?} {kept}");
    let on_the_wire = proxy.downstream().saturating_sub(before);
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
    let mut child = stage.child("tests::after_a_kill_only_what_is_missing_is_fetched");
    let mut child = child.stdout(Stdio::null()).spawn().unwrap();
    let id = PartialId::of(&stage.place("x"), &info);
    let journal = stage.folder.join("partial").join(format!("{id}.journal"));
    let noted = || {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("part ")).count()
    };
    let started = Instant::now();
    while noted() < 5 {
        assert!(started.elapsed() < Duration::from_mins(1), "the child fetches nothing");
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
