//! What needs both sides: the whole product on a real kernel, hostile input, faults, benches.
//!
//! A test that cannot run fails and says why: a skip is never a pass.
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    reason = "tests fail by panicking, print for people, and start the programs they check"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

pub mod escapes;
pub mod extraction;
pub mod helper_client;
pub mod hostile;
pub mod loopback;
pub mod random_tree;
pub mod report;
pub mod s3;
pub mod tree;
pub mod vm;

/// The folder of the checkout.
pub fn checkout() -> PathBuf {
    let mut folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.pop();
    folder
}

/// Runs shell lines in a folder.
///
/// # Panics
///
/// When one of them fails.
pub fn sh(line: &str, folder: &Path) {
    let status = Command::new("bash").args(["-euc", line]).current_dir(folder).status();
    let ended = status.unwrap_or_else(|error| panic!("bash: {error}"));
    assert!(ended.success(), "{line}");
}

/// A folder of images, made with the tools that people use.
///
/// # Panics
///
/// When they cannot be made.
pub fn images(kind: &str) -> PathBuf {
    let made = Command::new(checkout().join("tests/images/make")).arg(kind).output();
    let made = made.unwrap_or_else(|error| panic!("tests/images/make: {error}"));
    assert!(made.status.success(), "tests/images/make {kind}");
    PathBuf::from(String::from_utf8_lossy(&made.stdout).lines().last().unwrap_or_default())
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

/// Says what a test found, for people: on stderr, and among the closing lines of `tests/run-all`,
/// since what a test prints is not shown when it passes.
pub fn tell(figures: &str) {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr(), "{figures}"));
    let Some(file) = std::env::var_os("AIRLOCK_TEST_FIGURES") else { return };
    let file = std::fs::File::options().append(true).create(true).open(file);
    let written = file.and_then(|mut file| file.write_all(format!("{figures}\n").as_bytes()));
    assert!(written.is_ok(), "the figures cannot be written: {written:?}");
}
