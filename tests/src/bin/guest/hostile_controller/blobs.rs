//! Blobs that are not what they are said to be, or change while they are read.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::thread::{self, sleep};
use std::time::Duration;

use airlock_policy::digest::Digest;
use serde_json::{Value, json};

use super::{Attempt, Ground, Saw, chain, must_refuse, saw};
use crate::machine::{pids, sh};
use crate::survey::{blob_path, give_blob};

/// Extracts a blob into a volume of this id, to the end.
fn apply(ground: &Ground, volume: &str, blob: &str, diff_id: &str) -> Saw {
    let mut client = ground.connect();
    let made = client.ask("CreateVolume", json!({"volume": volume, "parent": null}));
    if made.as_ref().is_ok_and(|made| made["Ok"].is_null()) {
        return saw(made);
    }
    loop {
        let fields = json!({"volume": volume, "blob": blob, "diff_id": diff_id});
        let answer = client.ask("ApplyLayer", fields);
        if !answer.as_ref().is_ok_and(|answer| answer["Ok"]["running"].is_object()) {
            return saw(answer);
        }
    }
}

/// A blob under a digest, which `make` puts there as it likes, must not become a volume.
fn under(ground: &Ground, name: &str, make: impl FnOnce(&str)) -> Saw {
    let digest = Digest::of(name.as_bytes()).to_string();
    let path = blob_path(&digest);
    drop(fs::remove_file(&path));
    make(&path);
    let saw = must_refuse(apply(ground, &digest, &digest, &digest));
    drop(fs::remove_file(&path).or_else(|_folder| fs::remove_dir_all(&path)));
    saw
}

/// An archive of one entry, made by Python's tarfile, which lets it have any name.
fn archive(entry: &str) -> String {
    sh(&format!(
        "python3 -c \"
import tarfile, io
t = tarfile.open('/run/a.tar', 'w')
i = tarfile.TarInfo('etc/'); i.type = tarfile.DIRTYPE; i.mode = 0o755; t.addfile(i)
{entry}
t.close()\""
    ))
    .ok();
    give_blob(&fs::read("/run/a.tar").unwrap())
}

/// A hostile layer that no controller looked at.
fn unscanned(ground: &Ground, entry: &str) -> Saw {
    let blob = archive(entry);
    must_refuse(apply(ground, &blob, &blob, &blob))
}

/// Begins the extraction of the large layer, does something while it runs, and tells how it ended.
fn meanwhile<T>(ground: &Ground, act: impl FnOnce() -> T) -> (T, Saw) {
    // What an attempt before this one cut or overwrote is made again, under the same digest.
    fs::copy("/var/lib/secret/large.tar", blob_path(&ground.large)).unwrap();
    thread::scope(|scope| {
        let end = scope.spawn(|| apply(ground, &ground.large, &ground.large, &ground.large));
        for _ in 0..200 {
            if !pids("airlock-dm-worker").is_empty() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        (act(), end.join().unwrap())
    })
}

fn forget_large(ground: &Ground) {
    drop(ground.ask("DeleteVolume", json!({"target": {"volume": ground.large}})));
}

fn asks(ground: &Ground, verb: &str, fields: Value) -> Saw {
    must_refuse(ground.ask(verb, fields))
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    ("a blob that is not there", |ground| under(ground, "absent", |_| {})),
    ("a blob of another digest", |ground| {
        under(ground, "other", |path| fs::write(path, b"not what it says").unwrap())
    }),
    ("a blob that is a link to a file of root's", |ground| {
        under(ground, "link", |path| symlink("/etc/shadow", path).unwrap())
    }),
    ("a blob that is a link to a device", |ground| {
        under(ground, "device link", |path| symlink("/dev/mapper/somebodys-data", path).unwrap())
    }),
    ("a blob that is a named pipe", |ground| {
        under(ground, "pipe", |path| drop(sh(&format!("mkfifo {path}")).ok()))
    }),
    ("a blob that is a folder", |ground| {
        under(ground, "folder", |path| fs::create_dir(path).unwrap())
    }),
    ("a blob that is a device", |ground| {
        under(ground, "device", |path| drop(sh(&format!("mknod {path} c 1 5")).ok()))
    }),
    ("a blob that is a socket", |ground| {
        under(ground, "socket", |path| {
            drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        })
    }),
    ("a blob that is a hard link to a file of root's", |ground| {
        sh("mkdir -p /var/lib/secret && head -c 2000 /dev/urandom > /var/lib/secret/key").ok();
        let secret = fs::read("/var/lib/secret/key").unwrap();
        let digest = Digest::of(&secret).to_string();
        fs::hard_link("/var/lib/secret/key", blob_path(&digest)).unwrap();
        let saw = must_refuse(apply(ground, &digest, &digest, &digest));
        fs::remove_file(blob_path(&digest)).unwrap();
        assert_eq!(fs::read("/var/lib/secret/key").unwrap(), secret);
        saw
    }),
    ("the folder of the blobs replaced by a link", |ground| {
        let folder = "/var/lib/airlock/blobs";
        sh(&format!("mv {folder}/sha256 {folder}/kept && ln -s /etc {folder}/sha256")).ok();
        let saw = must_refuse(apply(ground, &ground.layer, &ground.layer, &ground.layer));
        sh(&format!("rm {folder}/sha256 && mv {folder}/kept {folder}/sha256")).ok();
        saw
    }),
    ("a mount put over the folder of the blobs", |ground| {
        let folder = "/var/lib/airlock/blobs/sha256";
        sh(&format!("mount -t tmpfs none {folder}")).ok();
        let saw = must_refuse(apply(ground, &ground.layer, &ground.layer, &ground.layer));
        sh(&format!("umount {folder}")).ok();
        saw
    }),
    ("a layer under the id of another", |ground| {
        let volume = chain("wrong", "id");
        must_refuse(apply(ground, &volume, &ground.layer, &ground.layer))
    }),
    ("a layer with another's diff id", |ground| {
        must_refuse(apply(ground, &ground.other, &ground.layer, &ground.other))
    }),
    ("the right layers in the wrong order", |ground| {
        // Of layer and other, the second alone cannot be the first.
        let both = chain(&ground.layer, &ground.other);
        must_refuse(apply(ground, &both, &ground.other, &ground.other))
    }),
    ("a layer that leads out by dot-dot, unscanned", |ground| {
        unscanned(
            ground,
            "i = tarfile.TarInfo('../../../etc/airlock-was-here'); i.size = 1; t.addfile(i, io.BytesIO(b'x'))",
        )
    }),
    ("a layer with an absolute name, unscanned", |ground| {
        unscanned(
            ground,
            "i = tarfile.TarInfo('/etc/airlock-was-here'); i.size = 1; t.addfile(i, io.BytesIO(b'x'))",
        )
    }),
    ("a layer with a device, unscanned", |ground| {
        unscanned(
            ground,
            "i = tarfile.TarInfo('sda'); i.type = tarfile.BLKTYPE; i.devmajor = 254; t.addfile(i)",
        )
    }),
    ("a layer with a hard link out, unscanned", |ground| {
        unscanned(
            ground,
            "i = tarfile.TarInfo('key'); i.type = tarfile.LNKTYPE; i.linkname = '../etc/shadow'; t.addfile(i)",
        )
    }),
    ("a layer that is larger than its volume", |ground| {
        let blob = archive(
            "i = tarfile.TarInfo('big'); i.size = 80000000; t.addfile(i, io.BytesIO(bytes(80000000)))",
        );
        must_refuse(apply(ground, &blob, &blob, &blob))
    }),
    ("the blob overwritten while it is read", |ground| {
        let path = blob_path(&ground.large);
        let ((), end) = meanwhile(ground, || {
            let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all(&vec![0xff; 4 << 20]).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 4096], 39_000_000).unwrap();
        });
        must_refuse(end)
    }),
    ("the blob cut short while it is read", |ground| {
        let path = blob_path(&ground.large);
        let ((), end) = meanwhile(ground, || {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        });
        must_refuse(end)
    }),
    ("a volume deleted while it is extracted into", |ground| {
        busy(ground, |ground| {
            asks(ground, "DeleteVolume", json!({"target": {"volume": ground.large}}))
        })
    }),
    ("a volume sealed while it is extracted into", |ground| {
        busy(ground, |ground| asks(ground, "SealVolume", json!({"volume": ground.large})))
    }),
    ("a snapshot of a volume that is extracted into", |ground| {
        busy(ground, |ground| {
            let fields = json!({"name": "busy", "image": ground.large, "read_only": true});
            asks(ground, "Snapshot", fields)
        })
    }),
    ("another layer into a volume that is extracted into", |ground| {
        busy(ground, |ground| {
            let fields =
                json!({"volume": ground.large, "blob": ground.other, "diff_id": ground.other});
            asks(ground, "ApplyLayer", fields)
        })
    }),
    ("the same layer 6 times at once", |ground| {
        let ends: Vec<Saw> = thread::scope(|scope| {
            let all: Vec<_> = (0..6)
                .map(|_| scope.spawn(|| apply(ground, &ground.layer, &ground.layer, &ground.layer)))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let done = ends.iter().filter(|end| matches!(end, Saw::Done(_))).count();
        drop(ground.ask("DeleteVolume", json!({"target": {"volume": ground.layer}})));
        Saw::Done(format!("{done} of 6 were told the same end"))
    }),
];

/// Makes the large layer anew, and asks something while it is extracted.
fn busy(ground: &Ground, act: impl FnOnce(&Ground) -> Saw) -> Saw {
    let (saw, end) = meanwhile(ground, || act(ground));
    forget_large(ground);
    match end {
        Saw::Done(_) => saw,
        Saw::Refused(why) | Saw::Breach(why) => {
            Saw::Breach(format!("the extraction itself failed: {why}"))
        }
    }
}
