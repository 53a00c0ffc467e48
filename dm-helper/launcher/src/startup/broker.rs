//! Starts the broker: the process that parses requests and so gets nothing but open descriptors.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

use crate::program::Program;

/// The broker's name, as its first argument and as its file's.
pub(crate) const BROKER: &str = "airlock-dm-broker";

/// How long an answer waits for room on the link.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the broker and returns our end of the link to it. It finds:
///
/// | descriptor | what |
/// | --- | --- |
/// | 3 | the listening socket |
/// | 4 | its end of the link: `SOCK_SEQPACKET`, messages of [`airlock_policy::errand`] |
/// | 5 | the state directory, open for reading |
/// | 6 | the configuration file, at its beginning |
///
/// It ends when we end: by a signal, and by the end of the link. That it ended shows on the link.
pub(super) fn start(
    program: &Program,
    controller: u32,
    [socket, state, config]: [&OwnedFd; 3],
) -> std::io::Result<OwnedFd> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // A broker that does not read keeps nobody waiting for long.
    set_socket_timeout(&ours, Timeout::Send, Some(PATIENCE))?;
    let arguments = [BROKER.to_owned(), "--controller-uid".to_owned(), controller.to_string()];
    let descriptors = [socket.as_fd(), theirs.as_fd(), state.as_fd(), config.as_fd()];
    let log = std::io::stderr();
    program.start(&arguments, (log.as_fd(), &descriptors), Signal::TERM)?;
    Ok(ours)
}
