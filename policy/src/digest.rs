//! Identities by content: SHA-256 digests, and the chain ids made of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::entry::wrapped::WRAPPER;

/// The text is not `sha256:` and 64 characters of `0-9a-f`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a digest is \"sha256:\" and 64 lower-case hex digits")]
pub struct InvalidDigest;

/// A SHA-256 digest, written `sha256:` and 64 lower-case hex digits (OCI image spec, descriptor.md).
#[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest that was computed elsewhere, as its 32 raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits, without `sha256:`. Safe as a file name.
    pub fn hex(&self) -> String {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
    }

    /// The first 12 hex digits, as people are shown it.
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }

    /// Parses 64 hex digits without the `sha256:` before them.
    pub fn from_hex(text: &str) -> Result<Self, InvalidDigest> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(InvalidDigest);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let &[high, low] = pair else { return Err(InvalidDigest) };
            *byte = nibble(high)? << 4 | nibble(low)?;
        }
        Ok(Self(bytes))
    }
}

const fn nibble(digit: u8) -> Result<u8, InvalidDigest> {
    match digit {
        b'0'..=b'9' => Ok(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => Err(InvalidDigest),
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::from_hex(text.strip_prefix("sha256:").ok_or(InvalidDigest)?)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Declares a digest with a meaning of its own, so that one cannot stand for another.
macro_rules! digest_of {
    ($(#[$doc:meta])* $Name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $Name(pub Digest);

        impl FromStr for $Name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

digest_of! {
    /// The digest of a blob: the bytes as they were fetched, compressed or not.
    BlobDigest
}
digest_of! {
    /// The digest of a layer's uncompressed tar (OCI image spec, config.md, "Layer DiffID").
    DiffId
}
digest_of! {
    /// The identity of a layer on top of all those below it (OCI image spec, config.md, "Layer
    /// ChainID"). It names the volume that holds the result.
    ChainId
}

digest_of! {
    /// The digest of a whole tree as it lies in a volume: names, types, modes, owners,
    /// sizes, contents, links and attributes. Times, and where a file has holes, are no part of it.
    TreeDigest
}

impl ChainId {
    /// The chain id of `layer` on top of `parent`; of a first layer without one.
    pub fn of(parent: Option<Self>, layer: DiffId) -> Self {
        match parent {
            None => Self(layer.0),
            Some(parent) => Self(Digest::of(format!("{parent} {layer}").as_bytes())),
        }
    }

    /// The identity of a root filesystem whose tar has it in one directory, which is taken for the
    /// root. Another than the tar's own, so that one chain id always means one tree; and no
    /// chain id of several layers is made of such a text.
    pub fn unwrapped(layer: DiffId) -> Self {
        Self(Digest::of(format!("{WRAPPER} {layer}").as_bytes()))
    }

    /// Whether this is `layer` unwrapped, or as it stands on top of `parent`; `None` if neither.
    pub fn is_unwrapped(self, parent: Option<Self>, layer: DiffId) -> Option<bool> {
        if self == Self::of(parent, layer) {
            return Some(false);
        }
        (parent.is_none() && self == Self::unwrapped(layer)).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_anything_that_could_leave_a_directory() {
        let good = "0".repeat(64);
        for hostile in [
            String::new(),
            "..".to_owned(),
            good.clone(),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{good}0"),
            format!("sha256:../{}", "0".repeat(61)),
            format!("sha512:{good}"),
            format!("sha256:{}\0", "0".repeat(63)),
            format!("sha256:{}é", "0".repeat(62)),
        ] {
            assert_eq!(Digest::try_from(hostile.clone()), Err(InvalidDigest), "{hostile:?}");
        }
        let text = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(text.parse::<Digest>().map(String::from), Ok(text));
    }

    /// The values were computed with sha256sum: `printf 'sha256:A sha256:B' | sha256sum`.
    #[test]
    fn a_chain_id_is_the_digest_of_both_texts() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let first = ChainId::of(None, a);
        assert_eq!(first.0, a.0);
        assert_eq!(
            ChainId::of(Some(first), b).to_string(),
            "sha256:51c0c8ace48498d6f5fee6b0592cc06f2da0f3cbe09c5a34a97dce85c3889676",
        );
    }

    #[test]
    fn a_chain_id_says_whether_its_layer_is_unwrapped() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        let (plain, unwrapped) = (ChainId::of(None, a), ChainId::unwrapped(a));
        assert_eq!(plain.is_unwrapped(None, a), Some(false));
        assert_eq!(unwrapped.is_unwrapped(None, a), Some(true));
        let upper = ChainId::of(Some(plain), b);
        assert_eq!(upper.is_unwrapped(Some(plain), b), Some(false));
        for (chain, parent, layer) in
            [(plain, None, b), (unwrapped, None, b), (ChainId::unwrapped(b), Some(plain), b)]
        {
            assert_eq!(chain.is_unwrapped(parent, layer), None);
        }
    }
}
