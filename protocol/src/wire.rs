//! Frames, and the bounds that are checked before one reaches `tarpc`.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarpc::serde_transport::Transport;
use tokio::net::UnixStream;
use tokio_serde::formats::Json;
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::LengthDelimitedCodec;

/// The largest frame either side accepts, in bytes (WIRE-1).
pub const MAX_FRAME: usize = 64 * 1024;

/// The longest a caller may ask the other side to keep a request alive.
pub const MAX_DEADLINE: Duration = Duration::from_hours(1);

/// Makes the transport of one connection: length-delimited JSON, guarded.
pub fn transport<Item, SinkItem>(
    stream: UnixStream,
) -> Transport<UnixStream, Item, SinkItem, GuardedJson<Item, SinkItem>>
where
    Item: for<'de> Deserialize<'de> + Unpin,
    SinkItem: Serialize + Unpin,
{
    let frames = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_framed(stream);
    tarpc::serde_transport::new(frames, GuardedJson::default())
}

/// JSON, refusing a frame whose deadline would make `tarpc` panic (WIRE-2).
///
/// `tarpc` adds the peer's deadline to the clock unchecked and hands it to a timer wheel that
/// panics past two years. A server must not die of a frame. Answers have no deadline and pass.
#[derive(Debug)]
pub struct GuardedJson<Item, SinkItem>(Json<Item, SinkItem>);

impl<Item, SinkItem> Default for GuardedJson<Item, SinkItem> {
    fn default() -> Self {
        Self(Json::default())
    }
}

/// What the guard reads of a frame. Whatever serde would refuse here (a key twice, two variants)
/// never reaches the second reader, so the two cannot disagree about the deadline.
#[derive(Deserialize)]
#[serde(untagged)]
enum Frame {
    FromClient(Message),
    FromServer(Answer),
}

#[derive(Deserialize)]
enum Message {
    Request(Request),
    Cancel {
        #[serde(rename = "trace_context")]
        _trace: serde::de::IgnoredAny,
        #[serde(rename = "request_id")]
        _id: u64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    context: Context,
    #[serde(rename = "id")]
    _id: u64,
    #[serde(rename = "message")]
    _message: serde::de::IgnoredAny,
}

#[derive(Deserialize)]
struct Context {
    deadline: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    #[serde(rename = "request_id")]
    _id: u64,
    #[serde(rename = "message")]
    _message: serde::de::IgnoredAny,
}

fn guard(frame: &[u8]) -> io::Result<()> {
    match serde_json::from_slice(frame)? {
        Frame::FromClient(Message::Request(Request { context, .. }))
            if context.deadline > MAX_DEADLINE =>
        {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the deadline is out of bounds"))
        }
        Frame::FromClient(Message::Request(_) | Message::Cancel { .. })
        | Frame::FromServer(Answer { .. }) => Ok(()),
    }
}

impl<Item, SinkItem> tokio_serde::Deserializer<Item> for GuardedJson<Item, SinkItem>
where
    Item: for<'de> Deserialize<'de> + Unpin,
    SinkItem: Unpin,
{
    type Error = io::Error;

    fn deserialize(mut self: Pin<&mut Self>, frame: &BytesMut) -> io::Result<Item> {
        guard(frame)?;
        Ok(Pin::new(&mut self.0).deserialize(frame)?)
    }
}

impl<Item, SinkItem> tokio_serde::Serializer<SinkItem> for GuardedJson<Item, SinkItem>
where
    SinkItem: Serialize + Unpin,
    Item: Unpin,
{
    type Error = io::Error;

    fn serialize(mut self: Pin<&mut Self>, item: &SinkItem) -> io::Result<Bytes> {
        Ok(Pin::new(&mut self.0).serialize(item)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_past_the_bound_is_refused_in_every_spelling() {
        let request = |context: &str| {
            guard(
                format!(r#"{{"Request":{{"context":{context},"id":1,"message":{{}}}}}}"#)
                    .as_bytes(),
            )
        };
        assert!(request(r#"{"deadline":{"secs":3600,"nanos":0},"trace_context":{}}"#).is_ok());
        for hostile in [
            r#"{"deadline":{"secs":3601,"nanos":0}}"#,
            r#"{"deadline":{"secs":18446744073709551615,"nanos":0}}"#,
            r#"{"deadline":{"secs":1,"nanos":0},"deadline":{"secs":69000000,"nanos":0}}"#,
            r#"[{"secs":69000000,"nanos":0},{}]"#,
            r#"{"deadline":[69000000,0]}"#,
        ] {
            assert!(request(hostile).is_err(), "{hostile}");
        }
        for nonsense in ["", "{}", "[]", r#"{"Request":{}}"#, r#"{"Request":{},"Cancel":{}}"#] {
            assert!(guard(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
