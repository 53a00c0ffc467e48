//! The state directory, and the lock that says whose it is.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{NotStarted, at};
use crate::file;

/// Another launcher works for the state directory.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("another helper holds {lock}: {holder}")]
pub struct Second {
    lock: String,
    holder: String,
}

/// Opens the state directory, made if need be, and locks it for as long as the second descriptor
/// lives. The lock is the kernel's: nothing is left behind by a launcher that was killed.
pub(crate) fn open_and_lock(path: &Path) -> Result<(OwnedFd, OwnedFd), NotStarted> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(at("make the state directory")(errno)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let state =
        rustix::fs::open(path, flags, Mode::empty()).map_err(at("open the state directory"))?;
    let stat = rustix::fs::fstat(&state).map_err(at("look at the state directory"))?;
    file::check(&stat, FileType::Directory, file::ANY).map_err(at("trust the state directory"))?;

    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = rustix::fs::openat(&state, "lock", flags, Mode::RUSR | Mode::WUSR)
        .map_err(at("open the lock"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let holder = file::read(lock, 4096).map_err(at("read the lock"))?;
            let holder = holder.trim_ascii().escape_ascii().to_string();
            return Err(Second { lock: path.join("lock").display().to_string(), holder }.into());
        }
        Err(errno) => return Err(at("lock the state directory")(errno)),
    }
    sign(&lock).map_err(at("write the lock"))?;
    Ok((state, lock))
}

/// Writes who holds the lock, for the one who finds it held.
fn sign(lock: &OwnedFd) -> Result<(), Errno> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut text = format!("pid {}, started at {since} (seconds since 1970),", std::process::id());
    for argument in std::env::args_os() {
        // A write into a string does not fail.
        write!(text, " {}", argument.display()).unwrap_or_default();
    }
    text.push('\n');
    rustix::fs::ftruncate(lock, 0)?;
    rustix::io::pwrite(lock, text.as_bytes(), 0)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_launcher_is_told_who_the_first_is() {
        assert!(rustix::process::geteuid().is_root(), "the state directory must be root's");
        let path = std::env::temp_dir().join(format!("airlock-state-{}", std::process::id()));
        let (state, lock) = open_and_lock(&path).unwrap();
        let refused = open_and_lock(&path).unwrap_err();
        let NotStarted::Second(second) = refused else { panic!("{refused}") };
        assert!(second.to_string().contains(&format!("pid {}", std::process::id())), "{second}");
        drop((state, lock));
        let (_state, _lock) = open_and_lock(&path).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_open_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("airlock-open-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(open_and_lock(&path), Err(NotStarted::Step { .. })));
        std::fs::remove_dir(&path).unwrap();
    }
}
