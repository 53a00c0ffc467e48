//! Runs that ended: begun again, listed by a filter, and removed in their time.

use airlock_protocol::control::{Retry, RunId, ShowRun};

use super::*;
use crate::config::{HistoryConfig, TimeSpan};

impl Up {
    async fn show(&self, run: &RunId) -> Result<RunView, Fault> {
        let ask = ShowRun { run: run.clone() };
        self.client.show_run(context::current(), ask).await.unwrap()
    }

    async fn retry(&self, run: &RunId) -> Result<RunView, Fault> {
        let ask = Retry { request: request(), run: run.clone() };
        self.client.retry(context::current(), ask).await.unwrap()
    }

    async fn runs(&self, asked: ListRuns) -> Vec<RunId> {
        let listing = self.client.runs(context::current(), asked).await.unwrap().unwrap();
        listing.items.into_iter().map(|view| view.run).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_not_kept_goes_and_its_outcome_is_told() {
    let host = Host::new(Pool::Up);
    let listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let run = up.run(&host.file("web.tar", &rootfs("web"))).await.run;
    let kept = HistoryConfig { runs: 0, ..HistoryConfig::default() };
    let swept = up.daemon.sweep_history(&kept).await.unwrap();
    assert_eq!((swept.runs, swept.flows, swept.referred, swept.outcomes), (1, 3, 0, 0));
    let all = ListRuns { all: true, ..ListRuns::default() };
    assert!(up.runs(all).await.is_empty());
    let left = up.show(&run).await.unwrap();
    assert!(left.archived_at.is_some() && left.steps.is_empty());
    assert_eq!(left.state, RunState::Done);
    assert_eq!(left.result.unwrap().device.as_deref(), Some("/dev/airlock/web"));
    assert_eq!(up.retry(&run).await.unwrap_err().code, "run.archived");
    // What is here stays, and so does what goes on.
    assert_eq!(up.listing().await.0.len(), 1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let kept = HistoryConfig { outcomes: TimeSpan::millis(0), ..kept };
    assert_eq!(up.daemon.sweep_history(&kept).await.unwrap().outcomes, 1);
    assert_eq!(up.show(&run).await.unwrap_err().code, "run.unknown");
    up.down().await;
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_listed_as_such_and_begun_again_over_the_socket() {
    let host = Host::new(Pool::Up);
    let listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let source = host.file("web.tar", b"no tar at all");
    let failed = up.run(&source).await;
    assert_eq!(failed.state, RunState::Failed);
    host.file("web.tar", &rootfs("web"));
    let again = up.retry(&failed.run).await.unwrap();
    let again = up.watch_to_end(again).await;
    assert_eq!((again.state, again.retry_of.as_ref()), (RunState::Done, Some(&failed.run)));
    let of = |status| ListRuns { status: Some(status), ..ListRuns::default() };
    assert_eq!(up.runs(of(RunState::Failed)).await, std::slice::from_ref(&failed.run));
    assert_eq!(up.runs(of(RunState::Done)).await, std::slice::from_ref(&again.run));
    assert!(up.runs(of(RunState::Running)).await.is_empty());
    let from = |source: &str| ListRuns {
        all: true,
        source: Some(source.to_owned()),
        ..ListRuns::default()
    };
    assert_eq!(up.runs(from(&source.to_string())).await.len(), 2);
    assert!(up.runs(from("s3://")).await.is_empty());
    assert_eq!(up.show(&failed.run).await.unwrap().retried_as, Some(again.run.clone()));
    assert_eq!(up.retry(&again.run).await.unwrap_err().code, "run.done");
    // Who waits for the end alone gets it, and who shows progress gets the same.
    let end = Watch { run: again.run, seen: u64::MAX };
    let end = up.client.watch(context::current(), end).await.unwrap().unwrap();
    assert_eq!(end.state, RunState::Done);
    up.down().await;
    listening.abort();
}
