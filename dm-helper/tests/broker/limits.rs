//! What grows is bounded: thin ids given out, virtual size, the ledger.

use std::os::fd::{AsFd as _, IntoRawFd as _};
use std::sync::atomic::Ordering;

use airlock_policy::size::ByteSize;
use airlock_protocol::not_done::{NotDone, Refusal, Step};
use airlock_protocol::reply::Outcome;

use super::rig::{GAVE_UP, Host, image};

#[tokio::test]
async fn a_loop_of_creations_and_deletions_is_slowed_and_says_when_to_ask_again() {
    let mut host = Host::new();
    (host.config.limits.burst, host.config.limits.per_minute) = (5, 1);
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    for _round in 0..4 {
        broker.snapshot("web", &[1], false).await.unwrap();
        broker.delete_snapshot("web").await.unwrap();
    }
    for _again in 0..10 {
        let refused = broker.snapshot("web", &[1], false).await;
        assert!(
            matches!(refused, Err(NotDone::Refused(Refusal::TooFast { seconds: 1..=60 }))),
            "{refused:?}"
        );
        assert!(broker.create(&[2]).await.is_err());
    }
    // What is there can always be had, and always be deleted.
    assert_eq!(broker.create(&[1]).await, Ok(Outcome::AlreadyThere));
    assert_eq!(broker.delete_volume(&[1]).await, Ok(Outcome::Done));
}

#[tokio::test]
async fn all_volumes_together_are_never_larger_than_configured() {
    let mut host = Host::new();
    host.config.limits.virtual_size = ByteSize::gib(25);
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    broker.snapshot("web", &[1], false).await.unwrap();
    let refused = Err(NotDone::Refused(Refusal::TooMuchVirtual));
    assert_eq!(broker.create(&[2]).await, refused);
    assert_eq!(broker.snapshot("db", &[1], false).await, refused);
    broker.delete_snapshot("web").await.unwrap();
    broker.create(&[2]).await.unwrap();
}

#[tokio::test]
async fn the_ledger_does_not_grow_with_what_is_past() {
    let mut host = Host::new();
    host.config.limits.ledger_size = ByteSize(4096);
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    let ledger = host.folder.0.join("ledger");
    let mut largest = 0;
    for _round in 0..100 {
        broker.snapshot("web", &[1], false).await.unwrap();
        broker.delete_snapshot("web").await.unwrap();
        largest = largest.max(std::fs::metadata(&ledger).unwrap().len());
    }
    assert!(largest < 8192, "{largest}");
    broker.snapshot("web", &[1], true).await.unwrap();
    let usage = broker.usage().await;
    drop(broker);
    // The next start reads the same, whichever of the two files it is by now.
    host.sim.reboot();
    let broker = host.up().await;
    let again = broker.usage().await;
    assert_eq!((again.transaction, again.snapshots), (usage.transaction, 1));
    broker.snapshot("db", &[1], false).await.unwrap();
    assert!(host.sim.0.lock().unwrap().thins.contains(&103), "no thin id is given out twice");
}

#[tokio::test]
async fn a_broker_whose_ledger_is_broken_ends_to_be_started_anew() {
    let host = Host::new();
    let broker = host.up().await;
    // The ledger's descriptor becomes one that takes neither a line nor its taking back.
    let ledger = host.folder.0.join("ledger").canonicalize().unwrap();
    let number = std::fs::read_dir("/proc/self/fd").unwrap().flatten().find_map(|entry| {
        let is_it = std::fs::read_link(entry.path()).ok()? == ledger;
        is_it.then(|| entry.file_name().to_str().unwrap().parse().unwrap())
    });
    let mut place = airlock_sys::inherited::take(number.unwrap()).unwrap();
    let flags = rustix::fs::OFlags::RDONLY;
    let read_only = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).unwrap();
    rustix::io::dup2(read_only.as_fd(), &mut place).unwrap();
    let _still_the_brokers = place.into_raw_fd();
    assert!(!GAVE_UP.load(Ordering::Relaxed));
    let failed = broker.create(&[1]).await.unwrap_err();
    assert!(matches!(failed, NotDone::Failed(failure) if failure.step == Step::Ledger));
    while !GAVE_UP.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
}
