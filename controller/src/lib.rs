//! The unprivileged daemon and its commands.
#![forbid(unsafe_code)]

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
