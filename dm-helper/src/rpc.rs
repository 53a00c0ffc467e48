//! Protocol in, worker out. The only file that knows `tarpc`.

use std::time::Instant;

use airlock_policy::helper_config::LimitsConfig;
use airlock_protocol::PROTOCOL;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{
    Inventory, LayerState, Mapped, Outcome, PoolStatus, VerifyState, Welcome,
};
use airlock_protocol::request::{
    ApplyLayer, CreateVolume, DeleteVolume, EnsurePool, ExtendPool, Hello, ListVolumes, Map, Mount,
    QueryPool, SealVolume, Snapshot, Unmap, Unmount, VerifyVolume,
};
use airlock_protocol::service::DmHelper;
use airlock_protocol::wire;
use futures::StreamExt as _;
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel as _};
use tokio::net::UnixStream;

use crate::audit::{Asked, Peer, Verdict};
use crate::worker::Worker;

#[derive(Clone)]
struct Session(Worker, Peer);

/// The exact shadow of the service's page.
impl DmHelper for Session {
    async fn hello(self, _: Context, request: Hello) -> Result<Welcome, NotDone> {
        let since = Instant::now();
        let answer = self.welcome(&request);
        let verdict = if answer.is_ok() { Verdict::Polled } else { (&answer).into() };
        let (request, subject) = (request.request, "helper".to_owned());
        Asked { verb: "hello", request, peer: self.1, subject, since }.answered(&verdict);
        answer
    }

    async fn ensure_pool(self, _: Context, request: EnsurePool) -> Result<PoolStatus, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn pool_status(self, _: Context, request: QueryPool) -> Result<PoolStatus, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn extend_pool(self, _: Context, request: ExtendPool) -> Result<PoolStatus, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn create_volume(self, _: Context, request: CreateVolume) -> Result<Outcome, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn apply_layer(self, _: Context, request: ApplyLayer) -> Result<LayerState, NotDone> {
        self.0.run(request, self.1).await?.news().await
    }

    async fn seal_volume(self, _: Context, request: SealVolume) -> Result<Outcome, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn snapshot(self, _: Context, request: Snapshot) -> Result<Outcome, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn map(self, _: Context, request: Map) -> Result<Mapped, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn unmap(self, _: Context, request: Unmap) -> Result<Outcome, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn mount(self, _: Context, request: Mount) -> Result<Mapped, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn unmount(self, _: Context, request: Unmount) -> Result<Outcome, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn delete_volume(self, _: Context, request: DeleteVolume) -> Result<Outcome, NotDone> {
        self.0.run(request, self.1).await
    }

    async fn verify_volume(
        self,
        _: Context,
        request: VerifyVolume,
    ) -> Result<VerifyState, NotDone> {
        self.0.run(request, self.1).await?.news().await
    }

    async fn list_volumes(self, _: Context, request: ListVolumes) -> Result<Inventory, NotDone> {
        self.0.run(request, self.1).await
    }
}

impl Session {
    /// Answered without the privileged thread: also while that waits for a device.
    fn welcome(&self, request: &Hello) -> Result<Welcome, NotDone> {
        if request.protocol != PROTOCOL {
            return Err(NotDone::Refused(Refusal::ProtocolVersion));
        }
        Ok(Welcome {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            confined: self.0.confined(),
        })
    }
}

/// Answers one connection until the peer hangs up or sends nonsense. No more than so many requests
/// of it are in flight (WIRE-4).
pub(crate) async fn serve(stream: UnixStream, worker: Worker, peer: Peer) {
    let LimitsConfig { requests, .. } = worker.limits();
    let most = usize::try_from(*requests).unwrap_or(usize::MAX);
    BaseChannel::with_defaults(wire::transport(stream))
        .max_concurrent_requests(most)
        .execute(Session(worker, peer).serve())
        .for_each(|handler| async {
            drop(tokio::spawn(handler));
        })
        .await;
}
