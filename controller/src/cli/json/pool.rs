//! The pool as programs read it: bytes, where the kernel counts blocks.

use airlock_protocol::control::PoolView;
use airlock_protocol::reply::PoolUsage;
use serde::Serialize;

use crate::cli::word;

/// Bytes of a metadata block (Documentation/admin-guide/device-mapper/thin-provisioning.rst).
pub(crate) const METADATA_BLOCK: u64 = 4096;

/// The pool.
#[derive(Debug, Serialize)]
pub(crate) struct PoolItem {
    up: bool,
    changed: bool,
    usage: Option<UsageItem>,
}

impl From<PoolView> for PoolItem {
    fn from(view: PoolView) -> Self {
        let PoolView { usage, changed } = view;
        Self { up: usage.is_some(), changed, usage: usage.map(Into::into) }
    }
}

#[derive(Debug, Serialize)]
struct UsageItem {
    mode: &'static str,
    needs_check: bool,
    loopback: bool,
    block_bytes: u64,
    data_used_bytes: u64,
    data_total_bytes: u64,
    low_water_bytes: u64,
    metadata_used_bytes: u64,
    metadata_total_bytes: u64,
    data_limit_bytes: Option<u64>,
    metadata_limit_bytes: Option<u64>,
    volume_bytes: u64,
    volumes: u32,
    snapshots: u32,
    transaction: u64,
}

impl From<PoolUsage> for UsageItem {
    fn from(usage: PoolUsage) -> Self {
        let PoolUsage {
            mode, needs_check, block_bytes, data_used_blocks, data_total_blocks, ..
        } = usage;
        Self {
            mode: word::pool(mode),
            needs_check,
            loopback: usage.loopback,
            block_bytes,
            data_used_bytes: data_used_blocks.saturating_mul(block_bytes),
            data_total_bytes: data_total_blocks.saturating_mul(block_bytes),
            low_water_bytes: usage.low_water_blocks.saturating_mul(block_bytes),
            metadata_used_bytes: usage.metadata_used_blocks.saturating_mul(METADATA_BLOCK),
            metadata_total_bytes: usage.metadata_total_blocks.saturating_mul(METADATA_BLOCK),
            data_limit_bytes: usage.data_limit_bytes,
            metadata_limit_bytes: usage.metadata_limit_bytes,
            volume_bytes: usage.volume_bytes,
            volumes: usage.volumes,
            snapshots: usage.snapshots,
            transaction: usage.transaction,
        }
    }
}
