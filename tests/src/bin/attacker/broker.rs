//! The attacker as a broker: a request has taken it over.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::process::ExitCode;

use airlock_dm_helper::confine::confine_forever;
use airlock_sys::inherited;
use serde_json::json;

use crate::errands;
use crate::files::{FILES, MOUNTS};
use crate::kernel::{at, call, does, number};
use crate::processes::{BOUNDS, KERNEL, PROCESSES, SOCKETS};
use crate::scene::{Attempt, Control, Scene};
use crate::umpire;

const ATTEMPTS: &[&[Attempt]] =
    &[FILES, MOUNTS, PROCESSES, KERNEL, SOCKETS, BOUNDS, BROKERS, errands::ERRANDS];

/// What is a broker's alone.
const BROKERS: &[Attempt] = &[
    attempt("open devicemapper's control node anew", |_| {
        crate::kernel::open(crate::kernel::HERE, c"/dev/mapper/control", libc::O_RDWR).map(drop)
    }),
    attempt("remove every device of the host", |scene| device_mapper(scene, 1)),
    attempt("rename a device", |scene| device_mapper(scene, 5)),
    attempt("wait for a device without a bound", |scene| device_mapper(scene, 8)),
    attempt("pass a descriptor to its launcher", |scene| {
        // struct msghdr with nothing in it: the call itself is what is tried.
        does(libc::SYS_sendmsg, &[scene.link, at(&[0_u64; 7]), 0])
    }),
    attempt("listen on a socket of its own", |scene| does(libc::SYS_listen, &[scene.mount, 1])),
    attempt("read the state directory again", |_| {
        crate::kernel::open(5, c"ledger", libc::O_RDONLY).map(drop)
    }),
    attempt("send itself a descriptor's signal", |_| {
        // F_SETOWN
        does(libc::SYS_fcntl, &[4, 8, number(1)])
    }),
];

const fn attempt(name: &'static str, act: fn(&Scene) -> std::io::Result<()>) -> Attempt {
    Attempt { name, act, control: Control::NotMade("the confinement's own answer counts") }
}

/// A command of the control node, where there is one.
fn device_mapper(scene: &Scene, command: u64) -> std::io::Result<()> {
    let control = scene.control.unwrap_or(number(-1));
    // _IOWR(0xfd, command, struct dm_ioctl), and the version that such a struct begins with.
    let mut request = [0_u32; 128];
    request[..4].copy_from_slice(&[4, 0, 0, 512]);
    does(libc::SYS_ioctl, &[control, 3 << 30 | 312 << 16 | 0xfd << 8 | command, at(&request)])
}

/// Plays the part that a line of the configuration names.
pub(crate) fn take_part() -> ExitCode {
    let [socket, link, state, config] = [3, 4, 5, 6].map(|fd| inherited::take(fd).unwrap());
    let mut text = String::new();
    fs::File::from(config).read_to_string(&mut text).unwrap();
    let part =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let link = link.into_raw_fd();
    if let Some(how) = part("# malformed: ") {
        errands::send_malformed(link, how.trim());
        wait(link);
        return ExitCode::SUCCESS;
    }
    let Some(results) = part("# attempts: ") else { return ExitCode::FAILURE };
    let readable = fs::File::open("/etc/passwd").unwrap();
    let mut scene = Scene::new([libc::AT_FDCWD, readable.as_raw_fd(), link]);
    let control = fs::OpenOptions::new().read(true).write(true).open("/dev/mapper/control");
    scene.control = control.as_ref().ok().map(|file| file.as_raw_fd() as u64);
    errands::look();
    let state = state.into_raw_fd();
    let confine = || {
        // SAFETY: this process is a fork of the umpire, and so has one owner of it.
        drop(unsafe { OwnedFd::from_raw_fd(state) });
        confine_forever().inspect_err(|error| eprintln!("{error}")).is_ok()
    };
    let mut outcomes = umpire::confined(ATTEMPTS, &scene, &confine);
    // What shows that the link works: an errand that a broker may send.
    let own = umpire::confined(&[errands::OWN], &scene, &confine);
    outcomes.push(json!({"own": own}));
    umpire::write(results.trim(), &outcomes);
    drop(socket);
    wait(link);
    ExitCode::SUCCESS
}

/// Until the launcher ends.
fn wait(link: RawFd) {
    let message = [0_u8; 512];
    while call(libc::SYS_recvfrom, &[link as u64, at(&message), 512, 0, 0, 0])
        .is_ok_and(|count| count > 0)
    {}
}
