//! `snapshot`: a thin snapshot of an image's sealed volume.

use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::Outcome;
use airlock_protocol::request::Snapshot;

use crate::helper::Helper;
use crate::ledger::Change;
use crate::permit::{Operation, Permit, refuse};

impl Operation for Snapshot {
    type Reply = Outcome;

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        let Self { request: _, name, image, read_only } = self;
        helper.require_pool()?;
        if let Some(known) = helper.book().snapshot(name) {
            let same = (known.image, known.read_only) == (*image, *read_only);
            return if same { Ok(()) } else { refuse(Refusal::OtherSnapshot) };
        }
        let Some(volume) = helper.book().volume(*image) else {
            return refuse(Refusal::NoSuchVolume);
        };
        let Some((_thin, layer)) = helper.book().sealed(volume.volume) else {
            return refuse(Refusal::NotSealed);
        };
        layer.layout.verdict().map_err(|rule| NotDone::Refused(Refusal::Layout(rule)))?;
        helper.require_place()?;
        helper.require_room()
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Outcome, NotDone> {
        let Self { request: _, name, image, read_only } = permit.into_request();
        if helper.book().snapshot(&name).is_some() {
            return Ok(Outcome::AlreadyThere);
        }
        let thin = helper.next_thin()?;
        helper.change(Change::CreateSnapshot { thin, name, image, read_only })?;
        Ok(Outcome::Done)
    }
}
