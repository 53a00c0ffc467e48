//! Where an image comes from: `s3://bucket/key`, `tar:FILE`, each with an optional digest
//! pin (DAEMON-4).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// The text is not a source.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidSource {
    /// No scheme that airlock knows.
    #[error("a source starts with \"s3://\" or \"tar:\"")]
    Scheme,
    /// The bucket breaks S3's naming rules.
    #[error(
        "a bucket's name has 3 to 63 characters of a-z, 0-9, '.' and '-', starts and ends with a letter or digit, holds no \"..\" and is no IP address"
    )]
    Bucket,
    /// The key cannot be an S3 key.
    #[error("an S3 key is 1 to 1024 bytes of UTF-8 without control characters")]
    Key,
    /// The path is not absolute, or holds a NUL.
    #[error("the path after \"tar:\" is absolute and has no NUL")]
    Path,
    /// What follows the `@` is not a digest.
    #[error("what follows \"@sha256:\" is 64 lower-case hex digits")]
    Pin,
}

/// An S3 bucket's name (AWS, "General purpose bucket naming rules").
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bucket(String);

/// An S3 key: 1 to 1024 bytes of UTF-8 without control characters. `..` is legal: a key never
/// becomes a path.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct S3Key(String);

/// Declares what a checked string has in common.
macro_rules! checked_text {
    ($Name:ident, $fault:expr, $holds:expr) => {
        impl $Name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $Name {
            type Error = InvalidSource;

            fn try_from(text: String) -> Result<Self, InvalidSource> {
                let holds: fn(&str) -> bool = $holds;
                if holds(&text) { Ok(Self(text)) } else { Err($fault) }
            }
        }

        impl From<$Name> for String {
            fn from(text: $Name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_text!(Bucket, InvalidSource::Bucket, |text| {
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    (3..=63).contains(&text.len())
        && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
        && outer(bytes.first())
        && outer(bytes.last())
        && !text.contains("..")
        && text.parse::<std::net::Ipv4Addr>().is_err()
});

checked_text!(S3Key, InvalidSource::Key, |text| {
    (1..=1024).contains(&text.len()) && !text.chars().any(char::is_control)
});

/// Where an image comes from.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Source {
    /// The place.
    pub place: Place,
    /// What the content must be, whatever the place says.
    pub pin: Option<Digest>,
}

/// The place of a source.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// One object.
    S3 {
        /// Its bucket.
        bucket: Bucket,
        /// Its key.
        key: S3Key,
    },
    /// A file that the daemon can read, by absolute path.
    Tar {
        /// The path.
        path: String,
    },
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        // A key may hold an '@', so only one that is followed by the algorithm is a pin.
        let (place, pin) = match text.rsplit_once("@sha256:") {
            Some((place, hex)) => {
                (place, Some(Digest::from_hex(hex).map_err(|_invalid| InvalidSource::Pin)?))
            }
            None => (text, None),
        };
        Ok(Self { place: place.parse()?, pin })
    }
}

impl FromStr for Place {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').ok_or(InvalidSource::Key)?;
            let (bucket, key) = (bucket.to_owned().try_into()?, key.to_owned().try_into()?);
            return Ok(Self::S3 { bucket, key });
        }
        let path = text.strip_prefix("tar:").ok_or(InvalidSource::Scheme)?;
        let well_formed = path.starts_with('/') && !path.contains('\0') && path.len() <= 4096;
        if well_formed { Ok(Self::Tar { path: path.to_owned() }) } else { Err(InvalidSource::Path) }
    }
}

impl Source {
    /// The name that people call an image from here, `golang:2` for `images/golang/2.tar.gz`; the
    /// last component alone where there is but one.
    pub fn image_name(&self) -> String {
        let path = match &self.place {
            Place::S3 { key, .. } => key.as_str(),
            Place::Tar { path } => path,
        };
        let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
        let last = parts.next().unwrap_or(path);
        let stem = [".zst", ".zstd", ".gz", ".tgz", ".tar"].iter().fold(last, |name, suffix| {
            name.strip_suffix(suffix).filter(|n| !n.is_empty()).unwrap_or(name)
        });
        match (&self.place, parts.next()) {
            (Place::S3 { .. }, Some(parent)) => format!("{parent}:{stem}"),
            (Place::S3 { .. }, None) | (Place::Tar { .. }, _) => stem.to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::Tar { path } => write!(f, "tar:{path}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)?;
        self.pin.map_or(Ok(()), |pin| write!(f, "@{pin}"))
    }
}

impl TryFrom<String> for Source {
    type Error = InvalidSource;

    fn try_from(text: String) -> Result<Self, InvalidSource> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> InvalidSource {
        text.parse::<Source>().unwrap_err()
    }

    #[test]
    fn sources_are_parsed_once_and_print_as_they_were_written() {
        let pin = "a1".repeat(32);
        for text in [
            "s3://images/golang/2.tar",
            "s3://images/a/../b",
            "s3://my.bucket-1/k@ey",
            &format!("s3://images/x@sha256:{pin}"),
            "tar:/srv/x.tar",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert_eq!(fault("images/x"), InvalidSource::Scheme);
        assert_eq!(fault("s3://images"), InvalidSource::Key);
        assert_eq!(fault("s3://images/"), InvalidSource::Key);
        assert_eq!(fault("s3://images/a\nb"), InvalidSource::Key);
        assert_eq!(fault("s3://images/x@sha256:12"), InvalidSource::Pin);
        assert_eq!(fault("tar:relative"), InvalidSource::Path);
        for bucket in ["ab", "Images", "-ab", "ab-", "a..b", "10.0.0.1", "a_b", &"a".repeat(64)] {
            assert_eq!(fault(&format!("s3://{bucket}/k")), InvalidSource::Bucket, "{bucket}");
        }
    }

    #[test]
    fn an_image_is_named_after_its_place() {
        for (text, name) in [
            ("s3://images/golang/2.tar.gz", "golang:2"),
            ("s3://images/debian.tar.zst", "debian"),
            ("s3://images/a/b/c.tar", "b:c"),
            ("tar:/srv/images/x.tar", "x"),
            ("s3://images/a/.tar", "a:.tar"),
        ] {
            assert_eq!(text.parse::<Source>().unwrap().image_name(), name);
        }
    }
}
