//! The helper's side of the socket is a double; the socket, its frames and its losses are real.

use airlock_policy::digest::Digest;
use airlock_protocol::control::ErrorClass;

use super::*;
use crate::testing::TempDir;
use crate::testing::fake::{FakeHelper, Pool};

#[tokio::test]
async fn a_helper_that_is_not_there_is_told_at_once_and_with_the_remedy() {
    let dir = TempDir::new();
    let helper = Helper::new(&dir.path().join("none.sock"));
    let asked_at = Instant::now();
    let fault = helper.hello(&internal_request()).await.unwrap_err();
    assert!(asked_at.elapsed() < Duration::from_secs(2));
    assert!(fault.is_retryable());
    let told = fault.fault("greet the helper");
    assert_eq!((told.code.as_str(), told.class), ("helper.down", ErrorClass::Unavailable));
    assert_eq!(told.remedy[0], "systemctl start airlock-dm-helper");
    assert!(told.cause.len() >= 2, "{told:?}");
}

#[tokio::test]
async fn a_restart_of_the_helper_is_not_noticed_by_whoever_waits() {
    let dir = TempDir::new();
    let socket = dir.path().join("dm.sock");
    let fake = FakeHelper::new(Pool::Up);
    let first = fake.listen(&socket);
    let helper = Helper::new(&socket);
    helper.hello(&internal_request()).await.unwrap();
    first.abort();
    drop(first.await);
    let request = internal_request();
    let mut second = None;
    let restart = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        second = Some(fake.listen(&socket));
    };
    let (status, ()) = tokio::join!(helper.pool_status(&request), restart);
    assert!(matches!(status.unwrap(), PoolStatus::Up(_)));
    second.unwrap().abort();
}

#[tokio::test]
async fn a_pool_that_is_only_down_is_brought_up_and_one_that_is_absent_is_not_made() {
    let dir = TempDir::new();
    let socket = dir.path().join("dm.sock");
    let fake = FakeHelper::new(Pool::Down);
    let listening = fake.listen(&socket);
    let helper = Helper::new(&socket);
    let volume = ChainId(Digest::of(b"v"));
    let made = helper.create_volume(&internal_request(), volume, None).await.unwrap();
    assert_eq!(made, Outcome::Done);
    assert_eq!(fake.asked("ensure_pool"), 1);
    fake.state().pool = Pool::Absent;
    let refused = helper.create_volume(&internal_request(), volume, None).await.unwrap_err();
    let told = refused.fault("unpack x");
    assert_eq!(
        (told.code.as_str(), told.remedy[0].as_str()),
        ("pool.absent", "airlock pool setup")
    );
    assert!(!refused.is_retryable());
    assert_eq!(fake.state().pool, Pool::Absent);
    listening.abort();
}

#[tokio::test]
async fn the_whole_ledger_is_read_however_many_pages_it_has() {
    let dir = TempDir::new();
    let socket = dir.path().join("dm.sock");
    let fake = FakeHelper::new(Pool::Up);
    let listening = fake.listen(&socket);
    let helper = Helper::new(&socket);
    for n in 0_u8..10 {
        let volume = ChainId(Digest::of(&[n]));
        helper.create_volume(&internal_request(), volume, None).await.unwrap();
    }
    assert_eq!(helper.inventory(&internal_request()).await.unwrap().len(), 10);
    assert!(fake.asked("list_volumes") > 3);
    listening.abort();
}
