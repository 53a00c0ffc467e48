//! A state machine that reads as a table.

use std::fmt::Debug;

/// The event has no row for the state the flow is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{event} is not possible in state {state}")]
pub struct IllegalTransition {
    /// The state the flow was in.
    pub state: &'static str,
    /// The event that arrived.
    pub event: &'static str,
}

/// The states of a machine.
pub trait State: Copy + Debug + Eq + Send + Sync + 'static {
    /// What can happen to it.
    type Event: Event;
    /// The machine's name.
    const MACHINE: &'static str;
    /// Where every flow begins.
    const START: Self;
    /// Every state, in order of declaration.
    const ALL: &'static [Self];
    /// Every row of the table.
    const TABLE: &'static [(Self, Self::Event, Self)];

    /// The name stored in the database.
    fn name(self) -> &'static str;
    /// Whether nothing more can happen.
    fn is_end(self) -> bool;
    /// The state after `event`.
    fn after(self, event: Self::Event) -> Result<Self, IllegalTransition>;

    /// The state of this name.
    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|state| state.name() == name)
    }
}

/// The events of a machine.
pub trait Event: Copy + Debug + Eq + Send + Sync + 'static {
    /// It cannot be done.
    const FAILED: Self;
    /// It is no longer wanted.
    const CANCELLED: Self;

    /// The name stored in the database.
    fn name(self) -> &'static str;
}

/// Declares a machine: one row per transition, nothing implied.
///
/// A second row for the same state and event does not compile.
macro_rules! machine {
    (
        machine $machine:literal;
        states $State:ident { $($state:ident $state_name:literal),+ $(,)? }
        events $Event:ident { $($event:ident $event_name:literal),+ $(,)? }
        start $start:ident; end $($end:ident),+;
        $( $($from:ident)|+ on $on:ident => $to:ident ; )+
    ) => {
        /// Where a flow is.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $State {
            $(#[doc = concat!("`", $state_name, "` in the table and in the database.")] $state),+
        }

        /// What happened to it.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $Event {
            $(#[doc = concat!("`", $event_name, "` in the table and in the database.")] $event),+
        }

        impl $crate::flow::machine::State for $State {
            type Event = $Event;
            const MACHINE: &'static str = $machine;
            const START: Self = Self::$start;
            const ALL: &'static [Self] = &[$(Self::$state),+];
            const TABLE: &'static [(Self, $Event, Self)] =
                &[$($((Self::$from, $Event::$on, Self::$to)),+),+];

            fn name(self) -> &'static str {
                match self { $(Self::$state => $state_name),+ }
            }

            fn is_end(self) -> bool {
                matches!(self, $(Self::$end)|+)
            }

            fn after(
                self,
                event: $Event,
            ) -> Result<Self, $crate::flow::machine::IllegalTransition> {
                use $crate::flow::machine::Event as _;
                match (self, event) {
                    $(($(Self::$from)|+, $Event::$on) => Ok(Self::$to),)+
                    (state, event) => Err($crate::flow::machine::IllegalTransition {
                        state: state.name(),
                        event: event.name(),
                    }),
                }
            }
        }

        impl $crate::flow::machine::Event for $Event {
            const FAILED: Self = Self::Failed;
            const CANCELLED: Self = Self::Cancelled;

            fn name(self) -> &'static str {
                match self { $(Self::$event => $event_name),+ }
            }
        }
    };
}

pub(crate) use machine;

/// Appended where an attempt failed and another follows: the state stays.
pub const AGAIN: &str = "again";

/// Appended where the daemon died in the middle of an attempt: the state stays.
pub const INTERRUPTED: &str = "interrupted";

/// All that may happen, for the database: the table, and the two events that change no state.
pub fn rows<S: State>() -> Vec<crate::store::Row> {
    use crate::store::Row;
    let table = S::TABLE
        .iter()
        .map(|(from, event, to)| Row(S::MACHINE, from.name(), event.name(), to.name()));
    let lasting = S::ALL.iter().filter(|state| !state.is_end());
    let stays = lasting.flat_map(|state| {
        [AGAIN, INTERRUPTED].map(|event| Row(S::MACHINE, state.name(), event, state.name()))
    });
    table.chain(stays).collect()
}

#[cfg(test)]
pub(crate) mod checks {
    //! What must hold of every machine.

    use super::{Event as _, State};
    use std::fmt::Write as _;

    /// Every state that a flow in one of `from` may come to.
    fn reach<S: State>(from: &[S]) -> Vec<S> {
        let mut seen = from.to_vec();
        while let Some((_, _, new)) =
            S::TABLE.iter().find(|(a, _, b)| seen.contains(a) && !seen.contains(b))
        {
            seen.push(*new);
        }
        seen
    }

    /// Holds the machine to its rules, and its whole matrix to `expected`: a line a state, with
    /// what each event does there.
    pub(crate) fn check<S: State>(events: &[S::Event], expected: &str) {
        for state in S::ALL {
            assert!(reach(&[S::START]).contains(state), "{state:?} is unreachable");
            assert!(reach(&[*state]).iter().any(|s| s.is_end()), "{state:?} never ends");
            assert_eq!(S::parse(state.name()), Some(*state));
            let rows = S::TABLE.iter().filter(|(from, _, _)| from == state).count();
            assert_eq!(rows == 0, state.is_end(), "{state:?} ends exactly if it has no row");
            if !state.is_end() {
                for event in [S::Event::FAILED, S::Event::CANCELLED] {
                    assert!(state.after(event).is_ok_and(S::is_end), "{state:?} on {event:?}");
                }
            }
        }
        let mut matrix = String::new();
        for state in S::ALL {
            write!(matrix, "{}:", state.name()).unwrap();
            for event in events {
                if let Ok(target) = state.after(*event) {
                    write!(matrix, " {}>{}", event.name(), target.name()).unwrap();
                }
            }
            matrix.push('\n');
        }
        assert_eq!(matrix.trim(), expected.trim());
    }
}
