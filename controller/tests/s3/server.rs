//! The S3 server that all tests of this binary share.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// Where the server is, and its keys.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
}

/// The server: the one that `AIRLOCK_TEST_S3` names (`endpoint=… access_key=… secret_key=…`), else
/// one that lives as long as this process.
///
/// # Panics
///
/// If there is none: a test that cannot run has not passed.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "the test run's own setting")]
        let given = std::env::var("AIRLOCK_TEST_S3");
        parse(&given.unwrap_or_else(|_unset| start()))
    })
}

fn parse(line: &str) -> Server {
    let word = |key: &str| {
        let value = line.split_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("THE S3 SERVER DID NOT SAY ITS {key}: {line:?}")).to_owned()
    };
    Server {
        endpoint: word("endpoint"),
        access_key: word("access_key"),
        secret_key: word("secret_key"),
    }
}

fn start() -> String {
    let serve = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/s3/serve");
    let (said, heard) = mpsc::channel();
    // The server dies with the thread that started it, so that thread has to stay.
    std::thread::spawn(move || {
        #[expect(clippy::disallowed_methods, reason = "a test's server is no part of the product")]
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&serve).args(["--port", "0"]);
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        drop(said.send(line));
        let status = server.wait();
        panic!("THE S3 SERVER ENDED BY ITSELF: {status:?}");
    });
    let line = heard.recv_timeout(Duration::from_mins(5));
    line.ok()
        .filter(|line| !line.is_empty())
        .expect("THE S3 SERVER CANNOT BE STARTED: run tests/s3/serve to see why")
}
