//! A client of the helper's socket that keeps to no rule: frames byte by byte, under any uid.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::thread::{Gid, Uid};
use serde_json::{Value, json};

/// Where the helper answers.
pub const SOCKET: &str = "/run/airlock-helper/dm-helper.sock";

/// A user, by numbers.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id, and the only group.
    pub gid: u32,
}

/// Runs something as another user, in a thread of its own: ids are a thread's, to the kernel.
///
/// # Panics
///
/// Without root, or when what is run does.
pub fn as_user<T: Send>(user: User, run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            rustix::thread::set_thread_groups(&[gid]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            run()
        });
        thread.join().expect("the other user's thread")
    })
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// The connection itself.
    pub stream: UnixStream,
    id: u64,
}

impl Client {
    /// Connects as a user.
    pub fn connect(user: User) -> io::Result<Self> {
        let stream = as_user(user, || UnixStream::connect(Path::new(SOCKET)))?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self { stream, id: 0 })
    }

    /// Sends bytes as one frame.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.stream.write_all(&[&length.to_be_bytes(), bytes].concat())
    }

    /// The next frame, as JSON.
    pub fn receive(&mut self) -> io::Result<Value> {
        let mut length = [0_u8; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(serde_json::from_slice(&frame)?)
    }

    /// Sends a request of this verb with these fields, and returns what it is answered with:
    /// `{"Ok": …}` or `{"Err": …}`. An error is a connection that was closed or is silent.
    pub fn ask(&mut self, verb: &str, fields: Value) -> io::Result<Value> {
        self.id = self.id.saturating_add(1);
        self.send(request(self.id, verb, fields).as_bytes())?;
        loop {
            let frame = self.receive()?;
            if frame["request_id"] == self.id {
                return Ok(frame["message"]["Ok"][verb].clone());
            }
        }
    }
}

/// The text of a request. `fields` without the request id, which is added where it is missing.
///
/// # Panics
///
/// Where `fields` is no object.
pub fn request(id: u64, verb: &str, mut fields: Value) -> String {
    let object = fields.as_object_mut().unwrap();
    object.entry("request").or_insert_with(|| json!("hostile"));
    frame(id, 60, &json!({ verb: {"request": fields} }).to_string())
}

/// The text of a request around any message, with a deadline in seconds.
pub fn frame(id: u64, deadline: u64, message: &str) -> String {
    let trace = r#"{"trace_id":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"span_id":0,"sampling_decision":"Unsampled"}"#;
    format!(
        r#"{{"Request":{{"id":{id},"message":{message},"context":{{"deadline":{{"secs":{deadline},"nanos":0}},"trace_context":{trace}}}}}}}"#
    )
}
