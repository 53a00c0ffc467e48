//! What has to be remembered of a layer while it is written, in a few bytes an entry.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;

use rustix::fs::Timespec;

/// What this layer wrote, and what times directories shall have.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// `None` if nothing lies below: then all that is there was written by this layer.
    written: Option<HashSet<u64>>,
    keys: RandomState,
    /// By inode number: making an entry changes its directory's time, so these come last.
    times: HashMap<u64, Timespec>,
}

impl Ledger {
    pub(crate) fn new(something_below: bool) -> Self {
        Self {
            written: something_below.then(HashSet::new),
            keys: RandomState::new(),
            times: HashMap::new(),
        }
    }

    /// Notes that this layer has an entry `name` in the directory of this inode number.
    pub(crate) fn note_written(&mut self, directory: u64, name: &[u8]) {
        let key = self.key(directory, name);
        if let Some(written) = &mut self.written {
            written.insert(key);
        }
    }

    /// Whether this layer wrote the entry.
    pub(crate) fn wrote(&self, directory: u64, name: &[u8]) -> bool {
        self.written.as_ref().is_none_or(|set| set.contains(&self.key(directory, name)))
    }

    /// Names are a stranger's, but the keys are not: none can make two names look like one.
    fn key(&self, directory: u64, name: &[u8]) -> u64 {
        self.keys.hash_one((directory, name))
    }

    /// Notes the time that a directory shall have in the end.
    pub(crate) fn set_time(&mut self, directory: u64, time: Timespec) {
        self.times.insert(directory, time);
    }

    /// Notes the time that a directory has, if nothing else is known of it: one that the layer
    /// does not name keeps its time, whatever is made in it.
    pub(crate) fn keep_time(&mut self, directory: u64, time: Timespec) {
        self.times.entry(directory).or_insert(time);
    }

    /// The time that a directory shall have, taken out.
    pub(crate) fn take_time(&mut self, directory: u64) -> Option<Timespec> {
        self.times.remove(&directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_the_layer_does_not_name_keeps_the_time_it_had_first() {
        let time = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
        let mut ledger = Ledger::new(true);
        ledger.keep_time(7, time(1));
        ledger.keep_time(7, time(2));
        assert_eq!(ledger.take_time(7), Some(time(1)));
        ledger.keep_time(8, time(1));
        ledger.set_time(8, time(3));
        ledger.keep_time(8, time(4));
        assert_eq!((ledger.take_time(8), ledger.take_time(8)), (Some(time(3)), None));
    }

    #[test]
    fn only_what_lies_below_can_be_hidden() {
        let mut layer = Ledger::new(true);
        layer.note_written(2, b"a");
        assert!(layer.wrote(2, b"a"));
        assert!(!layer.wrote(2, b"b") && !layer.wrote(3, b"a"));
        assert!(Ledger::new(false).wrote(2, b"b"));
    }
}
