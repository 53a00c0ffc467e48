//! A helper for tests that has no devicemapper: it keeps the promises of `protocol::service` in
//! memory and counts what it is asked. The real one is tested on a real pool.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, TreeDigest};
use airlock_policy::helper_config::PoolPart;
use airlock_policy::layout::LayoutFacts;
use airlock_policy::name::{SnapshotName, ThinId};
use airlock_protocol::PROTOCOL;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{
    AppliedLayer, Inventory, Item, ItemLayer, LayerProgress, LayerState, Mapped, Outcome, PoolMode,
    PoolStatus, PoolUsage, SnapshotItem, VerifyState, VolumeItem, VolumeState, Welcome, What,
};
use airlock_protocol::request::{
    ApplyLayer, CreateVolume, DeleteVolume, EnsurePool, ExtendPool, Hello, ListVolumes, Map, Mount,
    QueryPool, SealVolume, Snapshot, Target, Unmap, Unmount, VerifyVolume,
};
use airlock_protocol::service::DmHelper;
use airlock_protocol::wire::transport;
use futures::StreamExt as _;
use tarpc::context::Context;
use tarpc::server::{BaseChannel, Channel as _};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pool {
    Absent,
    Down,
    Up,
}

#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) thin: u32,
    pub(crate) parent: Option<ChainId>,
    pub(crate) state: VolumeState,
    pub(crate) layer: Option<ItemLayer>,
    pub(crate) polls: u32,
}

#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) thin: u32,
    pub(crate) image: ChainId,
    pub(crate) read_only: bool,
    pub(crate) bytes: Option<u64>,
    pub(crate) mounts: bool,
    pub(crate) handed_out: bool,
    pub(crate) minor: Option<u32>,
}

impl Taken {
    fn appear(&mut self) -> Mapped {
        let outcome = if self.minor.is_some() { Outcome::AlreadyThere } else { Outcome::Done };
        let minor = *self.minor.get_or_insert(self.thin);
        Mapped { outcome, minor, bytes: self.bytes.unwrap_or(10 << 30) }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) pool: Pool,
    pub(crate) volumes: BTreeMap<ChainId, Volume>,
    pub(crate) snapshots: BTreeMap<SnapshotName, Taken>,
    next: u32,
    data_blocks: u64,
    /// How often each verb was asked.
    pub(crate) asked: HashMap<&'static str, u32>,
    /// What a verb answers instead of doing anything, and how often still.
    pub(crate) instead: HashMap<&'static str, (NotDone, u32)>,
    /// How often an extraction is polled before it is done.
    pub(crate) polls: u32,
    /// The layout that extractions find.
    pub(crate) layout: LayoutFacts,
    /// Whether somebody holds every device open.
    pub(crate) held: bool,
    /// How many items a page of the inventory has.
    pub(crate) page: usize,
    /// What verifications find, where it is not what was extracted.
    pub(crate) verify: Option<VerifyState>,
}

/// The digest of a volume's tree.
fn tree_of(volume: ChainId) -> TreeDigest {
    TreeDigest(volume.0)
}

/// The helper. What it knows outlives its sockets, as the ledger does.
#[derive(Clone, Debug)]
pub(crate) struct FakeHelper(Arc<Mutex<State>>);

impl FakeHelper {
    pub(crate) fn new(pool: Pool) -> Self {
        Self(Arc::new(Mutex::new(State {
            pool,
            volumes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            next: 1,
            data_blocks: 1000,
            asked: HashMap::new(),
            instead: HashMap::new(),
            polls: 1,
            layout: LayoutFacts { directories: 0b11, root_mode: 0o755, writable_directories: 0 },
            held: false,
            // Small pages, so that the daemon has to turn them.
            page: 3,
            verify: None,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn asked(&self, verb: &str) -> u32 {
        self.state().asked.get(verb).copied().unwrap_or(0)
    }

    /// Listens; every connection ends with the task.
    pub(crate) fn listen(&self, socket: &Path) -> JoinHandle<()> {
        if socket.exists() {
            std::fs::remove_file(socket).unwrap();
        }
        let listener = UnixListener::bind(socket).unwrap();
        let helper = self.clone();
        tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let answers = BaseChannel::with_defaults(transport(stream))
                    .execute(helper.clone().serve())
                    .for_each_concurrent(None, |answer| answer);
                connections.spawn(answers);
            }
        })
    }

    /// Counts a verb, and answers what it is to answer instead.
    fn begin(
        &self,
        verb: &'static str,
        needs_pool: bool,
    ) -> Result<MutexGuard<'_, State>, NotDone> {
        let mut state = self.state();
        *state.asked.entry(verb).or_default() += 1;
        if let Some((answer, left)) = state.instead.get_mut(verb)
            && *left > 0
        {
            *left -= 1;
            return Err(answer.clone());
        }
        match state.pool {
            Pool::Down | Pool::Absent if needs_pool => Err(NotDone::Refused(Refusal::PoolDown)),
            Pool::Up | Pool::Down | Pool::Absent => Ok(state),
        }
    }
}

fn refuse<T>(refusal: Refusal) -> Result<T, NotDone> {
    Err(NotDone::Refused(refusal))
}

impl State {
    pub(crate) fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn status(&self) -> PoolStatus {
        if self.pool != Pool::Up {
            return PoolStatus::Down;
        }
        PoolStatus::Up(PoolUsage {
            mode: PoolMode::ReadWrite,
            needs_check: false,
            block_bytes: 128 << 10,
            data_used_blocks: 10,
            data_total_blocks: self.data_blocks,
            low_water_blocks: 100,
            metadata_used_blocks: 5,
            metadata_total_blocks: 4096,
            volume_bytes: 10 << 30,
            transaction: 1,
            volumes: u32::try_from(self.volumes.len()).unwrap(),
            snapshots: u32::try_from(self.snapshots.len()).unwrap(),
            loopback: true,
            data_limit_bytes: Some(100 << 30),
            metadata_limit_bytes: Some(1 << 30),
            late: vec![],
        })
    }

    /// Puts a volume in the ledger as a daemon before this one might have left it.
    pub(crate) fn plant(&mut self, volume: ChainId, state: VolumeState) {
        let thin = self.fresh();
        self.volumes.insert(volume, Volume { thin, parent: None, state, layer: None, polls: 0 });
    }
}

impl DmHelper for FakeHelper {
    async fn hello(self, _: Context, request: Hello) -> Result<Welcome, NotDone> {
        drop(self.begin("hello", false)?);
        if request.protocol != PROTOCOL {
            return refuse(Refusal::ProtocolVersion);
        }
        Ok(Welcome { protocol: PROTOCOL, version: "0.0.0-fake".to_owned(), confined: true })
    }

    async fn ensure_pool(self, _: Context, request: EnsurePool) -> Result<PoolStatus, NotDone> {
        let mut state = self.begin("ensure_pool", false)?;
        if state.pool == Pool::Absent && !request.create {
            return refuse(Refusal::PoolAbsent);
        }
        state.pool = Pool::Up;
        Ok(state.status())
    }

    async fn pool_status(self, _: Context, _: QueryPool) -> Result<PoolStatus, NotDone> {
        Ok(self.begin("pool_status", false)?.status())
    }

    async fn extend_pool(self, _: Context, request: ExtendPool) -> Result<PoolStatus, NotDone> {
        let mut state = self.begin("extend_pool", true)?;
        if request.bytes > 100 << 30 {
            return refuse(Refusal::PoolLimit);
        }
        if request.part == PoolPart::Data {
            state.data_blocks = state.data_blocks.max(request.bytes >> 17);
        }
        Ok(state.status())
    }

    async fn create_volume(self, _: Context, request: CreateVolume) -> Result<Outcome, NotDone> {
        let mut state = self.begin("create_volume", true)?;
        let CreateVolume { volume, parent, .. } = request;
        if let Some(known) = state.volumes.get(&volume) {
            let same = known.parent == parent;
            return if same { Ok(Outcome::AlreadyThere) } else { refuse(Refusal::OtherParent) };
        }
        let thin = state.fresh();
        let made = Volume { thin, parent, state: VolumeState::Building, layer: None, polls: 0 };
        state.volumes.insert(volume, made);
        Ok(Outcome::Done)
    }

    async fn apply_layer(self, _: Context, request: ApplyLayer) -> Result<LayerState, NotDone> {
        let ApplyLayer { volume, blob, diff_id, .. } = request;
        let answer = {
            let mut state = self.begin("apply_layer", true)?;
            let (polls, layout) = (state.polls, state.layout);
            let Some(known) = state.volumes.get_mut(&volume) else {
                return refuse(Refusal::NoSuchVolume);
            };
            if known.state == VolumeState::Sealed {
                return refuse(Refusal::VolumeSealed);
            }
            known.polls += 1;
            if known.polls > polls {
                let is_new = known.state == VolumeState::Building;
                known.state = VolumeState::Filled;
                known.layer = Some(ItemLayer { blob, diff_id, tree: Some(tree_of(volume)) });
                if is_new {
                    *state.asked.entry("extractions").or_default() += 1;
                }
                let tree = Some(tree_of(volume));
                LayerState::Applied(AppliedLayer { entries: 4, file_bytes: 9, layout, tree })
            } else {
                LayerState::Running(LayerProgress { blob_bytes: 1, tar_bytes: 1, entries: 1 })
            }
        };
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Ok(answer)
    }

    async fn seal_volume(self, _: Context, request: SealVolume) -> Result<Outcome, NotDone> {
        let mut state = self.begin("seal_volume", true)?;
        let Some(known) = state.volumes.get_mut(&request.volume) else {
            return refuse(Refusal::NoSuchVolume);
        };
        match known.state {
            VolumeState::Building => refuse(Refusal::NotFilled),
            VolumeState::Sealed => Ok(Outcome::AlreadyThere),
            VolumeState::Filled => {
                known.state = VolumeState::Sealed;
                Ok(Outcome::Done)
            }
        }
    }

    async fn snapshot(self, _: Context, request: Snapshot) -> Result<Outcome, NotDone> {
        let mut state = self.begin("snapshot", true)?;
        let Snapshot { name, image, read_only, bytes, .. } = request;
        if state.volumes.get(&image).is_none_or(|volume| volume.state != VolumeState::Sealed) {
            return refuse(Refusal::NotSealed);
        }
        if let Some(known) = state.snapshots.get(&name) {
            let same = (known.image, known.read_only) == (image, read_only)
                && (bytes.is_none() || bytes == known.bytes);
            return if same { Ok(Outcome::AlreadyThere) } else { refuse(Refusal::OtherSnapshot) };
        }
        let thin = state.fresh();
        let (mounts, handed_out, minor) = (false, false, None);
        let taken = Taken { thin, image, read_only, bytes, mounts, handed_out, minor };
        state.snapshots.insert(name, taken);
        Ok(Outcome::Done)
    }

    async fn map(self, _: Context, request: Map) -> Result<Mapped, NotDone> {
        let mut state = self.begin("map", true)?;
        let Some(known) = state.snapshots.get_mut(&request.name) else {
            return refuse(Refusal::NoSuchSnapshot);
        };
        if known.mounts {
            return refuse(Refusal::Mounted);
        }
        known.handed_out = true;
        Ok(known.appear())
    }

    async fn mount(self, _: Context, request: Mount) -> Result<Mapped, NotDone> {
        let mut state = self.begin("mount", true)?;
        let Some(known) = state.snapshots.get_mut(&request.name) else {
            return refuse(Refusal::NoSuchSnapshot);
        };
        if known.handed_out {
            return refuse(Refusal::HandedOut);
        }
        known.mounts = true;
        Ok(known.appear())
    }

    async fn unmount(self, _: Context, request: Unmount) -> Result<Outcome, NotDone> {
        let mut state = self.begin("unmount", true)?;
        let held = state.held;
        match state.snapshots.get_mut(&request.name) {
            None => refuse(Refusal::NoSuchSnapshot),
            Some(known) if !known.mounts => Ok(Outcome::AlreadyThere),
            Some(_) if held => refuse(Refusal::Held),
            Some(known) => {
                known.mounts = false;
                known.minor = None;
                Ok(Outcome::Done)
            }
        }
    }

    async fn unmap(self, _: Context, request: Unmap) -> Result<Outcome, NotDone> {
        let mut state = self.begin("unmap", true)?;
        let held = state.held;
        match state.snapshots.get_mut(&request.name) {
            None => refuse(Refusal::NoSuchSnapshot),
            Some(_) if held => refuse(Refusal::Held),
            Some(known) => match known.minor.take() {
                Some(_) => Ok(Outcome::Done),
                None => Ok(Outcome::AlreadyThere),
            },
        }
    }

    async fn delete_volume(self, _: Context, request: DeleteVolume) -> Result<Outcome, NotDone> {
        let mut state = self.begin("delete_volume", true)?;
        let was_there = match request.target {
            Target::Volume(volume) => {
                let child = state.volumes.values().any(|v| v.parent == Some(volume))
                    || state.snapshots.values().any(|s| s.image == volume);
                if child {
                    return refuse(Refusal::HasChildren);
                }
                state.volumes.remove(&volume).is_some()
            }
            Target::Snapshot(name) => {
                if state.snapshots.get(&name).is_some_and(|known| known.minor.is_some()) {
                    return refuse(Refusal::Mapped);
                }
                state.snapshots.remove(&name).is_some()
            }
        };
        Ok(if was_there { Outcome::Done } else { Outcome::AlreadyThere })
    }

    async fn verify_volume(
        self,
        _: Context,
        request: VerifyVolume,
    ) -> Result<VerifyState, NotDone> {
        let state = self.begin("verify_volume", false)?;
        match state.volumes.get(&request.volume) {
            Some(known) if known.state == VolumeState::Sealed => Ok(state
                .verify
                .clone()
                .unwrap_or(VerifyState::Verified { tree: tree_of(request.volume) })),
            Some(_) => refuse(Refusal::NotSealed),
            None => refuse(Refusal::NoSuchVolume),
        }
    }

    async fn list_volumes(self, _: Context, request: ListVolumes) -> Result<Inventory, NotDone> {
        let state = self.begin("list_volumes", false)?;
        let thin = |thin: u32| ThinId::try_from(thin).unwrap();
        let volumes = state.volumes.iter().map(|(volume, known)| Item {
            thin: thin(known.thin),
            what: What::Volume(VolumeItem {
                volume: *volume,
                parent: known.parent,
                state: known.state,
                layer: known.layer,
            }),
            minor: None,
        });
        let snapshots = state.snapshots.iter().map(|(name, known)| Item {
            thin: thin(known.thin),
            what: What::Snapshot(SnapshotItem {
                name: name.clone(),
                image: known.image,
                read_only: known.read_only,
                mounts: known.mounts,
                bytes: known.bytes,
            }),
            minor: known.minor,
        });
        let mut items: Vec<_> = volumes.chain(snapshots).collect();
        items.sort_by_key(|item| item.thin);
        items.retain(|item| Some(item.thin) > request.after);
        let more = items.len() > state.page;
        items.truncate(state.page);
        let next = items.last().map(|item| item.thin).filter(|_| more);
        Ok(Inventory { items, next })
    }
}

/// The digests that a blob and its one layer have.
pub(crate) fn ids(tar: &[u8]) -> (BlobDigest, DiffId, ChainId) {
    let digest = airlock_policy::digest::Digest::of(tar);
    (BlobDigest(digest), DiffId(digest), ChainId::of(None, DiffId(digest)))
}
