//! The socket that the broker will answer on: systemd's, or one made at the configured
//! path (PEER-2).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::file::{self, Untrusted};

/// Connections that wait to be taken.
const BACKLOG: i32 = 16;

/// The first descriptor that systemd passes (`sd_listen_fds(3)`).
const PASSED: i32 = 3;

/// There is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSocket {
    #[error("systemd passed {0} sockets, and one is wanted")]
    Count(u64),
    #[error("the descriptor that systemd passed cannot be used")]
    Passed(#[source] std::io::Error),
    #[error("the descriptor that systemd passed is not a listening local stream socket")]
    WrongKind,
    #[error("{0} cannot be made")]
    Make(String, #[source] Errno),
    #[error("the folder of {0} cannot be trusted")]
    Folder(String, #[source] Untrusted),
    #[error("{0} is there, and is not a socket")]
    NotASocket(String),
    #[error("somebody answers on {0} already")]
    Taken(String),
}

/// Takes the socket that systemd passed; without one, makes it at `path` for root and `group`.
pub(super) fn take_or_make(path: &Path, group: u32) -> Result<OwnedFd, NoSocket> {
    match passed_count() {
        None => make(path, group),
        Some(1) => {
            let socket = airlock_sys::inherited::take(PASSED).map_err(NoSocket::Passed)?;
            if is_listening(&socket) { Ok(socket) } else { Err(NoSocket::WrongKind) }
        }
        Some(count) => Err(NoSocket::Count(count)),
    }
}

/// How many sockets systemd says it passed to this very process.
///
/// The environment is read here and in `notify` only: systemd has no other way to say it.
fn passed_count() -> Option<u64> {
    let number = |name| std::env::var_os(name)?.to_str()?.parse::<u64>().ok();
    (number("LISTEN_PID")? == u64::from(std::process::id())).then(|| number("LISTEN_FDS"))?
}

fn is_listening(socket: impl AsFd) -> bool {
    sockopt::socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&socket) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(&socket) == Ok(true)
}

fn make(path: &Path, group: u32) -> Result<OwnedFd, NoSocket> {
    let shown = path.display().to_string();
    let failed = |errno| NoSocket::Make(shown.clone(), errno);
    let folder = folder(path, &shown)?;
    let name = path.file_name().ok_or(failed(Errno::INVAL))?;
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => {
            if is_answered(&address).map_err(failed)? {
                return Err(NoSocket::Taken(shown));
            }
            rustix::fs::unlinkat(&folder, name, AtFlags::empty()).map_err(failed)?;
        }
        Ok(_) => return Err(NoSocket::NotASocket(shown)),
        Err(errno) => return Err(failed(errno)),
    }
    let socket = new_socket().map_err(failed)?;
    // Nobody but root can connect before the mode is set: the umask is 077.
    rustix::net::bind(&socket, &address).map_err(failed)?;
    let (uid, gid) = (Some(Uid::ROOT), Some(Gid::from_raw(group)));
    rustix::fs::chownat(&folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    // The folder is root's alone, so the name still is the socket's.
    rustix::fs::chmodat(&folder, name, Mode::from_raw_mode(0o660), AtFlags::empty())
        .map_err(failed)?;
    rustix::net::listen(&socket, BACKLOG).map_err(failed)?;
    Ok(socket)
}

/// The folder of the socket, which everybody may enter and only root may change.
fn folder(path: &Path, shown: &str) -> Result<OwnedFd, NoSocket> {
    let failed = |errno| NoSocket::Make(shown.to_owned(), errno);
    let folder = path.parent().ok_or(failed(Errno::INVAL))?;
    match rustix::fs::mkdir(folder, Mode::RWXU) {
        Ok(()) => rustix::fs::chmod(folder, Mode::from_raw_mode(0o755)).map_err(failed)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    // Below /run, which has a link of its own at /var/run on every system.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&folder).map_err(failed)?;
    file::check(&stat, FileType::Directory, file::WRITE)
        .map_err(|error| NoSocket::Folder(shown.to_owned(), error))?;
    Ok(folder)
}

/// Whether somebody listens there. What nobody answers on was left by a process that was killed.
fn is_answered(address: &SocketAddrUnix) -> Result<bool, Errno> {
    match rustix::net::connect(new_socket()?, address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    // Non-blocking: a full queue of a living one must not keep us waiting.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn only_a_socket_that_nobody_answers_on_is_replaced() {
        assert!(rustix::process::geteuid().is_root(), "the folder must be root's");
        let folder = std::env::temp_dir().join(format!("airlock-socket-{}", std::process::id()));
        let path = folder.join("s");
        let first = make(&path, 1).unwrap();
        let made = fs::symlink_metadata(&path).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (0, 1, 0o660));
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o755);
        assert!(is_listening(&first));
        assert!(matches!(make(&path, 1), Err(NoSocket::Taken(_))));
        drop(first);
        drop(make(&path, 1).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(make(&path, 1), Err(NoSocket::NotASocket(_))));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(make(&path, 1), Err(NoSocket::Folder(..))));
        fs::remove_dir_all(&folder).unwrap();
    }
}
