//! Stands in for the broker in tests of the launcher: sends each errand once, and writes down what
//! it was given, what it sees of the launcher, and what the launcher answers.
//!
//! Installed as `airlock-dm-broker` beside a launcher. Its notes go to the file `notes` in the
//! state directory, a line each.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::errand::{Answer, Envelope, Errand, MESSAGE, ThinDevice};
use airlock_policy::name::{RequestId, ThinId};
use airlock_sys::inherited;
use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvFlags, SendFlags, recv, send};

struct Notes(String);

impl Notes {
    fn add(&mut self, what: &str, value: impl std::fmt::Display) {
        writeln!(self.0, "{what}: {value}").unwrap_or_default();
    }
}

fn main() {
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let Ok([socket, link, state, config]) = take() else { return };
    let mut notes = Notes(String::new());
    // One of them is the directory that is being read.
    notes.add("descriptors", descriptors.saturating_sub(1));
    notes.add("arguments", std::env::args().collect::<Vec<_>>().join(" "));
    notes.add("environment", std::env::vars_os().count());
    notes.add("listens", rustix::net::sockopt::socket_acceptconn(&socket) == Ok(true));
    let mut text = [0; 4096];
    let length = rustix::io::read(&config, &mut text[..]).unwrap_or_default();
    notes.add(
        "config",
        String::from_utf8_lossy(text.get(..length).unwrap_or_default()).lines().count(),
    );
    for (who, pid) in [("own", "self".to_owned()), ("launcher", parent())] {
        for field in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Groups"] {
            notes.add(&format!("{who} {field}"), status(&pid, field));
        }
    }
    for (number, (what, errand)) in (1..).zip(errands()) {
        notes.add(what, ask(link.as_fd(), number, &errand));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::openat(&state, "notes.new", flags, Mode::RUSR | Mode::WUSR) {
        rustix::io::write(&file, notes.0.as_bytes()).ok();
        rustix::fs::renameat(&state, "notes.new", &state, "notes").ok();
    }
    // Until the launcher ends.
    recv(&link, &mut [0_u8; 1][..], RecvFlags::empty()).ok();
}

fn take() -> std::io::Result<[OwnedFd; 4]> {
    Ok([inherited::take(3)?, inherited::take(4)?, inherited::take(5)?, inherited::take(6)?])
}

fn parent() -> String {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()).to_string()
}

fn status(pid: &str, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.split(':').next() == Some(field));
    line.and_then(|line| line.split_once(':')).map_or(String::new(), |(_, v)| v.trim().to_owned())
}

fn errands() -> Vec<(&'static str, Errand)> {
    // No device of ours is on this machine: whatever device is named, it is none.
    let device = ThinDevice { thin: ThinId::BASE, minor: 0 };
    let name: airlock_policy::name::SnapshotName = "web".parse().unwrap_or_else(|_| unreachable!());
    vec![
        ("check before open", Errand::CheckPool),
        ("open", Errand::OpenPool { create: false }),
        ("create", Errand::OpenPool { create: true }),
        ("create again", Errand::OpenPool { create: true }),
        ("check of zeros", Errand::CheckPool),
        ("format of a stranger", Errand::Format { device }),
        (
            "extract into a stranger",
            Errand::Extract {
                device,
                blob: BlobDigest(Digest::of(b"")),
                below: None,
                unwrap: false,
            },
        ),
        ("publish of a stranger", Errand::Publish { device, name: name.clone() }),
        ("unpublish of nothing", Errand::Unpublish { name }),
        ("cancel of nothing", Errand::Cancel { errand: 99 }),
    ]
}

fn ask(link: BorrowedFd<'_>, number: u64, errand: &Errand) -> String {
    let Ok(request) = RequestId::try_from("r".to_owned()) else { return String::new() };
    let envelope = Envelope { number, request };
    if let Err(errno) = send(link, &errand.encode(&envelope), SendFlags::NOSIGNAL) {
        return errno.to_string();
    }
    let mut message = [0_u8; MESSAGE];
    let count = recv(link, &mut message[..], RecvFlags::empty()).map_or(0, |(count, _)| count);
    match Answer::decode(message.get(..count).unwrap_or_default()) {
        Ok((answered, answer)) if answered == envelope => format!("{answer:?}"),
        Ok((answered, _)) => format!("answered {answered:?}"),
        Err(error) => error.to_string(),
    }
}
