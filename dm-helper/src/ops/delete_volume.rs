//! `delete_volume`: a volume or a snapshot is gone for good (VOL-3).

use airlock_policy::name::{DeviceName, ThinId};
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::Outcome;
use airlock_protocol::request::{DeleteVolume, Target};

use crate::extraction::Extraction;
use crate::helper::Helper;
use crate::ledger::Change;
use crate::permit::{Operation, Permit, refuse};

impl Operation for DeleteVolume {
    type Reply = Outcome;

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        helper.require_pool()?;
        match &self.target {
            Target::Volume(volume) => {
                let Some(known) = helper.book().volume(*volume) else { return Ok(()) };
                if helper.extractions.of(*volume).is_some_and(Extraction::runs) {
                    return refuse(Refusal::Mapped);
                }
                if helper.book().has_children(*volume) {
                    return refuse(Refusal::HasChildren);
                }
                helper.require_unheld(DeviceName::Thin(known.thin))
            }
            Target::Snapshot(name) => {
                let Some(known) = helper.book().snapshot(name) else { return Ok(()) };
                let device = helper.table.find(DeviceName::Thin(known.thin));
                match device.map_err(NotDone::Failed)? {
                    Some(_) => refuse(Refusal::Mapped),
                    None => Ok(()),
                }
            }
        }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Outcome, NotDone> {
        let Self { request: _, target } = permit.into_request();
        let Some(thin) = helper.thin_of(&target) else { return Ok(Outcome::AlreadyThere) };
        // A volume's device is our own: it may be left from an extraction that failed.
        helper.take_down(thin)?;
        helper.change(Change::Delete { thin })?;
        if let Target::Volume(volume) = target {
            helper.extractions.forget(volume);
            helper.verifications.forget(volume);
        }
        Ok(Outcome::Done)
    }
}

impl Helper {
    pub(crate) fn thin_of(&self, target: &Target) -> Option<ThinId> {
        match target {
            Target::Volume(volume) => self.book().volume(*volume).map(|known| known.thin),
            Target::Snapshot(name) => self.book().snapshot(name).map(|known| known.thin),
        }
    }
}
