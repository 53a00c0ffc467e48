//! The loop: errands come in, workers are watched, answers go out. One thread, nothing parsed but
//! messages of one size.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use airlock_policy::errand::{Answer, Envelope, Errand, Failure, MESSAGE, Stage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::errand::{Desk, Next};
use crate::log::{log, log_errand, told};
use crate::worker::Worker;

/// Tools that run at the same time, at most: one more than anybody needs.
const MAX_TOOLS: usize = 2;

/// Verifications at the same time: they read, and have time.
const MAX_VERIFICATIONS: usize = 1;

/// Why the loop ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// A signal asked for it.
    Asked,
    /// The broker closed its end, or ended.
    BrokerLeft,
    /// The broker sent what no broker sends. It may have been taken over.
    BrokerConfused,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "it was asked to",
            Self::BrokerLeft => "the broker ended",
            Self::BrokerConfused => "the broker sent a malformed errand",
        })
    }
}

/// The launcher at work.
#[derive(Debug)]
pub struct Server {
    link: OwnedFd,
    /// Readable when a signal asks for the end.
    signals: OwnedFd,
    desk: Desk,
    workers: Vec<Worker>,
    max_extractions: usize,
    /// Held for life, never looked at again: the lock on the state directory.
    _lock: Option<OwnedFd>,
}

impl Server {
    /// Works on what `desk` holds, for who holds the other end of `link`, a `SOCK_SEQPACKET`
    /// socket, until `signals` is readable.
    pub fn new(desk: Desk, link: OwnedFd, signals: OwnedFd, lock: Option<OwnedFd>) -> Self {
        let max_extractions = usize::try_from(desk.config.limits.extractions).unwrap_or(usize::MAX);
        Self { link, signals, desk, workers: Vec::new(), max_extractions, _lock: lock }
    }

    /// Works until the broker leaves or a signal comes. No worker runs on afterwards.
    pub fn run(&mut self) -> Result<Ended, Errno> {
        let ended = self.work();
        for mut worker in std::mem::take(&mut self.workers) {
            worker.kill(Stage::Cancelled);
            let _nobody_waits_for_it = worker.conclude();
        }
        ended
    }

    fn work(&mut self) -> Result<Ended, Errno> {
        loop {
            let ready = self.wait()?;
            if ready.signals {
                return Ok(Ended::Asked);
            }
            for index in ready.reports {
                self.hand_on(index);
            }
            for index in ready.outputs {
                self.workers.get_mut(index).map(Worker::forward_output);
            }
            self.conclude_ended(&ready.ended);
            self.end_late();
            if ready.link
                && let Some(ended) = self.take_errand()
            {
                return Ok(ended);
            }
        }
    }

    /// Waits until anything can be done, or a deadline has passed.
    fn wait(&self) -> Result<Ready, Errno> {
        let mut fds =
            vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.link, PollFlags::IN)];
        for worker in &self.workers {
            fds.push(PollFd::from_borrowed_fd(worker.pidfd(), PollFlags::IN));
        }
        let reporting = watch(&mut fds, &self.workers, Worker::reports);
        let writing = watch(&mut fds, &self.workers, Worker::output);
        let now = Instant::now();
        let next = self.workers.iter().filter_map(Worker::deadline).min();
        let timeout = next.map(|deadline| {
            // Rounded up: a loop that wakes too early would spin.
            let wait =
                deadline.saturating_duration_since(now).saturating_add(Duration::from_millis(1));
            Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno),
        }
        let mut is_ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            signals: is_ready.next().unwrap_or(false),
            link: is_ready.next().unwrap_or(false),
            ended: is_ready.by_ref().take(self.workers.len()).collect(),
            reports: pick(reporting, is_ready.by_ref()),
            outputs: pick(writing, is_ready),
        })
    }

    fn hand_on(&mut self, index: usize) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        if let Some(progress) = worker.read_report() {
            let message = progress.encode(&worker.envelope);
            // Progress is old news soon: if the broker is busy, it is dropped.
            send(&self.link, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).ok();
        }
    }

    fn conclude_ended(&mut self, ended: &[bool]) {
        let mut ended = ended.iter();
        let mut is_over = |_: &mut Worker| ended.next().copied().unwrap_or(false);
        let over: Vec<Worker> = self.workers.extract_if(.., |worker| is_over(worker)).collect();
        for worker in over {
            let envelope = worker.envelope.clone();
            let answer = worker.conclude();
            crash_point!(WorkerEnded);
            self.answer(&envelope, &answer);
        }
    }

    fn end_late(&mut self) {
        let now = Instant::now();
        for worker in &mut self.workers {
            if worker.deadline().is_some_and(|deadline| deadline <= now) {
                worker.kill(Stage::WorkerLate);
            }
        }
    }

    /// Takes one errand and begins it. What comes back is why the loop ends.
    fn take_errand(&mut self) -> Option<Ended> {
        let mut message = [0_u8; MESSAGE + 1];
        let count = match recv(&self.link, &mut message[..], RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Some(Ended::BrokerLeft),
            Ok((count, _)) => count,
            Err(Errno::INTR | Errno::AGAIN) => return None,
            Err(_) => return Some(Ended::BrokerLeft),
        };
        let Ok((envelope, errand)) = Errand::decode(message.get(..count).unwrap_or_default())
        else {
            return Some(Ended::BrokerConfused);
        };
        if self.workers.iter().any(|worker| worker.envelope.number == envelope.number) {
            return Some(Ended::BrokerConfused);
        }
        crash_point!(ErrandTaken);
        match self.begin(&envelope, errand) {
            Ok(Next::Worker(worker)) => self.workers.push(*worker),
            Ok(Next::Answer(answer)) => self.answer(&envelope, &answer),
            Err(failure) => self.answer(&envelope, &Answer::Failed(failure)),
        }
        None
    }

    fn begin(&mut self, envelope: &Envelope, errand: Errand) -> Result<Next, Failure> {
        let extractions = self.workers.iter().filter(|worker| worker.is_extraction()).count();
        let verifications = self.workers.iter().filter(|w| w.is_verification()).count();
        let tools = self.workers.len().saturating_sub(extractions).saturating_sub(verifications);
        let is_full = match &errand {
            Errand::Extract { .. } => extractions >= self.max_extractions,
            Errand::Verify { .. } => verifications >= MAX_VERIFICATIONS,
            Errand::Format { .. }
            | Errand::CheckPool
            | Errand::Grow { .. }
            | Errand::Mount { .. }
            | Errand::Unmount { .. } => tools >= MAX_TOOLS,
            Errand::Cancel { errand } => {
                self.cancel(*errand);
                return Ok(Next::Answer(Answer::Done));
            }
            Errand::OpenPool { .. }
            | Errand::GrowPool { .. }
            | Errand::ExchangeLedger
            | Errand::Publish { .. }
            | Errand::Unpublish { .. }
            | Errand::Forget { .. } => false,
        };
        if is_full {
            return Err(Failure { stage: Stage::TooMany, errno: 0 });
        }
        self.desk.begin(envelope, errand)
    }

    /// Ends an extraction, if it still runs. Its answer comes when it has ended.
    fn cancel(&mut self, number: u64) {
        let mut workers = self.workers.iter_mut();
        if let Some(worker) = workers.find(|w| w.envelope.number == number && w.is_extraction()) {
            worker.kill(Stage::Cancelled);
        }
    }

    fn answer(&self, envelope: &Envelope, answer: &Answer) {
        if let Answer::Failed(failure) = answer {
            log_errand(envelope, &told(*failure));
        }
        crash_point!(ErrandDone);
        // Waits for a moment while the broker is busy. If it is gone, the loop will see it.
        if let Err(errno) = send(&self.link, &answer.encode(envelope), SendFlags::NOSIGNAL) {
            log(&format!("failed to answer the broker: {errno}"));
        }
    }
}

/// What the wait was ended by.
#[derive(Default)]
struct Ready {
    signals: bool,
    link: bool,
    /// Whether each worker has ended.
    ended: Vec<bool>,
    /// Workers that have something to report.
    reports: Vec<usize>,
    /// Workers that wrote something to log.
    outputs: Vec<usize>,
}

/// Adds one descriptor of each worker that has it; returns whose they are.
fn watch<'a>(
    fds: &mut Vec<PollFd<'a>>,
    workers: &'a [Worker],
    descriptor: impl Fn(&'a Worker) -> Option<BorrowedFd<'a>>,
) -> Vec<usize> {
    let mut whose = Vec::new();
    for (index, worker) in workers.iter().enumerate() {
        if let Some(descriptor) = descriptor(worker) {
            fds.push(PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
            whose.push(index);
        }
    }
    whose
}

/// Those that are ready, taking as many answers as there are questions.
fn pick(whose: Vec<usize>, is_ready: impl Iterator<Item = bool>) -> Vec<usize> {
    whose.into_iter().zip(is_ready).filter_map(|(index, ready)| ready.then_some(index)).collect()
}
