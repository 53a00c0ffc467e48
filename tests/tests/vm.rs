//! The whole product in the VM, on a real thin pool: one fresh machine a test.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and starts the programs that make its input"
)]

use std::fs;
use std::path::{Path, PathBuf};

use airlock_tests::s3::Server;
use airlock_tests::sh;
use airlock_tests::vm::Guest;

fn images(name: &str) -> PathBuf {
    PathBuf::from(airlock_tests::setting("AIRLOCK_TEST_IMAGES")).join(name)
}

/// A root filesystem of a few files: the same bytes each time, since several tests put it there.
fn put_small() {
    let folder = tempfile::tempdir().unwrap();
    sh(
        "mkdir -p t/etc t/usr/bin t/var && echo ID=small > t/etc/os-release && cp /bin/true t/usr/bin/ && tar -C t --sort=name --mtime=@0 -cf small.tar .",
        folder.path(),
    );
    Server::of_this_run().put("small/small.tar", &folder.path().join("small.tar"));
}

fn equals_gnu_tar(archive: &Path, key: &str) {
    Server::of_this_run().put(key, archive);
    let folder = tempfile::tempdir().unwrap();
    let expected = folder.path().join("expected.tree");
    fs::write(&expected, airlock_tests::tree::made_by_gnu_tar(archive)).unwrap();
    Guest::new()
        .file(&expected, "expected.tree")
        .setting("IMAGE_KEY", key)
        .passes("tree-equals-gnu-tar");
}

fn debian_equals_gnu_tar(file: &str) {
    equals_gnu_tar(&images("rootfs").join(file), &format!("debian/{file}"));
}

/// The real launcher starts the worker here: what it gave up holds the worker too.
#[test]
fn hard_links_between_directories_become_what_gnu_tar_makes_of_them() {
    let folder = tempfile::tempdir().unwrap();
    sh(
        "mkdir -p t/etc t/usr/bin t/usr/share/deep && echo ID=links > t/etc/os-release && echo one > t/usr/bin/one
         ln t/usr/bin/one t/usr/share/deep/two && ln t/usr/bin/one t/three && ln -s one t/usr/bin/link
         ln t/usr/bin/link t/etc/link && tar --sort=name -C t -cf links.tar .",
        folder.path(),
    );
    equals_gnu_tar(&folder.path().join("links.tar"), "links/links.tar");
}

#[test]
fn a_debian_tar_becomes_what_gnu_tar_makes_of_it() {
    debian_equals_gnu_tar("rootfs.tar");
}

#[test]
fn a_debian_tar_gz_becomes_what_gnu_tar_makes_of_it() {
    debian_equals_gnu_tar("rootfs.tar.gz");
}

#[test]
fn a_debian_tar_zst_becomes_what_gnu_tar_makes_of_it() {
    debian_equals_gnu_tar("rootfs.tar.zst");
}

#[test]
fn archives_that_try_to_leave_the_volume_change_nothing_on_the_host() {
    let folder = tempfile::tempdir().unwrap();
    sh(
        "mkdir -p t/etc t/usr && echo ID=x > t/etc/os-release
         tar -C t -cf base.tar .
         ln -s /etc link && cp base.tar symlink.tar && tar -rf symlink.tar link && rm link && mkdir link && echo leaked > link/airlock-was-here && tar -rf symlink.tar link/airlock-was-here
         cp base.tar dotdot.tar && echo leaked > airlock-was-here && tar -P --transform 's,^,usr/../../../etc/,' -rf dotdot.tar airlock-was-here
         cp base.tar absolute.tar && tar -P --transform 's,^,/etc/,' -rf absolute.tar airlock-was-here
         cp base.tar device.tar && mknod disk b 8 0 && tar -rf device.tar disk
         python3 -c \"
import tarfile
t = tarfile.open('hardlink.tar', 'w')
t.add('t', '.')
i = tarfile.TarInfo('etc/stolen'); i.type = tarfile.LNKTYPE; i.linkname = 'etc/passwd'
t.addfile(i); t.close()\"",
        folder.path(),
    );
    for name in ["symlink", "dotdot", "absolute", "device", "hardlink"] {
        let file = folder.path().join(format!("{name}.tar"));
        Server::of_this_run().put(&format!("hostile/{name}.tar"), &file);
    }
    Guest::new().passes("archives-that-try-to-leave");
}

#[test]
fn bad_input_gets_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    sh(
        "mkdir -p t/etc t/usr && head -c 300000 /dev/urandom > t/usr/noise && tar -C t -cf whole.tar .
         head -c 200000 whole.tar > truncated.tar; head -c 100000 /dev/urandom > noise.tar
         gzip -c whole.tar | head -c 150000 > cut.tar.gz",
        folder.path(),
    );
    for name in ["truncated.tar", "noise.tar", "cut.tar.gz"] {
        Server::of_this_run().put(&format!("bad/{name}"), &folder.path().join(name));
    }
    Guest::new().passes("bad-input");
}

fn put_large() {
    for file in ["large.tar", "large.tar.zst"] {
        Server::of_this_run().put(&format!("large/{file}"), &images("large").join(file));
    }
    let folder = tempfile::tempdir().unwrap();
    sh(
        "mkdir -p t/etc t/usr && head -c 60000000 /dev/urandom > t/usr/noise && tar -C t -cf other.tar .",
        folder.path(),
    );
    Server::of_this_run().put("large/other.tar", &folder.path().join("other.tar"));
}

#[test]
fn a_full_pool_fails_one_image_and_harms_no_other() {
    put_small();
    put_large();
    Guest::new().passes("full-pool");
}

#[test]
fn a_pool_grows_while_a_snapshot_is_written_to_and_through_kills() {
    put_small();
    Guest::new().passes("growth");
}

#[test]
fn a_mounted_snapshot_is_safe_busy_and_back_and_a_grown_one_is_whole() {
    put_small();
    Guest::new().passes("mounts");
}

#[test]
fn a_detached_pool_comes_back_and_a_destroyed_one_does_not() {
    put_small();
    Guest::new().passes("teardown");
}

#[test]
fn a_full_disk_fails_one_download_and_harms_no_other() {
    put_small();
    put_large();
    Guest::new().passes("full-disk");
}

#[test]
fn a_helper_that_is_down_is_said_with_its_remedy() {
    put_small();
    Guest::new().passes("helper-down");
}

#[test]
fn a_daemon_killed_during_a_download_finishes_after_its_restart() {
    put_large();
    Guest::new().passes("killed-during-download");
}

#[test]
fn a_daemon_killed_during_an_extraction_finishes_after_its_restart() {
    Server::of_this_run().put("debian/kill.tar.zst", &images("rootfs").join("rootfs.tar.zst"));
    Guest::new().setting("IMAGE_KEY", "debian/kill.tar.zst").passes("killed-during-extraction");
}

#[test]
fn a_device_that_hangs_in_the_kernel_is_left_alone_and_others_go_on() {
    put_small();
    let folder = tempfile::tempdir().unwrap();
    for id in ["other", "third"] {
        let make = format!(
            "mkdir -p t/etc t/usr/bin t/var && echo ID={id} > t/etc/os-release && tar -C t -cf o.tar ."
        );
        sh(&make, folder.path());
        Server::of_this_run().put(&format!("small/{id}.tar"), &folder.path().join("o.tar"));
    }
    Guest::new().passes("hung-device");
}

#[test]
fn every_process_is_confined_during_an_extraction() {
    Server::of_this_run().put("debian/proc.tar.zst", &images("rootfs").join("rootfs.tar.zst"));
    let page = airlock_tests::checkout().join("docs/privileges.md");
    Guest::new()
        .file(&page, "privileges.md")
        .setting("IMAGE_KEY", "debian/proc.tar.zst")
        .passes("processes");
}

#[test]
fn a_reboot_brings_pool_and_active_snapshot_back() {
    put_small();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    Guest::new().disk(&disk).passes("before-reboot");
    Guest::new().disk(&disk).cold().passes("after-reboot");
}

#[test]
fn no_escape_from_the_running_systems_confinement_works() {
    put_small();
    Guest::new().sweeps("escapes", &["breach"]);
}

#[test]
fn a_hostile_controller_changes_nothing_but_its_own_volumes() {
    put_small();
    Guest::new().seconds(900).sweeps("hostile-controller", &["breach"]);
}

#[test]
fn the_helpers_processes_killed_at_any_moment_leave_nothing_behind() {
    put_small();
    let folder = tempfile::tempdir().unwrap();
    sh(
        "mkdir -p t/etc t/usr/share && echo ID=kill > t/etc/os-release
         for i in $(seq 800); do head -c 4000 /dev/urandom > t/usr/share/$i; done
         tar -C t -cf kill.tar .",
        folder.path(),
    );
    Server::of_this_run().put("kill/kill.tar", &folder.path().join("kill.tar"));
    let mut guest = Guest::new();
    for name in ["AIRLOCK_SWEEP_CASES", "AIRLOCK_SWEEP_SEED"] {
        if let Ok(value) = std::env::var(name) {
            guest.setting(name, &value);
        }
    }
    let bad = ["broken", "orphaned", "changed", "silent"];
    guest.seconds(1080).sweeps("helper-kills", &bad);
}

/// What is shipped has no crash points; what is used here has.
fn require_points_in_one_build_alone() {
    let has_points = |stage: &str, program: &str| {
        let bytes = fs::read(Path::new(&airlock_tests::setting(stage)).join(program)).unwrap();
        let mark = airlock_crash_points::FOLDER.as_bytes();
        bytes.windows(mark.len()).any(|window| window == mark)
    };
    for program in ["airlock", "airlock-dm-helper", "airlock-dm-broker", "airlock-dm-worker"] {
        assert!(!has_points("AIRLOCK_TEST_STAGE", program), "{program}");
        assert!(has_points("AIRLOCK_TEST_CRASH_STAGE", program), "{program}");
    }
}

#[test]
fn whoever_ends_at_any_crash_point_the_next_start_finishes_or_undoes_it() {
    require_points_in_one_build_alone();
    put_small();
    let folder = tempfile::tempdir().unwrap();
    sh(
        "mkdir -p t/etc t/usr/share && echo ID=crash > t/etc/os-release
         for i in $(seq 40); do head -c 40000 /dev/urandom > t/usr/share/$i; done
         tar -C t -cf crash.tar .",
        folder.path(),
    );
    Server::of_this_run().put("crash/crash.tar", &folder.path().join("crash.tar"));
    let asked = std::env::var("AIRLOCK_SWEEP_CASES").ok();
    let only = std::env::var("AIRLOCK_SWEEP_ONLY").unwrap_or_default();
    // One guest for the few cases of the gate; for all of them as many as two cores carry.
    let (count, shares, seconds) = asked.map_or(("6".to_owned(), 1, 540), |count| (count, 2, 3540));
    let share = |share: u32| {
        Guest::new()
            .file(Path::new(&airlock_tests::setting("AIRLOCK_TEST_CRASH_STAGE")), "crash")
            .setting("AIRLOCK_SWEEP_CASES", &count)
            .setting("AIRLOCK_SWEEP_ONLY", &only)
            .setting("SHARE", &share.to_string())
            .setting("SHARES", &shares.to_string())
            .seconds(seconds)
            .cases("crash-points")
    };
    let cases = std::thread::scope(|scope| {
        let share = &share;
        let guests: Vec<_> = (0..shares).map(|n| scope.spawn(move || share(n))).collect();
        guests.into_iter().flat_map(|guest| guest.join().unwrap()).collect::<Vec<_>>()
    });
    let bad = ["broken", "left", "not reached"];
    let found = airlock_tests::report::record("crash-points", "vm", &cases, &bad);
    airlock_tests::tell(&format!(
        "crash points: {} of {} cases clean",
        cases.len() - found.len(),
        cases.len()
    ));
    assert!(found.is_empty(), "{found:#?}");
}

/// Four root filesystems of some MiB each, no two alike.
fn put_many(prefix: &str) {
    let folder = tempfile::tempdir().unwrap();
    for image in 0..4 {
        sh(
            &format!(
                "rm -rf t && mkdir -p t/etc t/usr/bin t/var && echo ID=many{image} > t/etc/os-release
                 for n in 1 2 3; do head -c 1000000 /dev/urandom > t/usr/noise$n; done
                 tar -C t -cf {image}.tar ."
            ),
            folder.path(),
        );
        let file = folder.path().join(format!("{image}.tar"));
        Server::of_this_run().put(&format!("{prefix}/{image}.tar"), &file);
    }
}

#[test]
fn a_lost_database_is_made_anew_and_a_restored_one_is_brought_in_line() {
    put_many("lost");
    Guest::new().passes("lost-database");
}

#[test]
fn of_many_runs_at_once_each_blob_comes_once_and_each_layer_is_extracted_once() {
    put_many("many");
    Guest::new().passes("many-at-once");
}

#[test]
fn what_is_ordered_ahead_begins_in_its_turn_whether_the_daemon_was_restarted_or_not() {
    put_many("ahead");
    Guest::new().passes("ordered-ahead");
}

#[test]
fn whatever_is_done_and_killed_database_ledger_and_pool_agree() {
    put_many("chance");
    let seed = std::env::var("AIRLOCK_MODEL_SEED").unwrap_or_else(|_unset| "1".to_owned());
    println!("AIRLOCK_MODEL_SEED={seed}");
    Guest::new().setting("SEED", &seed).passes("random-sequence");
}

/// what root writes into a sealed volume, `verify` names.
#[test]
fn a_sealed_volume_that_was_tampered_with_is_named_by_verify() {
    let folder = tempfile::tempdir().unwrap();
    sh(
        "mkdir -p t/etc t/usr && echo ID=x > t/etc/os-release && echo tool > t/usr/tool && chmod 755 t/usr/tool
         tar --owner=0 --group=0 -C t -cf one.tar . && echo ID=y > t/etc/os-release && tar --owner=0 --group=0 -C t -cf two.tar .",
        folder.path(),
    );
    for name in ["one", "two"] {
        let file = folder.path().join(format!("{name}.tar"));
        Server::of_this_run().put(&format!("verify/{name}.tar"), &file);
    }
    Guest::new().passes("tampered-volumes");
}
