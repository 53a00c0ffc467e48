//! Rules that both sides of the privilege boundary agree on.
//!
//! Pure: no I/O, no clock, no async, no unsafe. Whatever enters airlock from outside is parsed
//! here, once, into a type that cannot hold a wrong value.
//!
//! | module | what it rules |
//! | --- | --- |
//! | [`digest`] | blob digests, diff ids, chain ids (OCI image spec, config.md) |
//! | [`name`] | snapshot names, request ids, thin ids, names of devicemapper devices |
//! | [`size`] | byte sizes as people write them |
//! | [`source`] | where an image comes from: `s3://bucket/key`, `tar:FILE` |
//! | [`limit`] | every default limit, with its reason |
//! | [`rule`] | the rules an archive can break, by code |
//! | [`entry`] | the verdict on one archive entry |
//! | [`layout`] | what a root filesystem must look like |
//! | [`errand`] | the words between broker, launcher and worker |
//! | [`worker`] | how the launcher starts a worker: descriptors, arguments, exit codes |
//! | [`helper_config`] | `/etc/airlock/dm-helper.toml` |
//! | [`told`] | an error and its causes as one line |
#![forbid(unsafe_code)]

pub mod digest;
pub mod entry;
pub mod errand;
pub mod helper_config;
pub mod layout;
pub mod limit;
pub mod name;
pub mod rule;
pub mod size;
pub mod source;
pub mod told;
pub mod tree;
pub mod worker;
