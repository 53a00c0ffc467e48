//! What ends the reading of a layer before its end.

use std::fmt;
use std::io;

use airlock_policy::entry::path::Escaped;
use airlock_policy::rule::Rule;

/// Why a layer was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum LayerFault<E> {
    /// The layer broke a rule: it is the layer's fault, and reading it again changes nothing.
    #[error("layer refused: {0}")]
    Refused(Refusal),
    /// The blob could not be read: nothing is said about the layer.
    #[error("blob could not be read")]
    Read(#[source] io::Error),
    /// The visitor gave up.
    #[error("entry could not be handled")]
    Visitor(#[source] E),
}

/// The rule that a layer broke, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// The member at which it happened, counted from 0; `None` if it is about no member, such as
    /// a damaged compressed stream before the first.
    pub entry: Option<u64>,
    /// The member's name as far as it was known, raw and possibly cut off; empty without one.
    /// It is a stranger's: show it [`Escaped`].
    pub name: Box<[u8]>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            None => write!(f, "{}", self.rule),
            Some(index) => write!(f, "entry {index} \"{}\": {}", Escaped(&self.name), self.rule),
        }
    }
}

/// Why a visitor ends the reading of a layer.
#[derive(Debug, thiserror::Error)]
pub enum Stop<E> {
    /// The entry broke a rule that only the visitor can check, such as
    /// [`Rule::LinkMissing`].
    #[error("entry refused: {0}")]
    Refuse(Rule),
    /// The content broke off; what is wrong with it is already known to the reader.
    #[error(transparent)]
    Content(#[from] Cut),
    /// The visitor's own work failed.
    #[error("entry could not be handled")]
    Failed(#[source] E),
}

/// An entry's content broke off. The reason is kept by the reader, which ends with it whatever
/// the visitor makes of this.
#[derive(Debug, thiserror::Error)]
#[error("the content of the entry breaks off")]
pub struct Cut(pub(crate) ());

/// What goes wrong inside this crate, before it is said where.
#[derive(Debug)]
pub(crate) enum Fault {
    Rule(Rule),
    Read(io::Error),
}

impl From<Rule> for Fault {
    fn from(rule: Rule) -> Self {
        Self::Rule(rule)
    }
}
