//! `pool_status`: how full and how well the pool is.

use airlock_protocol::not_done::NotDone;
use airlock_protocol::reply::PoolStatus;
use airlock_protocol::request::QueryPool;

use crate::audit::Verdict;
use crate::helper::Helper;
use crate::permit::{Operation, Permit};

impl Operation for QueryPool {
    type Reply = PoolStatus;

    /// Asked for every few seconds: counted, unless something is wrong.
    fn verdict(result: &Result<PoolStatus, NotDone>) -> Verdict {
        if result.is_ok() { Verdict::Polled } else { result.into() }
    }

    fn check(&self, _helper: &Helper) -> Result<(), NotDone> {
        Ok(())
    }

    fn perform(_permit: Permit<Self>, helper: &mut Helper) -> Result<PoolStatus, NotDone> {
        helper.status()
    }
}
