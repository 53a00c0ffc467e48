//! The tree digest on this machine's kernel, by the real worker: the same for the same tree,
//! another for any other, and found again by reading what was written.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::path::{Path, PathBuf};

use airlock_dm_launcher::errand::Desk;
use airlock_policy::digest::{Digest, TreeDigest};
use airlock_policy::errand::Answer;
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::tree::{Difference, ShownPath};
use airlock_tests::extraction::{base_volume, desk, extracted_with, verified};
use airlock_tests::loopback::Loop;
use airlock_tests::{images, sh};

const SIZE: u64 = 1 << 30;

/// A volume that archives were extracted into, one over the other.
struct Volume {
    desk: Desk,
    device: Loop,
    manifest: File,
    tree: TreeDigest,
}

impl Volume {
    fn of(archives: &[&Path]) -> Self {
        Self::with(archives, true)
    }

    /// Without the manifests below, the files below are read instead.
    fn with(archives: &[&Path], manifests: bool) -> Self {
        let desk = desk(HelperConfig::default());
        let device = base_volume(&desk, SIZE);
        let mut last: Option<(File, TreeDigest)> = None;
        for archive in archives {
            let manifest = tempfile::tempfile().unwrap();
            let below = last.as_ref().filter(|_| manifests).map(|(file, tree)| (file, *tree));
            let answer = extracted_with(&desk, &device, archive, (&manifest, below));
            let Answer::Extracted(found) = answer else { panic!("{answer:?}") };
            last = Some((manifest, found.tree));
        }
        let (manifest, tree) = last.unwrap();
        Self { desk, device, manifest, tree }
    }

    fn verify(&self) -> Answer {
        verified(&self.desk, &self.device, Some(&self.manifest), self.tree)
    }
}

fn tree_of(archive: &Path) -> TreeDigest {
    Volume::of(&[archive]).tree
}

#[test]
fn a_debian_root_filesystem_has_one_tree_digest_however_it_was_compressed() {
    let volume = Volume::of(&[&images("rootfs").join("rootfs.tar")]);
    assert_eq!(volume.verify(), Answer::Verified { tree: volume.tree });
    println!("{}, manifest of {} bytes", volume.tree, volume.manifest.metadata().unwrap().len());
    for name in ["rootfs.tar.gz", "rootfs.tar.zst"] {
        assert_eq!(tree_of(&images("rootfs").join(name)), volume.tree, "{name}");
    }
}

#[test]
fn holes_and_their_dialect_do_not_change_the_tree() {
    let of = |name: &str| Volume::of(&[&images("sparse").join(name)]);
    let first = of("gnu.tar");
    for name in ["pax01.tar", "pax10.tar"] {
        assert_eq!(of(name).tree, first.tree, "{name}");
    }
    assert_eq!(first.verify(), Answer::Verified { tree: first.tree });
}

/// What the tree below consists of: a little of everything.
const TREE: &str = "mkdir -p etc usr/bin var/empty; echo one > etc/f; ln etc/f etc/hard;
    ln -s f etc/link; mkfifo etc/pipe; head -c 300000 /dev/urandom > usr/bin/big;
    head -c 9000 /dev/zero > usr/bin/zeros; : > usr/bin/none; setfattr -n user.a -v 1 etc/f";

/// The archive of a tree that was made from another by shell lines.
fn archive(folder: &Path, name: &str, lines: &str) -> PathBuf {
    let to = folder.join(name);
    let pack = "tar --numeric-owner --sort=name --xattrs --xattrs-include='*' --acls -cf";
    let work = folder.join("work");
    std::fs::create_dir_all(&work).unwrap();
    sh(&format!("umask 022; {lines}\n{pack} {} .", to.display()), &work);
    to
}

#[test]
fn any_one_change_of_a_tree_changes_its_digest_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let made = archive(folder.path(), "a.tar", TREE);
    let original = Volume::of(&[&made]);
    assert_eq!(original.verify(), Answer::Verified { tree: original.tree });
    let changes = [
        ("printf two | dd of=etc/f conv=notrunc", Difference::Content, "etc/f"),
        ("echo more >> etc/f", Difference::Size, "etc/f"),
        ("chmod 4644 etc/f", Difference::Mode, "etc/f"),
        ("chmod 1755 var/empty", Difference::Mode, "var/empty"),
        ("chown 5:0 usr/bin/none", Difference::Owner, "usr/bin/none"),
        ("chown -h 0:5 etc/link", Difference::Owner, "etc/link"),
        ("setfattr -n user.a -v 2 etc/f", Difference::Xattrs, "etc/f"),
        ("setfattr -n user.b -v 2 usr", Difference::Xattrs, "usr"),
        ("setfacl -m u:77:r usr/bin/none", Difference::Xattrs, "usr/bin/none"),
        ("setcap cap_chown+ep usr/bin/big", Difference::Xattrs, "usr/bin/big"),
        ("ln -sfn g etc/link", Difference::Content, "etc/link"),
        ("rm etc/pipe; : > etc/pipe", Difference::Kind, "etc/pipe"),
        ("rm etc/hard; cp -p --preserve=xattr etc/f etc/hard", Difference::Links, "etc/hard"),
        ("rm usr/bin/zeros", Difference::Missing, "usr/bin/zeros"),
        ("rm -r var", Difference::Missing, "var"),
        ("rm etc/pipe", Difference::Missing, "etc/pipe"),
        ("touch etc/new", Difference::Added, "etc/new"),
        ("touch 'zz\\\nz'", Difference::Added, "zz\\\\\\nz"),
        (
            "printf x | dd of=usr/bin/big bs=1 seek=299999 conv=notrunc",
            Difference::Content,
            "usr/bin/big",
        ),
        (
            "printf x | dd of=usr/bin/zeros bs=1 seek=4097 conv=notrunc",
            Difference::Content,
            "usr/bin/zeros",
        ),
    ];
    for (line, what, path) in changes {
        let desk = desk(HelperConfig::default());
        // As one who writes to the pool beneath the helper's feet would.
        let device = original.device.copied();
        device.mounted(|root| sh(line, root));
        let answer = verified(&desk, &device, Some(&original.manifest), original.tree);
        let path = ShownPath::try_from(path.to_owned()).unwrap();
        assert_eq!(answer, Answer::Differs { what, path }, "{line}");
        // Without a manifest the digest alone tells.
        let alone = verified(&desk, &device, None, original.tree);
        assert!(
            matches!(alone, Answer::Verified { tree } if tree != original.tree),
            "{line}: {alone:?}"
        );
    }
}

#[test]
fn layers_on_top_of_each_other_have_the_digest_of_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let first = archive(folder.path(), "1.tar", TREE);
    let second = folder.path().join("2.tar");
    // A whiteout, an opaque directory, a duplicate, a hard link to a file below, a replaced file.
    sh(
        &format!(
            "rm -r *; mkdir -p etc usr/bin; echo 2 > etc/f; echo x > usr/bin/new; touch etc/.wh.pipe usr/.wh..wh..opq;
             tar -cf {0} .; echo 3 > etc/f; echo dup > etc/dup; ln etc/dup etc/dup2; tar -rf {0} etc/f etc/dup etc/dup2",
            second.display()
        ),
        &folder.path().join("work"),
    );
    let third = folder.path().join("3.tar");
    sh(
        &format!(
            "rm -r *; mkdir etc; echo t > etc/hard; ln etc/hard etc/again; tar -cf {0} etc/hard etc/again;
             tar --delete -f {0} etc/hard",
            third.display()
        ),
        &folder.path().join("work"),
    );
    let layers = [first.as_path(), &second, &third];
    let volume = Volume::of(&layers);
    assert_eq!(volume.verify(), Answer::Verified { tree: volume.tree });
    let read = Volume::with(&layers, false);
    assert_eq!(read.tree, volume.tree, "known contents are those that are read");
    // The same tree from one archive.
    let flat = folder.path().join("flat.tar");
    let path = flat.display().to_string();
    let pack = format!("tar --numeric-owner --xattrs --xattrs-include='*' --acls -cf {path} .");
    volume.device.mounted(|root| sh(&pack, root));
    assert_eq!(tree_of(&flat), volume.tree);
}

#[test]
fn a_manifest_that_was_changed_is_not_believed() {
    use std::os::unix::fs::FileExt as _;
    let folder = tempfile::tempdir().unwrap();
    let made = archive(folder.path(), "a.tar", TREE);
    let volume = Volume::of(&[&made]);
    let mut byte = [0];
    volume.manifest.read_exact_at(&mut byte, 90).unwrap();
    volume.manifest.write_all_at(&[byte[0] ^ 1], 90).unwrap();
    // The volume itself is whole, and found so by its digest.
    assert_eq!(volume.verify(), Answer::Verified { tree: volume.tree });
    // Above it, files are read instead.
    let desk = desk(HelperConfig::default());
    let manifest = tempfile::tempfile().unwrap();
    let other = TreeDigest(Digest::of(b"another"));
    let below = Some((&volume.manifest, other));
    let empty = archive(folder.path(), "b.tar", "rm -r *; mkdir etc");
    let answer = extracted_with(&desk, &volume.device, &empty, (&manifest, below));
    let Answer::Extracted(found) = answer else { panic!("{answer:?}") };
    let again = verified(&desk, &volume.device, Some(&manifest), found.tree);
    assert_eq!(again, Answer::Verified { tree: found.tree });
}
