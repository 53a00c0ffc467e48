//! The unprivileged daemon and its commands.
#![forbid(unsafe_code)]

/// Where a test may end this process (docs/decisions/0011-crash-points.md): nothing in what is shipped.
macro_rules! crash_point {
    ($point:ident) => {
        #[cfg(feature = "crash-points")]
        airlock_crash_points::at(airlock_crash_points::Point::$point);
    };
}

pub mod blob;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod fault;
pub mod flow;
pub mod helper;
mod preflight;
pub mod source;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;
