//! The only way from "asked" to "done".

use std::time::Duration;

use airlock_policy::helper_config::LimitsConfig;
use airlock_protocol::not_done::{NotDone, Refusal};

use crate::audit::Verdict;
use crate::helper::Helper;
use crate::ops::Request;

/// One thing that the helper can do.
///
/// `check` looks and never touches; `perform` touches, and decides only what cannot be known
/// before. The [`Permit`] between them cannot be built outside this file, so nothing can skip the
/// check.
pub(crate) trait Operation: Request + Clone + Send + 'static {
    /// What it answers.
    type Reply: Send + 'static;

    /// How long a caller is kept waiting at most.
    fn patience(limits: &LimitsConfig) -> Duration {
        Duration::from_secs(limits.device_seconds)
    }

    /// How an answer is logged.
    fn verdict(result: &Result<Self::Reply, NotDone>) -> Verdict {
        result.into()
    }

    /// Whether it may be done.
    fn check(&self, helper: &Helper) -> Result<(), NotDone>;

    /// Does it.
    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Self::Reply, NotDone>;
}

/// Proof that the request inside was checked against the state that it will meet.
#[must_use]
#[derive(Debug)]
pub(crate) struct Permit<Op>(Op);

impl<Op> Permit<Op> {
    pub(crate) fn into_request(self) -> Op {
        self.0
    }
}

/// Checks, then performs, with nothing in between.
pub(crate) fn run<Op: Operation>(request: Op, helper: &mut Helper) -> Result<Op::Reply, NotDone> {
    request.check(helper)?;
    Op::perform(Permit(request), helper)
}

/// A refusal as an error, for `?`.
pub(crate) const fn refuse<T>(refusal: Refusal) -> Result<T, NotDone> {
    Err(NotDone::Refused(refusal))
}
