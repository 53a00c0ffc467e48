//! Runs a scenario in the VM: the whole product, installed, on the real kernel.
//!
//! A scenario is a function of the program `guest` (`src/bin/guest`), which runs in the VM as root
//! and panics where something is not as it must be. What it prints is the test's output.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::report::{self, Case};
use crate::s3::Server;

/// A guest to be started, and what it gets.
#[derive(Debug)]
pub struct Guest {
    command: Command,
}

impl Guest {
    /// A guest with the product, ready to be installed, and the S3 server in reach.
    ///
    /// # Panics
    ///
    /// Where the tests were not started by `tests/run-all`, which stages the programs.
    pub fn new() -> Self {
        let stage = PathBuf::from(crate::setting("AIRLOCK_TEST_STAGE"));
        let server = Server::of_this_run();
        let mut guest = Self { command: Command::new(crate::checkout().join("tests/vm/run")) };
        guest
            .file(&stage, "bin")
            .file(&crate::checkout().join("packaging"), "packaging")
            .setting("S3_ENDPOINT", &server.endpoint_in_guest())
            .setting("S3_ACCESS_KEY", &server.access_key)
            .setting("S3_SECRET_KEY", &server.secret_key)
            .seconds(540);
        guest
    }

    /// Puts a file or folder of this machine into the guest's working folder.
    pub fn file(&mut self, path: &Path, name: &str) -> &mut Self {
        self.command.arg("--copy-in").arg(format!("{}:{name}", path.display()));
        self
    }

    /// Gives the scenario an environment variable.
    pub fn setting(&mut self, name: &str, value: &str) -> &mut Self {
        self.command.arg("--env").arg(format!("{name}={value}"));
        self
    }

    /// Uses this file as the data disk, so that another guest can go on with it.
    pub fn disk(&mut self, file: &Path) -> &mut Self {
        self.command.arg("--disk").arg(file);
        self
    }

    /// Boots from cold instead of going on from a snapshot: a new boot id, a new kernel.
    pub fn cold(&mut self) -> &mut Self {
        self.command.args(["--boot", "systemd"]);
        self
    }

    /// How long the scenario may take.
    pub fn seconds(&mut self, seconds: u32) -> &mut Self {
        self.command.arg("--timeout").arg(seconds.to_string());
        self
    }

    /// Cuts the power of the data disk after this time: what was not flushed is lost, or as `seed`
    /// has it a part of it.
    pub fn power_cut(&mut self, after: Duration, seed: u64) -> &mut Self {
        self.command.arg("--power-cut-after").arg(format!("{:.3}", after.as_secs_f64()));
        self.command.arg("--seed").arg(seed.to_string());
        self
    }

    /// Brings a file of the guest into this folder when the scenario ends, under its path there.
    pub fn bring(&mut self, path: &str, into: &Path) -> &mut Self {
        self.command.arg("--copy-out").arg(path).arg("--into").arg(into);
        self
    }

    /// Runs a sweep's scenario, which leaves its cases in `/run/NAME.json`, and takes them into the
    /// report of that name.
    ///
    /// # Panics
    ///
    /// When it does not end well, or one of the cases has a bad outcome.
    pub fn sweeps(&mut self, name: &str, bad: &[&str]) {
        let found = report::record(name, "vm", &self.cases(name), bad);
        assert!(found.is_empty(), "{found:#?}");
    }

    /// Runs a sweep's scenario, which leaves its cases in `/run/NAME.json`, and returns them.
    ///
    /// # Panics
    ///
    /// When it does not end well.
    pub fn cases(&mut self, name: &str) -> Vec<Case> {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder: {error}"));
        let list = format!("/run/{name}.json");
        self.bring(&list, folder.path()).passes(name);
        let text = std::fs::read_to_string(folder.path().join(list.trim_start_matches('/')))
            .unwrap_or_else(|error| panic!("{list}: {error}"));
        Case::list(&text)
    }

    /// Runs the scenario.
    ///
    /// # Panics
    ///
    /// When it does not end well; with all that it printed.
    pub fn passes(&mut self, scenario: &str) {
        let output = self.run(scenario);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        println!("{out}{err}");
        assert!(output.status.success(), "{scenario}: {}", output.status);
    }

    /// Runs the scenario and tells how it ended: the status is that of `tests/vm/run`.
    ///
    /// # Panics
    ///
    /// Where that cannot be started.
    pub fn run(&mut self, scenario: &str) -> Output {
        self.command.args(["--", "bin/guest", scenario]);
        self.command.output().unwrap_or_else(|error| panic!("tests/vm/run: {error}"))
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}
