//! What the processes may do, read from `/proc` while a layer is extracted.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use crate::machine::{airlock, data_hangs, logs, pids, ready, sh, wait_for};

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
    let unit = filters_of_the_unit();
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
    for program in ["airlock-dm-worker", "airlock-dm-broker", "airlock-dm-helper", "airlock"] {
        let pid = if program == "airlock-dm-worker" { worker_pid } else { one(program) };
        is_as_the_page_says(program, pid, unit);
    }
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
    other_workers_are_confined(filters(&launcher), unit);
}

/// Those that are there for a moment only: they are looked at while they wait for a device.
fn other_workers_are_confined(launcher: u32, unit: u32) {
    airlock("deactivate web").ok();
    for (row, line) in [
        ("airlock-dm-worker verify", "verify --all"),
        ("airlock-dm-worker mount", "activate IMAGE --name mounted --mount"),
    ] {
        let image = airlock("images --output json").ok().json();
        let image = image["items"][0]["digest"].as_str().unwrap().to_owned();
        let line = line.replace("IMAGE", &image);
        sh("echo 3 > /proc/sys/vm/drop_caches").ok();
        // A verification reads for long enough; a mount does not.
        data_hangs(row.ends_with("mount"));
        let mut command = Command::new("airlock");
        let command = command.args(line.split(' ')).stdout(Stdio::null());
        let mut command = command.spawn().unwrap();
        let mut worker = None;
        wait_for(row, 60, || {
            let is_confined = |status: Status| filters(&status) == launcher + 1;
            let confined = |pid: &u32| status(*pid).is_some_and(is_confined);
            worker = pids("airlock-dm-worker").into_iter().find(confined);
            worker.is_some()
        });
        let pid = worker.unwrap();
        show(row, pid, &status(pid).unwrap());
        is_as_the_page_says(row, pid, unit);
        data_hangs(false);
        assert!(command.wait().unwrap().success(), "{line}");
    }
}

/// Compares a process with its row of `docs/privileges.md`, whose columns are named as `/proc` names
/// them.
fn is_as_the_page_says(program: &str, pid: u32, unit: u32) {
    let page = fs::read_to_string("privileges.md").unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").collect())
        .collect();
    let columns = rows.iter().find(|row| row.contains(&"own filters")).unwrap();
    let row =
        rows.iter().find(|row| row[0] == format!("`{program}`") && row.len() == columns.len());
    let row = row.unwrap_or_else(|| panic!("the page has no row of {program}"));
    let status = status(pid).unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let mut compared = 0;
    for (column, said) in columns.iter().zip(row).skip(1).filter(|(_, said)| **said != "any") {
        let said = match *said {
            "airlock" => sh("id -u airlock").ok().out.trim().to_owned(),
            said => said.to_owned(),
        };
        let seen = match *column {
            "own filters" if program == "airlock" => "0".to_owned(),
            "own filters" => (filters(&status) - unit).to_string(),
            "readable" => readable(pid, &status).to_owned(),
            column if column.starts_with("Max ") => {
                // The name is padded; the soft limit and the hard one follow.
                let line = limits.lines().find_map(|line| line.strip_prefix(column)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            }
            column => status[column].split(' ').next().unwrap().to_owned(),
        };
        assert_eq!(seen, said, "{program}: {column}");
        compared += 1;
    }
    assert!(compared >= 8, "{program}: {compared} columns");
    println!("{program} is as the page says in {compared} columns");
}

/// Whether a process of the same uid, without `CAP_SYS_PTRACE`, may read its memory.
fn readable(pid: u32, status: &Status) -> &'static str {
    let uid = status["Uid"].split(' ').next().unwrap();
    let line = format!(
        "setpriv --reuid {uid} --clear-groups --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace cat /proc/{pid}/maps >/dev/null"
    );
    if sh(&line).code == Some(0) { "yes" } else { "no" }
}

/// How many filters the unit itself brings: those of a process that does nothing, under the same
/// settings.
fn filters_of_the_unit() -> u32 {
    sh("sed 's,^ExecStart=.*,ExecStart=/bin/sleep 300,; s,^Type=.*,Type=exec,; /^Requires=/d' /usr/lib/systemd/system/airlock-dm-helper.service > /run/systemd/system/bare.service && systemctl daemon-reload && systemctl start bare.service").ok();
    let bare = filters(&status(crate::machine::main_pid("bare.service")).unwrap());
    sh("systemctl stop bare.service").ok();
    bare
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
