//! The broker: answers the controller's requests, keeps the ledger, changes the device table.
//!
//! It parses what a stranger may have written, so it can do nothing else: it has one capability, no
//! file and no network. Whatever needs a file or a mount, the launcher does for it, and the words
//! between the two have a fixed size.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`startup`] | what happens before the first request, in order |
//! | [`confine`] | the process gives up what it does not need |
//! | [`listener`] | who may connect |
//! | `rpc`, `worker`, `permit` | from a request to the one thread that may act on it |
//! | `ops` | the verbs, a file each |
//! | `helper`, `turns`, `pool`, `growth`, `extraction` | what the verbs have in common |
//! | `long` | what a worker does for long |
//! | `operations` | what is being done to devices, and what of it is late |
//! | [`dm`] | the device table |
//! | [`ledger`] | what the helper itself knows of its volumes |
//! | [`errands`] | the link to the launcher |
//! | [`teardown`] | takes the pool's devices down, for root at the machine |
//! | `audit` | one line a request |
#![forbid(unsafe_code)]

/// Where a test may end this process (docs/decisions/0011-crash-points.md): nothing in what is shipped.
macro_rules! crash_point {
    ($point:ident) => {
        #[cfg(feature = "crash-points")]
        airlock_crash_points::at(airlock_crash_points::Point::$point);
    };
}

mod audit;
pub mod confine;
pub mod dm;
pub mod errands;
mod extraction;
mod growth;
mod helper;
pub mod ledger;
pub mod listener;
mod long;
mod operations;
mod ops;
mod pace;
mod permit;
mod pool;
mod rpc;
pub mod startup;
pub mod teardown;
mod turns;
mod verification;
mod worker;

pub use helper::Parts;
pub use worker::Worker;
