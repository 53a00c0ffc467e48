//! Verbs about what is not the attacker's, out of order, out of range.

use std::fs::File;

use serde_json::json;

use super::{Attempt, Ground, Saw, chain, must_refuse};

fn named(ground: &Ground, name: &str) -> Saw {
    must_refuse(ground.ask("Map", json!({"name": name})))
}

fn volume(ground: &Ground, volume: &str) -> Saw {
    must_refuse(ground.ask("CreateVolume", json!({"volume": volume, "parent": null})))
}

/// An id that no volume has, for this attempt.
fn fresh(name: &str) -> String {
    chain("attempt", name)
}

fn create(ground: &Ground, name: &str) -> String {
    let volume = fresh(name);
    drop(ground.ask("CreateVolume", json!({"volume": volume, "parent": null})));
    volume
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    ("a name with slashes", |ground| named(ground, "../../etc/passwd")),
    ("a name of dots", |ground| named(ground, "..")),
    ("a name with a NUL", |ground| named(ground, "web\0")),
    ("a name in another script", |ground| named(ground, "w\u{435}b")),
    ("a name with a line's end", |ground| named(ground, "web\n")),
    ("a name that begins as an option does", |ground| named(ground, "-web")),
    ("a name of 129 characters", |ground| named(ground, &"a".repeat(129))),
    ("an empty name", |ground| named(ground, "")),
    ("another's device by its name", |ground| named(ground, "somebodys-data")),
    ("another's device taken down by its name", |ground| {
        match ground.ask("Unmap", json!({"name": "somebodys-data"})) {
            // There is no such snapshot: that it is not mapped is so.
            Saw::Done(what) if what.contains("already_there") => Saw::Refused(what),
            other @ (Saw::Done(_) | Saw::Refused(_) | Saw::Breach(_)) => must_refuse(other),
        }
    }),
    ("another's device deleted by its name", |ground| {
        match ground.ask("DeleteVolume", json!({"target": {"snapshot": "somebodys-data"}})) {
            Saw::Done(what) if what.contains("already_there") => Saw::Refused(what),
            other @ (Saw::Done(_) | Saw::Refused(_) | Saw::Breach(_)) => must_refuse(other),
        }
    }),
    ("the pool by the name of its device", |ground| named(ground, "airlock-pool")),
    ("a volume by a number", |ground| volume(ground, "1")),
    ("a volume by half a digest", |ground| volume(ground, "sha256:00")),
    ("a volume by a digest in capitals", |ground| {
        volume(ground, &ground.image.to_uppercase().replace("SHA256", "sha256"))
    }),
    ("a volume by a digest of another kind", |ground| {
        volume(ground, &format!("sha512:{}", "0".repeat(128)))
    }),
    ("a target of two kinds", |ground| {
        let target = json!({"volume": ground.image, "snapshot": "web"});
        must_refuse(ground.ask("DeleteVolume", json!({"target": target})))
    }),
    ("a page behind the last possible id", |ground| {
        must_refuse(ground.ask("ListVolumes", json!({"after": 16_777_216})))
    }),
    ("a page before the first id", |ground| {
        must_refuse(ground.ask("ListVolumes", json!({"after": -1})))
    }),
    ("a page at a broken number", |ground| {
        must_refuse(ground.ask("ListVolumes", json!({"after": 1.5})))
    }),
    ("a pool made where there is one", |ground| ground.ask("EnsurePool", json!({"create": true}))),
    ("the image under an active snapshot deleted", |ground| {
        must_refuse(ground.ask("DeleteVolume", json!({"target": {"volume": ground.image}})))
    }),
    ("an active snapshot deleted", |ground| {
        must_refuse(ground.ask("DeleteVolume", json!({"target": {"snapshot": "web"}})))
    }),
    ("a snapshot taken down that somebody holds", |ground| {
        let held = File::open("/dev/airlock/web").unwrap();
        let saw = must_refuse(ground.ask("Unmap", json!({"name": "web"})));
        drop(held);
        saw
    }),
    ("a snapshot's name taken for another image", |ground| {
        let image = create(ground, "collision");
        must_refuse(
            ground.ask("Snapshot", json!({"name": "web", "image": image, "read_only": false})),
        )
    }),
    ("a snapshot's name taken in another mode", |ground| {
        let fields = json!({"name": "web", "image": ground.image, "read_only": true});
        must_refuse(ground.ask("Snapshot", fields))
    }),
    ("a snapshot of what is not sealed", |ground| {
        let image = create(ground, "open");
        must_refuse(
            ground.ask("Snapshot", json!({"name": "early", "image": image, "read_only": false})),
        )
    }),
    ("a volume sealed that was not filled", |ground| {
        let volume = create(ground, "unfilled");
        must_refuse(ground.ask("SealVolume", json!({"volume": volume})))
    }),
    ("a volume on a parent that is not sealed", |ground| {
        let parent = create(ground, "parent");
        let volume = fresh("child");
        must_refuse(ground.ask("CreateVolume", json!({"volume": volume, "parent": parent})))
    }),
    ("a volume on a parent that is not there", |ground| {
        let fields = json!({"volume": fresh("orphan"), "parent": fresh("nobody")});
        must_refuse(ground.ask("CreateVolume", fields))
    }),
    ("a volume that is its own parent", |ground| {
        let fields = json!({"volume": fresh("self"), "parent": fresh("self")});
        must_refuse(ground.ask("CreateVolume", fields))
    }),
    ("the image claimed with another parent", |ground| {
        let fields = json!({"volume": ground.image, "parent": ground.image});
        must_refuse(ground.ask("CreateVolume", fields))
    }),
    ("a layer extracted into the sealed image", |ground| {
        let fields = json!({"volume": ground.image, "blob": ground.other, "diff_id": ground.other});
        must_refuse(ground.ask("ApplyLayer", fields))
    }),
    ("a layer extracted into no volume", |ground| {
        let fields =
            json!({"volume": fresh("none"), "blob": ground.layer, "diff_id": ground.layer});
        must_refuse(ground.ask("ApplyLayer", fields))
    }),
    ("the image sealed again", |ground| ground.ask("SealVolume", json!({"volume": ground.image}))),
    ("30 volumes made and deleted in a loop", |ground| {
        let mut client = ground.connect();
        for round in 0..30 {
            let volume = fresh(&format!("loop{}", round % 3));
            let made = client.ask("CreateVolume", json!({"volume": volume, "parent": null}));
            let gone = client.ask("DeleteVolume", json!({"target": {"volume": volume}}));
            if made.is_err() || gone.is_err() {
                return Saw::Refused(format!("{made:?} {gone:?}"));
            }
        }
        Saw::Done("thin ids are never used twice; nothing is left".to_owned())
    }),
    ("20 snapshots made, mapped, unmapped and deleted in a loop", |ground| {
        let mut client = ground.connect();
        for _ in 0..20 {
            let fields = json!({"name": "loop", "image": ground.image, "read_only": true});
            for (verb, fields) in [
                ("Snapshot", fields),
                ("Map", json!({"name": "loop"})),
                ("Unmap", json!({"name": "loop"})),
                ("DeleteVolume", json!({"target": {"snapshot": "loop"}})),
            ] {
                match client.ask(verb, fields) {
                    Ok(answer) if answer["Ok"].is_null() => {
                        return Saw::Breach(format!("{verb}: {answer}"));
                    }
                    Err(error) => return Saw::Breach(format!("{verb}: {error}")),
                    Ok(_) => {}
                }
            }
        }
        Saw::Done("its own snapshots come and go".to_owned())
    }),
    ("a conversation played again", |ground| {
        let fields = json!({"name": "web", "image": ground.image, "read_only": false});
        let (again, map) =
            (ground.ask("Snapshot", fields), ground.ask("Map", json!({"name": "web"})));
        match (again, map) {
            (Saw::Done(first), Saw::Done(second)) if first.contains("already_there") => {
                Saw::Done(format!("{first}, {second}"))
            }
            _ => Saw::Breach("what is so was not said to be so".to_owned()),
        }
    }),
];
