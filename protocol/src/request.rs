//! What the controller may ask of the helper. Every field is a type that cannot hold a
//! wrong value (WIRE-3).

use airlock_policy::digest::{BlobDigest, ChainId, DiffId};
use airlock_policy::helper_config::PoolPart;
use airlock_policy::name::{RequestId, SnapshotName, ThinId};
use serde::{Deserialize, Serialize};

/// Declares the requests: each is a struct that refuses unknown fields, and each carries the id of
/// the operator's request, so that one id is found in every log.
macro_rules! requests {
    ($($(#[$doc:meta])* $Name:ident { $($(#[$field_doc:meta])* $field:ident: $Type:ty),* $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
            #[serde(deny_unknown_fields)]
            pub struct $Name {
                /// The operator's request that this is done for.
                pub request: RequestId,
                $($(#[$field_doc])* pub $field: $Type,)*
            }
        )+
    };
}

requests! {
    /// Asks who the helper is.
    Hello {
        /// The protocol's version as the caller knows it.
        protocol: u32,
    }
    /// Asks for the pool.
    EnsurePool {
        /// Whether a pool may be made where there is none.
        create: bool,
    }
    /// Asks how the pool is.
    QueryPool {}
    /// Asks for a larger pool.
    ExtendPool {
        /// Which of the pool's two files is to grow.
        part: PoolPart,
        /// The size that it is to have at least, in bytes; the configuration bounds it.
        bytes: u64,
    }
    /// Asks for the volume of a layer.
    CreateVolume {
        /// The identity that the volume will have once its layer is applied.
        volume: ChainId,
        /// The volume below it; `None` for a first layer.
        parent: Option<ChainId>,
    }
    /// Asks for a layer to be extracted.
    ApplyLayer {
        /// The volume.
        volume: ChainId,
        /// The blob, which lies in the configured folder under its digest.
        blob: BlobDigest,
        /// The digest of the blob's uncompressed tar.
        diff_id: DiffId,
    }
    /// Asks for a volume to be sealed.
    SealVolume {
        /// The volume.
        volume: ChainId,
    }
    /// Asks for a snapshot of an image.
    Snapshot {
        /// The snapshot's name.
        name: SnapshotName,
        /// The chain id of the image's last layer.
        image: ChainId,
        /// Whether its device refuses writes.
        read_only: bool,
        /// The size that it and its filesystem are to have, in bytes; its volume's where absent.
        bytes: Option<u64>,
    }
    /// Asks for a snapshot's device.
    Map {
        /// The snapshot.
        name: SnapshotName,
    }
    /// Asks for a snapshot's device to go.
    Unmap {
        /// The snapshot.
        name: SnapshotName,
    }
    /// Asks for a snapshot to be mounted.
    Mount {
        /// The snapshot.
        name: SnapshotName,
    }
    /// Asks for a snapshot to be unmounted.
    Unmount {
        /// The snapshot.
        name: SnapshotName,
    }
    /// Asks for a volume or snapshot to be deleted.
    DeleteVolume {
        /// Which.
        target: Target,
    }
    /// Asks for a sealed volume to be read again.
    VerifyVolume {
        /// The volume.
        volume: ChainId,
    }
    /// Asks for a page of the inventory.
    ListVolumes {
        /// The last thin id of the page before; `None` for the first page.
        after: Option<ThinId>,
    }
}

/// A volume or a snapshot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A layer's volume.
    Volume(ChainId),
    /// A snapshot.
    Snapshot(SnapshotName),
}
