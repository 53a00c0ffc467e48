//! `seal_volume`: a filled volume becomes read-only for ever (VOL-2).

use airlock_policy::name::DeviceName;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::Outcome;
use airlock_protocol::request::SealVolume;

use crate::helper::Helper;
use crate::ledger::{Change, Contents};
use crate::permit::{Operation, Permit, refuse};

impl Operation for SealVolume {
    type Reply = Outcome;

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        helper.require_pool()?;
        let Some(known) = helper.book().volume(self.volume) else {
            return refuse(Refusal::NoSuchVolume);
        };
        match known.contents {
            Contents::Building => refuse(Refusal::NotFilled),
            Contents::Sealed(_) => Ok(()),
            Contents::Filled(_) => helper.require_unheld(DeviceName::Thin(known.thin)),
        }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Outcome, NotDone> {
        let Self { request: _, volume } = permit.into_request();
        if helper.book().sealed(volume).is_some() {
            return Ok(Outcome::AlreadyThere);
        }
        let known = helper.book().volume(volume);
        let thin = known.ok_or(NotDone::Refused(Refusal::NoSuchVolume))?.thin;
        helper.take_down(thin)?;
        // The new transaction id commits whatever of the volume was not yet committed.
        helper.change(Change::Seal { thin })?;
        Ok(Outcome::Done)
    }
}

impl Helper {
    /// Refuses when somebody holds the device open.
    pub(crate) fn require_unheld(&self, name: DeviceName) -> Result<(), NotDone> {
        let device = self.table.find(name).map_err(NotDone::Failed)?;
        let held = device.is_some_and(|device| device.open_count > 0);
        if held { refuse(Refusal::Held) } else { Ok(()) }
    }
}
