//! `extend_pool`: one of the pool's two files grows, and the pool with it, in use (POOL-5).

use std::time::Duration;

use airlock_policy::errand::{Answer, Errand};
use airlock_policy::helper_config::LimitsConfig;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{PoolMode, PoolStatus};
use airlock_protocol::request::ExtendPool;

use crate::helper::{Helper, unexpected};
use crate::permit::{Operation, Permit, refuse};

impl Operation for ExtendPool {
    type Reply = PoolStatus;

    /// Space for metadata is taken when the file grows.
    fn patience(limits: &LimitsConfig) -> Duration {
        Duration::from_secs(limits.tool_seconds.saturating_mul(2))
    }

    /// A pool that is read-only for want of metadata is what this is for, so it need not be ready;
    /// one that needs a check does not grow.
    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        let Self { request: _, part, bytes } = self;
        if helper.book().pool().is_none() {
            return refuse(Refusal::PoolAbsent);
        }
        helper.pool_device()?;
        let figures = helper.figures()?;
        if figures.needs_check || figures.mode == PoolMode::Failed {
            return refuse(Refusal::PoolUnhealthy);
        }
        match helper.config.pool.limit(*part) {
            None => refuse(Refusal::PoolDevices),
            Some(limit) if *bytes > limit.0 => refuse(Refusal::PoolLimit),
            Some(_) => Ok(()),
        }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<PoolStatus, NotDone> {
        let Self { request, part, bytes } = permit.into_request();
        let errand = Errand::GrowPool { part, bytes };
        let answer = helper.errands.call(&request, &errand, helper.tool_time())?;
        let Answer::Backing(backing) = answer else { return Err(unexpected(&answer)) };
        helper.note_growth(&backing)?;
        helper.load_pool(&backing)?;
        helper.status()
    }
}
