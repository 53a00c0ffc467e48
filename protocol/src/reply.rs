//! What the helper answers.

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, TreeDigest};
use airlock_policy::layout::LayoutFacts;
use airlock_policy::name::{SnapshotName, ThinId};
use airlock_policy::tree::{Difference, ShownPath};
use serde::{Deserialize, Serialize};

use crate::not_done::Step;

/// Who the helper is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Welcome {
    /// The protocol's version.
    pub protocol: u32,
    /// The helper's own version.
    pub version: String,
    /// Whether every part of the helper's confinement is in force.
    pub confined: bool,
}

/// Whether the call changed anything.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// This call made it so.
    Done,
    /// It was already so.
    AlreadyThere,
}

/// How the pool is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolStatus {
    /// The pool is not up: `ensure_pool` brings it up.
    Down,
    /// The pool is up.
    Up(PoolUsage),
}

/// A pool that is up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PoolUsage {
    /// What the kernel does with writes.
    pub mode: PoolMode,
    /// Whether the kernel asks for a `thin_check` before the next use.
    pub needs_check: bool,
    /// The size of a data block, in bytes.
    pub block_bytes: u64,
    /// Data blocks in use.
    pub data_used_blocks: u64,
    /// All data blocks.
    pub data_total_blocks: u64,
    /// Free data blocks at which the kernel raises its low-water event.
    pub low_water_blocks: u64,
    /// Metadata blocks (4 KiB each) in use.
    pub metadata_used_blocks: u64,
    /// All metadata blocks.
    pub metadata_total_blocks: u64,
    /// The virtual size of every volume, in bytes.
    pub volume_bytes: u64,
    /// The pool's transaction id.
    pub transaction: u64,
    /// Volumes in the ledger, the base volume not counted.
    pub volumes: u32,
    /// Snapshots in the ledger.
    pub snapshots: u32,
    /// Whether the pool lies in loopback files.
    pub loopback: bool,
    /// What `extend_pool` may grow the data file to, in bytes; `None` on block devices.
    pub data_limit_bytes: Option<u64>,
    /// What it may grow the metadata file to, in bytes; likewise.
    pub metadata_limit_bytes: Option<u64>,
    /// Operations that are past their deadline and have not ended.
    pub late: Vec<LateOperation>,
}

/// An operation that is past its deadline and may still be running.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LateOperation {
    /// The thin device that it is done to, which nothing else is done to meanwhile; `None` where it
    /// is the pool itself.
    pub thin: Option<ThinId>,
    /// What it is.
    pub step: Step,
    /// For how long it runs, in seconds.
    pub seconds: u64,
}

/// What the kernel does with writes (Documentation/admin-guide/device-mapper/
/// thin-provisioning.rst, "Status").
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolMode {
    /// Reads and writes.
    ReadWrite,
    /// Reads only: the metadata had an error.
    ReadOnly,
    /// No free data block: writes to new blocks fail.
    OutOfDataSpace,
    /// All I/O fails.
    Failed,
}

/// How far a layer is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// It is being extracted. Ask again: the answer to the next request waits until there is more
    /// to say, for up to a second.
    Running(LayerProgress),
    /// It was extracted, verified and flushed.
    Applied(AppliedLayer),
}

/// How far an extraction is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LayerProgress {
    /// Bytes of the blob read.
    pub blob_bytes: u64,
    /// Bytes of the uncompressed tar read.
    pub tar_bytes: u64,
    /// Entries written.
    pub entries: u64,
}

/// What an extraction found.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedLayer {
    /// Entries written.
    pub entries: u64,
    /// Bytes of the files it made.
    pub file_bytes: u64,
    /// What the top of the tree looks like.
    pub layout: LayoutFacts,
    /// The digest of the whole tree; `None` for a volume that an older version made.
    pub tree: Option<TreeDigest>,
}

/// How far a verification is, or what it came to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyState {
    /// The volume is being read. Ask again: the answer to the next request waits until there is
    /// more to say, for up to a second.
    Running(VerifyProgress),
    /// The volume is what was extracted.
    Verified {
        /// The digest of the whole tree.
        tree: TreeDigest,
    },
    /// The volume is not what was extracted.
    Differs {
        /// What differs.
        what: Difference,
        /// The first entry that does, for the eye only.
        path: ShownPath,
    },
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyProgress {
    /// Entries compared.
    pub entries: u64,
    /// Bytes of files read.
    pub bytes: u64,
}

/// A snapshot's block device, handed out or mounted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mapped {
    /// Whether this call made it appear.
    pub outcome: Outcome,
    /// The device's minor number: `/dev/dm-MINOR`.
    pub minor: u32,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A page of what the ledger knows.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The volumes and snapshots, in order of thin ids.
    pub items: Vec<Item>,
    /// What to ask for next; `None` on the last page.
    pub next: Option<ThinId>,
}

/// The most items of a page: each takes less than 700 bytes on the wire, so a page fits a frame.
pub const PAGE: usize = 64;

/// A volume or a snapshot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its number in the pool.
    pub thin: ThinId,
    /// What it is.
    pub what: What,
    /// The minor number of its device, where it is mapped.
    pub minor: Option<u32>,
}

/// What a thin device is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A layer's volume.
    Volume(VolumeItem),
    /// A snapshot of an image.
    Snapshot(SnapshotItem),
}

/// A layer's volume.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeItem {
    /// Its identity.
    pub volume: ChainId,
    /// The volume below it.
    pub parent: Option<ChainId>,
    /// How far it is.
    pub state: VolumeState,
    /// What was extracted into it, once it was.
    pub layer: Option<ItemLayer>,
}

/// The layer of a volume, as the helper itself hashed it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ItemLayer {
    /// The blob's digest.
    pub blob: BlobDigest,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// The digest of the whole tree; `None` for a volume that an older version made.
    pub tree: Option<TreeDigest>,
}

/// How far a volume is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeState {
    /// Empty, or being extracted into.
    Building,
    /// Its layer is applied and flushed.
    Filled,
    /// Read-only for ever.
    Sealed,
}

/// A snapshot of an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotItem {
    /// Its name.
    pub name: SnapshotName,
    /// The chain id of the image's last layer.
    pub image: ChainId,
    /// Whether its device refuses writes.
    pub read_only: bool,
    /// Whether it is given out by `mount`, and not as a device.
    pub mounts: bool,
    /// Its size in bytes, where that is not its volume's.
    pub bytes: Option<u64>,
}
