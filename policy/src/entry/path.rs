//! The name of an entry, as components below the root of the image (TREE-1).

use std::fmt;

use crate::limit::{MAX_COMPONENT, MAX_DEPTH, MAX_PATH};
use crate::rule::Rule;

/// A name relative to the root of the image: components without `.`, `..`, `/` or NUL, each 1 to
/// [`MAX_COMPONENT`] bytes and at most [`MAX_DEPTH`] of them. The root is the empty path.
///
/// Bytes, not text: nothing here is folded, decoded or normalised, so names that differ stay so.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryPath(Box<[u8]>);

impl EntryPath {
    /// Parses a name as an archive gives it. `./`, `//` and a slash at the end say nothing and
    /// are dropped; nothing else is rewritten.
    pub fn parse(name: &[u8]) -> Result<Self, Rule> {
        if name.is_empty() {
            return Err(Rule::NameEmpty);
        }
        if name.len() > MAX_PATH {
            return Err(Rule::NameLength);
        }
        if name.contains(&0) {
            return Err(Rule::NameNul);
        }
        if name == b"/" {
            return Ok(Self::default());
        }
        if name.starts_with(b"/") {
            return Err(Rule::NameAbsolute);
        }
        let mut path = Vec::with_capacity(name.len());
        let mut depth = 0_usize;
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(Rule::NameDotdot),
                _ if component.len() > MAX_COMPONENT => return Err(Rule::NameComponent),
                _ => {}
            }
            depth = depth.saturating_add(1);
            if depth > MAX_DEPTH {
                return Err(Rule::NameDepth);
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Ok(Self(path.into()))
    }

    /// Whether this is the root of the image.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components joined by single slashes; empty for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, outermost first; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The path without its last component; the root is its own parent.
    #[must_use]
    pub fn parent(&self) -> Self {
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        Self(self.0.get(..end).unwrap_or_default().into())
    }

    /// Every path above this one, nearest first, the root not among them.
    pub fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let end = rest.iter().rposition(|byte| *byte == b'/')?;
            rest = rest.get(..end)?;
            Some(rest)
        })
    }

    /// This path and one component more.
    pub fn join(&self, component: &[u8]) -> Result<Self, Rule> {
        if matches!(component, b"" | b"." | b"..") || component.contains(&b'/') {
            return Err(Rule::NameComponent);
        }
        let mut path = self.0.to_vec();
        path.push(b'/');
        path.extend_from_slice(component);
        Self::parse(path.strip_prefix(b"/").unwrap_or(&path))
    }

    /// What is left of the path below the top-level directory `top`; `None` if it lies elsewhere.
    #[must_use]
    pub fn below(&self, top: &[u8]) -> Option<Self> {
        let rest = self.0.strip_prefix(top)?;
        if rest.is_empty() {
            return Some(Self::default());
        }
        rest.strip_prefix(b"/").map(|rest| Self(rest.into()))
    }
}

impl fmt::Display for EntryPath {
    /// Writes the path on one line of printable ASCII; the root as `/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str("/") } else { fmt::Display::fmt(&Escaped(&self.0), f) }
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes from an archive, shown as one line of printable ASCII: they may hold anything, control
/// sequences for the reader's terminal included.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for byte in self.0 {
            match byte {
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => f.write_char(char::from(*byte))?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<String, Rule> {
        EntryPath::parse(name.as_bytes()).map(|path| path.to_string())
    }

    #[test]
    fn a_name_that_could_leave_the_root_is_refused() {
        for (name, rule) in [
            ("", Rule::NameEmpty),
            ("/etc/passwd", Rule::NameAbsolute),
            ("//", Rule::NameAbsolute),
            ("/./", Rule::NameAbsolute),
            ("///etc/x", Rule::NameAbsolute),
            ("..", Rule::NameDotdot),
            ("a/../../x", Rule::NameDotdot),
            ("a//../../x", Rule::NameDotdot),
            ("a/..", Rule::NameDotdot),
            ("./..", Rule::NameDotdot),
            ("a\0b", Rule::NameNul),
            (&"a/".repeat(129), Rule::NameDepth),
            (&"a".repeat(256), Rule::NameComponent),
            (&"aaaa/".repeat(820), Rule::NameLength),
        ] {
            assert_eq!(parse(name), Err(rule), "{name:?}");
        }
    }

    #[test]
    fn legal_oddities_pass_and_nothing_is_folded() {
        for (name, path) in [
            ("a..b", "a..b"),
            ("..a/...", "..a/..."),
            ("a\\..\\b", "a\\\\..\\\\b"),
            ("./a//b/./c/", "a/b/c"),
            ("/", "/"),
            (".", "/"),
            ("./", "/"),
            ("\u{e9}", "\\xc3\\xa9"),
            ("e\u{301}", "e\\xcc\\x81"),
            ("\x1b[2J\n", "\\x1b[2J\\x0a"),
        ] {
            assert_eq!(parse(name), Ok(path.to_owned()), "{name:?}");
        }
        assert!(EntryPath::parse(&[0xff, 0xfe]).is_ok());
        assert_eq!(parse(&"a/".repeat(128)).map(|path| path.len()), Ok(255));
    }

    #[test]
    fn parents_and_ancestors_end_at_the_root() {
        let path = EntryPath::parse(b"usr/bin/ls").unwrap();
        assert_eq!(path.parent().as_bytes(), b"usr/bin");
        assert_eq!(path.file_name(), Some(&b"ls"[..]));
        assert_eq!(path.ancestors().collect::<Vec<_>>(), [&b"usr/bin"[..], b"usr"]);
        let top = EntryPath::parse(b"usr").unwrap();
        assert!(top.parent().is_root() && top.parent().parent().is_root());
        assert_eq!(top.parent().file_name(), None);
        assert_eq!(path.below(b"usr").unwrap().as_bytes(), b"bin/ls");
        assert!(top.below(b"usr").unwrap().is_root());
        assert_eq!(EntryPath::parse(b"usrx/a").unwrap().below(b"usr"), None);
        for hostile in ["", ".", "..", "a/b", "/"] {
            assert!(top.join(hostile.as_bytes()).is_err());
        }
    }
}
