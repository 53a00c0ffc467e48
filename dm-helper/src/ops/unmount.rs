//! `unmount`: a snapshot's mount and its device disappear; its data stays.

use std::time::Duration;

use airlock_policy::errand::{Errand, ThinDevice};
use airlock_policy::helper_config::LimitsConfig;
use airlock_policy::name::DeviceName;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::Outcome;
use airlock_protocol::request::Unmount;

use crate::helper::{Helper, held_if_busy};
use crate::ledger::Record;
use crate::permit::{Operation, Permit, refuse};

impl Operation for Unmount {
    type Reply = Outcome;

    /// What was written is flushed first.
    fn patience(limits: &LimitsConfig) -> Duration {
        Duration::from_secs(limits.tool_seconds.saturating_mul(2))
    }

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        helper.require_pool()?;
        match helper.book().snapshot(&self.name) {
            Some(_) => Ok(()),
            None => refuse(Refusal::NoSuchSnapshot),
        }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Outcome, NotDone> {
        let Self { request, name } = permit.into_request();
        let known = helper.book().snapshot(&name).cloned();
        let known = known.ok_or(NotDone::Refused(Refusal::NoSuchSnapshot))?;
        if !known.mounts {
            return Ok(Outcome::AlreadyThere);
        }
        let thin = known.thin;
        let device = helper.table.find(DeviceName::Thin(thin)).map_err(NotDone::Failed)?;
        let outcome = if let Some(device) = device {
            let device = ThinDevice { thin, minor: device.number.minor };
            let errand = Errand::Unmount { device, name };
            helper
                .errand_on(thin, &request, (errand, helper.tool_time()))
                .and_then(|()| helper.take_down(thin))
                .map_err(held_if_busy)?;
            Outcome::Done
        } else {
            // Without its device nothing is mounted: the machine was started anew.
            Outcome::AlreadyThere
        };
        helper.record(Record::Mounts { thin, mounts: false })?;
        Ok(outcome)
    }
}
