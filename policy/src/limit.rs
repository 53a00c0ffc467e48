//! Every default limit of the system, with its reason. Each is a configuration key somewhere.

use serde::{Deserialize, Serialize};

/// The largest uid or gid an image may use: the last that the id map
/// `0 2147483648 2147483647` of the extract worker's user namespace covers.
pub const MAX_OWNER: u32 = 2_147_483_646;
/// The longest component of a name, in bytes: the kernel's `NAME_MAX`.
pub const MAX_COMPONENT: usize = 255;
/// The longest name, in bytes: the kernel's `PATH_MAX`.
pub const MAX_PATH: usize = 4096;
/// The most components of a name. Real images stay below 40.
pub const MAX_DEPTH: usize = 128;
/// The longest name of an extended attribute, in bytes: the kernel's `XATTR_NAME_MAX`.
pub const MAX_XATTR_NAME: usize = 255;
/// The longest target of a symbolic link, in bytes: what the kernel's `symlink(2)` takes.
pub const MAX_LINK_TARGET: usize = 4095;
/// The most bytes of extended attributes (names and values) of one entry: the kernel's
/// `XATTR_SIZE_MAX`, which ext4 cannot exceed in one block anyway.
pub const MAX_XATTRS: usize = 64 << 10;
/// The most bytes of one extension header (pax record block, GNU long name): all of an entry's
/// xattrs in base 64, its name and its target, with room to spare.
pub const MAX_EXTENSION: u64 = 256 << 10;
/// The most regions in a sparse map. GNU tar writes one for each hole.
pub const MAX_SPARSE_REGIONS: usize = 65_536;
/// The most global pax headers of one archive. Real archives have one for each archive that was
/// joined into them.
pub const MAX_GLOBAL_HEADERS: u32 = 1024;
/// The most gzip members or zstd frames without content in one blob: real ones mark an index or
/// an end, and cost the reader time without adding to any other count.
pub const MAX_EMPTY_FRAMES: u32 = 65_536;
/// The earliest and the latest time of an entry, in seconds since 1970: what ext4 with 256-byte
/// inodes can hold (1901 to 2446).
pub const TIME_RANGE: std::ops::RangeInclusive<i64> = -0x8000_0000..=0x3_7fff_ffff;
/// The largest window that a zstd frame may ask for: what RFC 8878 asks every decoder to support.
pub const MAX_ZSTD_WINDOW_LOG: u32 = 23;

/// The most lines of one worker's output that are logged. An honest one writes none or a few; a
/// tool that finds damage, some dozens.
pub const MAX_WORKER_LOG_LINES: usize = 64;
/// The most bytes of one worker's output that are logged, before they are escaped.
pub const MAX_WORKER_LOG_BYTES: usize = 8 << 10;
/// A longer line of a worker's is logged as several, in bytes.
pub const MAX_WORKER_LOG_LINE: usize = 512;

/// From this share of a pool's data blocks in use on, nothing new is begun, in percent. The last
/// blocks are kept for what runs already; admission stops much earlier.
pub const POOL_DATA_FULL_PERCENT: u64 = 99;
/// The same for metadata blocks. Metadata that runs out takes the whole pool read-only, so more is
/// kept back: the kernel itself stops changes when a few blocks are left.
pub const POOL_METADATA_FULL_PERCENT: u64 = 95;

/// What to do with a setuid or setgid bit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Setuid {
    /// Write it as the image says. Harmless on the host: volumes are mounted `nosuid`.
    #[default]
    Keep,
    /// Write the file without it.
    Strip,
    /// Refuse the image.
    Reject,
}

/// The limits on one archive, counted on real bytes and never on what a header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ArchiveLimits {
    /// The most entries, extension headers not counted.
    pub entries: u64,
    /// The largest file, in bytes, holes included.
    pub file_bytes: u64,
    /// The most uncompressed bytes of the archive, headers included; and likewise of the files it
    /// makes, holes included.
    pub total_bytes: u64,
    /// How many times its compressed size an archive may unpack to.
    pub ratio: u64,
    /// Below this many uncompressed bytes the ratio is not looked at: small archives of zeros
    /// are harmless.
    pub ratio_from_bytes: u64,
    /// What to do with setuid and setgid bits.
    pub setuid: Setuid,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            file_bytes: 8 << 30,
            total_bytes: 32 << 30,
            ratio: 200,
            ratio_from_bytes: 64 << 20,
            setuid: Setuid::Keep,
        }
    }
}
