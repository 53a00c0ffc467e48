//! The daemon's side of the helper's socket: one function a verb.
//!
//! Every verb may be asked again, so a lost answer is asked for again, for a bounded time: a
//! restart of the helper is not noticed by whoever waits.

mod fault;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use airlock_policy::digest::{BlobDigest, ChainId, DiffId};
use airlock_policy::helper_config::PoolPart;
use airlock_policy::name::{RequestId, SnapshotName, ThinId};
use airlock_protocol::PROTOCOL;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{
    Inventory, Item, LayerState, Mapped, Outcome, PoolStatus, VerifyState, Welcome,
};
use airlock_protocol::request::{
    ApplyLayer, CreateVolume, DeleteVolume, EnsurePool, ExtendPool, Hello, ListVolumes, Map, Mount,
    QueryPool, SealVolume, Snapshot, Target, Unmap, Unmount, VerifyVolume,
};
use airlock_protocol::service::DmHelperClient;
use airlock_protocol::wire::transport;
use tarpc::client::RpcError;
use tarpc::context::{self, Context};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// The helper did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum HelperFault {
    /// Nobody listens.
    #[error("failed to reach the helper at {socket}")]
    Down {
        /// Where it should.
        socket: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke, and asking again did not help.
    #[error("the helper's answer to {verb} was lost")]
    Lost {
        /// What was asked.
        verb: &'static str,
        /// How the connection broke.
        #[source]
        source: RpcError,
    },
    /// No answer within the verb's deadline.
    #[error("the helper did not answer {verb} within {}", seconds(*.limit))]
    Late {
        /// What was asked.
        verb: &'static str,
        /// The deadline.
        limit: Duration,
    },
    /// It speaks another version of the protocol.
    #[error("the helper speaks protocol {theirs}, the daemon {PROTOCOL}")]
    Protocol {
        /// The helper's version.
        theirs: u32,
    },
    /// It said why not.
    #[error("the helper did not {verb}")]
    NotDone {
        /// What was asked.
        verb: &'static str,
        /// Why not.
        #[source]
        source: NotDone,
    },
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs())
}

impl HelperFault {
    /// The rule that forbade it, if one did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NotDone { source: NotDone::Refused(refusal), .. } => Some(*refusal),
            Self::NotDone {
                source: NotDone::Failed(_) | NotDone::Late(_) | NotDone::Stopping,
                ..
            }
            | Self::Down { .. }
            | Self::Lost { .. }
            | Self::Late { .. }
            | Self::Protocol { .. } => None,
        }
    }

    /// Whether asking again, a little later, is of any use.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Down { .. } | Self::Lost { .. } | Self::Late { .. } => true,
            Self::Protocol { .. } => false,
            Self::NotDone { source, .. } => match source {
                NotDone::Failed(_) | NotDone::Stopping => true,
                // What may still be running is not tried again.
                NotDone::Late(_) => false,
                NotDone::Refused(refusal) => {
                    matches!(refusal, Refusal::TooManyLayers | Refusal::TooFast { .. })
                }
            },
        }
    }

    /// Whether the helper may answer once it is back.
    fn may_come_back(&self) -> bool {
        matches!(
            self,
            Self::Down { .. } | Self::Lost { .. } | Self::NotDone { source: NotDone::Stopping, .. }
        )
    }
}

/// How long a helper that was never reached is waited for.
const PATIENCE_DOWN: Duration = Duration::from_millis(500);
/// How long a helper is waited for that was there when the question was put.
const PATIENCE_LOST: Duration = Duration::from_secs(10);
/// How long it may take to be greeted.
const GREETING: Duration = Duration::from_secs(5);
/// Verbs that touch the ledger and the device table.
const CHANGE: Duration = Duration::from_mins(1);
/// Verbs that only look.
const LOOK: Duration = Duration::from_secs(30);
/// Making a pool, or checking one: mkfs.ext4 and `thin_check`.
const POOL: Duration = Duration::from_mins(15);

/// Declares a verb: its function, which has the verb's own name, its request, its deadline; and
/// how it is asked: `ask`; `ask_with_pool` where the pool must be up; `change` where it changes something
/// at once.
macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident($($field:ident: $Type:ty),*) -> $Answer:ty
        = $Request:ident, $ask:ident, $what:literal, $limit:expr;)+) => {
        impl Helper {
            $(
                $(#[$doc])*
                pub async fn $verb(
                    &self,
                    request: &RequestId,
                    $($field: $Type),*
                ) -> Result<$Answer, HelperFault> {
                    let question = $Request { request: request.clone(), $($field),* };
                    self.$ask(request, ($what, $limit), move |client, context| {
                        let question = question.clone();
                        async move { client.$verb(context, question).await }
                    })
                    .await
                }
            )+
        }
    };
}

verbs! {
    /// Brings the pool up; makes it if `create`.
    ensure_pool(create: bool) -> PoolStatus
        = EnsurePool, ask, "bring the pool up", POOL;
    /// Asks how the pool is.
    pool_status() -> PoolStatus
        = QueryPool, ask, "tell the pool's status", LOOK;
    /// Makes one of the pool's files at least this large.
    extend_pool(part: PoolPart, bytes: u64) -> PoolStatus
        = ExtendPool, ask_with_pool, "extend the pool", POOL;
    /// Makes a layer's volume.
    create_volume(volume: ChainId, parent: Option<ChainId>) -> Outcome
        = CreateVolume, change, "create the volume", CHANGE;
    /// Extracts a layer, or says how far that is.
    apply_layer(volume: ChainId, blob: BlobDigest, diff_id: DiffId) -> LayerState
        = ApplyLayer, ask_with_pool, "extract the layer", CHANGE;
    /// Seals a filled volume. Of one that is sealed, a cheap way to learn so.
    seal_volume(volume: ChainId) -> Outcome
        = SealVolume, change, "seal the volume", CHANGE;
    /// Has a sealed volume read again, or says how far that is.
    verify_volume(volume: ChainId) -> VerifyState
        = VerifyVolume, ask_with_pool, "verify the volume", CHANGE;
    /// Makes a snapshot's device appear. Of one that is there, a cheap way to learn so.
    map(name: SnapshotName) -> Mapped
        = Map, change, "map the snapshot", CHANGE;
    /// Makes a snapshot's device disappear.
    unmap(name: SnapshotName) -> Outcome
        = Unmap, change, "unmap the snapshot", CHANGE;
    /// Mounts a snapshot on the host. Of one that is mounted, a cheap way to learn so.
    mount(name: SnapshotName) -> Mapped
        = Mount, change, "mount the snapshot", POOL;
    /// Unmounts a snapshot; of one that is handed out as a device, says that it is not mounted.
    unmount(name: SnapshotName) -> Outcome
        = Unmount, change, "unmount the snapshot", POOL;
    /// Deletes a volume or a snapshot.
    delete_volume(target: Target) -> Outcome
        = DeleteVolume, change, "delete the volume", CHANGE;
    /// Lists a page of the ledger.
    list_volumes(after: Option<ThinId>) -> Inventory
        = ListVolumes, ask, "list the volumes", LOOK;
}

/// The helper.
#[derive(Clone, Debug)]
pub struct Helper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: PathBuf,
    client: Mutex<Option<DmHelperClient>>,
}

impl Helper {
    /// The helper that listens there. Nothing is connected before the first question.
    pub fn new(socket: &Path) -> Self {
        Self(Arc::new(Inner { socket: socket.to_owned(), client: Mutex::default() }))
    }

    /// Asks who the helper is.
    pub async fn hello(&self, request: &RequestId) -> Result<Welcome, HelperFault> {
        let ask = Hello { request: request.clone(), protocol: PROTOCOL };
        self.ask(request, ("say hello", GREETING), move |client, context| {
            let ask = ask.clone();
            async move { client.hello(context, ask).await }
        })
        .await
    }

    /// Takes a snapshot of a sealed volume, read-only or not, of this size where that is not the
    /// volume's.
    pub async fn snapshot(
        &self,
        request: &RequestId,
        name: SnapshotName,
        image: ChainId,
        (read_only, bytes): (bool, Option<u64>),
    ) -> Result<Outcome, HelperFault> {
        let question = Snapshot { request: request.clone(), name, image, read_only, bytes };
        self.change(request, ("take the snapshot", POOL), move |client, context| {
            let question = question.clone();
            async move { client.snapshot(context, question).await }
        })
        .await
    }

    /// Lists the whole ledger.
    pub async fn inventory(&self, request: &RequestId) -> Result<Vec<Item>, HelperFault> {
        let mut items = Vec::new();
        let mut after = None;
        loop {
            let page = self.list_volumes(request, after).await?;
            items.extend(page.items);
            // A page that does not lead on is the last, whatever it says.
            match page.next {
                Some(next) if Some(next) > after => after = Some(next),
                Some(_) | None => return Ok(items),
            }
        }
    }

    /// Asks for a change, which is made when the answer comes.
    async fn change<T, F, A>(
        &self,
        request: &RequestId,
        how: (&'static str, Duration),
        call: F,
    ) -> Result<T, HelperFault>
    where
        F: Fn(DmHelperClient, Context) -> A + Sync,
        A: Future<Output = Result<Result<T, NotDone>, RpcError>> + Send,
    {
        crash_point!(Asking);
        let answer = self.ask_with_pool(request, how, call).await;
        crash_point!(Answered);
        answer
    }

    /// Asks, and where the pool is only down, as after a reboot, brings it up and asks again.
    async fn ask_with_pool<T, F, A>(
        &self,
        request: &RequestId,
        (verb, limit): (&'static str, Duration),
        call: F,
    ) -> Result<T, HelperFault>
    where
        F: Fn(DmHelperClient, Context) -> A + Sync,
        A: Future<Output = Result<Result<T, NotDone>, RpcError>> + Send,
    {
        match self.ask(request, (verb, limit), &call).await {
            Err(down) if down.refusal() == Some(Refusal::PoolDown) => {
                self.ensure_pool(request, false).await?;
                self.ask(request, (verb, limit), &call).await
            }
            answer => answer,
        }
    }

    async fn ask<T, F, A>(
        &self,
        _: &RequestId,
        (verb, limit): (&'static str, Duration),
        call: F,
    ) -> Result<T, HelperFault>
    where
        F: Fn(DmHelperClient, Context) -> A,
        A: Future<Output = Result<Result<T, NotDone>, RpcError>>,
    {
        let asked_at = Instant::now();
        let mut patience = PATIENCE_DOWN;
        loop {
            let fault = match self.client().await {
                Err(fault) => fault,
                Ok(client) => {
                    patience = PATIENCE_LOST;
                    match call(client, within(limit)).await {
                        Ok(Ok(answer)) => return Ok(answer),
                        Ok(Err(source)) => HelperFault::NotDone { verb, source },
                        Err(RpcError::DeadlineExceeded) => HelperFault::Late { verb, limit },
                        Err(source) => HelperFault::Lost { verb, source },
                    }
                }
            };
            if fault.may_come_back() {
                *self.0.client.lock().await = None;
            }
            if !fault.may_come_back() || asked_at.elapsed() >= patience {
                return Err(fault);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The connection that there is, or a new one on which both sides greeted each other.
    async fn client(&self) -> Result<DmHelperClient, HelperFault> {
        let mut kept = self.0.client.lock().await;
        if let Some(client) = kept.as_ref() {
            return Ok(client.clone());
        }
        let socket = &self.0.socket;
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| HelperFault::Down { socket: socket.clone(), source })?;
        let client =
            DmHelperClient::new(tarpc::client::Config::default(), transport(stream)).spawn();
        let request = internal_request();
        let verb = "say hello";
        let hello = Hello { request, protocol: PROTOCOL };
        let welcome = client
            .hello(within(GREETING), hello)
            .await
            .map_err(|source| HelperFault::Lost { verb, source })?
            .map_err(|source| HelperFault::NotDone { verb, source })?;
        if welcome.protocol != PROTOCOL {
            return Err(HelperFault::Protocol { theirs: welcome.protocol });
        }
        *kept = Some(client.clone());
        Ok(client)
    }
}

/// The request id of what the daemon does of its own accord.
pub fn internal_request() -> RequestId {
    // Within the bounds of a request id, as the test below holds it to.
    #[expect(clippy::expect_used, reason = "a constant that a test covers")]
    "daemon".to_owned().try_into().expect("a request id")
}

fn within(limit: Duration) -> Context {
    let mut context = context::current();
    let now = Instant::now();
    context.deadline = now.checked_add(limit).unwrap_or(now);
    context
}

#[cfg(test)]
mod tests;
