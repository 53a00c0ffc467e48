//! Makes the errors that people see: a code, a class, the chain of causes, and what to do next.

use std::error::Error;

use airlock_protocol::control::{ErrorClass, Fault};

/// Starts a fault: what did not work, on what.
pub fn fault(class: ErrorClass, code: &str, message: impl Into<String>) -> Fault {
    Fault {
        code: code.to_owned(),
        class,
        message: message.into(),
        cause: Vec::new(),
        facts: Vec::new(),
        remedy: Vec::new(),
    }
}

/// Adds to a fault what belongs to it.
pub trait Explain {
    /// Adds an error and all its sources, outermost first.
    #[must_use]
    fn because(self, error: &dyn Error) -> Self;
    /// Adds a fact under its label.
    #[must_use]
    fn fact(self, label: &str, text: impl Into<String>) -> Self;
    /// Adds a command that helps.
    #[must_use]
    fn next(self, command: impl Into<String>) -> Self;
}

impl Explain for Fault {
    fn because(mut self, error: &dyn Error) -> Self {
        let mut link = Some(error);
        while let Some(error) = link {
            self.cause.push(error.to_string());
            link = error.source();
        }
        self
    }

    fn fact(mut self, label: &str, text: impl Into<String>) -> Self {
        self.facts.push((label.to_owned(), text.into()));
        self
    }

    fn next(mut self, command: impl Into<String>) -> Self {
        self.remedy.push(command.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_chain_is_told_outermost_first() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to read the blob")]
        struct Outer(#[source] std::io::Error);
        let fault = fault(ErrorClass::Unavailable, "disk.full", "failed to fetch golang:2")
            .because(&Outer(std::io::Error::other("no room")))
            .next("df -h");
        assert_eq!(fault.cause, ["failed to read the blob", "no room"]);
        assert_eq!(fault.remedy, ["df -h"]);
    }
}
