//! What the processes may do, read from `/proc` while a layer is extracted.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use crate::machine::{logs, pids, ready, wait_for};

type Status = BTreeMap<String, String>;

fn status(pid: u32) -> Option<Status> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Some(pairs.map(|(key, value)| (key.to_owned(), value.trim().replace('\t', " "))).collect())
}

fn show(program: &str, pid: u32, status: &Status) {
    let field = |name: &str| status.get(name).map_or("?", String::as_str);
    println!(
        "{program:20} pid {pid:5} uid {} CapInh {} CapPrm {} CapEff {} CapBnd {} CapAmb {} NoNewPrivs {} Seccomp {} filters {}",
        field("Uid"),
        field("CapInh"),
        field("CapPrm"),
        field("CapEff"),
        field("CapBnd"),
        field("CapAmb"),
        field("NoNewPrivs"),
        field("Seccomp"),
        field("Seccomp_filters"),
    );
}

const SYS_ADMIN: u64 = 1 << 21;
/// `chown`, `dac_override`, `fowner`, `fsetid`, `setfcap`: of its user namespace, and so of nothing
/// else.
const IN_ITS_NAMESPACE: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 31;
const NOBODY_ON_THE_HOST: &str = "2147483648";

/// During an extraction: the daemon has no capability, launcher and broker have one, the worker has
/// none on the host and runs under a user id that is nobody's.
pub(crate) fn are_confined() {
    ready();
    let source = format!("s3://images/{}", std::env::var("IMAGE_KEY").unwrap());
    let mut command = Command::new("airlock")
        .args(["run", &source, "--name", "web"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let launcher = status(one("airlock-dm-helper")).unwrap();
    let mut worker = None;
    // Confined means that all steps are done, of which the filter is the last: one more than its
    // unit gave it. Before that it has read nothing.
    wait_for("a confined worker", 240, || {
        worker = pids("airlock-dm-worker").into_iter().find_map(|pid| {
            let status = status(pid)?;
            let confined = filters(&status) == filters(&launcher) + 1;
            confined.then_some((pid, status))
        });
        worker.is_some()
    });
    let (worker_pid, worker) = worker.unwrap_or_else(|| panic!("{}", logs()));
    let own_namespace = fs::read_link("/proc/self/ns/user").unwrap();
    let worker_namespace = fs::read_link(format!("/proc/{worker_pid}/ns/user")).unwrap();
    show("airlock-dm-worker", worker_pid, &worker);
    assert_ne!(worker_namespace, own_namespace, "the worker has a user namespace of its own");
    assert!(worker["Uid"].starts_with(NOBODY_ON_THE_HOST), "{}", worker["Uid"]);
    assert_eq!(mask(&worker, "CapEff"), IN_ITS_NAMESPACE);
    assert_eq!(mask(&worker, "CapPrm"), IN_ITS_NAMESPACE);
    assert_eq!((worker["NoNewPrivs"].as_str(), worker["Seccomp"].as_str()), ("1", "2"));
    println!(
        "its capabilities are those of {}, not of the host's {}",
        worker_namespace.display(),
        own_namespace.display()
    );
    for program in ["airlock-dm-helper", "airlock-dm-broker"] {
        let pid = one(program);
        let status = status(pid).unwrap();
        show(program, pid, &status);
        assert_eq!(mask(&status, "CapEff"), SYS_ADMIN, "{program}");
        assert_eq!(mask(&status, "CapPrm"), SYS_ADMIN, "{program}");
        assert_eq!(mask(&status, "CapAmb"), 0, "{program}");
        assert_eq!(status["NoNewPrivs"], "1", "{program}");
    }
    let daemon = one("airlock");
    let status = status(daemon).unwrap();
    show("airlock daemon", daemon, &status);
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"] {
        assert_eq!(mask(&status, set), 0, "the daemon's {set}");
    }
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
    assert!(command.wait().unwrap().success());
}

/// The one process of this program; of `airlock` the oldest, which is the daemon.
fn one(program: &str) -> u32 {
    if program == "airlock" {
        return crate::machine::main_pid("airlock.service");
    }
    let found = pids(program);
    assert_eq!(found.len(), 1, "{program}: {found:?}");
    found.first().copied().unwrap()
}

/// How many seccomp filters hold it.
fn filters(status: &Status) -> u32 {
    status["Seccomp_filters"].parse().unwrap()
}

fn mask(status: &Status, set: &str) -> u64 {
    u64::from_str_radix(&status[set], 16).unwrap()
}
