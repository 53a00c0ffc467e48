//! The link to the launcher: errands out, answers back.
//!
//! One thread reads. An answer goes to whoever asked under its number; one that nobody waits for
//! any more is logged. When the launcher goes, or says what it cannot say, so does this process.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use airlock_policy::errand::{Answer, Envelope, Errand, MESSAGE};
use airlock_policy::name::RequestId;
use airlock_protocol::not_done::{NotDone, Step, StepFailure};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::audit;

/// Takes the answers to one errand, on the reading thread: it must not wait for anything.
type OnAnswer = Box<dyn FnMut(Answer) + Send>;

/// The link.
#[derive(Clone)]
pub struct Errands(Arc<Link>);

struct Link {
    socket: OwnedFd,
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, OnAnswer>>,
}

impl std::fmt::Debug for Errands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Errands")
    }
}

impl Errands {
    /// Starts the reading thread. `gone` is called, on it, when the launcher is.
    pub fn start(socket: OwnedFd, gone: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let last = AtomicU64::new(0);
        let link = Arc::new(Link { socket, last, waiting: Mutex::default() });
        let errands = Self(Arc::clone(&link));
        thread::Builder::new().name("launcher-link".to_owned()).spawn(move || {
            while let Some((envelope, answer)) = link.receive() {
                link.deliver(&envelope, answer);
            }
            gone();
        })?;
        Ok(errands)
    }

    /// Sends an errand and waits for its last answer, for at most this long.
    pub(crate) fn call(
        &self,
        request: &RequestId,
        errand: &Errand,
        within: Duration,
    ) -> Result<Answer, NotDone> {
        let (answers, last_answer): (SyncSender<Answer>, _) = sync_channel(1);
        let number = self.begin(request, errand, move |answer| {
            if answer.is_last() {
                drop(answers.try_send(answer));
            }
        })?;
        match last_answer.recv_timeout(within) {
            Ok(Answer::Failed(failure)) => Err(failure.into()),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                drop(self.0.waiting().remove(&number));
                Err(link_failure(Errno::TIMEDOUT))
            }
            Err(RecvTimeoutError::Disconnected) => Err(link_failure(Errno::PIPE)),
        }
    }

    /// Sends an errand whose answers come by and by. Returns its number.
    pub(crate) fn begin(
        &self,
        request: &RequestId,
        errand: &Errand,
        on_answer: impl FnMut(Answer) + Send + 'static,
    ) -> Result<u64, NotDone> {
        let number = self.0.last.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let envelope = Envelope { number, request: request.clone() };
        self.0.waiting().insert(number, Box::new(on_answer));
        let message = errand.encode(&envelope);
        // A launcher that does not read is as good as gone: no wait for room.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::io::retry_on_intr(|| rustix::net::send(&self.0.socket, &message, flags)) {
            Ok(MESSAGE) => Ok(number),
            sent => {
                drop(self.0.waiting().remove(&number));
                Err(link_failure(sent.err().unwrap_or(Errno::MSGSIZE)))
            }
        }
    }
}

impl Link {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, OnAnswer>> {
        // Nothing panics while it is held, and a map is whole at every step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next answer; `None` when the link is of no more use.
    fn receive(&self) -> Option<(Envelope, Answer)> {
        // One byte more than a message, so that a longer one is seen.
        let mut buffer = [0; MESSAGE + 1];
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())
        });
        let why = match received {
            Ok((_, 0)) => "it closed the link".to_owned(),
            Ok((_, length)) => match buffer.get(..length).map(Answer::decode) {
                Some(Ok(answer)) => return Some(answer),
                Some(Err(malformed)) => malformed.to_string(),
                None => "the message is too long".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        audit::event("launcher-gone", &[("why", &why)]);
        None
    }

    fn deliver(&self, envelope: &Envelope, answer: Answer) {
        let last = answer.is_last();
        let Some(mut on_answer) = self.waiting().remove(&envelope.number) else {
            audit::event(
                "late-answer",
                &[("errand", &envelope.number), ("request", &envelope.request)],
            );
            return;
        };
        on_answer(answer);
        if !last {
            self.waiting().insert(envelope.number, on_answer);
        }
    }
}

fn link_failure(errno: Errno) -> NotDone {
    NotDone::Failed(StepFailure { step: Step::Launcher, errno: errno.raw_os_error() })
}
