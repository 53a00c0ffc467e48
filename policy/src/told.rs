//! An error as the privileged side's log has it.

use std::error::Error;
use std::iter;

/// An error and all that caused it, on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| Error::source(*error));
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
