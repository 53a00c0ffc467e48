//! What a root filesystem must look like, judged from a few facts.
//!
//! The facts are gathered where the tree is (in the sandboxed worker) and judged wherever the
//! question comes up: by the controller after the last layer, and by the helper before a snapshot
//! is taken.

use serde::{Deserialize, Serialize};

use crate::rule::Rule;

/// The directories of which a root filesystem has at least two. Bit `n` of
/// [`LayoutFacts::directories`] stands for the `n`-th.
pub const DIRECTORIES: [&str; 8] = ["bin", "etc", "lib", "sbin", "usr", "var", "home", "opt"];

/// The directories beneath which nothing is world-writable without the sticky bit.
pub const PROTECTED: [&str; 5] = ["etc", "usr", "bin", "sbin", "lib"];

/// What was seen of a tree's top.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutFacts {
    /// A bit for each of [`DIRECTORIES`] that resolves, inside the root, to a directory.
    pub directories: u8,
    /// The root's permission bits (07777).
    pub root_mode: u16,
    /// How many directories beneath [`PROTECTED`] are world-writable without the sticky bit.
    pub writable_directories: u32,
}

impl LayoutFacts {
    /// The rule that the tree breaks, if any.
    pub const fn verdict(&self) -> Result<(), Rule> {
        if self.directories.count_ones() < 2 {
            return Err(Rule::LayoutDirectories);
        }
        // 0755 or stricter: no bit that 0755 has not. A sticky root is stricter still.
        if self.root_mode & !0o1755 != 0 {
            return Err(Rule::LayoutRootMode);
        }
        if self.writable_directories != 0 {
            return Err(Rule::LayoutWritable);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_found() {
        let good = LayoutFacts { directories: 0b11, root_mode: 0o755, writable_directories: 0 };
        assert_eq!(good.verdict(), Ok(()));
        assert_eq!(LayoutFacts { root_mode: 0o1700, ..good }.verdict(), Ok(()));
        let cases = [
            (LayoutFacts { directories: 0b100, ..good }, Rule::LayoutDirectories),
            (LayoutFacts { root_mode: 0o775, ..good }, Rule::LayoutRootMode),
            (LayoutFacts { root_mode: 0o4755, ..good }, Rule::LayoutRootMode),
            (LayoutFacts { writable_directories: 1, ..good }, Rule::LayoutWritable),
        ];
        for (facts, rule) in cases {
            assert_eq!(facts.verdict(), Err(rule));
        }
    }
}
