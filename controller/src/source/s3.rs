//! HEAD and ranged GET of one object (DAEMON-1).

use std::ops::Range;
use std::time::Duration;

use airlock_policy::source::{Bucket, Place, S3Key};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;

use super::reply::{fault_of, reasons_of};
use super::{ObjectInfo, Pace, SourceFault, Sources};

/// One HEAD. Its refusals have no body, so that a missing key looks like a missing bucket: a GET of
/// one byte then asks for the reason.
pub(super) async fn head(
    sources: &Sources,
    place: &Place,
    bucket: &Bucket,
    key: &S3Key,
) -> Result<ObjectInfo, SourceFault> {
    let client = sources.client(place).await?;
    let sent = client.head_object().bucket(bucket.as_str()).key(key.as_str()).send().await;
    let seen = match sent {
        Ok(seen) => seen,
        Err(error) => {
            let status = error.raw_response().map(|response| response.status().as_u16());
            if status.is_some_and(|status| (400..500).contains(&status)) {
                let request = client.get_object().bucket(bucket.as_str()).key(key.as_str());
                if let Err(error) = request.range("bytes=0-0").send().await {
                    return Err(fault_of(&error, place, sources.endpoint()));
                }
            }
            return Err(fault_of(&error, place, sources.endpoint()));
        }
    };
    let bytes = seen.content_length().and_then(|length| u64::try_from(length).ok());
    let info = ObjectInfo {
        bytes: bytes.ok_or_else(|| not_s3(place, "it gave no size"))?,
        etag: seen.e_tag().map(str::to_owned),
        version: seen.version_id().filter(|id| *id != "null").map(str::to_owned),
        modified_ms: seen.last_modified().and_then(|time| time.to_millis().ok()),
    };
    if info.etag.is_none() && info.version.is_none() {
        return Err(not_s3(place, "it gave neither ETag nor version: reads cannot be pinned"));
    }
    Ok(info)
}

fn not_s3(place: &Place, what: &'static str) -> SourceFault {
    SourceFault::NotS3 { place: place.clone(), what }
}

/// An object of S3 that reads are pinned to.
#[derive(Clone, Debug)]
pub(crate) struct Pinned {
    pub(crate) place: Place,
    pub(crate) bucket: Bucket,
    pub(crate) key: S3Key,
    pub(crate) info: ObjectInfo,
}

impl Pinned {
    /// Asks for a range of the object as it was when it was looked at.
    pub(crate) async fn read(
        &self,
        sources: &Sources,
        range: Range<u64>,
    ) -> Result<Body, SourceFault> {
        let client = sources.client(&self.place).await?;
        let last = range.end.saturating_sub(1);
        let mut request = client
            .get_object()
            .bucket(self.bucket.as_str())
            .key(self.key.as_str())
            .range(format!("bytes={}-{last}", range.start));
        // By ETag where there is one: reading a version by its id needs a permission of its own.
        request = match &self.info.etag {
            Some(etag) => request.if_match(etag),
            None => request.set_version_id(self.info.version.clone()),
        };
        let sent = request.send().await;
        let got = sent.map_err(|e| fault_of(&e, &self.place, sources.endpoint()))?;
        self.check(&got, &range)?;
        Ok(Body {
            stream: got.body,
            left: range.end.saturating_sub(range.start),
            place: self.place.clone(),
            stall: sources.stall(),
        })
    }

    /// Some servers ignore `If-Match` or the range: what they then send is not what was asked for.
    fn check(&self, got: &GetObjectOutput, range: &Range<u64>) -> Result<(), SourceFault> {
        if self.info.etag.is_some() && got.e_tag() != self.info.etag.as_deref() {
            return Err(SourceFault::Changed { place: self.place.clone() });
        }
        let last = range.end.saturating_sub(1);
        let wanted = format!("bytes {}-{last}/{}", range.start, self.info.bytes);
        let is_whole = *range == (0..self.info.bytes);
        match got.content_range() {
            Some(given) if given == wanted => Ok(()),
            None if is_whole => Ok(()),
            Some(_) => Err(not_s3(&self.place, "it sent another range")),
            None => Err(not_s3(&self.place, "it ignored the range")),
        }
    }
}

/// The bytes of a range as they come.
#[derive(Debug)]
pub(crate) struct Body {
    stream: ByteStream,
    left: u64,
    place: Place,
    stall: Duration,
}

impl Body {
    /// The next bytes, within the rate limit; `None` when the whole range came.
    pub(crate) async fn next(
        &mut self,
        sources: &Sources,
    ) -> Result<Option<impl AsRef<[u8]> + use<>>, SourceFault> {
        if self.left == 0 {
            return Ok(None);
        }
        let place = || self.place.clone();
        let next = tokio::time::timeout(self.stall, self.stream.next()).await;
        let next =
            next.map_err(|_elapsed| SourceFault::Stalled { place: place(), after: self.stall })?;
        let broken = |why| SourceFault::Cut { place: place(), why };
        let bytes = next
            .ok_or_else(|| broken(vec!["the server closed the connection".to_owned()]))?
            .map_err(|e| broken(reasons_of(&e)))?;
        let fits = self.left.checked_sub(bytes.len() as u64);
        self.left = fits.ok_or_else(|| not_s3(&self.place, "it sent more than the range"))?;
        if let Some(pace) = sources.pace() {
            Pace::took(pace, bytes.len()).await;
        }
        Ok(Some(bytes))
    }
}
