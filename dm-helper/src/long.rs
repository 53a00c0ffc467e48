//! What a worker does for long: begun in one turn, reported on meanwhile, ended in another turn.

use std::time::Duration;

use airlock_policy::errand::{Answer, Errand, Progress, Stage};
use airlock_policy::name::{RequestId, ThinId};
use airlock_protocol::not_done::{NotDone, Step};

use crate::helper::Helper;
use crate::operations::{Operation, Subject};
use crate::worker::Job;

/// Who waits for it.
pub(crate) trait Waits: Send + 'static {
    /// It came further. On the thread of the link to the launcher: must not wait for anything.
    fn progress(&self, progress: Progress);

    /// What is to be told that it is late.
    fn late(&self) -> Box<dyn FnOnce(NotDone) + Send>;

    /// The last answer came.
    fn end(self, helper: &mut Helper, answer: Answer);
}

impl Helper {
    /// Has a worker do something with a thin device. Past its time, or where the device does not
    /// answer from the start, that is told, and the end comes whenever it comes.
    pub(crate) fn begin_long(
        &mut self,
        (request, errand): (&RequestId, &Errand),
        (thin, time): (ThinId, Duration),
        waits: impl Waits,
    ) -> Result<(), NotDone> {
        let (subject, late) = (Subject::Thin(thin), waits.late());
        let operation = Operation {
            is_shared: true,
            within: self.mount_time(),
            on_late: Some(Box::new(move |step| late(NotDone::Late(step)))),
            ..self.operation(Step::Errand(Stage::Mount))
        };
        // The launcher ends a worker that is late; one that is not gone then hangs in the kernel.
        let mounted = (Step::Errand(Stage::WorkerLate), time);
        let (operations, jobs, mut waits) = (self.operations.clone(), self.jobs(), Some(waits));
        self.operations.begin(subject, operation);
        let begun = self.errands.begin(request, errand, move |answer| {
            if let Answer::Progress(progress) = answer {
                operations.proceed(subject, mounted);
                let _told = waits.as_ref().map(|waits| waits.progress(progress));
            } else if let (Some(waits), Some(jobs)) = (waits.take(), jobs.upgrade()) {
                // Where it is refused the process is ending, and the next one looks what is left.
                drop(jobs.send(end(subject, waits, answer)));
            }
        });
        begun.map(drop).inspect_err(|_failure| self.end_operation(subject, "not begun"))
    }
}

fn end(subject: Subject, waits: impl Waits, answer: Answer) -> Job {
    Box::new(move |helper| {
        // Late or not, this is its end.
        helper.end_operation(subject, &format!("{answer:?}"));
        waits.end(helper, answer);
    })
}
