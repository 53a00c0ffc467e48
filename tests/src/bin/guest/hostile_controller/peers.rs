//! Others than the controller, and what else can be done to a socket.

use std::io::{IoSlice, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};

use airlock_tests::helper_client::{Client, SOCKET, User, as_user, request};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::json;

use super::{Attempt, Saw, must_refuse, saw};

/// A connection of another user: it may be made, where the mode allows, and is not read from.
fn stranger(uid: u32, gid: u32) -> Saw {
    match Client::connect(User { uid, gid }) {
        Err(error) => Saw::Refused(format!("not connected: {error}")),
        Ok(mut client) => must_refuse(saw(client.ask("PoolStatus", json!({})))),
    }
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    ("root speaks", |_| stranger(0, 0)),
    ("nobody speaks", |_| stranger(65_534, 65_534)),
    ("another user of the controller's group speaks", |ground| stranger(65_534, ground.user.gid)),
    ("the controller's user outside of its group speaks", |ground| {
        stranger(ground.user.uid, 65_534)
    }),
    ("the socket's path taken", |ground| {
        let bound = as_user(ground.user, || UnixListener::bind(SOCKET));
        match bound {
            Err(error) => Saw::Refused(error.to_string()),
            Ok(_) => Saw::Breach("another socket is bound there".to_owned()),
        }
    }),
    ("the socket removed", |ground| match as_user(ground.user, || std::fs::remove_file(SOCKET)) {
        Err(error) => Saw::Refused(error.to_string()),
        Ok(()) => Saw::Breach("it is gone".to_owned()),
    }),
    ("the helper's state read", |ground| {
        match as_user(ground.user, || std::fs::read("/var/lib/airlock-helper/ledger")) {
            Err(error) => Saw::Refused(error.to_string()),
            Ok(_) => Saw::Breach("it was read".to_owned()),
        }
    }),
    ("the active snapshot's device opened", |ground| {
        match as_user(ground.user, || std::fs::File::open("/dev/airlock/web")) {
            Err(error) => Saw::Refused(error.to_string()),
            Ok(_) => Saw::Breach("it was opened".to_owned()),
        }
    }),
    ("the helper killed", |ground| {
        let launcher = crate::machine::main_pid("airlock-dm-helper.service");
        let pid = rustix::process::Pid::from_raw(launcher.try_into().unwrap()).unwrap();
        let kill = || rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        match as_user(ground.user, kill) {
            Err(error) => Saw::Refused(error.to_string()),
            Ok(()) => Saw::Breach("it was".to_owned()),
        }
    }),
    ("200 descriptors passed over the socket", |ground| {
        let mut sent = 0;
        for _ in 0..8 {
            let client = ground.connect();
            let file = std::fs::File::open("/dev/null").unwrap();
            let many = [file.as_fd(); 25];
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(25))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
            let text = request(1, "PoolStatus", json!({}));
            let length = u32::try_from(text.len()).unwrap().to_be_bytes();
            let parts = [IoSlice::new(&length), IoSlice::new(text.as_bytes())];
            if rustix::net::sendmsg(&client.stream, &parts, &mut control, SendFlags::NOSIGNAL)
                .is_ok()
            {
                sent += many.len();
            }
            read_some(&client.stream);
        }
        let broker = crate::machine::pids("airlock-dm-broker");
        let open = std::fs::read_dir(format!("/proc/{}/fd", broker[0])).unwrap().count();
        if open > 40 {
            return Saw::Breach(format!("the broker keeps {open} descriptors"));
        }
        Saw::Done(format!("{sent} were sent, the broker has {open} open"))
    }),
];

fn read_some(mut stream: &UnixStream) {
    drop(stream.read(&mut [0; 512]));
}
