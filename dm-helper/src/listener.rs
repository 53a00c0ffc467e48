//! Who may connect, and how many at once.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::audit::{self, Peer};
use crate::rpc;
use crate::worker::Worker;

/// How long to wait when the kernel has no descriptor or memory for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the processes of one user, for ever. Nobody else gets as far as a byte read: not even
/// root, who has no business on this socket and would only hide a mistake.
pub async fn listen(listener: UnixListener, controller_uid: u32, worker: Worker) -> Infallible {
    let most = usize::try_from(worker.limits().connections).unwrap_or(usize::MAX);
    let places = Arc::new(Semaphore::new(most));
    audit::limit(worker.limits().log_lines);
    let watched = worker.clone();
    drop(tokio::spawn(async move {
        loop {
            tokio::time::sleep(audit::TICK).await;
            audit::tick();
            watched.tick();
        }
    }));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _unnamed)) => stream,
            Err(error) => {
                audit::event("accept", &[("why", &error)]);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let peer = match admit(&stream, controller_uid) {
            Ok(peer) => peer,
            Err(why) => {
                audit::event("stranger", &[("why", &why)]);
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            audit::event("too-many-connections", &[("limit", &most)]);
            continue;
        };
        let worker = worker.clone();
        drop(tokio::spawn(async move {
            rpc::serve(stream, worker, peer).await;
            drop(place);
        }));
    }
}

/// Asks the kernel who connected (PEER-1; unix(7), `SO_PEERCRED`).
fn admit(stream: &UnixStream, controller_uid: u32) -> io::Result<Peer> {
    let who = stream.peer_cred()?;
    let (uid, pid) = (who.uid(), who.pid().unwrap_or(0));
    if uid == controller_uid {
        return Ok(Peer { uid, pid });
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("uid {uid} may not speak here")))
}
