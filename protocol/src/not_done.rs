//! What the helper answers when it does not do as asked.
//!
//! No path, no text of the kernel and none of an archive crosses here: logs carry those.

use airlock_policy::errand::{Failure, Stage};
use airlock_policy::rule::Rule;
use serde::{Deserialize, Serialize};

/// The helper did not do as asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum NotDone {
    /// A rule forbids it. Nothing was changed.
    #[error("the helper refused")]
    Refused(#[source] Refusal),
    /// It was begun and could not be finished. Ask again, or ask for the inventory.
    #[error("failed to {}", .0.what())]
    Failed(StepFailure),
    /// It was begun and did not end in time: it may still be running. The volume is left alone until
    /// it ends, and ends by itself.
    #[error("failed to {} in time: it may still be running", .0.text())]
    Late(Step),
    /// The helper is stopping and took nothing on.
    #[error("the helper is stopping")]
    Stopping,
}

/// What failed, and the kernel's reason.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StepFailure {
    /// What was being done.
    pub step: Step,
    /// The errno; 0 where the kernel gave none.
    pub errno: i32,
}

impl StepFailure {
    fn what(self) -> String {
        if self.errno == 0 {
            return self.step.text().to_owned();
        }
        // "No such file or directory (os error 2)": the platform's words for a number.
        format!("{}: {}", self.step.text(), std::io::Error::from_raw_os_error(self.errno))
    }
}

/// The part of an operation that failed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Something that the launcher or a worker does: the number of its [`Stage`].
    #[serde(with = "stage")]
    Errand(Stage),
    /// Speaking to the launcher.
    Launcher,
    /// Writing the ledger.
    Ledger,
    /// Reading the ledger: it does not fit the pool.
    Reconcile,
    /// Creating a device in the device table.
    CreateDevice,
    /// Loading a device's table.
    LoadTable,
    /// Resuming a device.
    Resume,
    /// Removing a device from the device table.
    RemoveDevice,
    /// Reading the device table.
    ReadTable,
    /// Sending a message to the pool.
    PoolMessage,
}

impl Step {
    /// What it is, as a clause that follows "failed to".
    pub const fn text(self) -> &'static str {
        match self {
            Self::Errand(stage) => stage.text(),
            Self::Launcher => "reach the launcher",
            Self::Ledger => "write the ledger",
            Self::Reconcile => "bring ledger and pool into agreement",
            Self::CreateDevice => "create a device",
            Self::LoadTable => "load a device's table",
            Self::Resume => "resume a device",
            Self::RemoveDevice => "remove a device",
            Self::ReadTable => "read the device table",
            Self::PoolMessage => "send a message to the pool",
        }
    }
}

mod stage {
    //! A stage as its number.

    use airlock_policy::errand::Stage;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(stage: &Stage, to: S) -> Result<S::Ok, S::Error> {
        stage.number().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Stage, D::Error> {
        let number = u8::deserialize(from)?;
        Stage::of_number(number).ok_or_else(|| serde::de::Error::custom("no such stage"))
    }
}

impl From<Failure> for NotDone {
    fn from(failure: Failure) -> Self {
        let Failure { stage, errno } = failure;
        Self::Failed(StepFailure { step: Step::Errand(stage), errno })
    }
}

/// Declares the refusals: variant, code, text.
macro_rules! refusals {
    ($($Variant:ident $code:literal $text:literal;)+) => {
        /// Why the helper refused.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
        #[serde(rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is described by its row in the table")]
        pub enum Refusal {
            $(#[error($text)] $Variant,)+
            /// The layer's archive broke a rule. Its volume was deleted.
            #[error("the layer breaks the rule {rule}")]
            Layer {
                /// The rule.
                rule: Rule,
                /// The number of the entry, from 0.
                entry: Option<u64>,
            },
            /// Volumes and snapshots are made faster than the configuration allows.
            #[error("volumes and snapshots are made faster than the configuration allows: again in {seconds} s")]
            TooFast {
                /// How long it takes until one more is allowed, in seconds.
                seconds: u32,
            },
            /// The image does not look like a root filesystem.
            #[error("the image breaks the rule {0}")]
            Layout(Rule),
        }

        impl Refusal {
            /// The dotted code: stable, documented, printed in every message.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$Variant => $code,)+
                    Self::TooFast { .. } => "volume.too_fast",
                    Self::Layer { rule, .. } | Self::Layout(rule) => rule.code(),
                }
            }
        }
    };
}

refusals! {
    ProtocolVersion  "helper.protocol"       "the helper speaks another version of the protocol";
    PoolDown         "pool.down"             "the pool is not up";
    PoolAbsent       "pool.absent"           "there is no pool, and none was to be made";
    PoolConflict     "pool.conflict"         "the pool's backing is not what the ledger says it was made of";
    PoolUnhealthy    "pool.unhealthy"        "the pool is read-only or failed";
    PoolFull         "pool.full"             "the pool has no room";
    PoolLimit        "pool.limit"            "the pool may not be made that large";
    PoolDevices      "pool.devices"          "the pool lies on block devices, which root grows";
    VolumeFull       "volume.full"           "the layer does not fit into a volume";
    TooManyVolumes   "volume.too_many"       "there are as many volumes as the configuration allows";
    TooMuchVirtual   "volume.virtual_size"   "all volumes together would be larger than the configuration allows";
    TooManyChecks    "volume.busy"           "another volume is being verified";
    NoTree           "volume.no_tree"        "the volume was made before the digests of trees were kept";
    TooManyLayers    "layer.too_many"        "as many layers are being extracted as the configuration allows";
    NoSuchVolume     "volume.not_found"      "no volume has this chain id";
    NoSuchSnapshot   "snapshot.not_found"    "no snapshot has this name";
    OtherParent      "volume.other_parent"   "the volume exists with another parent";
    ParentNotSealed  "volume.parent_open"    "the parent's volume is not sealed";
    VolumeSealed     "volume.sealed"         "the volume is sealed";
    NotFilled        "volume.not_filled"     "the volume's layer was not applied";
    NotSealed        "volume.not_sealed"     "the image's volume is not sealed";
    OtherLayer       "layer.other"           "another layer is being extracted into the volume";
    OtherSnapshot    "snapshot.other"        "the name is another snapshot's";
    SnapshotSize     "snapshot.size"         "the size is less than the volume's or more than the configuration allows";
    NotGrown         "snapshot.not_grown"    "the snapshot was not grown to its size";
    HandedOut        "snapshot.handed_out"   "the device was handed out, and who wrote to it since is unknown: the host does not mount it";
    Mounted          "snapshot.mounted"      "the snapshot is mounted on the host, and so not handed out as a device";
    Mapped           "volume.mapped"         "the device is mapped";
    Held             "volume.held"           "somebody holds the device open";
    HasChildren      "volume.has_children"   "other volumes or snapshots were made from it";
    BlobAbsent       "blob.absent"           "the blob is not there";
    BlobDigest       "blob.digest"           "the blob's content is not what its digest says";
    LayerDigest      "layer.digest"          "the layer's tar does not have the diff id that was claimed";
    ChainDigest      "volume.chain"          "parent and layer do not make the chain id that was claimed";
    LateDevice       "helper.busy"           "the helper waits for a device, and did not come to this request in time";
    Quarantined      "device.quarantined"    "an operation on the device is late and may still be running: until it ends, nothing else is done to the device";
}
