//! `map`: a snapshot's block device appears, as `/dev/airlock/NAME`.

use airlock_policy::errand::{Errand, ThinDevice};
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{Mapped, Outcome};
use airlock_protocol::request::Map;

use crate::dm::Access;
use crate::helper::Helper;
use crate::ledger::Record;
use crate::permit::{Operation, Permit, refuse};

impl Operation for Map {
    type Reply = Mapped;

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        helper.require_pool()?;
        match helper.book().snapshot(&self.name) {
            Some(known) if known.mounts => refuse(Refusal::Mounted),
            Some(known) if !known.is_whole() => refuse(Refusal::NotGrown),
            Some(_) => Ok(()),
            None => refuse(Refusal::NoSuchSnapshot),
        }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Mapped, NotDone> {
        let Self { request, name } = permit.into_request();
        let known = helper.book().snapshot(&name).cloned();
        let known = known.ok_or(NotDone::Refused(Refusal::NoSuchSnapshot))?;
        let access = if known.read_only { Access::ReadOnly } else { Access::ReadWrite };
        if !known.handed_out {
            // from the moment that a stranger may write to it; and one that is read-only may be
            // had by whoever can write below it.
            helper.record(Record::HandedOut { thin: known.thin })?;
        }
        let (device, made) = helper.bring_up_thin(known.thin, access, true)?;
        // Also for a device that was there: a crash may have come before its link.
        let publish = Errand::Publish { device, name: name.clone() };
        if let Err(failure) =
            helper.errand_on(known.thin, &request, (publish, helper.device_time()))
        {
            // Nobody was told of it. Its link may yet appear, if the launcher is only late: it goes
            // first, so that it never leads to the next device of this number. Where either cannot
            // go, the next call finds the device.
            let unpublish = Errand::Unpublish { name };
            let unlinked =
                helper.errand_on(known.thin, &request, (unpublish, helper.device_time()));
            if made && unlinked.is_ok() {
                drop(helper.take_down(known.thin));
            }
            return Err(failure);
        }
        Ok(helper.mapped(device, made))
    }
}

impl Helper {
    /// What is answered of a device that is there.
    pub(crate) fn mapped(&self, device: ThinDevice, made: bool) -> Mapped {
        let of_pool = self.book().pool().map_or(0, |pool| pool.volume_sectors);
        let sectors = self.book().sectors(device.thin).unwrap_or(of_pool);
        let outcome = if made { Outcome::Done } else { Outcome::AlreadyThere };
        Mapped { outcome, minor: device.minor, bytes: sectors.saturating_mul(512) }
    }
}
