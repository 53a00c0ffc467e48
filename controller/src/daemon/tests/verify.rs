//! What `verify` finds, and how the next pull mends it.

use std::os::unix::fs::PermissionsExt as _;

use airlock_policy::digest::{BlobDigest, TreeDigest};
use airlock_policy::tree::{Difference, ShownPath};
use airlock_protocol::control::{Finding, ImageView};
use airlock_protocol::reply::VerifyState;

use super::*;

impl Up {
    async fn inspect(&self, image: &str) -> ImageView {
        let named = Named { request: request(), image: image.to_owned() };
        self.client.image(context::current(), named).await.unwrap().unwrap()
    }

    /// Asks until it is over. Each command has an id of its own.
    async fn verify(&self, image: &str, command: &str) -> Finding {
        loop {
            let request = command.to_owned().try_into().unwrap();
            let named = Named { request, image: image.to_owned() };
            let view = self.client.verify(context::current(), named).await.unwrap().unwrap();
            if !matches!(view.finding, Finding::Running { .. }) {
                return view.finding;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_that_was_recorded_is_the_one_that_must_be_found() {
    let host = Host::new(Pool::Up);
    let _listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let tar = rootfs("x");
    up.run(&host.file("x.tar", &tar)).await;
    // The double's digest of a tree is made of the chain id.
    let tree = TreeDigest(ids(&tar).2.0);
    let image = up.inspect("x").await;
    assert_eq!((image.tree, image.unwrapped), (Some(tree), false));
    let sound = up.verify("x", "c1").await;
    assert!(matches!(sound, Finding::Sound { tree: found } if found == tree), "{sound:?}");
    let (what, path) = (Difference::Mode, ShownPath::of(b"etc/motd"));
    host.helper.state().verify = Some(VerifyState::Differs { what, path });
    let differs = up.verify("x", "c2").await;
    assert!(matches!(differs, Finding::Differs { what: Difference::Mode, .. }), "{differs:?}");
    let other = TreeDigest(Digest::of(b"another tree"));
    host.helper.state().verify = Some(VerifyState::Verified { tree: other });
    let unlike = up.verify("x", "c3").await;
    assert!(
        matches!(unlike, Finding::OtherTree { recorded, found } if (recorded, found) == (tree, other)),
        "{unlike:?}"
    );
    up.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_an_older_version_did_not_record_is_recorded_once_it_is_verified() {
    let host = Host::new(Pool::Up);
    let _listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let tar = rootfs("x");
    up.run(&host.file("x.tar", &tar)).await;
    up.down().await;
    let database = host.config().state_dir.join("airlock.sqlite");
    let connection = rusqlite::Connection::open(database).unwrap();
    assert_eq!(connection.execute("UPDATE volumes SET tree = NULL", []).unwrap(), 1);
    drop(connection);
    let up = host.up().await;
    assert_eq!(up.inspect("x").await.tree, None);
    assert!(matches!(up.verify("x", "c1").await, Finding::Sound { .. }));
    assert_eq!(up.inspect("x").await.tree, Some(TreeDigest(ids(&tar).2.0)));
    up.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_rotted_is_named_and_the_next_pull_fetches_it_again() {
    let host = Host::new(Pool::Up);
    let _listening = host.helper.listen(&host.config().helper_socket);
    let up = host.up().await;
    let tar = rootfs("x");
    let (source, blob) = (host.file("x.tar", &tar), BlobDigest(Digest::of(&tar)));
    up.run(&source).await;
    assert!(matches!(up.verify("x", "c1").await, Finding::Sound { .. }));
    let path = host.config().blobs_dir().join("sha256").join(blob.0.hex());
    // A disk's error leaves size, time and inode as they are.
    let before = std::fs::metadata(&path).unwrap();
    let mut rotten = tar.clone();
    rotten[1025] ^= 1;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, &rotten).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    std::fs::set_permissions(&path, before.permissions()).unwrap();
    assert_eq!(
        up.run(&source).await.result.unwrap().fetched_bytes,
        0,
        "a pull reads nothing again"
    );

    let damaged = up.verify("x", "c2").await;
    let rot = Some(BlobDigest(Digest::of(&rotten)));
    assert!(
        matches!(damaged, Finding::Damaged { blob: named, found } if (named, found) == (blob, rot)),
        "{damaged:?}"
    );
    let mended = up.run(&source).await;
    assert_eq!(mended.state, RunState::Done, "{mended:#?}");
    assert_eq!(std::fs::read(&path).unwrap(), tar);
    assert_eq!(host.helper.asked("extractions"), 1, "the volume is sound");
    assert!(matches!(up.verify("x", "c3").await, Finding::Sound { .. }));

    std::fs::remove_file(&path).unwrap();
    let gone = up.verify("x", "c4").await;
    assert!(matches!(gone, Finding::Damaged { found: None, .. }), "{gone:?}");
    assert_eq!(up.run(&source).await.state, RunState::Done);
    assert!(matches!(up.verify("x", "c5").await, Finding::Sound { .. }));
    up.down().await;
}
