//! The real command against a scripted daemon, over a real socket.
#![expect(clippy::disallowed_methods, reason = "the command is started as an operator starts it")]

#[cfg(test)]
#[path = "cli/double.rs"]
mod double;
#[cfg(test)]
#[path = "cli/interrupt.rs"]
mod interrupt;
#[cfg(test)]
#[path = "cli/lists.rs"]
mod lists;
#[cfg(test)]
#[path = "cli/screen.rs"]
mod screen;
#[cfg(test)]
#[path = "cli/tests.rs"]
mod tests;
#[cfg(test)]
#[path = "cli/views.rs"]
mod views;
#[cfg(test)]
#[path = "cli/when.rs"]
mod when;
