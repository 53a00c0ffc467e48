//! The launcher: holds what needs privilege and parses nothing but fixed-size errands.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`startup`] | from root's configuration to a running broker, in order |
//! | [`serve`] | the loop: errands in, answers out, workers watched |
//! | [`errand`] | what each errand does, a file each |
//! | [`worker`] | a running worker, and what its end means |
//! | [`program`] | the files of broker and worker |
//! | [`teardown`] | takes the pool down, for root at the machine |
//! | [`log`] | one line on stderr |
//! | [`output`] | what workers write, into the log |
#![forbid(unsafe_code)]

/// Where a test may end this process (docs/decisions/0011-crash-points.md): nothing in what is shipped.
macro_rules! crash_point {
    ($point:ident) => {
        #[cfg(feature = "crash-points")]
        airlock_crash_points::at(airlock_crash_points::Point::$point);
    };
}

pub mod errand;
mod file;
pub mod log;
pub mod output;
pub mod program;
pub mod serve;
pub mod startup;
pub mod teardown;
pub mod worker;
