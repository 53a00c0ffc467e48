//! The words in which a tree that is not as it was written is spoken of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest [`ShownPath`], in bytes: it fits a message between the privileged processes.
pub const MAX_SHOWN: usize = 160;

/// A path out of an image, escaped for people: printable ASCII, at most [`MAX_SHOWN`] bytes.
///
/// It is for the eye only. Nothing is ever opened by it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShownPath(String);

/// The text is longer, or holds more than printable ASCII.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a shown path is at most 160 printable ASCII characters")]
pub struct InvalidShownPath;

impl ShownPath {
    /// A path as it may be shown. Of one that is too long the end is kept, behind three dots.
    pub fn of(path: &[u8]) -> Self {
        const DOTS: &str = "...";
        let text = path.escape_ascii().to_string();
        let most = MAX_SHOWN.saturating_sub(DOTS.len());
        match text.len().checked_sub(MAX_SHOWN) {
            None | Some(0) => Self(text),
            Some(_longer) => {
                let end: String = text.chars().skip(text.len().saturating_sub(most)).collect();
                Self(format!("{DOTS}{end}"))
            }
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ShownPath {
    type Error = InvalidShownPath;

    fn try_from(text: String) -> Result<Self, InvalidShownPath> {
        let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if is_plain && text.len() <= MAX_SHOWN { Ok(Self(text)) } else { Err(InvalidShownPath) }
    }
}

impl From<ShownPath> for String {
    fn from(path: ShownPath) -> Self {
        path.0
    }
}

impl fmt::Display for ShownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Declares the differences with their numbers and texts.
macro_rules! differences {
    ($($What:ident = $number:literal $text:literal;)+) => {
        /// What is not as it was written.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[expect(missing_docs, reason = "each variant is described by its row in the table")]
        pub enum Difference { $($What),+ }

        impl Difference {
            /// Every difference.
            pub const ALL: &[Self] = &[$(Self::$What),+];

            /// What it is, as a clause that follows "the entry".
            pub const fn text(self) -> &'static str {
                match self { $(Self::$What => $text),+ }
            }

            /// The number that stands for it in a message.
            pub const fn number(self) -> u8 {
                match self { $(Self::$What => $number),+ }
            }

            /// The difference of this number.
            pub const fn of_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$What),)+ _ => None }
            }
        }
    };
}

differences! {
    Missing = 1 "is missing";
    Added   = 2 "was added";
    Kind    = 3 "is of another type";
    Mode    = 4 "has another mode";
    Owner   = 5 "has another owner or group";
    Size    = 6 "has another size";
    Content = 7 "has another content, or link target";
    Xattrs  = 8 "has other extended attributes";
    Links   = 9 "is hard-linked otherwise";
    Unnamed = 10 "cannot be told: the tree's digest is another, and its manifest is lost";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_path_holds_is_shown_in_bounds() {
        let long = [b"\xff\n".repeat(200), b"end".to_vec()].concat();
        for path in [&b"usr/bin/a b"[..], b"", b"\x1b[2J\n", &long, &[b'a'; 160], &[b'a'; 161]] {
            let shown = ShownPath::of(path);
            assert_eq!(ShownPath::try_from(shown.to_string()), Ok(shown.clone()), "{path:?}");
        }
        assert_eq!(ShownPath::of(b"a b\n").as_str(), "a b\\n");
        assert!(ShownPath::of(&long).as_str().starts_with("...") && long.ends_with(b"end"));
        assert_eq!(ShownPath::try_from("\u{e9}".to_owned()), Err(InvalidShownPath));
    }

    #[test]
    fn every_difference_has_a_number_of_its_own() {
        for what in Difference::ALL {
            assert_eq!(Difference::of_number(what.number()), Some(*what));
        }
    }
}
