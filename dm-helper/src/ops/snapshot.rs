//! `snapshot`: a thin snapshot of an image's sealed volume, grown where that is asked for.

use airlock_policy::errand::Errand;
use airlock_policy::name::{RequestId, ThinId};
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::Outcome;
use airlock_protocol::request::Snapshot;

use crate::audit;
use crate::dm::Access;
use crate::helper::Helper;
use crate::ledger::{Change, Record};
use crate::permit::{Operation, Permit, refuse};

/// A block of the filesystem, in bytes: sizes are whole ones.
const BLOCK: u64 = 4096;

impl Operation for Snapshot {
    type Reply = Outcome;

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        let Self { request: _, name, image, read_only, bytes } = self;
        helper.require_pool()?;
        let sectors = helper.sectors(*bytes)?;
        if let Some(known) = helper.book().snapshot(name) {
            let same = (known.image, known.read_only) == (*image, *read_only)
                && (sectors.is_none() || sectors == known.size.map(|size| size.sectors));
            return if same { Ok(()) } else { refuse(Refusal::OtherSnapshot) };
        }
        let Some(volume) = helper.book().volume(*image) else {
            return refuse(Refusal::NoSuchVolume);
        };
        let Some((_thin, layer)) = helper.book().sealed(volume.volume) else {
            return refuse(Refusal::NotSealed);
        };
        layer.layout.verdict().map_err(|rule| NotDone::Refused(Refusal::Layout(rule)))?;
        helper.require_place(sectors)?;
        helper.require_room()
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Outcome, NotDone> {
        let Self { request, name, image, read_only, bytes } = permit.into_request();
        let mut sectors = helper.sectors(bytes)?;
        if let Some(known) = helper.book().snapshot(&name).cloned() {
            if known.is_whole() {
                return Ok(Outcome::AlreadyThere);
            }
            // A crash came while it was being grown. Nobody was handed it.
            sectors = known.size.map(|size| size.sectors);
            helper.throw_away(known.thin)?;
        }
        let thin = helper.next_thin()?;
        helper.change(Change::CreateSnapshot { thin, name, image, read_only, sectors })?;
        if sectors.is_some()
            && let Err(failure) = helper.grow(&request, thin)
        {
            if let Err(why) = helper.throw_away(thin) {
                audit::event("half-grown", &[("thin", &thin), ("why", &why)]);
            }
            return Err(failure);
        }
        Ok(Outcome::Done)
    }
}

impl Helper {
    /// A size that a snapshot may be given, in sectors; `None` where it is its volume's.
    fn sectors(&self, bytes: Option<u64>) -> Result<Option<u64>, NotDone> {
        let Some(bytes) = bytes else { return Ok(None) };
        let least = self.book().pool().map_or(0, |pool| pool.volume_sectors);
        let sectors = bytes.saturating_sub(bytes % BLOCK) / 512;
        if sectors < least || bytes > self.config.limits.snapshot_size.0 {
            return refuse(Refusal::SnapshotSize);
        }
        Ok((sectors > least).then_some(sectors))
    }

    /// Grows a new snapshot's filesystem to the size of its device, in a worker.
    fn grow(&mut self, request: &RequestId, thin: ThinId) -> Result<(), NotDone> {
        let (device, _made) = self.bring_up_thin(thin, Access::ReadWrite, false)?;
        self.errand_on(thin, request, (Errand::Grow { device }, self.tool_time()))?;
        self.take_down(thin)?;
        self.record(Record::SnapshotGrown { thin })
    }

    fn throw_away(&mut self, thin: ThinId) -> Result<(), NotDone> {
        self.take_down(thin)?;
        self.change(Change::Delete { thin })
    }
}
