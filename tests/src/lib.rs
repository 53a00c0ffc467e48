//! What needs both sides: the whole product on a real kernel, hostile input, faults, benches.
//!
//! A test that cannot run fails and says why: a skip is never a pass.
#![expect(
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    reason = "tests fail by panicking, print for people, and start the programs they check"
)]

use std::path::PathBuf;

pub mod extraction;
pub mod loopback;
pub mod s3;
pub mod tree;
pub mod vm;

/// The folder of the checkout.
pub fn checkout() -> PathBuf {
    let mut folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.pop();
    folder
}

/// What `tests/run-all` says of this test run.
///
/// # Panics
///
/// When it is not set: the tests were started in another way.
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_unset| {
        panic!(
            "{name} is not set: these tests are started by `make test`, `make native` or `make vm`"
        )
    })
}
