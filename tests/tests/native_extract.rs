//! Extraction on this machine's kernel, by the real worker: the tree is GNU tar's, and nothing
//! leaves the volume.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and starts the programs that make its input"
)]

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use airlock_dm_launcher::errand::extract::{self, Input};
use airlock_policy::errand::{Answer, Failure, Progress, Stage};
use airlock_policy::helper_config::HelperConfig;
use airlock_policy::rule::Rule;
use airlock_tests::extraction::{
    base_volume, desk, envelope, extracted, finished, format, input, measured_with, status,
};
use airlock_tests::loopback::{Loop, with_ext4};
use airlock_tests::tree::{differences, list};
use airlock_tests::{images, sh};

const GIB: u64 = 1 << 30;

/// The archive `$A` of what shell lines make in an empty folder, unless they make it themselves.
fn archive(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let pack = "tar --numeric-owner --xattrs --xattrs-include='*' --acls --format=posix -cf $A .";
    // On a filesystem that can hold whatever a volume can.
    with_ext4(GIB / 4, |root| {
        sh(&format!("umask 022; F={path}; A=$F/a.tar; {lines}\n[ -e $A ] || {pack}"), root);
    });
    folder
}

/// The tree that our worker makes of archives, one over the other.
fn ours(archives: &[&Path]) -> String {
    let desk = desk(HelperConfig::default());
    let device = base_volume(&desk, GIB);
    for archive in archives {
        let answer = extracted(&desk, &device, archive);
        assert!(matches!(answer, Answer::Extracted(_)), "{}: {answer:?}", archive.display());
    }
    device.mounted(|root| list(root).unwrap())
}

/// The tree that GNU tar makes of an archive.
fn gnu_tars(archive: &Path) -> String {
    with_ext4(GIB, |root| {
        let tar = Command::new("tar")
            .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-xpf"])
            .arg(archive)
            .arg("-C")
            .arg(root)
            .status()
            .unwrap();
        assert!(tar.success(), "tar -xpf {}", archive.display());
        list(root).unwrap()
    })
}

fn equal_gnu_tars(archive: &Path) {
    let (expected, listed) = (gnu_tars(archive), ours(&[archive]));
    let differences = differences(&expected, &listed);
    assert!(differences.is_empty(), "{}:\n{}", archive.display(), differences.join("\n"));
    assert_eq!(listed, expected);
    assert!(listed.lines().count() > 3, "{listed}");
}

#[test]
fn a_debian_root_filesystem_is_as_gnu_tar_extracts_it() {
    for name in ["rootfs.tar", "rootfs.tar.gz", "rootfs.tar.zst"] {
        equal_gnu_tars(&images("rootfs").join(name));
    }
}

#[test]
fn every_dialect_is_as_gnu_tar_extracts_it() {
    for name in ["v7.tar", "ustar.tar", "gnu.tar", "pax.tar"] {
        equal_gnu_tars(&images("dialects").join(name));
    }
}

#[test]
fn holes_stay_holes() {
    for name in ["gnu.tar", "pax01.tar", "pax10.tar"] {
        equal_gnu_tars(&images("sparse").join(name));
    }
}

#[test]
fn what_tar_can_say_is_kept() {
    let made = archive(
        "mkdir -p etc usr/closed var/tmp; chmod 1777 var/tmp; chmod 2750 usr; echo x > etc/f; echo g > usr/by-group;
         mkdir shared; chown 0:50 shared; chmod 2775 shared; echo s > shared/f; chown 0:0 shared/f;
         echo m > etc/mode; chmod 0602 etc/mode; echo n > etc/none; chmod 0 etc/none;
         mkfifo -m 640 etc/p; chown 7:8 etc/p; ln -s /nowhere/at/all etc/l; chown -h 9:10 etc/l;
         ln etc/f etc/hard; ln etc/l etc/hardlink-of-link; cp /bin/true usr/closed/t;
         chown 2147483646:2147483646 usr/closed/t; chmod 6755 usr/closed/t;
         cp /bin/true usr/cap; setcap cap_net_raw+ep usr/cap; chmod 000 usr/closed;
         setfattr -n user.big -v $(head -c 40000 /dev/zero | tr '\\0' a) etc/f;
         setfacl -m u:4242:r etc/f; setfacl -d -m g:4243:rwx var; setfacl -m u:1:rwx etc/p;
         mkdir var/inside; echo y > var/inside/no-list; setfacl -b -k var/inside var/inside/no-list;
         touch -d @1700000000.123456789 etc/f; touch -h -d @-5.5 etc/l; touch -d @5000000000 var",
    );
    equal_gnu_tars(&made.path().join("a.tar"));
}

/// Its root is the directory that was around it, which GNU tar leaves out where it strips.
#[test]
fn a_wrapped_root_filesystem_is_as_gnu_tar_strips_it() {
    let made = archive(
        "mkdir rootfs; cd rootfs; mkdir -p etc usr/bin var/tmp usr/closed; chmod 1777 var/tmp; echo 1 > etc/f; ln etc/f etc/g;
         ln -s /etc/f usr/bin/absolute; ln -s ../../etc/f usr/bin/relative; ln -s usr/bin bin; mkfifo var/p;
         cp /bin/true usr/closed/t; chown 7:8 usr/closed/t; chmod 4711 usr/closed/t; chmod 0 usr/closed; ln bin/absolute etc/h;
         setfattr -n user.a -v b .; setfacl -d -m u:4242:rwx .; chown 5:6 .; chmod 0710 .; touch -d @1234567890.5 .; cd ..;
         tar --numeric-owner --xattrs --xattrs-include='*' --acls --format=posix -cf $A ./rootfs",
    );
    let archive = made.path().join("a.tar");
    let desk = desk(HelperConfig::default());
    let device = base_volume(&desk, GIB);
    let file = File::open(&archive).unwrap();
    let input = Input { unwrap: true, ..input(file.as_fd()) };
    let answer = measured_with(&desk, &device, input).answer;
    assert!(matches!(answer, Answer::Extracted(_)), "{answer:?}");
    let listed = device.mounted(|root| list(root).unwrap());
    let by_tar = |strip: &str, root: &Path| {
        let tar = "tar --numeric-owner --xattrs --xattrs-include='*' --acls -xpf";
        sh(&format!("{tar} {} {strip}", archive.display()), root);
    };
    let wrapped = with_ext4(GIB, |root| {
        by_tar("", root);
        list(&root.join("rootfs")).unwrap()
    });
    assert_eq!(listed, wrapped);
    // To GNU tar, `./rootfs` has two components.
    let stripped = with_ext4(GIB, |root| {
        by_tar("--strip-components=2", root);
        list(root).unwrap()
    });
    let without_root = |tree: &str| tree.split_once('\n').unwrap().1.to_owned();
    assert_eq!(without_root(&listed), without_root(&stripped));
    assert!(listed.lines().count() > 10, "{listed}");
}

/// The root is there before its entry comes: what it hands down by that entry is handed to nothing.
#[test]
fn what_the_root_hands_down_is_given_to_no_entry() {
    let made = archive(
        "mkdir d; echo 1 > f; echo 2 > d/g; chmod 0777 f; chown 0:0 d f d/g;
         chown 0:50 .; chmod 2755 .; setfacl -d -m u:4242:rw-,g::r-x .",
    );
    equal_gnu_tars(&made.path().join("a.tar"));
}

#[test]
fn a_later_entry_replaces_an_earlier_one_of_any_kind() {
    let made = archive(
        "mkdir d; echo 1 > f; ln -s d l; tar -cf $A .; rm -r *;
         echo file > d; mkdir f; echo in > f/in; mkdir l; echo l > l/in; tar -rf $A d f l;
         rm -r *; ln -s f d; echo 2 > l; tar -rf $A d l",
    );
    let listed = ours(&[&made.path().join("a.tar")]);
    let kinds: Vec<_> =
        listed.lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(kinds, ["./ dir", "./d link", "./f dir", "./f/in file", "./l file"]);
}

/// Two layers: what the second says of the first is done, and no more.
#[test]
fn whiteouts_remove_what_lower_layers_have_and_nothing_else() {
    let made = archive(
        "mkdir -p a/b keep opaque/old gone/deep; touch a/b/lower a/file keep/x opaque/old/x gone/deep/x;
         ln -s keep link; touch -d @1000 a a/b keep; tar -cf $F/1.tar .; rm -r *;
         mkdir -p a/b opaque link; touch a/b/upper opaque/.wh..wh..opq opaque/new;
         touch .wh.gone a/.wh.file .wh.never a/b/.wh.lower .wh.link;
         tar --no-recursion -cf $A opaque/new opaque a/b/upper a/.wh.file a/b/.wh.lower \
           .wh.gone .wh.never .wh.link opaque/.wh..wh..opq",
    );
    let (first, second) = (made.path().join("1.tar"), made.path().join("a.tar"));
    let listed = ours(&[&first, &second]);
    let names: Vec<_> = listed.lines().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(
        names,
        ["./", "./a", "./a/b", "./a/b/upper", "./keep", "./keep/x", "./opaque", "./opaque/new"]
    );
    let time = |name: &str| {
        listed.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap().split(' ').nth(4)
    };
    assert_eq!(
        time("./a/b"),
        Some("1000.000000000"),
        "a directory that no entry names keeps its time"
    );
}

/// A file outside that each hostile archive goes for, and what is left of it.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        sh(
            "echo canary > file; chmod 600 file; mkdir -m 700 folder; ln -s file link",
            folder.path(),
        );
        Self(folder)
    }

    fn list(&self) -> String {
        list(self.0.path()).unwrap()
    }
}

fn hostile(canary: &Canary, lines: &str) -> (Answer, String) {
    let path = canary.0.path().display();
    let before = canary.list();
    let made = archive(&format!("C={path}; {lines}"));
    let desk = desk(HelperConfig::default());
    let device = base_volume(&desk, GIB / 8);
    let answer = extracted(&desk, &device, &made.path().join("a.tar"));
    assert_eq!(canary.list(), before, "{lines}");
    (answer, device.mounted(|root| list(root).unwrap()))
}

#[test]
fn a_file_written_through_an_absolute_link_stays_inside() {
    let canary = Canary::new();
    let lines = "mkdir -p .$C; ln -s $C out; tar -cf $A .$C out; rm out; mkdir out;
                 echo evil > out/file; tar -rf $A out/file";
    let (answer, tree) = hostile(&canary, lines);
    assert!(matches!(answer, Answer::Extracted(_)), "{answer:?}");
    let inside = canary.0.path().join("file");
    assert!(tree.contains(&format!(".{} file", inside.display())), "{tree}");
}

#[test]
fn a_link_to_a_folder_outside_is_no_parent() {
    let canary = Canary::new();
    let up = "ln -s ../../../../../../../../$C out; tar -cf $A out; rm out; mkdir out;
              echo evil > out/file; tar -rf $A out/file";
    for lines in [up, &up.replace("../../../../../../../../", "")] {
        let (answer, _) = hostile(&canary, lines);
        assert_eq!(answer, Answer::Refused { rule: Rule::LinkParent, entry: Some(1) }, "{lines}");
    }
}

/// RUSTSEC-2026-0067: mkdir found a link, and the mode of what it led to was changed.
#[test]
fn a_directory_over_a_link_replaces_the_link() {
    let canary = Canary::new();
    let lines = "ln -s $C/folder x; tar -cf $A x; rm x; mkdir -m 0777 x; tar -rf $A x";
    let (answer, tree) = hostile(&canary, lines);
    assert!(matches!(answer, Answer::Extracted(_)), "{answer:?}");
    assert!(tree.contains("./x dir 0777"), "{tree}");
}

/// What the directory was made in is not where its path leads afterwards.
#[test]
fn a_directory_that_replaces_a_link_on_its_own_way_is_looked_for_anew() {
    let add = "--no-recursion --numeric-owner -rf $A";
    let made = archive(&format!(
        "ln -s . n; tar -cf $A n; mkdir -p w/n/n; echo > w/n/n/f; tar -C w {add} n/n n/n/f"
    ));
    let listed = ours(&[&made.path().join("a.tar")]);
    let paths: Vec<_> = listed.lines().filter(|line| line.contains("n/n/f")).collect();
    assert_eq!(paths.len(), 1, "{listed}");

    let (answer, _) = hostile(
        &Canary::new(),
        &format!(
            "mkdir d x; ln -s /d x/s; ln -s /x d/n; ln -s d/n/s p
             tar --no-recursion -cf $A d x x/s d/n p
             mkdir -p w/p/n; echo > w/p/n/f; tar -C w {add} p/n p/n/f"
        ),
    );
    assert_eq!(answer, Answer::Refused { rule: Rule::LinkParent, entry: Some(6) });
}

#[test]
fn a_hard_link_leads_to_nothing_outside() {
    let canary = Canary::new();
    let cases = [
        // A name that is absolute is refused before it is looked up.
        ("--transform=flags=h;s,^g,$C/file,", Rule::NameAbsolute),
        // One that is relative is looked up inside, where it is not.
        ("--transform=flags=h;s,^g,etc/passwd,", Rule::LinkMissing),
    ];
    for (transform, rule) in cases {
        let lines = format!(
            "echo 1 > g; ln g h; tar -cPf $F/b.tar g h \"{transform}\";
             tar --delete -f $F/b.tar g; mv $F/b.tar $A"
        );
        let (answer, _) = hostile(&canary, &lines);
        assert!(matches!(answer, Answer::Refused { rule: r, .. } if r == rule), "{answer:?}");
    }
}

/// gh-157190 of `CPython`: a hard link to a symbolic link, then the mode of what that led to.
#[test]
fn a_hard_link_to_a_link_is_that_link() {
    let canary = Canary::new();
    let lines = "ln -s $C/file s; ln s h; tar -cf $A s h";
    let (answer, tree) = hostile(&canary, lines);
    assert!(matches!(answer, Answer::Extracted(_)), "{answer:?}");
    assert!(tree.contains("./s link") && tree.contains("./h link"), "{tree}");
}

#[test]
fn names_that_lead_out_are_refused_by_rule() {
    let canary = Canary::new();
    for (name, rule) in [
        ("../x", Rule::NameDotdot),
        ("a/../../x", Rule::NameDotdot),
        ("/etc/x", Rule::NameAbsolute),
    ] {
        let lines = format!("echo 1 > g; tar -cPf $A --transform='s,^g,{name},' g");
        let (answer, _) = hostile(&canary, &lines);
        assert_eq!(answer, Answer::Refused { rule, entry: Some(0) });
    }
}

/// Links make a tree deeper than any name: the worker's descriptors do not run out on it.
#[test]
fn a_tree_that_links_make_too_deep_is_refused() {
    let lines = "D=$(printf 'a/%.0s' $(seq 99))a; mkdir -p $D; tar --no-recursion -cf $A $D; P=$D;
                 for i in $(seq 12); do ln -s $P s$i; tar -rf $A s$i; rm s$i; mkdir -p s$i/$D;
                 tar --no-recursion -rf $A s$i/$D; rm -r s$i; P=s$i/$D; done";
    let (answer, _) = hostile(&Canary::new(), lines);
    assert_eq!(answer, Answer::Refused { rule: Rule::NameDepth, entry: None });
}

#[test]
fn a_device_node_is_refused() {
    let (answer, _) = hostile(&Canary::new(), "mknod null c 1 3; mkdir etc; tar -cf $A null");
    assert_eq!(answer, Answer::Refused { rule: Rule::KindDevice, entry: Some(0) });
}

#[test]
fn a_full_volume_is_said_to_be_full() {
    let made = archive("head -c 80M /dev/urandom > f");
    let desk = desk(HelperConfig::default());
    let device = base_volume(&desk, GIB / 16);
    let answer = extracted(&desk, &device, &made.path().join("a.tar"));
    let Answer::Failed(failure) = answer else { panic!("{answer:?}") };
    assert_eq!(failure.stage, Stage::VolumeFull);
}

/// Whoever is told of it first: the thread that flushes meanwhile, or one that writes.
#[test]
fn what_a_device_lost_on_its_way_is_never_called_done() {
    let made = archive("head -c 60M /dev/urandom > f; tar --no-recursion -cf $A f .");
    let bytes = std::fs::read(made.path().join("a.tar")).unwrap();
    let (first, rest) = bytes.split_at(60 << 20);
    let small = tempfile::tempdir().unwrap();
    sh("mount -t tmpfs -o size=30m none .", small.path());
    let desk = desk(HelperConfig::default());
    let device = Loop::new_in(small.path(), GIB / 4);
    assert_eq!(format(&desk, &device), Answer::Done);
    let (blob, mut written) = std::io::pipe().unwrap();
    let worker = extract::start(&desk, device.as_fd(), input(blob.as_fd()), &envelope()).unwrap();
    drop(blob);
    // Where the worker has ended by then, it takes no more.
    written.write_all(first).ok();
    // Time for the device to fail.
    sleep(Duration::from_secs(2));
    written.write_all(rest).ok();
    drop(written);
    let answer = finished(worker);
    let detached = rustix::mount::unmount(small.path(), rustix::mount::UnmountFlags::DETACH);
    detached.unwrap();
    let Answer::Failed(failure) = answer else { panic!("{answer:?}") };
    assert!(
        matches!(failure.stage, Stage::Flush | Stage::Write | Stage::VolumeFull),
        "{failure:?}"
    );
}

/// What the launcher does to a worker that is late, and what is left of it.
#[test]
fn a_worker_that_is_killed_leaves_no_mount() {
    use rustix::fs::{Mode, OFlags};
    let desk = desk(HelperConfig::default());
    let device = base_volume(&desk, GIB / 8);
    // A blob that never comes: what blocks a worker for good.
    let (blob, _silent) = std::io::pipe().unwrap();
    let mut worker =
        extract::start(&desk, device.as_fd(), input(blob.as_fd()), &envelope()).unwrap();
    let exclusively = || {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::open(device.path(), flags, Mode::empty())
    };
    // It says so as soon as its volume is mounted.
    assert_eq!(worker.read_report(), Some(Answer::Progress(Progress::default())));
    assert!(matches!(exclusively(), Err(rustix::io::Errno::BUSY)), "the volume is not mounted");
    worker.kill(Stage::WorkerLate);
    let late = Answer::Failed(Failure { stage: Stage::WorkerLate, errno: 0 });
    assert_eq!(worker.conclude(), late);
    exclusively().unwrap();
}

fn threads(pid: i32) -> Vec<i32> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    listed.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// what the process is in the midst of an archive.
#[test]
fn the_worker_is_nobody_while_it_reads() {
    let desk = desk(HelperConfig::default());
    let device = base_volume(&desk, GIB / 8);
    // The beginning of an archive, and then silence: the worker waits where it is.
    let made = archive("mkdir d; head -c 100K /dev/urandom > d/f");
    let bytes = std::fs::read(made.path().join("a.tar")).unwrap();
    let (blob, mut rest) = std::io::pipe().unwrap();
    rest.write_all(&bytes[..40_000]).unwrap();
    let mut worker =
        extract::start(&desk, device.as_fd(), input(blob.as_fd()), &envelope()).unwrap();
    let pid = worker.pid();
    let begin = Instant::now();
    while status(pid, "Seccomp").as_deref() != Some("2") {
        assert!(begin.elapsed() < Duration::from_secs(30), "the worker was never confined");
        sleep(Duration::from_millis(5));
    }
    let none = "0000000000000000";
    // chown, dac_override, fowner, fsetid, setfcap; in a user namespace of its own.
    let kept = "000000008000001b";
    let nobody = ["2147483648"; 4].join("\t");
    let threads = threads(pid);
    assert_eq!(threads.len(), 3, "one writes, one reads ahead, one flushes");
    for (field, value) in [
        ("Name", "airlock-worker"),
        ("Uid", &nobody),
        ("Gid", &nobody),
        ("Groups", ""),
        ("NoNewPrivs", "1"),
        ("CapEff", kept),
        ("CapPrm", kept),
        ("CapInh", none),
        ("CapAmb", none),
        ("Seccomp", "2"),
    ] {
        for thread in &threads {
            assert_eq!(status(*thread, field).as_deref(), Some(value), "{field} of {thread}");
        }
    }
    for kind in ["user", "net", "ipc", "uts"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{kind}");
    }
    // The helper's log is not the worker's to write: what it writes goes through the launcher.
    let descriptor = |of: &str, number: u8| {
        std::fs::read_link(format!("/proc/{of}/fd/{number}")).unwrap().display().to_string()
    };
    for number in [1, 2] {
        let own = descriptor(&pid.to_string(), number);
        assert!(own.starts_with("pipe:") && own != descriptor("self", 2), "{number}: {own}");
    }
    for limit in ["Max core file size", "Max processes"] {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let values = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        let values = values.split_whitespace().take(2).collect::<Vec<_>>();
        assert_eq!(values, ["0", "0"], "{limit}");
    }
    // The rest never comes: a layer that breaks off is refused, and its reader is still sane.
    drop(rest);
    drop(blob);
    let cut_off = Answer::Refused { rule: Rule::ArchiveTruncated, entry: Some(2) };
    while worker.reports().is_some() {
        worker.read_report();
    }
    assert_eq!(worker.conclude(), cut_off);
}
