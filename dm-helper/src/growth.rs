//! The pool's devices as they are found: those that the ledger knows, or larger ones (POOL-5).
//!
//! Growth is taken up in this order: the file, its loop device, the ledger, the table. Killed
//! anywhere between, the next `ensure_pool` or `extend_pool` sees what is larger and goes on.

use airlock_policy::errand::{Backing, BlockDevice};
use airlock_policy::name::DeviceName;
use airlock_protocol::not_done::{NotDone, Refusal};

use crate::audit;
use crate::dm::Access;
use crate::dm::table::{
    BLOCK_SECTORS, MAX_METADATA_BLOCKS, METADATA_BLOCK_SECTORS, Number, Target, low_water_blocks,
};
use crate::helper::Helper;
use crate::ledger::Record;
use crate::permit::refuse;

impl Helper {
    /// Resumes a pool that was left suspended, whoever did that: while it is, every writer waits.
    pub(crate) fn resume_pool(&mut self) {
        let pool = self.table.find(DeviceName::Pool);
        if pool.is_ok_and(|pool| pool.is_some_and(|device| device.suspended)) {
            let resumed = format!("{:?}", self.resume_table());
            audit::event("pool-suspended", &[("resumed", &resumed)]);
        }
    }

    /// Writes down what the pool's devices have grown to. Devices that shrank are no longer what
    /// the pool was made of.
    pub(crate) fn note_growth(&mut self, backing: &Backing) -> Result<(), NotDone> {
        let Some(known) = self.book().pool().copied() else { return refuse(Refusal::PoolAbsent) };
        let (data_sectors, metadata_sectors) = (backing.data.sectors, backing.metadata.sectors);
        if known.block_sectors != BLOCK_SECTORS
            || data_sectors < known.data_sectors
            || metadata_sectors < known.metadata_sectors
        {
            let found = format!("{backing:?}");
            audit::event(
                "pool-conflict",
                &[("ledger", &format!("{known:?}")), ("backing", &found)],
            );
            return refuse(Refusal::PoolConflict);
        }
        if (data_sectors, metadata_sectors) == (known.data_sectors, known.metadata_sectors) {
            return Ok(());
        }
        self.record(Record::Grown { data_sectors, metadata_sectors })
    }

    /// Brings the pool's device up on these devices; one that is up takes up what they have grown
    /// by.
    pub(crate) fn load_pool(&mut self, backing: &Backing) -> Result<(), NotDone> {
        let number = |device: BlockDevice| Number { major: device.major, minor: device.minor };
        let low_water = low_water_blocks(backing.data.sectors, self.config.pool.low_water_percent);
        let (metadata, data) = (number(backing.metadata), number(backing.data));
        let target = Target::pool(metadata, data, backing.data.sectors, low_water);
        let pool = self.table.find(DeviceName::Pool).map_err(NotDone::Failed)?;
        if pool.is_none_or(|device| !device.live) {
            return self.bring_up(DeviceName::Pool, &target, Access::ReadWrite).map(drop);
        }
        let (kind, sectors, line) = self.table.loaded(DeviceName::Pool).map_err(NotDone::Failed)?;
        let on_these = line.starts_with(&format!("{metadata} {data} {BLOCK_SECTORS} "));
        if kind != target.kind || sectors > target.sectors || !on_these {
            audit::event("other-table", &[("device", &DeviceName::Pool), ("table", &line)]);
            return refuse(Refusal::PoolConflict);
        }
        let figures = self.figures()?;
        let metadata_blocks = backing.metadata.sectors / METADATA_BLOCK_SECTORS;
        let metadata_blocks = metadata_blocks.min(MAX_METADATA_BLOCKS);
        let is_taken_up = sectors == target.sectors
            && line.trim_end() == target.line
            && figures.metadata_total >= metadata_blocks;
        // What needs a check the kernel does not let grow.
        if is_taken_up || figures.needs_check {
            return Ok(());
        }
        audit::event("pool-reload", &[("sectors", &target.sectors), ("table", &target.line)]);
        self.reload_table(&target)
    }
}
