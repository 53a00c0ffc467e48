//! Random sequences of what operators and accidents do, on the real daemon, against a model of what
//! must be true after each: nothing is lost, nothing is done twice, and database, ledger and blobs
//! agree.
//!
//! The helper is a double behind a real socket, and outlives the daemon as the real one does. Each
//! sequence has a seed, which a failure prints: `AIRLOCK_MODEL_SEED=7 cargo nextest run -E
//! 'test(/model/)'` does it again. `AIRLOCK_MODEL_SEEDS=100` tries more.
#![expect(
    clippy::disallowed_methods,
    clippy::arithmetic_side_effects,
    reason = "the test starts the daemon, takes its seed, and counts small numbers"
)]

#[cfg(test)]
#[path = "../src/testing/fake.rs"]
#[expect(dead_code, clippy::arithmetic_side_effects, reason = "shared with the crate's own tests")]
mod fake;
#[cfg(test)]
#[path = "model/host.rs"]
mod host;
#[cfg(test)]
#[path = "../src/testing/image.rs"]
#[expect(dead_code, clippy::arithmetic_side_effects, reason = "shared with the crate's own tests")]
mod image;
#[cfg(test)]
#[path = "model/tests.rs"]
mod tests;
