//! Errands that a broker may not send, and messages that are none.

use std::fs;
use std::io;
use std::os::fd::RawFd;

use airlock_policy::digest::{BlobDigest, Digest};
use airlock_policy::errand::{Answer, Envelope, Errand, Failure, MESSAGE, Stage, ThinDevice};
use airlock_policy::name::{RequestId, ThinId};

use crate::kernel::{at, call};
use crate::scene::{Attempt, Control, Scene};

const fn errand(name: &'static str, act: fn(&Scene) -> io::Result<()>) -> Attempt {
    Attempt { name, act, control: Control::NotMade("the launcher's own answer counts") }
}

/// Errands about what is not a broker's to name.
pub(crate) const ERRANDS: &[Attempt] = &[
    errand("have a disk of the host formatted", |scene| {
        asked(scene, &Errand::Format { device: device(0, 0) })
    }),
    errand("have a volume formatted", |scene| {
        asked(scene, &Errand::Format { device: device(1, minor("airlock-v000001")) })
    }),
    errand("have another's device formatted as the base volume", |scene| {
        asked(scene, &Errand::Format { device: device(0, minor("somebodys-data")) })
    }),
    errand("have a layer extracted onto another's device", |scene| {
        extract(scene, device(0xaa, minor("somebodys-data")))
    }),
    errand("have a layer extracted onto a device under a name of ours", |scene| {
        extract(scene, device(0xaa, minor("airlock-v0000aa")))
    }),
    errand("have a layer extracted onto the base volume", |scene| {
        extract(scene, device(0, minor("airlock-v000000")))
    }),
    errand("have a layer extracted onto a snapshot that was handed out", |scene| {
        let snapshot = device(2, minor("airlock-v000002"));
        // Which is the broker's right; that it fails would prove nothing.
        let name = "web".parse().unwrap();
        if asked(scene, &Errand::Publish { device: snapshot, name }).is_err() {
            return Ok(());
        }
        extract(scene, snapshot)
    }),
    errand("have a snapshot that was handed out mounted", |scene| {
        let (device, name) = (device(2, minor("airlock-v000002")), "web".parse().unwrap());
        asked(scene, &Errand::Mount { device, name, read_only: true })
    }),
    errand("have a snapshot that was handed out grown", |scene| {
        asked(scene, &Errand::Grow { device: device(2, minor("airlock-v000002")) })
    }),
    errand("have a layer extracted by a number that is no device's", |scene| {
        extract(scene, device(0xff_ffff, u32::MAX))
    }),
    errand("have a layer extracted onto the pool", |scene| {
        extract(scene, device(1, minor("airlock-pool")))
    }),
    errand("have another's device handed out", |scene| {
        publish(scene, device(0xaa, minor("somebodys-data")))
    }),
    errand("have a device under a name of ours handed out", |scene| {
        publish(scene, device(0xaa, minor("airlock-v0000aa")))
    }),
    errand("have the pool handed out", |scene| publish(scene, device(1, minor("airlock-pool")))),
    errand("have the base volume handed out", |scene| {
        publish(scene, device(0, minor("airlock-v000000")))
    }),
    errand("have a disk of the host handed out", |scene| publish(scene, device(1, 0))),
];

/// An errand that a broker may send: that it is done shows that the others could have been.
pub(crate) const OWN: &[Attempt] =
    &[errand("cancel", |scene| asked(scene, &Errand::Cancel { errand: u64::MAX }))];

fn device(thin: u32, minor: u32) -> ThinDevice {
    ThinDevice { thin: ThinId::try_from(thin).unwrap(), minor }
}

/// The minor number of a device of the device table; one that nobody has where there is none. Read
/// before the confinement would be of no use: this is asked afterwards, from a list made before.
fn minor(name: &str) -> u32 {
    MINORS.iter().find(|(known, _)| known == name).map_or(99_999, |(_, minor)| *minor)
}

/// Every device of the device table, looked at when the umpire begins.
static MINORS: std::sync::LazyLock<Vec<(String, u32)>> = std::sync::LazyLock::new(|| {
    let name = |minor: u32| fs::read_to_string(format!("/sys/block/dm-{minor}/dm/name"));
    (0..64)
        .filter_map(|minor| name(minor).ok().map(|name| (name.trim().to_owned(), minor)))
        .collect()
});

/// Looks at the device table while it can be.
pub(crate) fn look() {
    std::sync::LazyLock::force(&MINORS);
}

fn extract(scene: &Scene, device: ThinDevice) -> io::Result<()> {
    asked(
        scene,
        &Errand::Extract { device, blob: BlobDigest(Digest::of(b"")), below: None, unwrap: false },
    )
}

fn publish(scene: &Scene, device: ThinDevice) -> io::Result<()> {
    asked(scene, &Errand::Publish { device, name: "stolen".parse().unwrap() })
}

fn envelope(number: u64) -> Envelope {
    Envelope { number, request: RequestId::try_from("attempt".to_owned()).unwrap() }
}

/// Sends an errand and waits for its last answer. An error is what the launcher refused with.
fn asked(scene: &Scene, errand: &Errand) -> io::Result<()> {
    let envelope = envelope(call(libc::SYS_gettid, &[])?);
    let message = errand.encode(&envelope);
    call(libc::SYS_sendto, &[scene.link, at(&message), MESSAGE as u64, 0, 0, 0])?;
    loop {
        let answer = [0_u8; MESSAGE];
        call(libc::SYS_recvfrom, &[scene.link, at(&answer), MESSAGE as u64, 0, 0, 0])?;
        match Answer::decode(&answer) {
            Ok((_, Answer::Progress(_))) => {}
            // An answer to an attempt before this one.
            Ok((answered, _)) if answered != envelope => {}
            // The device was accepted, and only the blob was not there.
            Ok((_, Answer::Failed(Failure { stage: Stage::BlobOpen, .. }))) => return Ok(()),
            Ok((_, Answer::Failed(failure))) => {
                return Err(match failure.errno {
                    0 => io::ErrorKind::Other.into(),
                    errno => io::Error::from_raw_os_error(errno),
                });
            }
            Ok(_) => return Ok(()),
            Err(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Sends what is no errand. It must end the launcher.
pub(crate) fn send_malformed(link: RawFd, how: &str) {
    let mut message = Errand::Cancel { errand: 1 }.encode(&envelope(7)).to_vec();
    match how {
        "short" => message.truncate(MESSAGE - 1),
        "long" => message.push(0),
        "empty kind" => message[40] = 0,
        "unknown kind" => message[40] = 0xff,
        "padding" => message[MESSAGE - 1] = 1,
        "request id" => message[8] = b'/',
        "noise" => message.fill(0xa5),
        "link name" => {
            message =
                Errand::Unpublish { name: "web".parse().unwrap() }.encode(&envelope(7)).to_vec();
            let place = message.windows(3).position(|three| three == b"web").unwrap();
            message[place..place + 3].copy_from_slice(b"../");
        }
        _ => message.clear(),
    }
    let length = message.len() as u64;
    drop(call(libc::SYS_sendto, &[link as u64, at(message.as_slice()), length, 0, 0, 0]));
}
