//! Names and ids: parsed once at the edge, impossible to construct unchecked (NAME-1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The text cannot be a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    /// Too short or too long.
    #[error("a name has 1 to 128 characters, this one {0}")]
    Length(usize),
    /// A character that is not allowed, or not at the start.
    #[error("a name is made of a-z, 0-9, '.', '_' and '-', and starts with a letter or a digit")]
    Character,
}

/// The longest name, in bytes. A file name may have 255 and a devicemapper name 127: no device is
/// named after a name of ours ([`DeviceName`]), so this is for people.
pub const MAX_NAME: usize = 128;

/// Where snapshots are mounted, each on the directory of its name.
pub const MOUNTS: &str = "/run/airlock/mnt";

fn check_name(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(InvalidName::Length(text.len()));
    }
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let first = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let well_formed = text.as_bytes().first().is_some_and(first) && text.bytes().all(inner);
    if well_formed { Ok(()) } else { Err(InvalidName::Character) }
}

/// The name of a snapshot: `[a-z0-9][a-z0-9._-]{0,127}`.
///
/// It is never `.` or `..` and holds no `/`, so it is safe as the last component of a path.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

impl SnapshotName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        check_name(&text)?;
        Ok(Self(text))
    }
}

impl FromStr for SnapshotName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.to_owned().try_into()
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a request id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a request id is 1 to 32 characters of 0-9a-z")]
pub struct InvalidRequestId;

/// What ties one command of an operator to all that is done for it, in every process and log.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

impl RequestId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RequestId {
    type Error = InvalidRequestId;

    fn try_from(text: String) -> Result<Self, InvalidRequestId> {
        let well_formed = (1..=32).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'));
        if well_formed { Ok(Self(text)) } else { Err(InvalidRequestId) }
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number is not a thin id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a thin id has 24 bits, and {0} has more")]
pub struct InvalidThinId(pub u32);

/// A thin device's number in its pool: 24 bits (kernel, Documentation/admin-guide/device-mapper/
/// thin-provisioning.rst). Allocated by the helper alone.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ThinId(u32);

impl ThinId {
    /// The base volume's.
    pub const BASE: Self = Self(0);

    /// The next one, or `None` when all 2^24 were given out.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).and_then(|id| Self::try_from(id).ok())
    }
}

impl TryFrom<u32> for ThinId {
    type Error = InvalidThinId;

    fn try_from(id: u32) -> Result<Self, InvalidThinId> {
        if id < 1 << 24 { Ok(Self(id)) } else { Err(InvalidThinId(id)) }
    }
}

impl From<ThinId> for u32 {
    fn from(id: ThinId) -> Self {
        id.0
    }
}

impl fmt::Display for ThinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name and uuid of a devicemapper device of ours, derived, never taken from a request.
///
/// The longest is `airlock-v` and 6 hex digits: 15 bytes, and a uuid of 27: both below
/// the 127 that `DM_NAME_LEN` and the 128 that `DM_UUID_LEN` leave (linux/dm-ioctl.h).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DeviceName {
    /// The thin pool.
    Pool,
    /// A thin volume or snapshot.
    Thin(ThinId),
}

impl DeviceName {
    /// The uuid. Its prefix says that a device is airlock's.
    pub fn uuid(self) -> String {
        format!("AIRLOCK-{self}")
    }

    /// The uuid of a device that is handed out: by it udev tells whose the node is, from the first
    /// event on.
    pub fn handed_out_uuid(self) -> String {
        format!("AIRLOCK-OUT-{self}")
    }

    /// Whether a device of this name is airlock's, and which.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("airlock-")?;
        if rest == "pool" {
            return Some(Self::Pool);
        }
        let id = ThinId::try_from(u32::from_str_radix(rest.strip_prefix('v')?, 16).ok()?).ok()?;
        let name = Self::Thin(id);
        // Only the one spelling that we write.
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool => f.write_str("airlock-pool"),
            Self::Thin(id) => write!(f, "airlock-v{:06x}", u32::from(*id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_name_is_a_safe_file_name() {
        for bad in
            ["", ".", "..", "-a", ".a", "a/b", "a\0", "A", "a b", "é", "a\n", &"a".repeat(129)]
        {
            assert!(bad.parse::<SnapshotName>().is_err(), "{bad:?}");
        }
        for good in ["a", "0", "web", "golang-2", "a..b", "a.b_c-d", &"a".repeat(128)] {
            assert_eq!(good.parse::<SnapshotName>().map(String::from), Ok(good.to_owned()));
        }
    }

    #[test]
    fn a_thin_id_has_24_bits() {
        assert_eq!(ThinId::try_from(1 << 24), Err(InvalidThinId(1 << 24)));
        assert_eq!(ThinId::try_from((1 << 24) - 1).map(ThinId::next), Ok(None));
        assert_eq!(ThinId::BASE.next().map(u32::from), Some(1));
    }

    #[test]
    fn device_names_are_read_only_as_they_are_written() {
        let id = ThinId::try_from(0xa3).unwrap();
        assert_eq!(DeviceName::Thin(id).to_string(), "airlock-v0000a3");
        for name in [DeviceName::Pool, DeviceName::Thin(id), DeviceName::Thin(ThinId::BASE)] {
            assert_eq!(DeviceName::parse(&name.to_string()), Some(name));
        }
        for other in [
            "airlock-",
            "airlock-va3",
            "airlock-v0000A3",
            "airlock-v1000000",
            "vg-lv",
            "airlock-v+000a3",
        ] {
            assert_eq!(DeviceName::parse(other), None, "{other}");
        }
    }
}
