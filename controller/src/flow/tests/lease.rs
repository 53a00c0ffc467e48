//! A daemon that has lost its place moves nothing, and bars nobody from it.

use std::time::Duration;

use airlock_protocol::control::RunState;

use super::{Host, run_of};
use crate::store::{Ending, StoreFault, flow};
use crate::testing::image::rootfs;

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_lost_its_place_moves_nothing_and_the_new_one_finishes() {
    let host = Host::new();
    host.helper.state().polls = u32::MAX;
    let old = host.up();
    let id = old.begin(run_of(&host.file("a.tar", &rootfs("a")))).await;
    old.at("extract_layers").await;
    // Nothing here holds a lock: only the epoch stands between the two.
    let new = host.up();
    assert_eq!(new.engine.world().store.epoch().before, Some(Ending::Died));
    let written = old.engine.world().store.write(|_tx| Ok(())).await;
    assert!(matches!(written, Err(StoreFault::Superseded)), "{written:?}");
    host.helper.state().polls = 0;
    // The old one's step ends; its persist is refused, and it takes nothing more on.
    for _ in 0..500 {
        if old.engine.is_stopping() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(old.engine.drain(Duration::from_secs(5)).await);
    let store = &new.engine.world().store;
    let flows = store.read(flow::unfinished).await.unwrap();
    assert_eq!((flows.len(), flows[0].state.as_str()), (1, "extract_layers"));
    assert_eq!(new.engine.resume(true).await.unwrap(), 1);
    assert_eq!(new.end(&id).await.state, RunState::Done);
    let extracted = store.read(|tx| {
        let sql = "SELECT count(*) FROM steps WHERE event = 'extracted'";
        Ok(tx.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(extracted.await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_knows_how_the_daemon_before_it_ended() {
    let host = Host::new();
    let up = host.up();
    assert_eq!(up.engine.world().store.epoch().before, None);
    up.engine.world().store.close_cleanly().await.unwrap();
    drop(up);
    let up = host.up();
    assert_eq!(up.engine.world().store.epoch().before, Some(Ending::Stopped));
    drop(up);
    let up = host.up();
    assert_eq!(up.engine.world().store.epoch().before, Some(Ending::Died));
    let store = &up.engine.world().store;
    let changed = store.write(|tx| Ok(tx.execute("UPDATE epochs SET boot_id = 'another'", [])?));
    changed.await.unwrap();
    store.close_cleanly().await.unwrap();
    drop(up);
    let up = host.up();
    assert_eq!(up.engine.world().store.epoch().before, Some(Ending::Rebooted));
    assert_eq!(up.engine.world().store.epoch().number, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_of_an_older_epoch_is_moved_by_nobody_until_it_is_taken_up() {
    let host = Host::new();
    host.helper.state().polls = u32::MAX;
    let up = host.up();
    up.begin(run_of(&host.file("a.tar", &rootfs("a")))).await;
    up.at("extract_layers").await;
    assert!(up.engine.drain(Duration::from_secs(10)).await);
    drop(up);
    let up = host.up();
    let moved = up.engine.world().store.write(|tx| {
        let from = flow::unfinished(tx)?.remove(0);
        let step = flow::Move {
            event: "failed",
            target: "failed",
            attempt: 1,
            ends: true,
            subject: from.subject.clone(),
            data: from.data.clone(),
            fault: None,
            started_at: 1,
            outcome: None,
            timings: Vec::new(),
            from,
        };
        flow::advance(tx, &step)
    });
    let moved = moved.await;
    assert!(matches!(moved, Err(StoreFault::Moved)), "{moved:?}");
}
