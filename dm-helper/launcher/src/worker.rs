//! A running worker: started with its descriptors, watched, and judged by how it ends (LINK-4).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use airlock_policy::errand::{Answer, Envelope, Failure, MESSAGE, Stage};
use airlock_policy::worker::{EXIT_BAD_ORDER, EXIT_SANDBOX, Job};
use airlock_sys::spawn::{Child, EXIT_NOT_STARTED};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::log::log_errand;
use crate::output::Output;
use crate::program::Program;

/// Progress is handed on at most this often, however often a worker reports it.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What a worker's end means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judge {
    /// It reports how it went: an extraction.
    ByReport,
    /// Likewise: a verification.
    ByVerdict,
    /// Its exit code says it; otherwise this stage failed.
    ByExit(Stage),
    /// Its exit code is the kernel's errno for this stage.
    ByErrno(Stage),
}

/// A worker that works for an errand.
#[derive(Debug)]
pub struct Worker {
    /// The errand.
    pub envelope: Envelope,
    judge: Judge,
    child: Child,
    output: Output,
    /// `None` once it is closed, or if there never was one.
    reports: Option<OwnedFd>,
    deadline: Instant,
    /// How long it may take once it has reported anything: its device answers.
    rest: Option<Duration>,
    /// Why it was killed.
    killed: Option<Stage>,
    last_report: Option<Answer>,
    last_progress: Option<Instant>,
}

impl Worker {
    /// Starts a worker that says by its exit code how it went.
    pub fn start_tool(
        program: &Program,
        job: &Job,
        descriptors: &[BorrowedFd<'_>],
        (envelope, judge, time): (Envelope, Judge, Duration),
    ) -> Result<Self, Failure> {
        let started = start(program, job, descriptors)?;
        Ok(Self::new(envelope, judge, started, time))
    }

    /// Starts a worker that reports: first, within a shorter time, that it has begun. The descriptors
    /// come before and behind the report pipe.
    pub fn start_reporting(
        program: &Program,
        job: &Job,
        (before, behind): (&[BorrowedFd<'_>], &[BorrowedFd<'_>]),
        (envelope, (begin, time)): (Envelope, (Duration, Duration)),
    ) -> Result<Self, Failure> {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC).map_err(crate::log::failed(Stage::WorkerStart))?;
        let started = start(program, job, &[before, &[write.as_fd()], behind].concat())?;
        let verifies = matches!(job, Job::Verify(_));
        let judge = if verifies { Judge::ByVerdict } else { Judge::ByReport };
        let worker = Self::new(envelope, judge, started, begin);
        Ok(Self { reports: Some(read), rest: Some(time), ..worker })
    }

    fn new(
        envelope: Envelope,
        judge: Judge,
        (child, output): (Child, Output),
        time: Duration,
    ) -> Self {
        Self {
            envelope,
            judge,
            child,
            output,
            reports: None,
            deadline: from_now(time),
            rest: None,
            killed: None,
            last_report: None,
            last_progress: None,
        }
    }

    /// Whether it is an extraction.
    pub fn is_extraction(&self) -> bool {
        self.judge == Judge::ByReport
    }

    /// Whether it is a verification.
    pub fn is_verification(&self) -> bool {
        self.judge == Judge::ByVerdict
    }

    /// Its process's number.
    pub fn pid(&self) -> i32 {
        self.child.pid.as_raw_nonzero().get()
    }

    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Readable while there is a report; `None` if there will be no more.
    pub fn reports(&self) -> Option<BorrowedFd<'_>> {
        self.reports.as_ref().map(AsFd::as_fd)
    }

    /// Readable while there is something of it to log; `None` if there will be no more.
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.pipe()
    }

    /// Logs some of what it wrote.
    pub fn forward_output(&mut self) {
        self.output.forward(&self.envelope);
    }

    /// When it is too late; `None` if it was killed already.
    pub fn deadline(&self) -> Option<Instant> {
        self.killed.is_none().then_some(self.deadline)
    }

    /// Kills it. The first reason stands.
    pub fn kill(&mut self, why: Stage) {
        self.killed.get_or_insert(why);
        // Fails only if it has ended already, and then there is nothing to do.
        pidfd_send_signal(&self.child.pidfd, Signal::KILL).ok();
    }

    /// Reads one report. Progress that is worth handing on is returned; the last report is kept
    /// until the worker has ended.
    ///
    /// A worker may have been taken over by what it reads: one that says what no worker says is
    /// killed.
    pub fn read_report(&mut self) -> Option<Answer> {
        let reports = self.reports.as_ref()?;
        let mut message = [0_u8; MESSAGE];
        match rustix::io::read(reports, &mut message[..]) {
            Ok(MESSAGE) => {}
            Err(Errno::INTR) => return None,
            Ok(0) => {
                self.reports = None;
                return None;
            }
            // Messages are written whole (pipe(7), PIPE_BUF), so no honest worker leaves a part.
            Ok(_) | Err(_) => return self.distrust("a part of a message"),
        }
        match Answer::decode(&message) {
            Ok((envelope, answer)) if envelope == self.envelope => self.take(answer),
            Ok(_) | Err(_) => self.distrust("a message that is not its own"),
        }
    }

    fn take(&mut self, answer: Answer) -> Option<Answer> {
        if let Some(rest) = self.rest.take() {
            self.deadline = from_now(rest);
        }
        match answer {
            _ if self.last_report.is_some() => self.distrust("more after its last report"),
            Answer::Progress(_) => {
                let now = Instant::now();
                let is_due = self
                    .last_progress
                    .is_none_or(|last| now.saturating_duration_since(last) >= PROGRESS_INTERVAL);
                is_due.then(|| {
                    self.last_progress = Some(now);
                    answer
                })
            }
            Answer::Failed(failure) if !failure.stage.is_of_worker() => {
                self.distrust("what no worker says")
            }
            Answer::Extracted(_)
            | Answer::Verified { .. }
            | Answer::Differs { .. }
            | Answer::Refused { .. }
            | Answer::Failed(_) => {
                self.last_report = Some(answer);
                None
            }
            Answer::Done | Answer::Backing(_) => self.distrust("what no worker says"),
        }
    }

    fn distrust(&mut self, what: &str) -> Option<Answer> {
        log_errand(&self.envelope, &format!("the worker sent {what}: it is ended"));
        self.last_report = None;
        self.reports = None;
        self.kill(Stage::WorkerDied);
        None
    }

    /// Waits for its end, which has come or is near, and says what it means.
    pub fn conclude(mut self) -> Answer {
        let failed = |stage| Answer::Failed(Failure { stage, errno: 0 });
        let status = loop {
            match waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Err(Errno::INTR) => {}
                Err(_) | Ok(None) => break None,
                Ok(Some(status)) => break status.exit_status(),
            }
        };
        // All its descriptors are closed now: what is left in the pipe ends with an end.
        while self.reports.is_some() {
            let _late_progress = self.read_report();
        }
        self.output.finish(&self.envelope);
        if let Some(why) = self.killed {
            return failed(why);
        }
        match (status, self.judge) {
            (Some(EXIT_NOT_STARTED), _) => failed(Stage::WorkerStart),
            (Some(code), _) if code == i32::from(EXIT_SANDBOX) => failed(Stage::WorkerSandbox),
            (Some(code), _) if code == i32::from(EXIT_BAD_ORDER) => failed(Stage::WorkerStart),
            (Some(0), Judge::ByReport | Judge::ByVerdict) => {
                self.last_report.unwrap_or(failed(Stage::WorkerDied))
            }
            (Some(0), Judge::ByExit(_) | Judge::ByErrno(_)) => Answer::Done,
            (Some(_), Judge::ByExit(stage)) => failed(stage),
            (Some(errno), Judge::ByErrno(stage)) => Answer::Failed(Failure { stage, errno }),
            (Some(_), Judge::ByReport | Judge::ByVerdict) | (None, _) => failed(Stage::WorkerDied),
        }
    }
}

fn from_now(time: Duration) -> Instant {
    let now = Instant::now();
    // A time beyond the clock's end is no deadline that anybody will see.
    now.checked_add(time).unwrap_or(now)
}

fn start(
    program: &Program,
    job: &Job,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Child, Output), Failure> {
    let (output, theirs) = Output::new(job.word())?;
    let child = program.start(&job.arguments(), (theirs.as_fd(), descriptors), Signal::KILL);
    let child = child.map_err(|error| Failure {
        stage: Stage::WorkerStart,
        errno: error.raw_os_error().unwrap_or_default(),
    })?;
    crash_point!(WorkerStarted);
    Ok((child, output))
}
