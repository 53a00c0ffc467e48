//! The only words that airlock's processes speak over sockets.
//!
//! [`service`] is what the unprivileged daemon may ask of the helper: read it first, it is the
//! whole attack surface. [`control`] is what an operator's command may ask of the daemon. [`wire`]
//! bounds a frame before any of it is decoded.
#![forbid(unsafe_code)]

pub mod control;
pub mod not_done;
pub mod reply;
pub mod request;
pub mod service;
pub mod wire;

/// The version of both protocols. Raised with every change of a message; both sides must agree.
pub const PROTOCOL: u32 = 2;
