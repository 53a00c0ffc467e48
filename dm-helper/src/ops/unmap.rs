//! `unmap`: a snapshot's block device disappears; its data stays.

use airlock_policy::errand::{Errand, ThinDevice};
use airlock_policy::name::DeviceName;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::Outcome;
use airlock_protocol::request::Unmap;

use crate::helper::{Helper, held_if_busy};
use crate::permit::{Operation, Permit, refuse};

impl Operation for Unmap {
    type Reply = Outcome;

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        helper.require_pool()?;
        match helper.book().snapshot(&self.name) {
            Some(known) if known.mounts => refuse(Refusal::Mounted),
            Some(known) => helper.require_unheld(DeviceName::Thin(known.thin)),
            None => refuse(Refusal::NoSuchSnapshot),
        }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Outcome, NotDone> {
        let Self { request, name } = permit.into_request();
        let known = helper.book().snapshot(&name);
        let thin = known.ok_or(NotDone::Refused(Refusal::NoSuchSnapshot))?.thin;
        let device = helper.table.find(DeviceName::Thin(thin)).map_err(NotDone::Failed)?;
        // The link first: minor numbers are used again, and a link must never lead to another
        // snapshot. Also where the device is gone: a crash may have come between the two.
        let time = helper.device_time();
        helper.errand_on(thin, &request, (Errand::Unpublish { name: name.clone() }, time))?;
        let Some(device) = device else { return Ok(Outcome::AlreadyThere) };
        match helper.take_down(thin) {
            Ok(()) => Ok(Outcome::Done),
            Err(failure) => {
                // Somebody opened it a moment ago. They keep it, so it keeps its link.
                let device = ThinDevice { thin, minor: device.number.minor };
                drop(helper.errand_on(thin, &request, (Errand::Publish { device, name }, time)));
                Err(held_if_busy(failure))
            }
        }
    }
}
