//! What the ledger's lines say.

use airlock_policy::digest::{BlobDigest, ChainId, DiffId, TreeDigest};
use airlock_policy::layout::LayoutFacts;
use airlock_policy::name::{SnapshotName, ThinId};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The first line: the version of what follows.
    Format(u32),
    /// Whether the pool's backing files are being made at this moment.
    Making(bool),
    /// What the pool is made of.
    Pool(PoolRecord),
    /// The pool's devices have grown to at least this, in sectors of 512 bytes.
    Grown {
        /// The data device's size.
        data_sectors: u64,
        /// The metadata device's size.
        metadata_sectors: u64,
    },
    /// Where the counters stand. Written when the file is compacted.
    Counters {
        /// The lowest thin id that was never given out.
        next_thin: u32,
        /// The pool's transaction id after the last change that was confirmed.
        transaction: u64,
    },
    /// The base volume. Written when the file is compacted.
    Base {
        /// Whether it is formatted.
        sealed: bool,
    },
    /// A volume. Written when the file is compacted.
    Volume(Volume),
    /// A snapshot. Written when the file is compacted.
    Snapshot(Snapshot),
    /// A change of the pool is about to be made.
    Intent(Intent),
    /// The change was made, and the pool's transaction id is now this.
    Confirmed {
        /// The transaction id after the change.
        transaction: u64,
    },
    /// The change was not made, or was taken back.
    Undone {
        /// The transaction id that it would have led to.
        transaction: u64,
    },
    /// A layer was extracted into a volume and flushed.
    Filled {
        /// The volume.
        thin: ThinId,
        /// What it holds.
        layer: Layer,
    },
    /// A snapshot's device was handed out: the host never parses it again.
    HandedOut {
        /// The snapshot.
        thin: ThinId,
    },
    /// A snapshot's filesystem has its device's size.
    SnapshotGrown {
        /// The snapshot.
        thin: ThinId,
    },
    /// From now on a snapshot is given out by a mount, or no longer.
    Mounts {
        /// The snapshot.
        thin: ThinId,
        /// Which.
        mounts: bool,
    },
}

/// What the pool is made of, in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PoolRecord {
    /// The data device's size.
    pub data_sectors: u64,
    /// The metadata device's size.
    pub metadata_sectors: u64,
    /// Every volume's virtual size.
    pub volume_sectors: u64,
    /// A data block's size.
    pub block_sectors: u64,
}

/// A layer's volume.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its number in the pool.
    pub thin: ThinId,
    /// Its identity.
    pub volume: ChainId,
    /// The volume below it.
    pub parent: Option<ChainId>,
    /// How far it is.
    pub contents: Contents,
}

/// How far a volume is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// Empty, or being extracted into.
    Building,
    /// Its layer is applied and flushed.
    Filled(Layer),
    /// Read-only for ever.
    Sealed(Layer),
}

/// What was extracted into a volume.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The blob.
    pub blob: BlobDigest,
    /// Its uncompressed tar.
    pub diff_id: DiffId,
    /// Entries written.
    pub entries: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// What the top of the tree looks like.
    pub layout: LayoutFacts,
    /// The digest of the whole tree, and of its manifest; `None` in records that older versions
    /// wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeDigest>,
}

/// A snapshot of an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Its number in the pool.
    pub thin: ThinId,
    /// Its name.
    pub name: SnapshotName,
    /// The chain id of the image's last layer.
    pub image: ChainId,
    /// Whether its device refuses writes.
    pub read_only: bool,
    /// Whether its device was ever handed out.
    pub handed_out: bool,
    /// Whether it is given out by a mount of the host's. Not whether that is there: a reboot ends
    /// mounts.
    #[serde(default)]
    pub mounts: bool,
    /// Its size, where that is not its volume's.
    #[serde(default)]
    pub size: Option<OwnSize>,
}

/// The size of a snapshot that is larger than its volume.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OwnSize {
    /// The size in sectors of 512 bytes.
    pub sectors: u64,
    /// Whether its filesystem was grown to it.
    pub grown: bool,
}

impl Snapshot {
    /// Whether it has the size that was asked for, its filesystem too.
    pub fn is_whole(&self) -> bool {
        self.size.is_none_or(|size| size.grown)
    }
}

/// A change of the pool, from one transaction id to the next.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The pool's transaction id after the change; before it, one less.
    pub transaction: u64,
    /// The change.
    pub change: Change,
}

/// What a change does.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Makes the base volume, thin id 0.
    CreateBase,
    /// Makes a layer's volume.
    CreateVolume {
        /// Its number.
        thin: ThinId,
        /// Its identity.
        volume: ChainId,
        /// The volume below it.
        parent: Option<ChainId>,
    },
    /// Makes a snapshot of an image.
    CreateSnapshot {
        /// Its number.
        thin: ThinId,
        /// Its name.
        name: SnapshotName,
        /// The image.
        image: ChainId,
        /// Whether its device refuses writes.
        read_only: bool,
        /// Its size in sectors of 512 bytes, where that is not its volume's.
        #[serde(default)]
        sectors: Option<u64>,
    },
    /// Deletes a thin device.
    Delete {
        /// Its number.
        thin: ThinId,
    },
    /// Seals a volume: nothing changes in the pool but its transaction id, which commits it.
    Seal {
        /// Its number.
        thin: ThinId,
    },
}

impl Change {
    /// The thin id that it makes.
    pub const fn creates(&self) -> Option<ThinId> {
        match self {
            Self::CreateBase => Some(ThinId::BASE),
            Self::CreateVolume { thin, .. } | Self::CreateSnapshot { thin, .. } => Some(*thin),
            Self::Delete { .. } | Self::Seal { .. } => None,
        }
    }
}
