//! `/etc/airlock/dm-helper.toml`: what only root may decide.
//!
//! Which device is the pool, where blobs lie, which user may speak: the socket's requests carry
//! none of it. The launcher reads the file once, at start, and refuses one that anybody but root
//! can write.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limit::{ArchiveLimits, Setuid};
use crate::size::ByteSize;

/// The text is not a valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("dm-helper.toml cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A value outside its range.
    #[error("dm-helper.toml: {key} must be {must}")]
    OutOfRange {
        /// The key's full name.
        key: &'static str,
        /// What it must be.
        must: &'static str,
    },
}

/// The helper's configuration. Every key has a default.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct HelperConfig {
    /// The one user whose processes may speak to the helper, by name in `/etc/passwd`.
    pub controller_user: String,
    /// Where the helper listens when systemd did not pass it a socket.
    pub socket: PathBuf,
    /// The folder of the controller's blobs: `sha256/<64 hex digits>` beneath it.
    pub blobs: PathBuf,
    /// The helper's own folder: the ledger and the pool's files. Root's, mode 0700.
    pub state: PathBuf,
    /// The thin pool.
    pub pool: PoolConfig,
    /// The nodes of activated snapshots.
    pub node: NodeConfig,
    /// What the helper does at most.
    pub limits: LimitsConfig,
}

/// The thin pool.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// A block device for the data; a loopback file beneath `state` where absent.
    pub data_device: Option<PathBuf>,
    /// A block device for the metadata; likewise. Both or neither are given.
    pub metadata_device: Option<PathBuf>,
    /// The size of the data file when it is made, 128 MiB to 64 TiB. Where absent: 10 GiB, or half
    /// of the free disk if that is less. The file is sparse.
    pub data_size: Option<ByteSize>,
    /// The size of the metadata file when it is made, 2 MiB to 16 GiB (the kernel's limits). Where
    /// absent: twice the kernel's rule, at least 16 MiB.
    pub metadata_size: Option<ByteSize>,
    /// What the data file may be grown to at most (`extend_pool`), 128 MiB to 64 TiB.
    pub data_limit: ByteSize,
    /// What the metadata file may be grown to at most, 2 MiB to 15 GiB: the kernel uses no more.
    pub metadata_limit: ByteSize,
    /// The virtual size of every volume, 64 MiB to 100 GiB. Fixed when the pool is made.
    pub volume_size: ByteSize,
    /// Free data space below which the kernel warns, in percent of the data blocks, 1 to 50.
    pub low_water_percent: u8,
}

/// One of the two devices that a pool is made of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolPart {
    /// What volumes hold.
    Data,
    /// Where it lies.
    Metadata,
}

/// The nodes of activated snapshots.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// The group, by name in `/etc/group`.
    pub group: String,
    /// The permission bits, in octal, as a string: `"0660"`.
    pub mode: String,
}

/// What the helper does at most.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Volumes and snapshots in the ledger, 1 to 16,000,000.
    pub volumes: u32,
    /// The largest snapshot, 64 MiB to 16 TiB.
    pub snapshot_size: ByteSize,
    /// The virtual size of all volumes and snapshots together, 1 GiB to 16,777,216 GiB.
    pub virtual_size: ByteSize,
    /// Volumes and snapshots that may be made at once, 1 to 1,000,000; then `per_minute` in a minute.
    /// Thin ids are never used twice: the 16,777,215 that there are must last.
    pub burst: u32,
    /// Volumes and snapshots made in a minute, once `burst` is used up, 1 to 60,000.
    pub per_minute: u32,
    /// The size from which on the ledger is written anew while the helper runs, 64 KiB to 1 GiB.
    pub ledger_size: ByteSize,
    /// Extractions at the same time, 1 to 64.
    pub extractions: u32,
    /// How long one extraction may take, in seconds, 1 to 86,400.
    pub extract_seconds: u64,
    /// How long the verification of one volume may take, in seconds, 1 to 86,400.
    pub verify_seconds: u64,
    /// How long a change of a device may take, in seconds, 1 to 600.
    pub device_seconds: u64,
    /// How long `mkfs.ext4` and `thin_check` may take, in seconds, 1 to 3,600.
    pub tool_seconds: u64,
    /// Memory of one worker (address space), 64 MiB to 4 GiB.
    pub worker_memory: ByteSize,
    /// Connections at the same time, 1 to 64.
    pub connections: u32,
    /// Requests in flight on one connection, 1 to 256.
    pub requests: u32,
    /// Lines of one kind in the log in a second, 1 to 1,000. What is more is counted.
    pub log_lines: u32,
    /// Entries of a layer, 1 to 10,000,000.
    pub entries: u64,
    /// The largest file of a layer, holes included.
    pub file_size: ByteSize,
    /// The most that a layer unpacks to.
    pub total_size: ByteSize,
    /// How many times its compressed size a layer unpacks to at most.
    pub ratio: u64,
    /// What to do with setuid and setgid bits.
    pub setuid: Setuid,
}

impl Default for HelperConfig {
    fn default() -> Self {
        Self {
            controller_user: "airlock".to_owned(),
            socket: "/run/airlock-helper/dm-helper.sock".into(),
            blobs: "/var/lib/airlock/blobs".into(),
            state: "/var/lib/airlock-helper".into(),
            pool: PoolConfig::default(),
            node: NodeConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            data_device: None,
            metadata_device: None,
            data_size: None,
            metadata_size: None,
            data_limit: ByteSize::gib(100),
            metadata_limit: ByteSize::gib(1),
            volume_size: ByteSize::gib(10),
            low_water_percent: 10,
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { group: "disk".to_owned(), mode: "0660".to_owned() }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let archive = ArchiveLimits::default();
        Self {
            volumes: 100_000,
            snapshot_size: ByteSize::gib(100),
            virtual_size: ByteSize::gib(1 << 20),
            burst: 10_000,
            per_minute: 300,
            ledger_size: ByteSize::mib(4),
            extractions: 4,
            extract_seconds: 1800,
            verify_seconds: 1800,
            device_seconds: 10,
            tool_seconds: 300,
            worker_memory: ByteSize::mib(512),
            connections: 8,
            requests: 16,
            log_lines: 20,
            entries: archive.entries,
            file_size: ByteSize(archive.file_bytes),
            total_size: ByteSize(archive.total_bytes),
            ratio: archive.ratio,
            setuid: archive.setuid,
        }
    }
}

impl HelperConfig {
    /// Reads the file's text and checks every range.
    pub fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        let Self { controller_user, socket, blobs, state, pool, node, limits } = self;
        require(!controller_user.is_empty(), "controller_user", "a user's name")?;
        for (path, key) in [(socket, "socket"), (blobs, "blobs"), (state, "state")] {
            require(path.is_absolute(), key, "an absolute path")?;
        }
        pool.check()?;
        require(
            node.mode_bits().is_some(),
            "node.mode",
            "three or four octal digits, at most 0666",
        )?;
        limits.check()
    }
}

impl PoolConfig {
    fn check(&self) -> Result<(), InvalidConfig> {
        let Self {
            data_device,
            metadata_device,
            data_size,
            metadata_size,
            data_limit,
            metadata_limit,
            volume_size,
            low_water_percent,
        } = self;
        let both = data_device.is_some() == metadata_device.is_some();
        require(both, "pool.data_device", "given together with pool.metadata_device")?;
        let data =
            data_size.is_none_or(|s| (ByteSize::mib(128)..=ByteSize::gib(65_536)).contains(&s));
        require(data, "pool.data_size", "128 MiB to 65536 GiB")?;
        let metadata =
            metadata_size.is_none_or(|s| (ByteSize::mib(2)..=ByteSize::gib(16)).contains(&s));
        require(metadata, "pool.metadata_size", "2 MiB to 16 GiB")?;
        let data = (ByteSize::mib(128)..=ByteSize::gib(65_536)).contains(data_limit);
        require(data, "pool.data_limit", "128 MiB to 65536 GiB")?;
        let metadata = (ByteSize::mib(2)..=ByteSize::gib(15)).contains(metadata_limit);
        require(metadata, "pool.metadata_limit", "2 MiB to 15 GiB")?;
        let volume = (ByteSize::mib(64)..=ByteSize::gib(100)).contains(volume_size);
        require(volume, "pool.volume_size", "64 MiB to 100 GiB")?;
        require((1..=50).contains(low_water_percent), "pool.low_water_percent", "1 to 50")
    }

    /// What a backing file may be grown to; `None` where the pool lies on block devices.
    pub fn limit(&self, part: PoolPart) -> Option<ByteSize> {
        let limit = match part {
            PoolPart::Data => self.data_limit,
            PoolPart::Metadata => self.metadata_limit,
        };
        self.data_device.is_none().then_some(limit)
    }
}

impl NodeConfig {
    /// The permission bits of a node: read and write only.
    pub fn mode_bits(&self) -> Option<u32> {
        let digits = (3..=4).contains(&self.mode.len());
        let bits = u32::from_str_radix(&self.mode, 8).ok()?;
        (digits && bits & !0o666 == 0).then_some(bits)
    }
}

impl LimitsConfig {
    fn check(&self) -> Result<(), InvalidConfig> {
        require((1..=16_000_000).contains(&self.volumes), "limits.volumes", "1 to 16000000")?;
        let snapshot = (ByteSize::mib(64)..=ByteSize::gib(16_384)).contains(&self.snapshot_size);
        require(snapshot, "limits.snapshot_size", "64 MiB to 16384 GiB")?;
        require((1..=64).contains(&self.extractions), "limits.extractions", "1 to 64")?;
        require(
            (1..=86_400).contains(&self.extract_seconds),
            "limits.extract_seconds",
            "1 to 86400",
        )?;
        require(
            (1..=86_400).contains(&self.verify_seconds),
            "limits.verify_seconds",
            "1 to 86400",
        )?;
        require((1..=600).contains(&self.device_seconds), "limits.device_seconds", "1 to 600")?;
        require((1..=3_600).contains(&self.tool_seconds), "limits.tool_seconds", "1 to 3600")?;
        let memory = (ByteSize::mib(64)..=ByteSize::gib(4)).contains(&self.worker_memory);
        require(memory, "limits.worker_memory", "64 MiB to 4 GiB")?;
        let sizes = ByteSize::gib(1)..=ByteSize::gib(16_777_216);
        require(sizes.contains(&self.virtual_size), "limits.virtual_size", "1 to 16777216 GiB")?;
        require((1..=1_000_000).contains(&self.burst), "limits.burst", "1 to 1000000")?;
        require((1..=60_000).contains(&self.per_minute), "limits.per_minute", "1 to 60000")?;
        let sizes = ByteSize(64 << 10)..=ByteSize::gib(1);
        require(sizes.contains(&self.ledger_size), "limits.ledger_size", "64 KiB to 1 GiB")?;
        require((1..=64).contains(&self.connections), "limits.connections", "1 to 64")?;
        require((1..=256).contains(&self.requests), "limits.requests", "1 to 256")?;
        require((1..=1000).contains(&self.log_lines), "limits.log_lines", "1 to 1000")?;
        require((1..=10_000_000).contains(&self.entries), "limits.entries", "1 to 10000000")?;
        require(self.ratio >= 1, "limits.ratio", "at least 1")
    }

    /// The limits on an archive.
    pub const fn archive(&self) -> ArchiveLimits {
        ArchiveLimits {
            entries: self.entries,
            file_bytes: self.file_size.0,
            total_bytes: self.total_size.0,
            ratio: self.ratio,
            ratio_from_bytes: 64 << 20,
            setuid: self.setuid,
        }
    }
}

const fn require(holds: bool, key: &'static str, must: &'static str) -> Result<(), InvalidConfig> {
    if holds { Ok(()) } else { Err(InvalidConfig::OutOfRange { key, must }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(HelperConfig::parse("").unwrap(), HelperConfig::default());
    }

    #[test]
    fn values_outside_their_range_are_refused_by_key() {
        let cases = [
            ("blobs = \"relative\"", "blobs"),
            ("[pool]\ndata_device = \"/dev/sdb\"", "pool.data_device"),
            ("[pool]\nvolume_size = \"1 MiB\"", "pool.volume_size"),
            ("[pool]\nlow_water_percent = 0", "pool.low_water_percent"),
            ("[pool]\nmetadata_limit = \"16 GiB\"", "pool.metadata_limit"),
            ("[node]\nmode = \"0777\"", "node.mode"),
            ("[limits]\nextractions = 0", "limits.extractions"),
        ];
        for (text, key) in cases {
            let error = HelperConfig::parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(HelperConfig::parse("colour = 1").unwrap_err().to_string().contains("colour"));
    }
}
