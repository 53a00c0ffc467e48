//! The words between the broker, the launcher and the workers: fixed-size messages.
//!
//! The broker parses what strangers send and may be taken over; the launcher mounts and may not.
//! So these messages have one size, no lengths inside, no text but names that were checked, and
//! one decoder, which refuses whatever it did not write itself. A message is 256 bytes:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | the errand's number, chosen by the broker; answers repeat it |
//! | 8..40 | the request id it is done for, padded with NUL |
//! | 40 | the kind |
//! | 41.. | the kind's fields, little-endian, padded with NUL to the end |

mod code;

use crate::digest::{BlobDigest, DiffId, TreeDigest};
use crate::helper_config::PoolPart;
use crate::layout::LayoutFacts;
use crate::name::{RequestId, SnapshotName, ThinId};
use crate::rule::Rule;
use crate::tree::{Difference, ShownPath};

/// The size of every message, in bytes.
pub const MESSAGE: usize = 256;

/// What the broker sends an errand under, and the answers to it come back under.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// Chosen by the broker, never used twice in the life of a launcher.
    pub number: u64,
    /// The operator's request that this is done for.
    pub request: RequestId,
}

/// The ledger's name in the state directory.
pub const LEDGER: &str = "ledger";
/// What a compacted ledger is called until it takes the ledger's place.
pub const NEW_LEDGER: &str = "ledger.new";
/// The folder of manifests in the state directory, each called after its volume's thin id.
pub const TREES: &str = "trees";
/// What the launcher has done with each thin device, beside the ledger.
pub const PAST: &str = "past";

/// What the broker asks of the launcher.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Errand {
    /// Opens the pool's backing devices. Answered by [`Answer::Backing`].
    OpenPool {
        /// Whether backing files that do not exist may be made. Files that exist never change.
        create: bool,
    },
    /// Runs `thin_check` on the pool's metadata, while no table uses it. Answered by
    /// [`Answer::Done`].
    CheckPool,
    /// Makes the base volume's empty ext4. Answered by [`Answer::Done`].
    Format {
        /// The device to format.
        device: ThinDevice,
    },
    /// Extracts a layer into a volume. Answered by any number of [`Answer::Progress`], then
    /// [`Answer::Extracted`] or [`Answer::Refused`].
    Extract {
        /// The device that holds the volume.
        device: ThinDevice,
        /// The blob to read, by what it claims to be. The answer says what it was.
        blob: BlobDigest,
        /// The volume below, whose manifest says what its files hold; `None` where it has none.
        below: Option<Manifest>,
        /// Whether the archive is unwrapped (see [`crate::entry::wrapped`]).
        unwrap: bool,
    },
    /// Reads a sealed volume again and compares it with its manifest. Answered by any number of
    /// [`Answer::Progress`], then [`Answer::Verified`] or [`Answer::Differs`].
    Verify {
        /// The device that holds the volume, read-only.
        device: ThinDevice,
        /// The digest that its manifest has.
        tree: TreeDigest,
    },
    /// Removes the manifest of a volume that is gone. Answered by [`Answer::Done`].
    Forget {
        /// The volume's number in the pool.
        thin: ThinId,
    },
    /// Ends a running extraction. Answered by [`Answer::Done`]; the extraction itself is answered
    /// as failed.
    Cancel {
        /// The number of the errand to end.
        errand: u64,
    },
    /// Gives a snapshot's device node its owner and mode, and its link `/dev/airlock/NAME`.
    Publish {
        /// The snapshot's device.
        device: ThinDevice,
        /// The link's name.
        name: SnapshotName,
    },
    /// Exchanges the names of [`LEDGER`] and [`NEW_LEDGER`]: the broker, which wrote both, can
    /// rename nothing. Answered by [`Answer::Done`] once that is on the disk.
    ExchangeLedger,
    /// Takes the link away.
    Unpublish {
        /// The link's name.
        name: SnapshotName,
    },
    /// Grows one of the pool's backing files, and its loop device with it; one that is as large
    /// already stays as it is. Answered by [`Answer::Backing`].
    GrowPool {
        /// Which.
        part: PoolPart,
        /// The size that it is to have at least, in bytes.
        bytes: u64,
    },
    /// Mounts a snapshot that was never handed out, onto its directory beneath
    /// [`MOUNTS`](crate::name::MOUNTS). That it is mounted there already is as well. Answered by
    /// [`Answer::Done`].
    Mount {
        /// The snapshot's device.
        device: ThinDevice,
        /// The directory's name.
        name: SnapshotName,
        /// Whether nothing is to be written.
        read_only: bool,
    },
    /// Unmounts a snapshot: never by force, never lazily. That it is not mounted is as well.
    Unmount {
        /// The snapshot's device.
        device: ThinDevice,
        /// The directory's name.
        name: SnapshotName,
    },
    /// Grows the ext4 of a snapshot that was never handed out to its device's size. Answered by
    /// [`Answer::Done`].
    Grow {
        /// The snapshot's device.
        device: ThinDevice,
    },
}

/// A thin device of ours: its number in the pool, which its devicemapper name and uuid are made
/// of, and its minor number, which `/dev/dm-N` is made of. The launcher checks one by the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ThinDevice {
    /// The number in the pool.
    pub thin: ThinId,
    /// The minor number of the block device.
    pub minor: u32,
}

/// The manifest of a volume: a list of all that is in it, kept beside the ledger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The volume's number in the pool.
    pub thin: ThinId,
    /// The digest that the manifest must have to be believed.
    pub tree: TreeDigest,
}

/// What the launcher answers, and what a worker reports to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The pool's devices are open.
    Backing(Backing),
    /// An extraction goes on. Not the last answer.
    Progress(Progress),
    /// An extraction came to its end, and all of it is flushed to the device.
    Extracted(Extracted),
    /// A volume is as its manifest says, and this is the digest of it.
    Verified {
        /// The digest of what was read.
        tree: TreeDigest,
    },
    /// A volume is not as its manifest says.
    Differs {
        /// What differs.
        what: Difference,
        /// The first entry that does.
        path: ShownPath,
    },
    /// The archive broke a rule. The volume holds a part of it and must be thrown away.
    Refused {
        /// The rule.
        rule: Rule,
        /// The number of the entry, from 0; `None` where the archive as a whole broke it.
        entry: Option<u64>,
    },
    /// It could not be done.
    Failed(Failure),
}

/// The devices that a pool is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backing {
    /// The data device.
    pub data: BlockDevice,
    /// The metadata device.
    pub metadata: BlockDevice,
    /// Whether both were made by this very errand: nothing was ever written to them.
    pub fresh: bool,
}

/// A block device and its size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockDevice {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// The size in sectors of 512 bytes.
    pub sectors: u64,
}

/// How far an extraction is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Bytes of the blob read.
    pub blob_bytes: u64,
    /// Bytes of the uncompressed tar read.
    pub tar_bytes: u64,
    /// Entries written.
    pub entries: u64,
}

/// What an extraction found out, by reading every byte of the blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extracted {
    /// The digest of the blob that was read.
    pub blob: BlobDigest,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// How much it was.
    pub progress: Progress,
    /// Bytes of the files it made.
    pub file_bytes: u64,
    /// What the top of the whole tree looks like now.
    pub layout: LayoutFacts,
    /// The digest of the whole tree.
    pub tree: TreeDigest,
}

/// Where and why an errand failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What was being done.
    pub stage: Stage,
    /// The kernel's reason, an errno; 0 where there is none (a worker that died, a check that
    /// said no).
    pub errno: i32,
}

/// Declares the stages with their numbers and texts.
macro_rules! stages {
    ($($Stage:ident = $number:literal $text:literal;)+) => {
        /// What was being done when an errand failed.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[expect(missing_docs, reason = "each variant is described by its row in the table")]
        pub enum Stage { $($Stage),+ }

        impl Stage {
            /// Every stage.
            pub const ALL: &[Self] = &[$(Self::$Stage),+];

            /// What it is, as a clause that follows "failed to".
            pub const fn text(self) -> &'static str {
                match self { $(Self::$Stage => $text),+ }
            }

            /// The number that stands for it in a message.
            pub const fn number(self) -> u8 {
                match self { $(Self::$Stage => $number),+ }
            }

            /// The stage of this number.
            pub const fn of_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$Stage),)+ _ => None }
            }
        }
    };
}

stages! {
    PoolAbsent    = 1  "find the pool's backing files";
    PoolFiles     = 2  "make the pool's backing files";
    PoolConflict  = 3  "use backing files of another size than they were made with";
    LoopAttach    = 4  "attach a loop device";
    PoolCheck     = 5  "check the pool's metadata with thin_check";
    DeviceCheck   = 6  "recognise the device as one of airlock's";
    Format        = 7  "format the base volume with mkfs.ext4";
    BlobOpen      = 8  "open the blob";
    Mount         = 9  "make a detached mount of the volume";
    IdMap         = 10 "map the mount's ids onto the workers' user namespace";
    WorkerStart   = 11 "start the worker";
    WorkerSandbox = 12 "confine the worker";
    WorkerDied    = 13 "keep the worker alive: it was killed or crashed";
    WorkerLate    = 14 "finish before the deadline";
    Cancelled     = 15 "go on: the errand was cancelled";
    BlobRead      = 16 "read the blob";
    Write         = 17 "write into the volume";
    VolumeFull    = 18 "write into the volume: it is full";
    Flush         = 19 "flush the volume";
    NodeOwner     = 20 "give the device node its owner and mode";
    NodeLink      = 21 "make or remove the link under /dev/airlock";
    UnknownErrand = 22 "understand the errand";
    TooMany       = 23 "take one more extraction";
    Ledger        = 24 "exchange the ledger for its compacted copy";
    PoolGrow      = 30 "grow a backing file of the pool";
    Attach        = 31 "mount the snapshot";
    Detach        = 32 "unmount the snapshot";
    MountPoint    = 33 "make the directory that the snapshot is mounted on";
    Grow          = 34 "grow the snapshot's filesystem with resize2fs";
    TreeFile      = 40 "open or remove the manifest of a tree";
    TreeWrite     = 41 "write the manifest of the tree";
    TreeRead      = 42 "read the volume again";
}

impl Stage {
    /// Whether the launcher itself fails so, before a worker was started: nothing was written.
    pub const fn is_before_worker(self) -> bool {
        matches!(
            self,
            Self::PoolAbsent
                | Self::PoolFiles
                | Self::PoolConflict
                | Self::LoopAttach
                | Self::DeviceCheck
                | Self::BlobOpen
                | Self::TreeFile
                | Self::TooMany
        )
    }

    /// Whether a worker may say so of itself. One that was taken over shall not say that it never
    /// wrote.
    pub const fn is_of_worker(self) -> bool {
        matches!(
            self,
            Self::Mount
                | Self::IdMap
                | Self::WorkerSandbox
                | Self::BlobRead
                | Self::Write
                | Self::VolumeFull
                | Self::Flush
                | Self::TreeWrite
                | Self::TreeRead
        )
    }
}

/// The bytes are not a message that airlock writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the message is malformed")]
pub struct Malformed;

impl Errand {
    /// The message for this errand.
    pub fn encode(&self, envelope: &Envelope) -> [u8; MESSAGE] {
        code::errand(self, envelope)
    }

    /// Reads a message. Exactly what [`encode`](Self::encode) writes is accepted.
    pub fn decode(message: &[u8]) -> Result<(Envelope, Self), Malformed> {
        code::read_errand(message)
    }
}

impl Answer {
    /// The message for this answer.
    pub fn encode(&self, envelope: &Envelope) -> [u8; MESSAGE] {
        code::answer(self, envelope)
    }

    /// Reads a message. Exactly what [`encode`](Self::encode) writes is accepted.
    pub fn decode(message: &[u8]) -> Result<(Envelope, Self), Malformed> {
        code::read_answer(message)
    }

    /// Whether no further answer to the same errand follows.
    pub const fn is_last(&self) -> bool {
        match self {
            Self::Progress(_) => false,
            Self::Done
            | Self::Backing(_)
            | Self::Extracted(_)
            | Self::Verified { .. }
            | Self::Differs { .. }
            | Self::Refused { .. }
            | Self::Failed(_) => true,
        }
    }
}
