//! `pool_status`: how full and how well the pool is.

use airlock_protocol::not_done::NotDone;
use airlock_protocol::reply::PoolStatus;
use airlock_protocol::request::QueryPool;

use crate::helper::Helper;
use crate::permit::{Operation, Permit};

impl Operation for QueryPool {
    type Reply = PoolStatus;

    fn check(&self, _helper: &Helper) -> Result<(), NotDone> {
        Ok(())
    }

    fn perform(_permit: Permit<Self>, helper: &mut Helper) -> Result<PoolStatus, NotDone> {
        helper.status()
    }
}
