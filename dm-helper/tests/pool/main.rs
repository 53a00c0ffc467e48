//! The real broker on a real thin pool, as root, with an empty disk to itself.
#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
#![expect(clippy::disallowed_methods, reason = "the rule is for the product")]

#[cfg(test)]
#[path = "../broker/client.rs"]
mod client;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod story;
