//! From an empty disk to images and back, with the broker killed on the way.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use airlock_dm_helper::ledger::{Change, Intent, Ledger, Record};
use airlock_policy::name::ThinId;
use airlock_protocol::PROTOCOL;
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{Outcome, PoolMode, PoolUsage};
use airlock_protocol::request::Hello;

use super::client::{Caller, chain, connect, context, request};
use super::stand_in::{Ground, Running, tool};

/// The broker's program, beside the test's.
fn broker() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("airlock-dm-broker")
}

fn state_directory(ground: &Ground) -> OwnedFd {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    rustix::fs::open(&ground.state, flags, rustix::fs::Mode::empty()).unwrap()
}

async fn start(ground: &Ground) -> (Running, Caller) {
    let running = ground.start(&broker());
    let caller = Caller { client: connect(&running.socket).await };
    (running, caller)
}

fn timed(what: &str, since: Instant) {
    println!("{what}: {:.1} ms", since.elapsed().as_secs_f64() * 1000.0);
}

/// Devices of ours in the device table.
fn devices() -> BTreeSet<String> {
    let all = tool("dmsetup info -c --noheadings -o name");
    all.lines().filter(|name| name.starts_with("airlock-")).map(str::to_owned).collect()
}

/// The thin ids and the transaction id that the pool's metadata really holds. Takes the pool down.
fn metadata() -> (BTreeSet<u32>, u64) {
    for name in devices().iter().filter(|name| *name != "airlock-pool") {
        tool(&format!("dmsetup remove --retry {name}"));
    }
    tool("dmsetup remove --retry airlock-pool");
    tool("thin_check -q /dev/mapper/test-meta");
    let dump = tool("thin_dump /dev/mapper/test-meta");
    let attribute = |line: &str, name: &str| {
        let rest = line.split_once(&format!("{name}=\"")).unwrap().1;
        rest.split_once('"').unwrap().0.parse::<u64>().unwrap()
    };
    let line =
        |start: &str| dump.lines().filter(move |l| l.trim().starts_with(start)).collect::<Vec<_>>();
    let ids = line("<device").into_iter().map(|l| u32::try_from(attribute(l, "dev_id")).unwrap());
    (ids.collect(), attribute(line("<superblock")[0], "transaction"))
}

/// What the ledger knows must be what the metadata holds. No broker runs.
fn assert_agreement(ground: &Ground, when: &str) {
    let ledger = Ledger::open(state_directory(ground)).unwrap();
    let (ids, transaction) = metadata();
    let mut known: BTreeSet<u32> =
        ledger.book().things(ThinId::BASE).map(|(thin, _thing)| u32::from(thin)).collect();
    known.insert(0);
    assert_eq!(ids, known, "{when}");
    assert_eq!(transaction, ledger.book().transaction(), "{when}");
    assert_eq!(ledger.book().pending(), None, "{when}");
}

#[tokio::test]
async fn the_whole_life_of_a_pool() {
    let ground = Ground::prepare("/dev/vdc");
    let (running, caller) = start(&ground).await;
    confined(&running, &caller).await;

    let since = Instant::now();
    caller.ensure_pool(true).await.unwrap();
    timed("pool made and base formatted", since);
    let usage = caller.usage().await;
    assert_eq!((usage.transaction, usage.mode, usage.needs_check), (2, PoolMode::ReadWrite, false));
    assert_eq!((usage.data_total_blocks, usage.low_water_blocks), (8192, 819));
    println!("base: {} blocks of 128 KiB", usage.data_used_blocks);

    for layers in [&[1][..], &[1, 2][..]] {
        let since = Instant::now();
        assert_eq!(caller.create(layers).await, Ok(Outcome::Done));
        timed("create_volume", since);
        caller.apply(layers).await.unwrap();
        let since = Instant::now();
        assert_eq!(caller.seal(layers).await, Ok(Outcome::Done));
        timed("seal_volume", since);
        assert_eq!(devices(), BTreeSet::from(["airlock-pool".to_owned()]));
    }
    write_and_read(&ground, &caller).await;
    let before = caller.usage().await;
    killed_and_found_again(&ground, running, &before).await;
    intents_without_confirmation(&ground).await;
    killed_at_random(&ground).await;
    left_alone_when_foreign(&ground).await;
}

async fn confined(running: &Running, caller: &Caller) {
    let hello = Hello { request: request(), protocol: PROTOCOL };
    let welcome = caller.client.hello(context(), hello).await.unwrap().unwrap();
    assert!(welcome.confined);
    let pid = running.process.id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        let expected = if matches!(set, "CapInh" | "CapAmb") { "0" } else { "200000" };
        let found = line.split_whitespace().nth(1).unwrap().trim_start_matches('0');
        assert_eq!(found, expected.trim_start_matches('0'), "{line}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(fs::read_dir(format!("/proc/{pid}/root")).unwrap().count(), 0, "an empty root");
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open: Vec<String> = descriptors
        .map(|fd| fs::read_link(fd.unwrap().path()).unwrap().display().to_string())
        .collect();
    assert!(
        open.iter().any(|name| name.contains("mapper/control") || name == "/control"),
        "{open:?}"
    );
    let named: Vec<_> = open.iter().filter(|name| name.starts_with("/run/pool-test")).collect();
    assert_eq!(named, ["/run/pool-test/ledger"], "{open:?}");
}

async fn write_and_read(ground: &Ground, caller: &Caller) {
    let since = Instant::now();
    caller.snapshot("web", &[1, 2], false).await.unwrap();
    timed("snapshot", since);
    let since = Instant::now();
    let mapped = caller.map("web").await.unwrap();
    timed("map", since);
    assert_eq!(mapped.bytes, 1 << 30);
    assert_eq!(caller.map("web").await.unwrap().outcome, Outcome::AlreadyThere);
    let link = ground.links.join("web");
    let (link, at) = (link.display(), ground.state.join("mount").display().to_string());
    tool(&format!("mount {link} {at} && test -s {at}/etc/layer-1 && test -s {at}/etc/layer-2"));
    tool(&format!("echo mine > {at}/mine"));
    assert_eq!(caller.unmap("web").await, Err(NotDone::Refused(Refusal::Held)));
    tool(&format!("umount {at}"));
    // udev made nothing of it: no node, no link, no look inside. Not even when it is asked again.
    for _asked_again in 0..2 {
        tool("udevadm settle");
        assert_eq!(tool("ls /dev/mapper | grep airlock || true"), "");
        assert_eq!(tool(&format!("ls -l /dev/disk/*/ | grep dm-{}$ || true", mapped.minor)), "");
        assert_eq!(
            tool(&format!("udevadm info /dev/dm-{} | grep ID_FS || true", mapped.minor)),
            ""
        );
        tool(&format!("udevadm trigger --settle /dev/dm-{}", mapped.minor));
    }
    let since = Instant::now();
    assert_eq!(caller.unmap("web").await, Ok(Outcome::Done));
    timed("unmap", since);
    assert!(!fs::exists(ground.links.join("web")).unwrap());

    caller.snapshot("fixed", &[1], true).await.unwrap();
    let mapped = caller.map("fixed").await.unwrap();
    let node = format!("/dev/dm-{}", mapped.minor);
    assert_eq!(tool(&format!("blockdev --getro {node}")), "1");
    tool(&format!("! dd if=/dev/zero of={node} bs=4k count=1 conv=fsync 2>/dev/null"));
    tool(&format!("mount -o ro {node} {at} && test -s {at}/etc/layer-1 && umount {at}"));
    // What was written is still there, and only there.
    let mapped = caller.map("web").await.unwrap();
    let node = format!("/dev/dm-{}", mapped.minor);
    tool(&format!("mount {node} {at} && grep -q mine {at}/mine && umount {at}"));
}

async fn killed_and_found_again(ground: &Ground, running: Running, before: &PoolUsage) {
    running.kill();
    let (running, caller) = start(ground).await;
    // The pool outlived the process: nothing is opened, checked or formatted anew.
    ground.errands.lock().unwrap().clear();
    let after = caller.usage().await;
    assert_eq!((after.transaction, after.volumes, after.snapshots), (before.transaction, 2, 2));
    assert!(ground.errands.lock().unwrap().is_empty());
    assert_eq!(caller.map("web").await.unwrap().outcome, Outcome::AlreadyThere);
    for name in ["web", "fixed"] {
        assert_eq!(caller.unmap(name).await, Ok(Outcome::Done));
    }
    running.kill();
    assert_agreement(ground, "after a restart");
    // As after a reboot: the metadata is checked before it is used.
    ground.errands.lock().unwrap().clear();
    let (running, caller) = start(ground).await;
    let since = Instant::now();
    assert_eq!(caller.usage().await.transaction, after.transaction);
    timed("pool attached after a reboot", since);
    let errands = ground.errands.lock().unwrap().clone();
    assert_eq!(errands, ["OpenPool { create: false }", "CheckPool"]);
    caller.map("web").await.unwrap();
    caller.unmap("web").await.unwrap();
    assert_eq!(caller.delete_snapshot("fixed").await, Ok(Outcome::Done));
    assert_eq!(caller.delete_snapshot("web").await, Ok(Outcome::Done));
    running.kill();
    assert_agreement(ground, "after deletions");
}

/// A change that was announced, and then the machine stopped: with nothing done, with the pool
/// changed, with its transaction id moved. Creating is undone or confirmed, deleting is finished.
async fn intents_without_confirmation(ground: &Ground) {
    let messages: [&[&str]; 3] = [&[], &["MAKE"], &["MAKE", "set_transaction_id OLD NEW"]];
    for (deletes, done) in
        [false, true].into_iter().flat_map(|deletes| messages.map(|m| (deletes, m)))
    {
        let when = format!("deletes: {deletes}, done: {done:?}");
        let (running, caller) = start(ground).await;
        caller.ensure_pool(false).await.unwrap();
        if deletes {
            caller.snapshot("doomed", &[1], false).await.unwrap();
        }
        running.kill();
        let mut ledger = Ledger::open(state_directory(ground)).unwrap();
        let old = ledger.book().transaction();
        let origin = u32::from(ledger.book().sealed(chain(&[1])).unwrap().0);
        let name = "doomed".parse().unwrap();
        let (change, message) = if deletes {
            let thin = ledger.book().snapshot(&name).unwrap().thin;
            (Change::Delete { thin }, format!("delete {thin}"))
        } else {
            let thin = ledger.book().next_thin().unwrap();
            let image = chain(&[1]);
            let change =
                Change::CreateSnapshot { thin, name, image, read_only: false, sectors: None };
            (change, format!("create_snap {thin} {origin}"))
        };
        ledger.append(Record::Intent(Intent { transaction: old + 1, change })).unwrap();
        drop(ledger);
        for text in done {
            let text = text
                .replace("MAKE", &message)
                .replace("OLD", &old.to_string())
                .replace("NEW", &(old + 1).to_string());
            tool(&format!("dmsetup message airlock-pool 0 '{text}'"));
        }
        let (running, caller) = start(ground).await;
        let usage = caller.usage().await;
        let stands = !deletes && done.len() == 2;
        assert_eq!(usage.snapshots, u32::from(stands), "{when}");
        let moved = deletes || done.len() == 2;
        assert_eq!(usage.transaction, old + u64::from(moved), "{when}");
        if stands {
            caller.map("doomed").await.unwrap();
            caller.unmap("doomed").await.unwrap();
        }
        caller.delete_snapshot("doomed").await.unwrap();
        running.kill();
        assert_agreement(ground, &when);
    }
}

/// Killed while it works, at moments of the clock's choice.
async fn killed_at_random(ground: &Ground) {
    for round in 0..12_u64 {
        let (running, caller) = start(ground).await;
        caller.ensure_pool(false).await.unwrap();
        let work = async {
            loop {
                caller.create(&[3]).await?;
                caller.apply(&[3]).await?;
                caller.seal(&[3]).await?;
                caller.snapshot("busy", &[3], false).await?;
                caller.map("busy").await?;
                caller.unmap("busy").await?;
                caller.delete_snapshot("busy").await?;
                caller.delete_volume(&[3]).await?;
            }
        };
        let result: Result<Result<(), NotDone>, _> =
            tokio::time::timeout(Duration::from_millis(40 + 97 * round), work).await;
        assert!(result.is_err(), "{result:?}");
        running.kill();
        // The extraction that the stand-in launcher may still do ends before the next one.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (running, caller) = start(ground).await;
        let usage = caller.usage().await;
        println!("round {round}: transaction {}, volumes {}", usage.transaction, usage.volumes);
        caller.unmap("busy").await.ok();
        running.kill();
        assert_agreement(ground, &format!("round {round}"));
    }
}

/// Somebody changed the pool behind the ledger's back.
async fn left_alone_when_foreign(ground: &Ground) {
    let (running, caller) = start(ground).await;
    let usage = caller.usage().await;
    running.kill();
    let old = usage.transaction;
    tool(&format!("dmsetup message airlock-pool 0 'set_transaction_id {old} {}'", old + 7));
    let (running, caller) = start(ground).await;
    let failure = caller.ensure_pool(true).await.unwrap_err();
    assert!(failure.to_string().contains("ledger and pool"), "{failure}");
    assert_eq!(caller.create(&[9]).await, Err(NotDone::Refused(Refusal::PoolDown)));
    running.kill();
}
