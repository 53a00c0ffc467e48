//! Hostile archives of our own, made byte by byte: what each attacks, and how it must end.
//!
//! `archive` writes them; `cases` lists them; `run` puts one through the scan and the worker and
//! says what is wrong with the outcome; `outside` reads the list of those that others made.

pub mod archive;
pub mod cases;
pub mod outside;
pub mod run;

use airlock_policy::helper_config::LimitsConfig;
use airlock_policy::rule::Rule;

/// A hostile archive.
#[derive(Debug)]
pub struct Case {
    /// What it is called; no other is called so.
    pub name: &'static str,
    /// The attack, in one sentence.
    pub attack: &'static str,
    /// The archive.
    pub blob: Vec<u8>,
    /// The layer that it is laid over, if any.
    pub below: Option<Vec<u8>>,
    /// Whether the worker is told to unwrap it, whatever the scan says.
    pub unwrap: bool,
    /// Limits that differ from the defaults.
    pub limits: LimitsConfig,
    /// How it must end.
    pub end: End,
}

/// How a hostile archive must end.
#[derive(Clone, Debug)]
pub enum End {
    /// Scan and worker both refuse it, by this rule.
    Refused(Rule),
    /// The worker refuses it by this rule. The scan, which has no filesystem and knows of no layer
    /// below, cannot know.
    RefusedByWorker(Rule),
    /// Both accept it; the layout of the tree, as the worker saw it, breaks this rule.
    BadLayout(Rule),
    /// Both accept it, and the tree is exactly this beside its root: a line for each path, whose
    /// words stand in this order in the line of [`list`](crate::tree::list).
    Accepted(Vec<String>),
}

impl Case {
    fn new(name: &'static str, attack: &'static str, blob: Vec<u8>, end: End) -> Self {
        Self {
            name,
            attack,
            blob,
            below: None,
            unwrap: false,
            limits: LimitsConfig::default(),
            end,
        }
    }

    fn over(mut self, below: Vec<u8>) -> Self {
        self.below = Some(below);
        self
    }

    fn limited(mut self, limit: impl FnOnce(&mut LimitsConfig)) -> Self {
        limit(&mut self.limits);
        self
    }
}

/// An accepted archive's tree.
fn holds(lines: &[&str]) -> End {
    End::Accepted(lines.iter().map(|line| (*line).to_owned()).collect())
}
