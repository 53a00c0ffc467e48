//! The rules that an archive can break, each with the code that people search for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares the rules: variant, number on the wire between processes, code, requirement, text.
macro_rules! rules {
    ($($Variant:ident = $number:literal $code:literal $requirement:literal $text:literal;)+) => {
        /// A rule that an archive broke.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
        #[serde(try_from = "String", into = "String")]
        #[expect(missing_docs, reason = "each variant is described by its row in the table")]
        pub enum Rule { $($Variant),+ }

        impl Rule {
            /// Every rule, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$Variant),+];

            /// The dotted code: stable, documented, printed in every refusal.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$Variant => $code),+ }
            }

            /// The requirement that the rule comes from.
            pub const fn requirement(self) -> &'static str {
                match self { $(Self::$Variant => $requirement),+ }
            }

            /// What the rule says, as a clause that follows a colon.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$Variant => $text),+ }
            }

            /// The number that stands for the rule in an [`errand`](crate::errand).
            pub const fn number(self) -> u16 {
                match self { $(Self::$Variant => $number),+ }
            }

            /// The rule of this number. A second rule of one number does not compile.
            #[deny(unreachable_patterns)]
            pub const fn of_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$Variant),)+ _ => None }
            }
        }
    };
}

rules! {
    // Names.
    NameEmpty        =  1 "name.empty"        "R-202" "no entry without a name";
    NameAbsolute     =  2 "name.absolute"     "R-202" "no name that starts with a slash";
    NameDotdot       =  3 "name.dotdot"       "R-202" "no \"..\" component in a name";
    NameNul          =  4 "name.nul"          "R-202" "no NUL in a name";
    NameComponent    =  5 "name.component"    "R-202" "a component of a name has at most 255 bytes";
    NameLength       =  6 "name.length"       "R-202" "a name has at most 4096 bytes";
    NameDepth        =  7 "name.depth"        "R-202" "a name has at most 128 components";
    NameRoot         =  8 "name.root"         "R-202" "the root of the image is a directory";
    NameSlash        =  9 "name.slash"        "R-204" "only a directory's name ends in a slash";
    NameOutside      = 10 "name.outside"      "R-302" "an archive that is unwrapped has all its entries in the directory rootfs";
    // Kinds and metadata.
    KindDevice       = 20 "kind.device"       "R-202" "no device nodes";
    KindUnknown      = 21 "kind.unknown"      "R-302" "no entry of an unknown type";
    ModeSetuid       = 22 "mode.setuid"       "R-202" "no setuid or setgid file (policy \"reject\")";
    OwnerRange       = 23 "owner.range"       "R-202" "user and group ids are at most 2147483646";
    XattrSize        = 24 "xattr.size"        "R-202" "extended attributes of an entry have at most 64 KiB";
    XattrNamespace   = 25 "xattr.namespace"   "R-302" "no extended attribute that a volume cannot hold";
    TimeRange        = 26 "time.range"        "R-302" "a time that the filesystem can hold";
    XattrValue       = 27 "xattr.value"       "R-302" "an access control list or file capability is well formed";
    XattrPerson      = 28 "xattr.person"      "R-302" "an access control list names people by number, or by a name that the image knows";
    // Links.
    LinkTarget       = 30 "link.target"       "R-203" "a link's target is 1 to 4095 bytes without NUL";
    LinkMissing      = 31 "link.missing"      "R-203" "a hard link names a file that is there";
    LinkParent       = 32 "link.parent"       "R-203" "an entry's parent is a directory inside the image";
    LinkSelf         = 33 "link.self"         "R-203" "a hard link does not name itself";
    // Whiteouts.
    WhiteoutName     = 40 "whiteout.name"     "R-302" "a whiteout names one component";
    // Limits.
    LimitEntries     = 50 "limit.entries"     "R-202" "at most 1,000,000 entries";
    LimitFile        = 51 "limit.file"        "R-202" "a file has at most 8 GiB";
    LimitTotal       = 52 "limit.total"       "R-202" "an image unpacks to at most 32 GiB";
    LimitRatio       = 53 "limit.ratio"       "R-202" "an image unpacks to at most 200 times its size";
    LimitWindow      = 54 "limit.window"      "R-202" "a zstd frame asks for a window of at most 8 MiB";
    LimitExtension   = 55 "limit.extension"   "R-202" "extension headers are small and few";
    LimitSparse      = 56 "limit.sparse"      "R-202" "a sparse map is small, ascending, inside the file and as long as its data";
    LimitFrames      = 57 "limit.frames"      "R-202" "a compressed stream has at most 65,536 members or frames without content";
    // The archive itself.
    ArchiveNotTar    = 70 "archive.not_tar"   "R-102" "the blob is a tar archive, plain, gzip or zstd";
    ArchiveTruncated = 71 "archive.truncated" "R-204" "the archive is complete";
    ArchiveChecksum  = 72 "archive.checksum"  "R-204" "every header has the right checksum";
    ArchiveNumber    = 73 "archive.number"    "R-204" "every numeric field is a number";
    ArchivePax       = 74 "archive.pax"       "R-204" "every pax record is well formed and said once";
    ArchiveSize      = 75 "archive.size"      "R-204" "header and pax record agree on the size";
    ArchiveTrailing  = 76 "archive.trailing"  "R-204" "nothing but zeros follows the end";
    ArchiveExtension = 77 "archive.extension" "R-204" "an extension header is followed by the entry it describes";
    ArchiveCompressed= 78 "archive.compressed" "R-204" "the compressed stream is whole and undamaged";
    // The whole tree.
    LayoutDirectories= 90 "layout.directories" "R-303" "a root filesystem has at least two of bin, etc, lib, sbin, usr, var, home, opt";
    LayoutRootMode   = 91 "layout.root_mode"  "R-303" "the root's mode is 0755 or stricter";
    LayoutWritable   = 92 "layout.writable"   "R-303" "no world-writable directory without the sticky bit in etc, usr, bin, sbin, lib";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code(), self.requirement(), self.text())
    }
}

/// No rule has this code.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no rule has the code {0:?}")]
pub struct UnknownRule(pub String);

impl TryFrom<String> for Rule {
    type Error = UnknownRule;

    fn try_from(code: String) -> Result<Self, UnknownRule> {
        Self::ALL.iter().copied().find(|rule| rule.code() == code).ok_or(UnknownRule(code))
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.code().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_unique_and_lead_back() {
        for rule in Rule::ALL {
            assert_eq!(Rule::of_number(rule.number()), Some(*rule));
            assert_eq!(Rule::try_from(rule.code().to_owned()), Ok(*rule));
        }
    }
}
