//! Why bytes could not be fetched: one variant for each situation an operator can be in (DAEMON-3).

mod tell;

use std::io;
use std::time::Duration;

use airlock_policy::digest::Digest;
use airlock_policy::size::ByteSize;
use airlock_policy::source::Place;
use airlock_protocol::control::ErrorClass;

use super::reply::Reply;

/// Why bytes could not be fetched.
///
/// No variant holds a credential, a header or a signature.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// There is no such object.
    #[error("{place} does not exist")]
    NotFound {
        /// What was asked for.
        place: Place,
        /// What the server said.
        reply: Box<Reply>,
    },
    /// There is no such bucket.
    #[error("the bucket of {place} does not exist")]
    Bucket {
        /// What was asked for.
        place: Place,
        /// What the server said.
        reply: Box<Reply>,
    },
    /// The server knows the request's maker, or does not, and says no.
    #[error("the server does not let airlock read {place}")]
    Denied {
        /// What was asked for.
        place: Place,
        /// What the server said.
        reply: Box<Reply>,
    },
    /// No credentials were found, or the place that gives them failed.
    #[error("there are no credentials to read {place} with")]
    Credentials {
        /// What was asked for.
        place: Place,
        /// The reasons, outermost first.
        why: Vec<String>,
    },
    /// The bucket is in another region.
    #[error("the bucket of {place} is in another region")]
    Region {
        /// What was asked for.
        place: Place,
        /// What the server said.
        reply: Box<Reply>,
    },
    /// No connection, or no answer in time.
    #[error("{endpoint} cannot be reached for {place}")]
    Unreachable {
        /// What was asked for.
        place: Place,
        /// The endpoint.
        endpoint: String,
        /// The reasons, outermost first.
        why: Vec<String>,
    },
    /// The server has a trouble of its own that may pass.
    #[error("the server could not answer for {place}")]
    Server {
        /// What was asked for.
        place: Place,
        /// What the server said.
        reply: Box<Reply>,
    },
    /// An answer that none of the others covers.
    #[error("the server refused the request for {place}")]
    Answer {
        /// What was asked for.
        place: Place,
        /// What the server said.
        reply: Box<Reply>,
    },
    /// The request could not even be made.
    #[error("no request for {place} could be made")]
    Request {
        /// What was asked for.
        place: Place,
        /// The reasons, outermost first.
        why: Vec<String>,
    },
    /// The server does not do what S3 does.
    #[error("the server answered the request for {place} in a way that S3 does not")]
    NotS3 {
        /// What was asked for.
        place: Place,
        /// What it did.
        what: &'static str,
    },
    /// The transfer broke off.
    #[error("the transfer of {place} broke off")]
    Cut {
        /// What was fetched.
        place: Place,
        /// The reasons, outermost first.
        why: Vec<String>,
    },
    /// No byte came for too long.
    #[error("the transfer of {place} stalled for {after:?}")]
    Stalled {
        /// What was fetched.
        place: Place,
        /// How long was waited.
        after: Duration,
    },
    /// A passing trouble did not pass.
    #[error("{last}, {tries} times in a row")]
    GaveUp {
        /// How often it was tried.
        tries: u32,
        /// The last trouble.
        #[source]
        last: Box<Self>,
    },
    /// The object is no longer what it was when it was looked at. A new look starts over.
    #[error("{place} changed while it was fetched")]
    Changed {
        /// What was fetched.
        place: Place,
    },
    /// The object is larger than allowed.
    #[error("{place} has {bytes}, more than the {limit} allowed")]
    TooLarge {
        /// What was asked for.
        place: Place,
        /// Its size.
        bytes: ByteSize,
        /// The limit.
        limit: ByteSize,
    },
    /// The content is not what the pin says.
    #[error("{place} is not what its digest says")]
    Digest {
        /// What was fetched.
        place: Place,
        /// The digest it should have.
        pinned: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// The blobs' disk has no room.
    #[error("the disk of the blobs has no room for {place}")]
    DiskFull {
        /// What was fetched.
        place: Place,
        /// Bytes still needed.
        needed: ByteSize,
        /// Bytes free.
        free: ByteSize,
        /// Bytes of those that airlock leaves untouched.
        reserve: ByteSize,
    },
    /// The blobs' disk failed.
    #[error("cannot {attempt} for {place}")]
    Disk {
        /// What was fetched.
        place: Place,
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A `tar:` file cannot be read.
    #[error("cannot read {place}")]
    File {
        /// The file.
        place: Place,
        /// Why.
        source: io::Error,
    },
    /// A setting names something that cannot be used.
    #[error("S3 cannot be used for {place}: {what} is not usable")]
    Setting {
        /// What was asked for.
        place: Place,
        /// The setting.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another download of the same object writes the same file.
    #[error("{place} is being fetched already")]
    Busy {
        /// What was asked for.
        place: Place,
    },
    /// The caller gave up.
    #[error("the fetch was cancelled")]
    Cancelled,
}

impl SourceFault {
    /// The stable dotted code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "source.not_found",
            Self::Bucket { .. } => "source.bucket",
            Self::Denied { .. } => "source.denied",
            Self::Credentials { .. } => "source.credentials",
            Self::Region { .. } => "source.region",
            Self::Unreachable { .. } => "source.unreachable",
            Self::Server { .. } => "source.server",
            Self::Answer { .. } => "source.answer",
            Self::Request { .. } => "source.request",
            Self::NotS3 { .. } => "source.not_s3",
            Self::Cut { .. } => "source.cut",
            Self::Stalled { .. } => "source.stalled",
            Self::GaveUp { last, .. } => last.code(),
            Self::Changed { .. } => "source.changed",
            Self::TooLarge { .. } => "source.too_large",
            Self::Digest { .. } => "blob.digest",
            Self::DiskFull { .. } => "disk.full",
            Self::Disk { .. } => "disk.failed",
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "source.not_found"
            }
            Self::File { .. } => "source.file",
            Self::Setting { .. } => "source.setting",
            Self::Busy { .. } => "source.busy",
            Self::Cancelled => "source.cancelled",
        }
    }

    /// The kind of error.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } | Self::Bucket { .. } => ErrorClass::NotFound,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorClass::NotFound
            }
            Self::Denied { .. } | Self::TooLarge { .. } | Self::Digest { .. } => {
                ErrorClass::Refused
            }
            Self::Region { .. } | Self::Setting { .. } | Self::Request { .. } => ErrorClass::Usage,
            Self::Credentials { .. }
            | Self::Unreachable { .. }
            | Self::Server { .. }
            | Self::Answer { .. }
            | Self::NotS3 { .. }
            | Self::Cut { .. }
            | Self::Stalled { .. }
            | Self::DiskFull { .. }
            | Self::Disk { .. }
            | Self::File { .. } => ErrorClass::Unavailable,
            Self::GaveUp { last, .. } => last.class(),
            Self::Changed { .. } => ErrorClass::Conflict,
            Self::Busy { .. } => ErrorClass::Busy,
            Self::Cancelled => ErrorClass::Internal,
        }
    }

    /// Whether the same request may succeed later although nobody changed anything.
    ///
    /// Not so for [`SourceFault::Changed`]: that needs a new look first.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Server { .. }
            | Self::Cut { .. }
            | Self::Stalled { .. }
            | Self::Busy { .. } => true,
            Self::GaveUp { last, .. } => last.is_retryable(),
            Self::NotFound { .. }
            | Self::Bucket { .. }
            | Self::Denied { .. }
            | Self::Credentials { .. }
            | Self::Region { .. }
            | Self::Answer { .. }
            | Self::Request { .. }
            | Self::NotS3 { .. }
            | Self::Changed { .. }
            | Self::TooLarge { .. }
            | Self::Digest { .. }
            | Self::DiskFull { .. }
            | Self::Disk { .. }
            | Self::File { .. }
            | Self::Setting { .. }
            | Self::Cancelled => false,
        }
    }
}
