//! `create_volume`: the volume that one layer will be extracted into.

use std::time::Instant;

use airlock_policy::name::ThinId;
use airlock_protocol::not_done::{NotDone, Refusal, Step, StepFailure};
use airlock_protocol::reply::Outcome;
use airlock_protocol::request::CreateVolume;

use crate::helper::Helper;
use crate::ledger::{Change, Contents};
use crate::permit::{Operation, Permit, refuse};

impl Operation for CreateVolume {
    type Reply = Outcome;

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        let Self { request: _, volume, parent } = self;
        helper.require_pool()?;
        if let Some(known) = helper.book().volume(*volume) {
            return if known.parent == *parent { Ok(()) } else { refuse(Refusal::OtherParent) };
        }
        helper.require_room()?;
        helper.require_place(None)?;
        if parent.is_some_and(|parent| helper.book().sealed(parent).is_none()) {
            return refuse(Refusal::ParentNotSealed);
        }
        Ok(())
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Outcome, NotDone> {
        let Self { request: _, volume, parent } = permit.into_request();
        if let Some(known) = helper.book().volume(volume) {
            let (thin, contents) = (known.thin, known.contents);
            let spoilt = helper.extractions.of(volume).is_some_and(|last| !last.runs());
            if contents != Contents::Building || !spoilt {
                return Ok(Outcome::AlreadyThere);
            }
            // A part of a layer is in it, and it could not be deleted when that layer failed.
            helper.take_down(thin)?;
            helper.change(Change::Delete { thin })?;
        }
        let thin = helper.next_thin()?;
        helper.change(Change::CreateVolume { thin, volume, parent })?;
        // What became of an earlier volume of this chain id is past.
        helper.extractions.forget(volume);
        Ok(Outcome::Done)
    }
}

impl Helper {
    /// Refuses when there are as many volumes and snapshots, or of as large a size together, as the
    /// configuration allows; and when they are made faster than it allows.
    pub(crate) fn require_place(&self, sectors: Option<u64>) -> Result<(), NotDone> {
        let count = self.book().volume_count().saturating_add(self.book().snapshot_count());
        let most = usize::try_from(self.config.limits.volumes).unwrap_or(usize::MAX);
        if count >= most {
            return refuse(Refusal::TooManyVolumes);
        }
        if self.virtual_sectors(sectors) > self.config.limits.virtual_size.0 / 512 {
            return refuse(Refusal::TooMuchVirtual);
        }
        self.pace.wait(Instant::now()).map_or(Ok(()), |wait| {
            // Rounded up, so that it is worth asking then.
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            refuse(Refusal::TooFast { seconds })
        })
    }

    /// The virtual size of all volumes and snapshots and of one more, in sectors.
    fn virtual_sectors(&self, one_more: Option<u64>) -> u64 {
        let usual = self.book().pool().map_or(0, |pool| pool.volume_sectors);
        let all = self.book().things(ThinId::BASE).map(|(thin, _thing)| self.book().sectors(thin));
        let all = all.chain([one_more]).map(|own| own.unwrap_or(usual));
        all.fold(0, u64::saturating_add)
    }

    /// A thin id that was never given out.
    pub(crate) fn next_thin(&mut self) -> Result<ThinId, NotDone> {
        // All 16,777,216 ids were given out: no error of the kernel's.
        let spent = NotDone::Failed(StepFailure { step: Step::Ledger, errno: 0 });
        let thin = self.book().next_thin().ok_or(spent)?;
        self.pace.take(Instant::now());
        Ok(thin)
    }
}
