//! What a server or the network answered, reduced to what may be told.
//!
//! An SDK error's `Debug` form can hold headers and signatures. Only status, code, message and
//! request id leave this file, each without control characters and cut to a length (DAEMON-2).

use std::error::Error;
use std::fmt;

use airlock_policy::source::Place;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::SourceFault;

const MAX_TEXT: usize = 200;

/// A server's refusal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// S3's code, such as `SlowDown`.
    pub code: Option<String>,
    /// S3's words.
    pub message: Option<String>,
    /// S3's id of the request, for the people who run the server.
    pub request_id: Option<String>,
    /// The region that the bucket is in, if the server says so.
    pub region: Option<String>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        self.message.as_ref().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

/// Makes a stranger's words harmless for a terminal and a log.
pub(super) fn printable(text: &str) -> String {
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut clean: String = clean.take(MAX_TEXT).collect();
    if text.trim().chars().count() > MAX_TEXT {
        clean.push('…');
    }
    clean
}

/// What went wrong with a request for `place`.
pub(super) fn fault_of<E>(
    error: &SdkError<E, HttpResponse>,
    place: &Place,
    endpoint: &str,
) -> SourceFault
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(response) = error.raw_response() {
        return judge(reply_of(error, response), place);
    }
    let reasons = reasons_of(error);
    if finds_credentials_error(error) {
        return SourceFault::Credentials { place: place.clone(), why: reasons };
    }
    let place = place.clone();
    if matches!(error, SdkError::TimeoutError(_) | SdkError::DispatchFailure(_)) {
        SourceFault::Unreachable { place, endpoint: endpoint.to_owned(), why: reasons }
    } else {
        SourceFault::Request { place, why: reasons }
    }
}

fn reply_of<E>(error: &SdkError<E, HttpResponse>, response: &HttpResponse) -> Reply
where
    E: ProvideErrorMetadata,
{
    let header = |name: &str| response.headers().get(name).map(printable);
    Reply {
        status: response.status().as_u16(),
        code: error.code().map(printable),
        message: error.message().map(printable),
        request_id: header("x-amz-request-id"),
        region: header("x-amz-bucket-region"),
    }
}

/// Which situation a refusal is (S3 API reference, "Error responses").
fn judge(reply: Reply, place: &Place) -> SourceFault {
    let place = place.clone();
    let (status, code) = (reply.status, reply.code.clone().unwrap_or_default());
    let is_region = matches!(code.as_str(), "PermanentRedirect" | "AuthorizationHeaderMalformed");
    let is_credential =
        matches!(code.as_str(), "ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId");
    let is_passing = matches!(code.as_str(), "RequestTimeout" | "SlowDown" | "InternalError");
    let reply = Box::new(reply);
    match status {
        404 if code == "NoSuchBucket" => SourceFault::Bucket { place, reply },
        404 => SourceFault::NotFound { place, reply },
        _ if is_region || matches!(status, 301 | 307 | 308) => SourceFault::Region { place, reply },
        401 | 403 => SourceFault::Denied { place, reply },
        _ if is_credential => SourceFault::Denied { place, reply },
        412 | 416 => SourceFault::Changed { place },
        408 | 429 | 500 | 502..=599 => SourceFault::Server { place, reply },
        _ if is_passing => SourceFault::Server { place, reply },
        _ => SourceFault::Answer { place, reply },
    }
}

/// The chain of reasons, outermost first, without the SDK's own opening words.
pub(super) fn reasons_of(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut reasons: Vec<String> =
        chain(error).skip(1).map(|e| printable(&e.to_string())).collect();
    if reasons.is_empty() {
        reasons.push(printable(&error.to_string()));
    }
    reasons.dedup();
    reasons.truncate(6);
    reasons
}

fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn finds_credentials_error(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(<dyn Error>::is::<CredentialsError>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_code_and_only_passing_ones_are_tried_again() {
        for (status, s3, code, again) in [
            (404, Some("NoSuchBucket"), "source.bucket", false),
            (404, Some("NoSuchKey"), "source.not_found", false),
            (404, None, "source.not_found", false),
            (403, Some("SignatureDoesNotMatch"), "source.denied", false),
            (400, Some("ExpiredToken"), "source.denied", false),
            (301, Some("PermanentRedirect"), "source.region", false),
            (400, Some("AuthorizationHeaderMalformed"), "source.region", false),
            (412, Some("PreconditionFailed"), "source.changed", false),
            (416, Some("InvalidRange"), "source.changed", false),
            (503, Some("SlowDown"), "source.server", true),
            (500, None, "source.server", true),
            (400, Some("RequestTimeout"), "source.server", true),
            (429, None, "source.server", true),
            (501, Some("NotImplemented"), "source.answer", false),
            (400, Some("InvalidRequest"), "source.answer", false),
        ] {
            let reply = Reply { status, code: s3.map(str::to_owned), ..Reply::default() };
            let fault = judge(reply, &"s3://images/x".parse().unwrap());
            assert_eq!((fault.code(), fault.is_retryable()), (code, again), "{status} {s3:?}");
        }
    }

    #[test]
    fn a_servers_words_cannot_drive_a_terminal() {
        assert_eq!(printable(" a\x1b[31m\nb\u{9b}c "), "a [31m b c");
        let long = printable(&"é".repeat(1000));
        assert_eq!(long.chars().count(), MAX_TEXT + 1);
    }
}
