//! `ensure_pool`: brings the pool up, and into agreement with the ledger.

use std::time::Duration;

use airlock_policy::digest::ChainId;
use airlock_policy::errand::{Answer, Backing, Errand, Stage};
use airlock_policy::helper_config::LimitsConfig;
use airlock_policy::name::{DeviceName, RequestId, ThinId};
use airlock_protocol::not_done::{NotDone, Refusal, Step, StepFailure};
use airlock_protocol::reply::PoolStatus;
use airlock_protocol::request::EnsurePool;

use crate::audit;
use crate::dm::Access;
use crate::dm::table::BLOCK_SECTORS;
use crate::helper::{Helper, unexpected};
use crate::ledger::{Change, Contents, PoolRecord, Record, Thing};
use crate::permit::{Operation, Permit, refuse};

impl Operation for EnsurePool {
    type Reply = PoolStatus;

    /// Opening, checking and formatting may each take as long as a tool may.
    fn patience(limits: &LimitsConfig) -> Duration {
        Duration::from_secs(limits.tool_seconds.saturating_mul(3))
    }

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        if helper.book().pool().is_none() && !self.create {
            return refuse(Refusal::PoolAbsent);
        }
        Ok(())
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<PoolStatus, NotDone> {
        let Self { request, create: _ } = permit.into_request();
        helper.resume_pool();
        let is_up = helper.table.find(DeviceName::Pool).map_err(NotDone::Failed)?;
        let is_up = is_up.is_some_and(|device| device.live);
        let was_ready = helper.ready && is_up;
        helper.ready = was_ready;
        if is_up && helper.book().pool().is_none() {
            // Whoever's pool it is, the ledger does not know it.
            return refuse(Refusal::PoolConflict);
        }
        open(helper, &request, is_up)?;
        helper.settle()?;
        make_base(helper, &request)?;
        if !was_ready {
            let (half_built, left_up) = (spoil_half_built(helper), left_up(helper)?);
            helper.ready = true;
            throw_away(helper, half_built);
            take_down(helper, left_up);
        }
        helper.status()
    }
}

/// Has the backing devices opened and checked, and loads the pool's table.
fn open(helper: &mut Helper, request: &RequestId, is_up: bool) -> Result<(), NotDone> {
    // Before this call: files that were there before anybody asked us to make any are not ours.
    let was_making = helper.book().making();
    let backing = backing(helper, request)?;
    if helper.book().pool().is_some() {
        helper.note_growth(&backing)?;
    } else if backing.fresh || was_making {
        helper.record(Record::Pool(PoolRecord {
            data_sectors: backing.data.sectors,
            metadata_sectors: backing.metadata.sectors,
            volume_sectors: helper.config.pool.volume_size.0 / 512,
            block_sectors: BLOCK_SECTORS,
        }))?;
    } else {
        helper.record(Record::Making(false))?;
        return refuse(Refusal::PoolConflict);
    }
    if helper.book().making() {
        helper.record(Record::Making(false))?;
    }
    // Blank metadata thin_check would call damaged; metadata in use it must not read.
    if !is_up && !is_blank(helper) {
        helper.errand(request, &Errand::CheckPool, helper.tool_time())?;
    }
    helper.load_pool(&backing)
}

/// Whether no change was ever made to the pool's metadata.
fn is_blank(helper: &Helper) -> bool {
    helper.book().transaction() == 0 && helper.book().pending().is_none()
}

fn backing(helper: &mut Helper, request: &RequestId) -> Result<Backing, NotDone> {
    // Once there was something in the pool, files that are missing are lost, never made anew.
    let create = is_blank(helper);
    if helper.book().pool().is_none() && !helper.book().making() {
        helper.record(Record::Making(true))?;
    }
    let answer = helper.errands.call(request, &Errand::OpenPool { create }, helper.tool_time());
    match answer {
        Ok(Answer::Backing(backing)) => Ok(backing),
        Ok(other) => Err(unexpected(&other)),
        Err(NotDone::Failed(failure)) => {
            // Without an answer the launcher may have gone on: what it made is still ours.
            if helper.book().making() && failure.step != Step::Launcher {
                helper.record(Record::Making(false))?;
            }
            if failure.step == Step::Errand(Stage::PoolAbsent) {
                refuse(Refusal::PoolAbsent)
            } else if failure.step == Step::Errand(Stage::PoolConflict) {
                refuse(Refusal::PoolConflict)
            } else {
                Err(NotDone::Failed(failure))
            }
        }
        Err(other) => Err(other),
    }
}

/// Makes and formats the base volume, where that was not done to its end.
fn make_base(helper: &mut Helper, request: &RequestId) -> Result<(), NotDone> {
    match helper.book().base_sealed() {
        Some(true) => return Ok(()),
        // It may be half formatted. Formatting relies on a volume that reads as zeros.
        Some(false) => {
            helper.take_down(ThinId::BASE)?;
            helper.change(Change::Delete { thin: ThinId::BASE })?;
        }
        None => {}
    }
    helper.change(Change::CreateBase)?;
    let (device, _made) = helper.bring_up_thin(ThinId::BASE, Access::ReadWrite, false)?;
    helper.errand(request, &Errand::Format { device }, helper.tool_time())?;
    helper.take_down(ThinId::BASE)?;
    helper.change(Change::Seal { thin: ThinId::BASE })
}

/// Volumes whose devices are up, though nobody works on them since the process before this one ended.
fn left_up(helper: &Helper) -> Result<Vec<ThinId>, NotDone> {
    let volume = |name| match name {
        DeviceName::Thin(thin) => {
            matches!(helper.book().thing(thin), Some(Thing::Volume(_))).then_some(thin)
        }
        DeviceName::Pool => None,
    };
    let listed = helper.table.list().map_err(NotDone::Failed)?;
    Ok(listed.into_iter().filter_map(|(name, _minor)| volume(name)).collect())
}

fn take_down(helper: &mut Helper, left_up: Vec<ThinId>) {
    for thin in left_up {
        if !helper.operations.is_busy(thin) {
            helper.let_go(thin);
        }
    }
}

/// The volumes that were being built when the process before this one ended: nobody knows what they
/// hold, so nothing is extracted into them.
fn spoil_half_built(helper: &mut Helper) -> Vec<(ThinId, ChainId)> {
    let half_built: Vec<_> = helper
        .book()
        .things(ThinId::BASE)
        .filter_map(|(thin, thing)| match thing {
            Thing::Volume(volume) if volume.contents == Contents::Building => {
                Some((thin, volume.volume))
            }
            Thing::Volume(_) | Thing::Snapshot(_) => None,
        })
        .filter(|(_thin, volume)| helper.extractions.of(*volume).is_none())
        .collect();
    for (_thin, volume) in &half_built {
        let why = NotDone::Failed(StepFailure { step: Step::Errand(Stage::WorkerDied), errno: 0 });
        helper.extractions.note_spoilt(*volume, why);
    }
    half_built
}

/// Deletes them. One that cannot be deleted now is left for `create_volume` or `delete_volume`, as is
/// one that somebody else got hold of while another was waited for.
fn throw_away(helper: &mut Helper, half_built: Vec<(ThinId, ChainId)>) {
    for (thin, volume) in half_built {
        let is_there = helper.book().volume(volume).is_some_and(|known| known.thin == thin);
        if !is_there || helper.operations.is_busy(thin) {
            continue;
        }
        let deleted = helper.take_down(thin).and_then(|()| helper.change(Change::Delete { thin }));
        match deleted {
            Ok(()) => {
                helper.extractions.forget(volume);
                audit::event("half-built", &[("volume", &volume), ("thin", &thin)]);
            }
            Err(why) => {
                audit::event("half-built", &[("volume", &volume), ("thin", &thin), ("why", &why)]);
                helper.extractions.note_spoilt(volume, why);
            }
        }
    }
}
