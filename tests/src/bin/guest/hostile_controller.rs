//! A controller that was taken over: it speaks the protocol, under the right uid, and tries
//! everything. Nothing outside of its own volumes may change, and the helper must go on serving.

mod blobs;
mod frames;
mod peers;
mod verbs;

use std::fs;
use std::time::{Duration, Instant};

use airlock_policy::digest::Digest;
use airlock_tests::helper_client::{Client, User};
use airlock_tests::report::Case;
use serde_json::{Value, json};

use crate::machine::{airlock, logs, main_pid, ready_with, sh, start};
use crate::survey::{Survey, controller, give_blob};

/// The helper must answer within this, whatever was just done to it. Of a machine that is emulated:
/// the round trip itself takes 5 to 50 ms there.
const ANSWER: Duration = Duration::from_secs(1);

/// The image's volume, as the pool numbers it: the first after the base volume.
const SEALED: u32 = 1;

/// What came of an attempt, as the attacker sees it.
pub(super) enum Saw {
    /// The helper said no, or hung up.
    Refused(String),
    /// It did as asked, which is the attacker's right.
    Done(String),
    /// It did what it must not.
    Breach(String),
}

/// An attempt, by its name.
pub(super) type Attempt = (&'static str, fn(&Ground) -> Saw);

/// What the attacker stands on.
pub(super) struct Ground {
    /// The controller's user.
    pub(super) user: User,
    /// The sealed image that others have a snapshot of, `web`.
    pub(super) image: String,
    /// A layer that is a root filesystem, and its digest.
    pub(super) layer: String,
    /// Another one.
    pub(super) other: String,
    /// A large one, whose extraction takes a while.
    pub(super) large: String,
}

impl Ground {
    /// A new connection.
    pub(super) fn connect(&self) -> Client {
        Client::connect(self.user).unwrap()
    }

    /// One request on a connection of its own.
    pub(super) fn ask(&self, verb: &str, fields: Value) -> Saw {
        saw(self.connect().ask(verb, fields))
    }
}

/// An answer in the attacker's words.
pub(super) fn saw(answer: std::io::Result<Value>) -> Saw {
    match answer {
        Err(error) => Saw::Refused(format!("closed: {error}")),
        Ok(answer) if answer["Ok"].is_null() => Saw::Refused(answer.to_string()),
        Ok(answer) => Saw::Done(answer["Ok"].to_string()),
    }
}

/// What must be refused; that it is done is the breach.
pub(super) fn must_refuse(saw: Saw) -> Saw {
    match saw {
        Saw::Done(what) => Saw::Breach(format!("it was done: {what}")),
        other @ (Saw::Refused(_) | Saw::Breach(_)) => other,
    }
}

/// The id of the volume that a layer makes on top of another.
pub(super) fn chain(parent: &str, layer: &str) -> String {
    Digest::of(format!("{parent} {layer}").as_bytes()).to_string()
}

/// All of it; the cases go to `hostile-controller.json`.
pub(crate) fn all() {
    ready_with(
        "[pool]\ndata_size = \"1 GiB\"\nvolume_size = \"64 MiB\"\n[limits]\nextractions = 2\n",
    );
    airlock("run s3://images/small/small.tar --name web").ok();
    sh("systemctl stop airlock.service airlock.socket").ok();
    sh("dmsetup create somebodys-data --table '0 2048 linear /dev/vdc 0' && head -c 1048576 /dev/urandom > /dev/mapper/somebodys-data").ok();
    let ground = ground();
    let launcher = main_pid("airlock-dm-helper.service");
    let contents = || {
        sh("sha256sum /dev/mapper/somebodys-data; dd if=/dev/airlock/web bs=1M iflag=direct status=none | sha256sum").ok().out
    };
    let (before, content) = (Survey::take(SEALED), contents());
    let mut cases = Vec::new();
    let attempts = [frames::ATTEMPTS, verbs::ATTEMPTS, blobs::ATTEMPTS, peers::ATTEMPTS];
    for (name, attempt) in attempts.into_iter().flatten() {
        let seen = attempt(&ground);
        let late = answers_late(ground.user);
        let changed = Survey::take(SEALED).differences(&before);
        let (outcome, detail) = match (seen, changed.is_empty(), late) {
            (_, false, _) => ("breach", format!("changed: {}", changed.join("; "))),
            (_, _, Some(late)) => ("breach", late),
            (Saw::Breach(what), ..) => ("breach", what),
            (Saw::Refused(what), ..) => ("refused", what),
            (Saw::Done(what), ..) => ("harmless", what),
        };
        println!("{name}: {outcome}: {detail}");
        cases.push(Case::new(*name, outcome, detail).json());
    }
    assert_eq!(main_pid("airlock-dm-helper.service"), launcher, "the helper ended\n{}", logs());
    assert_eq!(contents(), content, "somebody else's data, or the active snapshot, changed");
    fs::write("/run/hostile-controller.json", Value::from(cases).to_string()).unwrap();
    // An honest controller goes on where it was.
    start();
    let again = airlock("run s3://images/small/small.tar --name web").ok();
    assert!(again.err.contains("already active"), "{}", again.err);
    airlock("run s3://images/small/small.tar --name fresh").ok();
    sh("mount -o ro /dev/airlock/fresh /mnt && test -s /mnt/etc/os-release && umount /mnt").ok();
}

/// Why the helper does not answer as it must; `None` where it does.
fn answers_late(user: User) -> Option<String> {
    // Connections that were just dropped are given back by and by.
    let begin = Instant::now();
    loop {
        let asked = Instant::now();
        let answer =
            Client::connect(user).and_then(|mut client| client.ask("PoolStatus", json!({})));
        match answer {
            Ok(answer) if answer["Ok"]["up"].is_object() && asked.elapsed() <= ANSWER => {
                return None;
            }
            Ok(answer) if begin.elapsed() > ANSWER => {
                return Some(format!("answered after {:?}: {answer}", asked.elapsed()));
            }
            Err(error) if begin.elapsed() > ANSWER => return Some(format!("no answer: {error}")),
            Ok(_) | Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn ground() -> Ground {
    let user = controller();
    let mut client = Client::connect(user).unwrap();
    let list = client.ask("ListVolumes", json!({"after": null})).unwrap();
    let volume = list["Ok"]["items"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|item| item["what"]["volume"]["volume"].as_str().map(str::to_owned));
    let tar = |make: &str| {
        sh(&format!("rm -rf /srv/t && mkdir -p /srv/t/etc /srv/t/usr/bin && {make} && tar -C /srv/t -cf /srv/t.tar .")).ok();
        give_blob(&fs::read("/srv/t.tar").unwrap())
    };
    let layer = tar("echo ID=a > /srv/t/etc/os-release");
    let other = tar("echo ID=b > /srv/t/etc/os-release");
    let large = tar("head -c 40000000 /dev/urandom > /srv/t/usr/noise");
    sh("mkdir -p /var/lib/secret && mv /srv/t.tar /var/lib/secret/large.tar && rm -rf /srv/t").ok();
    Ground { user, image: volume.unwrap(), layer, other, large }
}
