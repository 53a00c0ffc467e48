//! Frames of the helper's and the daemon's sockets: no frame panics, and what is understood is
//! understood in one way.
#![no_main]

use std::pin::Pin;

use airlock_fuzz::seeds;
use airlock_protocol::control::{ControlRequest, ControlResponse};
use airlock_protocol::service::{DmHelperRequest, DmHelperResponse};
use airlock_protocol::wire::{GuardedJson, MAX_DEADLINE, MAX_FRAME};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarpc::{ClientMessage, Response};
use tokio_serde::Deserializer as _;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder as _, LengthDelimitedCodec};

fuzz_target!(init: { seeds(make); }, |data: &[u8]| {
    match data {
        // A stream, cut into frames by its own lengths.
        [0, stream @ ..] => {
            let mut codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec();
            let mut stream = BytesMut::from(stream);
            while let Ok(Some(frame)) = codec.decode(&mut stream) {
                all(&frame);
            }
        }
        [_, frame @ ..] => all(&BytesMut::from(frame)),
        [] => {}
    }
});

fn all(frame: &BytesMut) {
    request::<DmHelperRequest>(frame);
    request::<ControlRequest>(frame);
    response::<DmHelperResponse>(frame);
    response::<ControlResponse>(frame);
}

fn decode<Item: DeserializeOwned + Unpin>(frame: &BytesMut) -> Option<Item> {
    Pin::new(&mut GuardedJson::<Item, ()>::default()).deserialize(frame).ok()
}

fn request<Message: Serialize + DeserializeOwned + Unpin>(frame: &BytesMut) {
    let Some(ClientMessage::Request(request)) = decode::<ClientMessage<Message>>(frame) else {
        return;
    };
    let left = request.context.deadline.saturating_duration_since(std::time::Instant::now());
    assert!(left <= MAX_DEADLINE, "a deadline in {left:?} was let through");
    one_way(&request.message);
}

fn response<Message: Serialize + DeserializeOwned + Unpin>(frame: &BytesMut) {
    if let Some(Response { message: Ok(message), .. }) = decode::<Response<Message>>(frame) {
        one_way(&message);
    }
}

/// What was read is written and read again: the same comes out.
fn one_way<Message: Serialize + DeserializeOwned>(message: &Message) {
    let text = serde_json::to_string(message).unwrap();
    let again: Message = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
}

/// Every message of the golden file, as a request and as an answer.
fn make() -> Vec<Vec<u8>> {
    let golden = include_str!("../../../protocol/tests/golden.txt");
    let mut seeds = Vec::new();
    for line in golden.lines() {
        let Some((name, body)) = line.split_once(' ') else { continue };
        let context = r#"{"deadline":{"secs":10,"nanos":0},"trace_context":{"trace_id":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"span_id":0,"sampling_decision":"Unsampled"}}"#;
        let request = format!(
            r#"{{"Request":{{"context":{context},"id":1,"message":{{"{name}":{{"request":{body}}}}}}}}}"#
        );
        let answer =
            format!(r#"{{"request_id":1,"message":{{"Ok":{{"{name}":{{"Ok":{body}}}}}}}}}"#);
        for frame in [request, answer] {
            seeds.push([b"\x01", frame.as_bytes()].concat());
            let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
            seeds.push([b"\0", &length[..], frame.as_bytes()].concat());
        }
    }
    seeds
}
