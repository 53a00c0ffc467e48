//! The control socket's verbs. Whoever may connect may command: the socket's mode says who.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use airlock_policy::helper_config::PoolPart;
use airlock_policy::name::RequestId;
use airlock_protocol::PROTOCOL;
use airlock_protocol::control::{
    Ask, Control, DaemonInfo, ErrorClass, Extend, Fault, HealthLine, Hello, ImageView, ListImages,
    ListRuns, ListSnapshots, Listing, MachinesView, Named, OneSnapshot, PoolView, Repair,
    RepairLine, RepairOutcome, Retry, RunView, ShowRun, SnapshotView, Submit, SubmitAll,
    VerifyView, Watch, When, Work,
};
use airlock_protocol::reply::{PoolStatus, PoolUsage};
use airlock_protocol::wire::transport;
use futures::{FutureExt as _, StreamExt as _};
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Daemon, page};
use crate::fault::{Explain as _, fault};
use crate::flow::{Order, cursor_of};
use crate::helper::{HelperFault, internal_request};

/// How long `watch` waits for news.
const LONG_POLL: Duration = Duration::from_millis(950);

/// Questions of one connection at the same time.
const IN_FLIGHT: usize = 32;

/// One connection.
#[derive(Clone, Debug)]
struct Session {
    daemon: Daemon,
    uid: u32,
    pid: i32,
}

impl Daemon {
    /// Serves every connection, until it is aborted; then all of them end.
    pub(super) async fn accept(self, listener: UnixListener) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(self.clone().converse(stream));
                }
                Err(error) => {
                    // Out of descriptors, most likely: others will be closed.
                    tracing::error!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn converse(self, stream: UnixStream) {
        let Ok(peer) = stream.peer_cred() else { return };
        let session = Session { daemon: self, uid: peer.uid(), pid: peer.pid().unwrap_or(0) };
        BaseChannel::with_defaults(transport(stream))
            .execute(session.serve())
            .for_each_concurrent(IN_FLIGHT, |answer| async move {
                // What panics ends one answer and no connection.
                if AssertUnwindSafe(answer).catch_unwind().await.is_err() {
                    tracing::error!("a bug of airlock ended an answer");
                }
            })
            .await;
    }
}

/// Does a change to its end, even if whoever asked for it is gone by then.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Fault> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        Err(fault(ErrorClass::Internal, "internal.panic", "a bug of airlock ended the request")
            .because(&error)
            .next("journalctl -u airlock"))
    })
}

impl Session {
    fn log(&self, verb: &'static str, request: &RequestId, subject: &str) {
        tracing::info!(verb, uid = self.uid, pid = self.pid, request = %request, subject, "asked");
    }

    fn log_work(&self, work: &Work, request: &RequestId) {
        let (verb, subject) = match work {
            Work::Pull { source } => ("pull", source.to_string()),
            Work::Run { source, .. } => ("run", source.to_string()),
            Work::Activate { image, .. } => ("activate", image.clone()),
        };
        self.log(verb, request, &subject);
    }

    /// Refuses work whose end would fail for want of a pool, before anything is fetched.
    async fn expect_pool(&self, request: &RequestId) -> Result<(), Fault> {
        let helper = &self.daemon.world().helper;
        let what = "bring the pool up";
        let status = helper.pool_status(request).await.map_err(|error| error.fault(what))?;
        if status == PoolStatus::Down {
            helper.ensure_pool(request, false).await.map_err(|error| error.fault(what))?;
        }
        Ok(())
    }

    async fn pool(&self, request: &RequestId, create: bool) -> Result<PoolView, Fault> {
        let helper = &self.daemon.world().helper;
        let before = helper.pool_status(request).await;
        let before = before.map_err(|error| error.fault("ask for the pool's status"))?;
        let after = if create {
            let after = helper.ensure_pool(request, true).await;
            after.map_err(|error| error.fault("set the pool up"))?
        } else {
            before.clone()
        };
        let changed = before == PoolStatus::Down && after != PoolStatus::Down;
        Ok(PoolView { usage: usage(after), changed })
    }

    /// Metadata first: what more data needs is there when the data is.
    async fn extend(&self, asked: &Extend) -> Result<PoolView, Fault> {
        let (helper, request) = (&self.daemon.world().helper, &asked.request);
        let failed = |error: HelperFault| error.fault("extend the pool");
        let before = helper.pool_status(request).await.map_err(failed)?;
        let mut after = before.clone();
        let parts =
            [(PoolPart::Metadata, asked.metadata_bytes), (PoolPart::Data, asked.data_bytes)];
        for (part, bytes) in parts {
            if let Some(bytes) = bytes {
                after = helper.extend_pool(request, part, bytes).await.map_err(failed)?;
            }
        }
        let size = |usage: &PoolUsage| (usage.data_total_blocks, usage.metadata_total_blocks);
        let (before, usage) = (usage(before), usage(after));
        Ok(PoolView { changed: before.as_ref().map(size) != usage.as_ref().map(size), usage })
    }
}

fn usage(status: PoolStatus) -> Option<PoolUsage> {
    match status {
        PoolStatus::Up(usage) => Some(usage),
        PoolStatus::Down => None,
    }
}

/// How long the helper is waited for before the daemon answers without it.
const HELPER_GREETING: Duration = Duration::from_secs(1);

impl Control for Session {
    async fn hello(self, _: Context, request: Hello) -> Result<DaemonInfo, Fault> {
        if request.protocol != PROTOCOL {
            let message =
                format!("the command speaks protocol {}, the daemon {PROTOCOL}", request.protocol);
            return Err(fault(ErrorClass::Unavailable, "daemon.protocol", message)
                .next("systemctl restart airlock"));
        }
        // A command greets the daemon first of all: a helper that is away must not keep it waiting.
        let mut helper = None;
        if request.with_helper {
            let request = internal_request();
            let asked = self.daemon.world().helper.hello(&request);
            helper = tokio::time::timeout(HELPER_GREETING, asked).await.ok().and_then(Result::ok);
        }
        Ok(DaemonInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
            helper_protocol: helper.as_ref().map(|helper| helper.protocol),
            helper_version: helper.map(|helper| helper.version),
        })
    }

    async fn submit(self, _: Context, request: Submit) -> Result<RunView, Fault> {
        let Submit { request, work, when } = request;
        self.log_work(&work, &request);
        to_its_end(async move {
            self.expect_pool(&request).await?;
            let order = Order { work, when, request, uid: self.uid, retry_of: None };
            let id = self.daemon.engine.submit(order).await?;
            self.daemon.engine.view(&id, false).await
        })
        .await
    }

    async fn submit_all(self, _: Context, request: SubmitAll) -> Result<RunView, Fault> {
        let SubmitAll { request, works, when } = request;
        for work in &works {
            self.log_work(work, &request);
        }
        to_its_end(async move {
            self.expect_pool(&request).await?;
            let id = self.daemon.engine.submit_all(works, when, (request, self.uid)).await?;
            self.daemon.engine.view(&id, false).await
        })
        .await
    }

    async fn watch(self, _: Context, request: Watch) -> Result<RunView, Fault> {
        let engine = &self.daemon.engine;
        let live = &engine.world().live;
        let mut news = live.subscribe();
        let wait = tokio::time::sleep(LONG_POLL);
        tokio::pin!(wait);
        let mut looked_at = None;
        loop {
            news.mark_unchanged();
            // Whoever waits for the end alone is not shown how far it is: only a move may be the end.
            let version = live.version(&request.run);
            let is_of_use = request.seen < u64::MAX
                || (looked_at != Some(version) && engine.is_over(&request.run).await?);
            if is_of_use {
                let view = engine.view(&request.run, false).await?;
                if view.version > request.seen || view.state.is_over() {
                    return Ok(view);
                }
            }
            looked_at = Some(version);
            tokio::select! {
                () = &mut wait => return engine.view(&request.run, false).await,
                _ = news.changed() => {}
            }
        }
    }

    async fn runs(self, _: Context, request: ListRuns) -> Result<Listing<RunView>, Fault> {
        let (views, is_all) = self.daemon.engine.views(request, page::ROWS).await?;
        Ok(page::of(views, is_all, cursor_of))
    }

    async fn show_run(self, _: Context, request: ShowRun) -> Result<RunView, Fault> {
        self.daemon.engine.view(&request.run, true).await
    }

    async fn cancel(self, _: Context, request: ShowRun) -> Result<RunView, Fault> {
        self.log("cancel", &internal_request(), request.run.as_str());
        to_its_end(async move {
            self.daemon.engine.cancel_run(&request.run).await?;
            self.daemon.engine.view(&request.run, false).await
        })
        .await
    }

    async fn machines(self, _: Context, _: Ask) -> Result<MachinesView, Fault> {
        self.daemon.engine.machines().await
    }

    async fn retry(self, _: Context, request: Retry) -> Result<RunView, Fault> {
        let Retry { request, run } = request;
        self.log("retry", &request, run.as_str());
        to_its_end(async move {
            let again = self.daemon.engine.again(&run).await?;
            self.expect_pool(&request).await?;
            let (uid, when) = (self.uid, When::default());
            let order = Order { work: again, when, request, uid, retry_of: Some(run) };
            let id = self.daemon.engine.submit(order).await?;
            self.daemon.engine.view(&id, false).await
        })
        .await
    }

    async fn images(self, _: Context, request: ListImages) -> Result<Listing<ImageView>, Fault> {
        self.daemon.images(request).await
    }

    async fn snapshots(
        self,
        _: Context,
        request: ListSnapshots,
    ) -> Result<Listing<SnapshotView>, Fault> {
        self.daemon.snapshots(request, &internal_request()).await
    }

    async fn image(self, _: Context, request: Named) -> Result<ImageView, Fault> {
        self.daemon.image(request.image).await
    }

    async fn show_snapshot(self, _: Context, request: OneSnapshot) -> Result<SnapshotView, Fault> {
        self.daemon.one_snapshot(request.name, &request.request).await
    }

    async fn deactivate(self, _: Context, request: OneSnapshot) -> Result<SnapshotView, Fault> {
        let OneSnapshot { request, name } = request;
        self.log("deactivate", &request, name.as_str());
        to_its_end(async move { self.daemon.deactivate(name, request).await }).await
    }

    async fn remove(self, _: Context, request: Named) -> Result<ImageView, Fault> {
        let Named { request, image } = request;
        self.log("remove", &request, &image);
        to_its_end(async move { self.daemon.remove(image, request).await }).await
    }

    async fn verify(self, _: Context, request: Named) -> Result<VerifyView, Fault> {
        let Named { request, image } = request;
        self.daemon.verify(image, request).await
    }

    async fn pool_setup(self, _: Context, request: Ask) -> Result<PoolView, Fault> {
        self.log("pool_setup", &request.request, "pool");
        to_its_end(async move { self.pool(&request.request, true).await }).await
    }

    async fn pool_extend(self, _: Context, request: Extend) -> Result<PoolView, Fault> {
        self.log("pool_extend", &request.request, "pool");
        to_its_end(async move { self.extend(&request).await }).await
    }

    async fn pool_status(self, _: Context, request: Ask) -> Result<PoolView, Fault> {
        self.pool(&request.request, false).await
    }

    async fn health(self, _: Context, request: Ask) -> Result<Listing<HealthLine>, Fault> {
        Ok(self.daemon.health(&request.request).await)
    }

    async fn repair(self, _: Context, request: Repair) -> Result<Listing<RepairLine>, Fault> {
        let Repair { request, dry_run } = request;
        self.log("repair", &request, if dry_run { "dry run" } else { "records" });
        let lines = to_its_end(async move { self.daemon.repair(dry_run, request).await }).await?;
        Ok(page::head(lines, |left| RepairLine {
            subject: format!("{left} more"),
            outcome: RepairOutcome::Done,
            text: "journalctl -u airlock has each of them".to_owned(),
        }))
    }
}
