//! The attacker as a worker: what it read has taken it over.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::process::ExitCode;

use airlock_dm_worker::mount::{Access, detached};
use airlock_dm_worker::sandbox::confine_extraction;
use airlock_policy::errand::{Answer, Envelope, Failure, MESSAGE, Progress, Stage};
use airlock_policy::worker::{BLOB, DEVICE, ExtractOrder, Job, REPORTS, USER_NAMESPACE};
use airlock_sys::inherited;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use crate::files::{FILES, MOUNTS};
use crate::kernel::{call, number};
use crate::processes::{BOUNDS, KERNEL, PROCESSES, SOCKETS, WORKERS};
use crate::scene::{Attempt, Scene};
use crate::umpire;

/// What a worker tries, and what shows that the attempts mean something.
const ATTEMPTS: &[&[Attempt]] = &[FILES, MOUNTS, PROCESSES, KERNEL, SOCKETS, BOUNDS, WORKERS];

/// Plays the part that the blob names: `attempts FILE`, or a way to abuse the report pipe.
pub(crate) fn take_part(words: &[&str]) -> ExitCode {
    let Ok(Job::Extract(order)) = Job::parse(words.get(1..).unwrap_or_default()) else {
        return ExitCode::FAILURE;
    };
    let [device, blob, reports, namespace] =
        [DEVICE, BLOB, REPORTS, USER_NAMESPACE].map(|fd| inherited::take(fd).unwrap());
    let mount = detached(namespace.as_fd(), Access::ReadWrite).unwrap().into_raw_fd();
    drop(device);
    let [blob, reports, namespace] = [blob, reports, namespace].map(OwnedFd::into_raw_fd);
    let mut part = [0_u8; 256];
    // SAFETY: `blob` was just taken over and is closed nowhere else.
    let blob_file = unsafe { std::os::fd::BorrowedFd::borrow_raw(blob) };
    let length = rustix::io::pread(blob_file, &mut part[..], 0).unwrap();
    let part = String::from_utf8_lossy(&part[..length]).into_owned();
    let confine = || confined(&order, mount, namespace);
    match part.trim().split_once(' ') {
        Some(("attempts", results)) => {
            let scene = Scene::new([mount, blob, reports]);
            umpire::write(results, &umpire::confined(ATTEMPTS, &scene, &confine));
            say(reports, &order.envelope, &Answer::Failed(failure()));
        }
        Some(("report", how)) if confine() => abuse(how, reports, &order.envelope),
        Some(_) | None => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

/// The same attempts without any confinement but mounts of their own, so that the host keeps its.
pub(crate) fn control(folder: &str, blob: &str, results: &str) -> ExitCode {
    let opened = fs::File::open(folder).unwrap();
    let blob = fs::File::open(blob).unwrap();
    let scene = Scene::new([opened.as_raw_fd(), blob.as_raw_fd(), blob.as_raw_fd()]);
    // As many descriptors as a process may have.
    drop(call(libc::SYS_prlimit64, &[0, 7, crate::kernel::at(&[4096_u64, 4096]), 0]));
    let apart = || {
        let kinds = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        // The folder's mount, as these mounts have it, under the number it had.
        let again = |file: fs::File| {
            call(libc::SYS_dup3, &[file.as_raw_fd() as u64, scene.mount, 0]).is_ok()
        };
        airlock_sys::namespace::unshare(kinds).is_ok()
            && mount_change("/", private).is_ok()
            && fs::File::open(folder).is_ok_and(again)
    };
    umpire::write(results, &umpire::unconfined(ATTEMPTS, &scene, &apart));
    ExitCode::SUCCESS
}

/// Confines this process as the real worker confines itself.
fn confined(order: &ExtractOrder, mount: RawFd, namespace: RawFd) -> bool {
    // SAFETY: this process, a fork of the umpire or the umpire itself, has no other owner of it.
    let mount = unsafe { OwnedFd::from_raw_fd(mount) };
    // SAFETY: likewise.
    let namespace = unsafe { OwnedFd::from_raw_fd(namespace) };
    let confined = confine_extraction(order, &mount, namespace);
    // It stays open for the attempts.
    let _number = mount.into_raw_fd();
    confined
        .inspect_err(|error| eprintln!("{error}: {:?}", std::error::Error::source(error)))
        .is_ok()
}

const fn failure() -> Failure {
    Failure { stage: Stage::Write, errno: 0 }
}

fn write(reports: RawFd, bytes: &[u8]) {
    let arguments = [reports as u64, crate::kernel::at(bytes), bytes.len() as u64];
    drop(call(libc::SYS_write, &arguments));
}

fn say(reports: RawFd, envelope: &Envelope, answer: &Answer) {
    write(reports, &answer.encode(envelope));
}

/// Sends the launcher what no worker sends.
fn abuse(how: &str, reports: RawFd, envelope: &Envelope) {
    let answer = Answer::Failed(failure());
    let message = answer.encode(envelope);
    match how {
        "a part of a message" => write(reports, &message[..100]),
        "noise" => write(reports, &[0xa5; MESSAGE]),
        "zeros" => write(reports, &[0; MESSAGE]),
        "one message and a half" => write(reports, &[&message[..], &message[..128]].concat()),
        "another's report" => {
            let number = envelope.number.wrapping_add(1);
            say(reports, &Envelope { number, request: envelope.request.clone() }, &answer);
        }
        "what no worker says" => say(reports, envelope, &Answer::Done),
        "more after its last report" => {
            say(reports, envelope, &answer);
            say(reports, envelope, &answer);
        }
        "a flood of progress" => {
            for _ in 0..20_000 {
                say(reports, envelope, &Answer::Progress(Progress::default()));
            }
        }
        "as much as the pipe holds" => write(reports, &vec![0xff; 1 << 20]),
        "nothing, for ever" => loop {
            drop(call(libc::SYS_futex, &[crate::kernel::at(&0_u32), 0, 0, 0]));
        },
        _ => {
            drop(call(libc::SYS_exit_group, &[number(9)]));
        }
    }
}
