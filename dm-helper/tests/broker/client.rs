//! A caller of the broker: each verb, with what a test does not care about filled in.

use std::path::Path;
use std::time::{Duration, Instant};

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest};
use airlock_policy::helper_config::PoolPart;
use airlock_policy::name::RequestId;
use airlock_protocol::not_done::NotDone;
use airlock_protocol::reply::{LayerState, Mapped, Outcome, PoolStatus, PoolUsage, VerifyState};
use airlock_protocol::request::{
    ApplyLayer, CreateVolume, DeleteVolume, EnsurePool, ExtendPool, Map, Mount, SealVolume,
    Snapshot, Target, Unmap, Unmount, VerifyVolume,
};
use airlock_protocol::service::DmHelperClient;
use airlock_protocol::wire;
use tokio::net::UnixStream;

/// A connection.
pub(crate) struct Caller {
    pub(crate) client: DmHelperClient,
}

/// The layer of this seed: blob and diff id.
pub(crate) fn layer(seed: u8) -> (BlobDigest, DiffId) {
    (BlobDigest(Digest::of(&[1, seed])), DiffId(Digest::of(&[2, seed])))
}

pub(crate) async fn connect(socket: &Path) -> DmHelperClient {
    let stream = UnixStream::connect(socket).await.unwrap();
    DmHelperClient::new(tarpc::client::Config::default(), wire::transport(stream)).spawn()
}

pub(crate) fn request() -> RequestId {
    RequestId::try_from("r1".to_owned()).unwrap()
}

pub(crate) fn context() -> tarpc::context::Context {
    let mut context = tarpc::context::Context::current();
    context.deadline = Instant::now() + Duration::from_mins(1);
    context
}

/// The chain id of a layer on top of others.
pub(crate) fn chain(seeds: &[u8]) -> ChainId {
    let on = |below, seed: &u8| Some(ChainId::of(below, layer(*seed).1));
    seeds.iter().fold(None, on).unwrap()
}

pub(crate) fn parent(seeds: &[u8]) -> Option<ChainId> {
    let (_top, below) = seeds.split_last().unwrap();
    (!below.is_empty()).then(|| chain(below))
}

/// The verbs, each with what a test does not care about filled in.
impl Caller {
    pub(crate) async fn ensure_pool(&self, create: bool) -> Result<PoolStatus, NotDone> {
        let request = EnsurePool { request: request(), create };
        self.client.ensure_pool(context(), request).await.unwrap()
    }

    pub(crate) async fn usage(&self) -> PoolUsage {
        match self.ensure_pool(false).await.unwrap() {
            PoolStatus::Up(usage) => usage,
            PoolStatus::Down => panic!("the pool is down"),
        }
    }

    pub(crate) async fn extend(&self, part: PoolPart, bytes: u64) -> Result<PoolUsage, NotDone> {
        let request = ExtendPool { request: request(), part, bytes };
        match self.client.extend_pool(context(), request).await.unwrap()? {
            PoolStatus::Up(usage) => Ok(usage),
            PoolStatus::Down => panic!("the pool is down"),
        }
    }

    pub(crate) async fn create(&self, seeds: &[u8]) -> Result<Outcome, NotDone> {
        let request =
            CreateVolume { request: request(), volume: chain(seeds), parent: parent(seeds) };
        self.client.create_volume(context(), request).await.unwrap()
    }

    pub(crate) fn apply_request(seeds: &[u8]) -> ApplyLayer {
        let (blob, diff_id) = layer(*seeds.last().unwrap());
        ApplyLayer { request: request(), volume: chain(seeds), blob, diff_id }
    }

    pub(crate) async fn apply_once(&self, request: ApplyLayer) -> Result<LayerState, NotDone> {
        self.client.apply_layer(context(), request).await.unwrap()
    }

    pub(crate) async fn apply(&self, seeds: &[u8]) -> Result<LayerState, NotDone> {
        loop {
            match self.apply_once(Self::apply_request(seeds)).await? {
                LayerState::Running(_) => {}
                applied @ LayerState::Applied(_) => return Ok(applied),
            }
        }
    }

    pub(crate) async fn seal(&self, seeds: &[u8]) -> Result<Outcome, NotDone> {
        let request = SealVolume { request: request(), volume: chain(seeds) };
        self.client.seal_volume(context(), request).await.unwrap()
    }

    pub(crate) async fn verify_once(
        &self,
        seeds: &[u8],
        asked: &str,
    ) -> Result<VerifyState, NotDone> {
        let asked = RequestId::try_from(asked.to_owned()).unwrap();
        let request = VerifyVolume { request: asked, volume: chain(seeds) };
        self.client.verify_volume(context(), request).await.unwrap()
    }

    pub(crate) async fn verify(&self, seeds: &[u8], asked: &str) -> Result<VerifyState, NotDone> {
        loop {
            match self.verify_once(seeds, asked).await? {
                VerifyState::Running(_) => {}
                ended @ (VerifyState::Verified { .. } | VerifyState::Differs { .. }) => {
                    return Ok(ended);
                }
            }
        }
    }

    pub(crate) async fn snapshot(
        &self,
        name: &str,
        seeds: &[u8],
        read_only: bool,
    ) -> Result<Outcome, NotDone> {
        self.sized_snapshot(name, seeds, (read_only, None)).await
    }

    pub(crate) async fn sized_snapshot(
        &self,
        name: &str,
        seeds: &[u8],
        (read_only, bytes): (bool, Option<u64>),
    ) -> Result<Outcome, NotDone> {
        let (name, image) = (name.parse().unwrap(), chain(seeds));
        let request = Snapshot { request: request(), name, image, read_only, bytes };
        self.client.snapshot(context(), request).await.unwrap()
    }

    pub(crate) async fn mount(&self, name: &str) -> Result<Mapped, NotDone> {
        let request = Mount { request: request(), name: name.parse().unwrap() };
        self.client.mount(context(), request).await.unwrap()
    }

    pub(crate) async fn unmount(&self, name: &str) -> Result<Outcome, NotDone> {
        let request = Unmount { request: request(), name: name.parse().unwrap() };
        self.client.unmount(context(), request).await.unwrap()
    }

    pub(crate) async fn map(&self, name: &str) -> Result<Mapped, NotDone> {
        let request = Map { request: request(), name: name.parse().unwrap() };
        self.client.map(context(), request).await.unwrap()
    }

    pub(crate) async fn unmap(&self, name: &str) -> Result<Outcome, NotDone> {
        let request = Unmap { request: request(), name: name.parse().unwrap() };
        self.client.unmap(context(), request).await.unwrap()
    }

    pub(crate) async fn delete(&self, target: Target) -> Result<Outcome, NotDone> {
        let request = DeleteVolume { request: request(), target };
        self.client.delete_volume(context(), request).await.unwrap()
    }

    pub(crate) async fn delete_volume(&self, seeds: &[u8]) -> Result<Outcome, NotDone> {
        self.delete(Target::Volume(chain(seeds))).await
    }

    pub(crate) async fn delete_snapshot(&self, name: &str) -> Result<Outcome, NotDone> {
        self.delete(Target::Snapshot(name.parse().unwrap())).await
    }
}
