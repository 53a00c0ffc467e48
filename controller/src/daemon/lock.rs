//! One daemon a state directory: an OS lock that is held for life, and gone with the process
//! however that ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use airlock_protocol::control::{ErrorClass, Fault};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::fault::{Explain as _, fault};
use crate::store::restore::own_as;

/// The state directory is ours.
#[derive(Debug)]
pub struct DaemonLock(#[expect(dead_code, reason = "its descriptor is the lock")] File);

impl DaemonLock {
    /// Takes the lock, or says who has it.
    pub fn take(state_dir: &Path) -> Result<Self, Fault> {
        let path = state_dir.join("daemon.lock");
        let failed = |error: io::Error| {
            let what = format!("failed to take the lock {}", path.display());
            fault(ErrorClass::Unavailable, "state_dir.failed", what).because(&error)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .map_err(failed)?;
        // Root may be first, with `airlock db`: the daemon must be able to take it after that.
        own_as(&path, state_dir).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                note(&mut file).map_err(failed)?;
                Ok(Self(file))
            }
            Err(Errno::WOULDBLOCK) => Err(holder(&mut file, state_dir)),
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// Writes who we are, for whoever comes second: pid, time, command, a line each.
fn note(file: &mut File) -> io::Result<()> {
    let command = std::fs::read("/proc/self/cmdline")?;
    let command: Vec<_> = command.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
    let text = format!(
        "{}\n{:.0}\n{}\n",
        std::process::id(),
        jiff::Timestamp::now(),
        command.join(" ").trim()
    );
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

fn holder(file: &mut File, state_dir: &Path) -> Fault {
    let mut text = String::new();
    let dir = state_dir.display();
    let conflict = fault(
        ErrorClass::Conflict,
        "daemon.running",
        format!("another process has the state directory {dir}"),
    );
    if let Err(error) = file.rewind().and_then(|()| file.read_to_string(&mut text)) {
        return conflict.because(&error);
    }
    let mut lines = text.lines();
    let mut line = || lines.next().unwrap_or("unknown").to_owned();
    let (pid, since, command) = (line(), line(), line());
    conflict
        .fact("pid", pid)
        .fact("command", command)
        .fact("started", since)
        .next("systemctl status airlock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn the_second_daemon_is_told_who_the_first_is() {
        let dir = TempDir::new();
        let first = DaemonLock::take(dir.path()).unwrap();
        let second = DaemonLock::take(dir.path()).unwrap_err();
        assert_eq!((second.class.exit(), second.code.as_str()), (6, "daemon.running"));
        let fact = |label| second.facts.iter().find(|(l, _)| l == label).unwrap().1.clone();
        assert_eq!(fact("pid"), std::process::id().to_string());
        assert!(fact("command").contains("airlock"), "{second:?}");
        assert!(fact("started").parse::<jiff::Timestamp>().is_ok(), "{second:?}");
        drop(first);
        DaemonLock::take(dir.path()).unwrap();
    }
}
