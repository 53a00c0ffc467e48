//! Where bytes come from: S3, and files of this machine.
//!
//! An object is looked at once ([`Sources::head`]); every later read is pinned to what was seen
//! then, so that an object which changes midway is an error and never a mixture.

mod backoff;
mod client;
mod fault;
mod local;
mod pace;
mod reply;
mod s3;

use std::sync::Arc;
use std::time::Duration;

use airlock_policy::source::Place;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::config::{BackoffConfig, Config, S3Config};

pub(crate) use self::backoff::Backoff;
pub use self::client::NOISY_COMPONENTS;
pub use self::fault::SourceFault;
pub(crate) use self::local::LocalFile;
use self::pace::Pace;
pub use self::reply::Reply;
pub(crate) use self::s3::{Body, Pinned};

/// An object as it was when it was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectInfo {
    /// Its size.
    pub bytes: u64,
    /// The server's `ETag`, quotes included; of a file its size, inode and time.
    pub etag: Option<String>,
    /// The version id, in a bucket with versions.
    pub version: Option<String>,
    /// When it was last changed, in milliseconds since 1970.
    pub modified_ms: Option<i64>,
}

/// The way to every source. Cheap to clone; clones share connections and the rate limit.
#[derive(Clone, Debug)]
pub struct Sources(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    s3: S3Config,
    waits: BackoffConfig,
    client: OnceCell<aws_sdk_s3::Client>,
    pace: Option<Pace>,
}

impl Sources {
    /// Prepares the way, and speaks to nobody: the first S3 source looks for credentials.
    pub fn new(config: &Config) -> Self {
        let pace = config.s3.rate_limit.map(Pace::new);
        let (s3, waits) = (config.s3.clone(), config.backoff.clone());
        Self(Arc::new(Inner { s3, waits, client: OnceCell::new(), pace }))
    }

    /// Looks at an object: one HEAD, tried again while the server cannot answer.
    pub async fn head(
        &self,
        place: &Place,
        cancel: &CancellationToken,
    ) -> Result<ObjectInfo, SourceFault> {
        let (bucket, key) = match place {
            Place::Tar { path } => return local::head(place, path.clone()).await,
            Place::S3 { bucket, key } => (bucket, key),
        };
        let mut backoff = self.backoff();
        loop {
            let looked = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(SourceFault::Cancelled),
                looked = s3::head(self, place, bucket, key) => looked,
            };
            match looked {
                Ok(info) => return Ok(info),
                Err(fault) => backoff.wait(fault, cancel).await?,
            }
        }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        Backoff::new(self.0.s3.attempts, &self.0.waits)
    }

    /// How long the next byte may take.
    fn stall(&self) -> Duration {
        self.0.s3.stall_timeout.duration()
    }

    /// The S3 client, made at its first use.
    async fn client(&self, place: &Place) -> Result<&aws_sdk_s3::Client, SourceFault> {
        self.0.client.get_or_try_init(|| client::connect(&self.0.s3, place)).await
    }

    /// The endpoint, for people.
    fn endpoint(&self) -> &str {
        self.0.s3.endpoint.as_deref().unwrap_or("AWS S3")
    }

    fn pace(&self) -> Option<&Pace> {
        self.0.pace.as_ref()
    }
}
