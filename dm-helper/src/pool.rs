//! The pool: how it is, and how it is changed.
//!
//! A change is one step of the pool's transaction id: the ledger's intent, the pool's message, the
//! new id, the ledger's confirmation. Killed anywhere between, ledger and id say what happened
//! (POOL-2).

use airlock_policy::errand::Errand;
use airlock_policy::helper_config::PoolPart;
use airlock_policy::limit::{POOL_DATA_FULL_PERCENT, POOL_METADATA_FULL_PERCENT};
use airlock_policy::name::{DeviceName, ThinId};
use airlock_protocol::not_done::{NotDone, Refusal, Step, StepFailure};
use airlock_protocol::reply::{PoolMode, PoolStatus, PoolUsage};
use rustix::io::Errno;

use crate::audit;
use crate::dm::status::{Figures, PoolState};
use crate::dm::table::{BLOCK_SECTORS, low_water_blocks};
use crate::helper::Helper;
use crate::ledger::{Change, Intent, Record};
use crate::permit::refuse;

const SECTOR: u64 = 512;

/// What ledger and pool together say about the last change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// They agree.
    Agreed,
    /// The change was made: confirm it.
    Confirm,
    /// The change may have been begun: take it back.
    TakeBack,
    /// The change may have been begun: do it again.
    DoAgain,
    /// They cannot both be right.
    Conflict,
}

/// Judges by three numbers: the ledger's, the pending change's, and the pool's.
pub(crate) fn judge(ledger: u64, pending: Option<&Intent>, pool: u64) -> Verdict {
    match pending {
        None if pool == ledger => Verdict::Agreed,
        Some(intent) if pool == intent.transaction => Verdict::Confirm,
        Some(intent) if pool == ledger && intent.change.creates().is_some() => Verdict::TakeBack,
        Some(_) if pool == ledger => Verdict::DoAgain,
        None | Some(_) => Verdict::Conflict,
    }
}

/// Why nothing new may be begun in a pool with these figures.
pub(crate) fn room(figures: &Figures) -> Result<(), Refusal> {
    let reached = |used: u64, total: u64, percent: u64| {
        // Figures of a pool have at most 64 - 8 bits: a data block is 256 sectors.
        used.saturating_mul(100) >= total.saturating_mul(percent)
    };
    let Figures { metadata_used, metadata_total, data_used, data_total, .. } = *figures;
    healthy(figures)?;
    if figures.mode == PoolMode::OutOfDataSpace
        || reached(data_used, data_total, POOL_DATA_FULL_PERCENT)
        || reached(metadata_used, metadata_total, POOL_METADATA_FULL_PERCENT)
    {
        return Err(Refusal::PoolFull);
    }
    Ok(())
}

/// Why the pool's metadata may not be changed. A pool that is merely full may be: things can be
/// deleted from it.
const fn healthy(figures: &Figures) -> Result<(), Refusal> {
    match figures.mode {
        PoolMode::ReadOnly | PoolMode::Failed => Err(Refusal::PoolUnhealthy),
        PoolMode::ReadWrite | PoolMode::OutOfDataSpace if figures.needs_check => {
            Err(Refusal::PoolUnhealthy)
        }
        PoolMode::ReadWrite | PoolMode::OutOfDataSpace => Ok(()),
    }
}

impl Helper {
    /// Refuses unless the pool is up and was brought into agreement with the ledger.
    pub(crate) fn require_pool(&self) -> Result<Figures, NotDone> {
        if !self.ready {
            return refuse(Refusal::PoolDown);
        }
        self.pool_device()?;
        self.figures()
    }

    /// Refuses unless something new may be begun.
    pub(crate) fn require_room(&self) -> Result<(), NotDone> {
        room(&self.require_pool()?).map_err(NotDone::Refused)
    }

    fn state(&self) -> Result<PoolState, NotDone> {
        let line = self.on_pool(Step::ReadTable, || self.table.pool_status())?;
        PoolState::parse(&line).map_err(|unknown| {
            audit::event("pool-status", &[("why", &unknown)]);
            NotDone::Failed(StepFailure { step: Step::ReadTable, errno: 0 })
        })
    }

    pub(crate) fn figures(&self) -> Result<Figures, NotDone> {
        match self.state()? {
            PoolState::Working(figures) => Ok(figures),
            PoolState::Failed | PoolState::Unreadable => refuse(Refusal::PoolUnhealthy),
        }
    }

    /// How the pool is. One that is up but was not yet compared with the ledger is down to the
    /// caller, unless there is something wrong with it that should be seen.
    pub(crate) fn status(&self) -> Result<PoolStatus, NotDone> {
        if self.table.find(DeviceName::Pool).map_err(NotDone::Failed)?.is_none() {
            return Ok(PoolStatus::Down);
        }
        let figures = match self.state()? {
            PoolState::Working(figures) => figures,
            PoolState::Failed | PoolState::Unreadable => Figures::FAILED,
        };
        if !self.ready && healthy(&figures).is_ok() {
            return Ok(PoolStatus::Down);
        }
        Ok(PoolStatus::Up(self.usage(&figures)))
    }

    fn usage(&self, figures: &Figures) -> PoolUsage {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let limit = |part| self.config.pool.limit(part).map(|limit| limit.0);
        let (data_sectors, volume_sectors) =
            self.book().pool().map_or((0, 0), |pool| (pool.data_sectors, pool.volume_sectors));
        PoolUsage {
            mode: figures.mode,
            needs_check: figures.needs_check,
            block_bytes: BLOCK_SECTORS.saturating_mul(SECTOR),
            data_used_blocks: figures.data_used,
            data_total_blocks: figures.data_total,
            low_water_blocks: low_water_blocks(data_sectors, self.config.pool.low_water_percent),
            metadata_used_blocks: figures.metadata_used,
            metadata_total_blocks: figures.metadata_total,
            volume_bytes: volume_sectors.saturating_mul(SECTOR),
            transaction: figures.transaction,
            volumes: count(self.book().volume_count()),
            snapshots: count(self.book().snapshot_count()),
            loopback: self.config.pool.data_device.is_none(),
            data_limit_bytes: limit(PoolPart::Data),
            metadata_limit_bytes: limit(PoolPart::Metadata),
            late: self.operations.late(),
        }
    }

    /// Makes one change of the pool.
    pub(crate) fn change(&mut self, change: Change) -> Result<(), NotDone> {
        self.settle()?;
        let transaction = self.book().transaction().saturating_add(1);
        let intent = Intent { transaction, change };
        self.record(Record::Intent(intent.clone()))?;
        if let Err(failure) = self.make(&intent) {
            // Whatever it was, the three numbers say what became of it; if they cannot be had
            // now, the next change asks for them first.
            if let Err(unsettled) = self.settle() {
                audit::event("unsettled", &[("transaction", &transaction), ("why", &unsettled)]);
            }
            return Err(failure);
        }
        self.confirm(&intent)
    }

    /// Writes down that a change was made. What is kept beside a volume goes with it.
    fn confirm(&mut self, intent: &Intent) -> Result<(), NotDone> {
        self.record(Record::Confirmed { transaction: intent.transaction })?;
        if let Change::Delete { thin } = intent.change
            && let Some(request) = self.request()
        {
            self.forget_manifest(request, thin);
        }
        Ok(())
    }

    /// The pool's part of a change.
    fn make(&mut self, intent: &Intent) -> Result<(), NotDone> {
        match &intent.change {
            Change::CreateBase => self.message("create_thin 0")?,
            Change::CreateVolume { thin, parent, .. } => {
                let origin = match parent {
                    Some(parent) => self.origin(*parent, Refusal::ParentNotSealed)?,
                    None => ThinId::BASE,
                };
                self.message(&format!("create_snap {thin} {origin}"))?;
            }
            Change::CreateSnapshot { thin, image, .. } => {
                let origin = self.origin(*image, Refusal::NotSealed)?;
                self.message(&format!("create_snap {thin} {origin}"))?;
            }
            Change::Delete { thin } => self.delete_thin(*thin)?,
            Change::Seal { .. } => {}
        }
        self.next_transaction(intent.transaction)
    }

    fn origin(
        &self,
        chain: airlock_policy::digest::ChainId,
        otherwise: Refusal,
    ) -> Result<ThinId, NotDone> {
        self.book().sealed(chain).map(|(thin, _layer)| thin).ok_or(NotDone::Refused(otherwise))
    }

    /// Deletes a thin device that may be gone already.
    fn delete_thin(&mut self, thin: ThinId) -> Result<(), NotDone> {
        match self.message(&format!("delete {thin}")) {
            Err(NotDone::Failed(failure)) if failure.errno == Errno::NODATA.raw_os_error() => {
                Ok(())
            }
            result => result,
        }
    }

    /// Compare-and-swap of the pool's transaction id. It commits all of the pool's metadata.
    fn next_transaction(&mut self, to: u64) -> Result<(), NotDone> {
        self.message(&format!("set_transaction_id {} {to}", to.saturating_sub(1)))
    }

    pub(crate) fn record(&mut self, record: Record) -> Result<(), NotDone> {
        self.ledger.append(record).map_err(NotDone::Failed)?;
        if self.ledger.is_worth_compacting(self.config.limits.ledger_size.0) {
            self.compact();
        }
        Ok(())
    }

    /// Writes the ledger anew, without what is past. What was recorded is recorded, whatever comes of
    /// this.
    fn compact(&mut self) {
        let exchanged = match self.ledger.write_anew() {
            Ok(size) => {
                crash_point!(LedgerAnew);
                self.errand_now(&Errand::ExchangeLedger).map(|()| size)
            }
            Err(error) => Err(NotDone::Failed(StepFailure {
                step: Step::Ledger,
                errno: error.raw_os_error().unwrap_or(0),
            })),
        };
        match exchanged {
            Ok(size) => self.ledger.exchanged(size),
            Err(why) => {
                // Without an answer nobody knows whether it was done.
                let unknown =
                    matches!(why, NotDone::Failed(failure) if failure.step == Step::Launcher);
                self.ledger.not_exchanged(unknown);
                audit::event("not-compacted", &[("why", &why)]);
            }
        }
    }

    /// Brings ledger and pool into agreement about the last change.
    pub(crate) fn settle(&mut self) -> Result<(), NotDone> {
        let figures = self.figures()?;
        healthy(&figures).map_err(NotDone::Refused)?;
        let (ledger, pending) = (self.book().transaction(), self.book().pending().cloned());
        let verdict = judge(ledger, pending.as_ref(), figures.transaction);
        if verdict == Verdict::Agreed {
            return Ok(());
        }
        let event = format!("{verdict:?}");
        audit::event(
            "reconcile",
            &[("verdict", &event), ("ledger", &ledger), ("pool", &figures.transaction)],
        );
        let (Some(intent), false) = (pending, verdict == Verdict::Conflict) else {
            return Err(NotDone::Failed(StepFailure { step: Step::Reconcile, errno: 0 }));
        };
        let undone = Record::Undone { transaction: intent.transaction };
        match (verdict, intent.change.creates()) {
            (Verdict::TakeBack, Some(thin)) => {
                self.delete_thin(thin)?;
                return self.record(undone);
            }
            (Verdict::DoAgain, _) => match self.make(&intent) {
                // Somebody holds the device, so it was not deleted: and is not to be.
                Err(NotDone::Failed(failure)) if failure.errno == Errno::BUSY.raw_os_error() => {
                    return self.record(undone);
                }
                made => made?,
            },
            (Verdict::Agreed | Verdict::Confirm | Verdict::TakeBack | Verdict::Conflict, _) => {}
        }
        self.confirm(&intent)
    }
}

impl Figures {
    /// What there is to say of a pool that failed.
    const FAILED: Self = Self {
        transaction: 0,
        metadata_used: 0,
        metadata_total: 0,
        data_used: 0,
        data_total: 0,
        mode: PoolMode::Failed,
        needs_check: true,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIGURES: Figures = Figures {
        transaction: 0,
        metadata_used: 0,
        metadata_total: 1000,
        data_used: 0,
        data_total: 1000,
        mode: PoolMode::ReadWrite,
        needs_check: false,
    };

    #[test]
    fn three_numbers_say_what_happened() {
        let thin = ThinId::try_from(3).unwrap();
        let create = Intent {
            transaction: 6,
            change: Change::CreateVolume {
                thin,
                volume: airlock_policy::digest::ChainId(airlock_policy::digest::Digest::of(b"")),
                parent: None,
            },
        };
        let delete = Intent { transaction: 6, change: Change::Delete { thin } };
        let seal = Intent { transaction: 6, change: Change::Seal { thin } };
        for (pending, pool, verdict) in [
            (None, 5, Verdict::Agreed),
            (None, 4, Verdict::Conflict),
            (None, 6, Verdict::Conflict),
            (Some(&create), 6, Verdict::Confirm),
            (Some(&create), 5, Verdict::TakeBack),
            (Some(&create), 4, Verdict::Conflict),
            (Some(&create), 7, Verdict::Conflict),
            (Some(&delete), 6, Verdict::Confirm),
            (Some(&delete), 5, Verdict::DoAgain),
            (Some(&seal), 5, Verdict::DoAgain),
            (Some(&delete), 7, Verdict::Conflict),
        ] {
            assert_eq!(judge(5, pending, pool), verdict, "{pending:?} {pool}");
        }
    }

    #[test]
    fn nothing_new_is_begun_in_a_full_or_ill_pool() {
        assert_eq!(room(&FIGURES), Ok(()));
        for (figures, refusal) in [
            (Figures { data_used: 990, ..FIGURES }, Refusal::PoolFull),
            (Figures { metadata_used: 950, ..FIGURES }, Refusal::PoolFull),
            (Figures { mode: PoolMode::OutOfDataSpace, ..FIGURES }, Refusal::PoolFull),
            (Figures { mode: PoolMode::ReadOnly, ..FIGURES }, Refusal::PoolUnhealthy),
            (Figures { needs_check: true, ..FIGURES }, Refusal::PoolUnhealthy),
        ] {
            assert_eq!(room(&figures), Err(refusal), "{figures:?}");
        }
        assert_eq!(room(&Figures { data_used: 989, metadata_used: 949, ..FIGURES }), Ok(()));
    }
}
