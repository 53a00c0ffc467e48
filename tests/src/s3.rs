//! The real S3 server that a test run shares, as `tests/run-all` tells of it.

use std::path::Path;
use std::process::Command;

/// Where the server is and who may use it.
#[derive(Clone, Debug)]
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
}

impl Server {
    /// The server of this test run.
    ///
    /// # Panics
    ///
    /// Where there is none: a test that needs it cannot be skipped.
    pub fn of_this_run() -> Self {
        let line = crate::setting("AIRLOCK_TEST_S3");
        let field = |name: &str| {
            let found = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("AIRLOCK_TEST_S3 has no {name}")).to_owned()
        };
        Self {
            endpoint: field("endpoint"),
            access_key: field("access_key"),
            secret_key: field("secret_key"),
        }
    }

    /// The same server as a guest reaches it: the VM's network has the host's loopback there.
    pub fn endpoint_in_guest(&self) -> String {
        self.endpoint.replace("127.0.0.1", "10.0.2.2")
    }

    /// Puts a file under a key of the bucket `images`.
    ///
    /// # Panics
    ///
    /// When the server does not take it.
    pub fn put(&self, key: &str, file: &Path) {
        let status = Command::new(crate::checkout().join("tests/s3/put"))
            .args([&self.endpoint, "images", key])
            .arg(file)
            .env("AWS_ACCESS_KEY_ID", &self.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret_key)
            .status()
            .unwrap_or_else(|error| panic!("tests/s3/put: {error}"));
        assert!(status.success(), "tests/s3/put {key}: {status}");
    }
}
