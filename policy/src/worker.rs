//! How the launcher starts a worker: descriptors by number, the job as fixed arguments, the
//! meaning of exit codes.
//!
//! Arguments are positional and all numbers but the request id. One encoder, one decoder: there
//! are no options to be confused about.

use std::str::FromStr;

use crate::digest::{Digest, TreeDigest};
use crate::errand::Envelope;
use crate::limit::{ArchiveLimits, Setuid};
use crate::name::{RequestId, SnapshotName};

/// The worker's name, as its first argument and as its file's.
pub const WORKER: &str = "airlock-dm-worker";

/// The device, as a descriptor that only names it, of every job that works on one.
pub const DEVICE: i32 = 3;
/// [`Job::Extract`]: the blob, open for reading.
pub const BLOB: i32 = 4;
/// [`Job::Extract`]: the pipe for reports, each an encoded [`Answer`](crate::errand::Answer).
pub const REPORTS: i32 = 5;
/// [`Job::Extract`]: the user namespace to live in.
pub const USER_NAMESPACE: i32 = 6;
/// [`Job::Extract`]: where the new manifest is written.
pub const TREE: i32 = 7;
/// [`Job::Extract`]: the manifest of the volume below, where [`ExtractOrder::below`] names one.
pub const BELOW: i32 = 8;
/// [`Job::Verify`]: the reports and the user namespace, behind [`DEVICE`]; then the manifest, where
/// [`VerifyOrder::manifest`] says that there is one.
pub const VERIFY: [i32; 3] = [4, 5, 6];
/// [`Job::Mount`]: the directory to mount on.
pub const MOUNT_POINT: i32 = 4;
/// [`Job::Unmount`]: the folder of all mounts.
pub const MOUNTS: i32 = 3;
/// [`Job::HoldNamespace`]: a socket on which one byte says that the namespace is there.
pub const READY: i32 = 3;

/// The worker did not understand its arguments.
pub const EXIT_BAD_ORDER: u8 = 124;
/// The worker could not confine itself, or not start its tool: it did nothing.
pub const EXIT_SANDBOX: u8 = 125;

/// What a worker is started for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Job {
    /// Makes a user namespace and waits in it to be killed.
    HoldNamespace,
    /// Runs mkfs.ext4 on a device.
    Format,
    /// Runs `thin_check` on a device.
    Check,
    /// Runs resize2fs on a device.
    Grow,
    /// Mounts a device. Its exit code is the kernel's errno, 0 for none.
    Mount {
        /// Whether nothing is to be written.
        read_only: bool,
    },
    /// Unmounts the directory of this name, and removes it. Likewise.
    Unmount(SnapshotName),
    /// Extracts a blob into the filesystem on a device.
    Extract(ExtractOrder),
    /// Reads a filesystem again and compares it with its manifest.
    Verify(VerifyOrder),
}

/// What the extraction has to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExtractOrder {
    /// What the reports are sent under.
    pub envelope: Envelope,
    /// The limits on the archive.
    pub limits: ArchiveLimits,
    /// The most address space that the worker may take, in bytes.
    pub memory: u64,
    /// The digest that the manifest of the volume below must have.
    pub below: Option<TreeDigest>,
    /// Whether the archive is unwrapped (see [`crate::entry::wrapped`]).
    pub unwrap: bool,
}

/// What the verification has to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifyOrder {
    /// What the reports are sent under.
    pub envelope: Envelope,
    /// The most address space that the worker may take, in bytes.
    pub memory: u64,
    /// The digest that the manifest must have.
    pub tree: TreeDigest,
    /// Whether there is a manifest.
    pub manifest: bool,
}

/// The arguments are no order.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("understand the arguments: they are the launcher's to write, not a person's")]
pub struct InvalidOrder;

impl Job {
    /// The arguments of a worker, its name first.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![WORKER.to_owned(), self.word().to_owned()];
        if let Self::Unmount(name) = self {
            arguments.push(name.to_string());
        }
        if let Self::Extract(ExtractOrder { envelope, limits, memory, below, unwrap }) = self {
            let Envelope { number, request } = envelope;
            let ArchiveLimits { entries, file_bytes, total_bytes, ratio, ratio_from_bytes, setuid } =
                limits;
            let setuid = match setuid {
                Setuid::Keep => 0_u64,
                Setuid::Strip => 1,
                Setuid::Reject => 2,
            };
            arguments.push(request.to_string());
            let numbers = [
                number,
                entries,
                file_bytes,
                total_bytes,
                ratio,
                ratio_from_bytes,
                &setuid,
                memory,
                &u64::from(*unwrap),
            ];
            arguments.push(below.map_or_else(|| "-".to_owned(), |tree| tree.0.hex()));
            arguments.extend(numbers.iter().map(ToString::to_string));
        } else if let Self::Verify(VerifyOrder { envelope, memory, tree, manifest }) = self {
            let Envelope { number, request } = envelope;
            let numbers = [*number, *memory, u64::from(*manifest)];
            arguments.extend([request.to_string(), tree.0.hex()]);
            arguments.extend(numbers.iter().map(ToString::to_string));
        }
        arguments
    }

    /// Reads what [`arguments`](Self::arguments) writes, the worker's name aside.
    pub fn parse(arguments: &[&str]) -> Result<Self, InvalidOrder> {
        match arguments {
            ["hold-namespace"] => Ok(Self::HoldNamespace),
            ["format"] => Ok(Self::Format),
            ["check"] => Ok(Self::Check),
            ["grow"] => Ok(Self::Grow),
            ["mount"] => Ok(Self::Mount { read_only: false }),
            ["mount-read-only"] => Ok(Self::Mount { read_only: true }),
            ["unmount", name] => name.parse().map(Self::Unmount).map_err(|_invalid| InvalidOrder),
            ["extract", request, below, numbers @ ..] => {
                ExtractOrder::parse(request, below, numbers).map(Self::Extract)
            }
            ["verify", request, tree, numbers @ ..] => {
                VerifyOrder::parse(request, tree, numbers).map(Self::Verify)
            }
            _ => Err(InvalidOrder),
        }
    }

    /// The word for it, in the arguments and in the log.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::HoldNamespace => "hold-namespace",
            Self::Format => "format",
            Self::Check => "check",
            Self::Grow => "grow",
            Self::Mount { read_only: false } => "mount",
            Self::Mount { read_only: true } => "mount-read-only",
            Self::Unmount(_) => "unmount",
            Self::Extract(_) => "extract",
            Self::Verify(_) => "verify",
        }
    }
}

impl ExtractOrder {
    fn parse(request: &str, below: &str, numbers: &[&str]) -> Result<Self, InvalidOrder> {
        let below = if below == "-" { None } else { Some(tree(below)?) };
        let numbers = self::numbers(numbers)?;
        let &[
            number,
            entries,
            file_bytes,
            total_bytes,
            ratio,
            ratio_from_bytes,
            setuid,
            memory,
            unwrap @ (0 | 1),
        ] = numbers.as_slice()
        else {
            return Err(InvalidOrder);
        };
        let setuid = match setuid {
            0 => Setuid::Keep,
            1 => Setuid::Strip,
            2 => Setuid::Reject,
            _ => return Err(InvalidOrder),
        };
        let limits =
            ArchiveLimits { entries, file_bytes, total_bytes, ratio, ratio_from_bytes, setuid };
        Ok(Self {
            envelope: envelope(number, request)?,
            limits,
            memory,
            below,
            unwrap: unwrap == 1,
        })
    }
}

impl VerifyOrder {
    fn parse(request: &str, tree: &str, numbers: &[&str]) -> Result<Self, InvalidOrder> {
        let tree = self::tree(tree)?;
        let &[number, memory, manifest @ (0 | 1)] = self::numbers(numbers)?.as_slice() else {
            return Err(InvalidOrder);
        };
        Ok(Self { envelope: envelope(number, request)?, memory, tree, manifest: manifest == 1 })
    }
}

fn numbers(words: &[&str]) -> Result<Vec<u64>, InvalidOrder> {
    let numbers: Result<_, _> = words.iter().map(|word| u64::from_str(word)).collect();
    numbers.map_err(|_not_a_number| InvalidOrder)
}

fn envelope(number: u64, request: &str) -> Result<Envelope, InvalidOrder> {
    let request = RequestId::try_from(request.to_owned()).map_err(|_invalid| InvalidOrder)?;
    Ok(Envelope { number, request })
}

fn tree(hex: &str) -> Result<TreeDigest, InvalidOrder> {
    Digest::from_hex(hex).map(TreeDigest).map_err(|_invalid| InvalidOrder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(below: Option<TreeDigest>, unwrap: bool) -> Job {
        let request = RequestId::try_from("r1".to_owned()).unwrap();
        let limits = ArchiveLimits { setuid: Setuid::Reject, ..ArchiveLimits::default() };
        let envelope = Envelope { number: u64::MAX, request };
        Job::Extract(ExtractOrder { envelope, limits, memory: 512 << 20, below, unwrap })
    }

    fn verify() -> Job {
        let request = RequestId::try_from("r1".to_owned()).unwrap();
        let (envelope, tree) = (Envelope { number: 1, request }, TreeDigest(Digest::of(b"t")));
        Job::Verify(VerifyOrder { envelope, memory: 512 << 20, tree, manifest: true })
    }

    #[test]
    fn every_job_is_read_as_it_was_written() {
        let name = "web".parse().unwrap();
        let mounts = [Job::Mount { read_only: true }, Job::Mount { read_only: false }];
        let tools = [Job::HoldNamespace, Job::Format, Job::Check, Job::Grow];
        let tree = TreeDigest(Digest::of(b"t"));
        let others =
            [Job::Unmount(name), extract(None, true), extract(Some(tree), false), verify()];
        for job in tools.into_iter().chain(mounts).chain(others) {
            let words = job.arguments();
            let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            assert_eq!(Job::parse(&words), Ok(job));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for job in [extract(None, false), verify()] {
            let words = job.arguments();
            let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
            for length in 0..words.len() {
                assert_eq!(Job::parse(&words[..length]), Err(InvalidOrder));
            }
        }
        for extra in [
            &["format", "x"][..],
            &["unmount", "../x"],
            &["unmount"],
            &["extract", "R"],
            &["--help"],
        ] {
            assert_eq!(Job::parse(extra), Err(InvalidOrder));
        }
    }
}
