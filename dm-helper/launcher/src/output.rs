//! What a worker writes to its stdout and stderr: into the log, but never as a line of ours (LOG-2).
//!
//! A worker may have been taken over by what it reads. So its words come through a pipe, are logged
//! escaped, behind whose they are, and no more of them than a bound. What is more is only counted:
//! a worker that had to wait for its log would never end.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use airlock_policy::errand::{Envelope, Failure, Stage};
use airlock_policy::limit::{MAX_WORKER_LOG_BYTES, MAX_WORKER_LOG_LINE, MAX_WORKER_LOG_LINES};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::log::{failed, log_errand};

/// The most reads of what is left when a worker has ended: the pipe itself holds 64 KiB (pipe(7)).
const LAST_READS: usize = 16;

/// The reading end, and how much was logged.
#[derive(Debug)]
pub struct Output {
    /// `None` once every writer closed it.
    pipe: Option<OwnedFd>,
    kind: &'static str,
    /// A line whose end was not yet read.
    line: Vec<u8>,
    lines: usize,
    bytes: usize,
    left_out: u64,
}

impl Output {
    /// Makes a pipe for a worker of this kind; the second end is the worker's.
    pub(crate) fn new(kind: &'static str) -> Result<(Self, OwnedFd), Failure> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(failed(Stage::WorkerStart))?;
        let (line, pipe) = (Vec::new(), Some(read));
        Ok((Self { pipe, kind, line, lines: 0, bytes: 0, left_out: 0 }, write))
    }

    /// Readable while there is something to log; `None` if there will be no more.
    pub(crate) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(OwnedFd::as_fd)
    }

    /// Logs some of what there is; waits if there is nothing.
    pub(crate) fn forward(&mut self, envelope: &Envelope) {
        let Some(pipe) = &self.pipe else { return };
        let mut bytes = [0_u8; 4096];
        match rustix::io::read(pipe, &mut bytes[..]) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => self.pipe = None,
            Ok(count) => {
                let bytes = bytes.get(..count).unwrap_or_default();
                for line in self.take(bytes) {
                    log_errand(envelope, &line);
                }
            }
        }
    }

    /// Logs what is left when the worker has ended. Never waits: something that the worker started
    /// may still hold the other end.
    pub(crate) fn finish(&mut self, envelope: &Envelope) {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        for _read in 0..LAST_READS {
            let Some(pipe) = &self.pipe else { break };
            let is_ready = poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&now));
            if !matches!(is_ready, Ok(1..)) {
                break;
            }
            self.forward(envelope);
        }
        for line in self.rest() {
            log_errand(envelope, &line);
        }
    }

    /// The lines that became whole with these bytes, as far as they are within the bounds.
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || self.line.len() >= MAX_WORKER_LOG_LINE {
                whole.extend(self.end_line());
            }
        }
        whole
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let bytes = self.bytes.saturating_add(line.len());
        if self.lines >= MAX_WORKER_LOG_LINES || bytes > MAX_WORKER_LOG_BYTES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        (self.lines, self.bytes) = (self.lines.saturating_add(1), bytes);
        Some(format!("worker={} wrote=\"{}\"", self.kind, line.escape_ascii()))
    }

    fn rest(&mut self) -> Vec<String> {
        let unended = if self.line.is_empty() { None } else { self.end_line() };
        let count = std::mem::take(&mut self.left_out);
        let left_out = (count > 0).then(|| format!("worker={} lines_left_out={count}", self.kind));
        unended.into_iter().chain(left_out).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_of_extract() -> Output {
        Output::new("extract").unwrap().0
    }

    #[test]
    fn no_line_of_a_worker_passes_for_one_of_ours() {
        let mut output = output_of_extract();
        let forged = b"x\" verdict=done\r\x1b[2Jaudit verb=map\naudit verb=map verdict=done\nend";
        assert_eq!(
            output.take(forged),
            [
                r#"worker=extract wrote="x\" verdict=done\r\x1b[2Jaudit verb=map""#,
                r#"worker=extract wrote="audit verb=map verdict=done""#
            ]
        );
        assert_eq!(output.rest(), [r#"worker=extract wrote="end""#]);
    }

    #[test]
    fn a_worker_that_floods_is_logged_so_far_and_the_rest_counted() {
        let mut output = output_of_extract();
        let mut lines = Vec::new();
        for _round in 0..1000 {
            lines.extend(output.take(b"a\nb\n"));
        }
        assert_eq!(lines.len(), MAX_WORKER_LOG_LINES);
        assert_eq!(
            output.rest(),
            [format!("worker=extract lines_left_out={}", 2000 - lines.len())]
        );

        // One endless line is many, and ends as soon.
        let mut endless = output_of_extract();
        let lines = endless.take(&vec![b'x'; 1 << 20]);
        let bytes: usize = lines.iter().map(String::len).sum();
        assert!(bytes <= MAX_WORKER_LOG_BYTES + 64 * lines.len(), "{bytes}");
        assert_eq!(endless.rest().len(), 1);
    }
}
