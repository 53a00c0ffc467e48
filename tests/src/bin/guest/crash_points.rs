//! Every crash point of the programs, met in turn on a real pool: whoever ends there, what was begun
//! is finished or undone, and database, ledger and pool agree.
//!
//! A case sets the order on the page of shared memory, does a phase's work, lets systemd start anew
//! what ended, asks again as an operator would, and looks at what is left. All of them run in one boot.

mod phase;
mod state;

use std::fs;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use airlock_crash_points::{FOLDER, Order, Page, Point, Program};
use airlock_tests::report::Case;
use serde_json::Value;

use crate::machine::{install, logs, main_pid, pids, sh};
use phase::Phase;
use state::{Kept, recovered};

const CONFIG: &str =
    "[pool]\ndata_size = \"1 GiB\"\nvolume_size = \"64 MiB\"\n[limits]\nledger_size = \"64 KiB\"\n";

/// The outcome of a case in which nobody came to the point.
const NOT_REACHED: &str = "not reached";

/// Who ends at a point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whom {
    /// The process that comes to it.
    Itself,
    /// The other side: the helper at a point of the daemon's, and the other way round.
    Other,
    Both,
}

/// A case to be.
#[derive(Clone, Copy, Debug)]
struct Plan {
    phase: Phase,
    point: Point,
    nth: u32,
    whom: Whom,
}

impl Plan {
    fn name(self) -> String {
        let Self { phase, point, nth, whom } = self;
        let is_daemons = point.program() == Program::Daemon;
        let killed = match whom {
            Whom::Itself if is_daemons => "daemon",
            Whom::Other if !is_daemons => "daemon",
            Whom::Itself | Whom::Other => "helper",
            Whom::Both => "both",
        };
        format!("{}/{} {nth}/{killed}", phase.name(), point.name())
    }
}

/// All cases of this guest's share; they go to `crash-points.json`.
pub(crate) fn all() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let count = number("AIRLOCK_SWEEP_CASES").unwrap_or(usize::MAX);
    let only = std::env::var("AIRLOCK_SWEEP_ONLY").unwrap_or_default();
    let (share, shares) = (number("SHARE").unwrap_or(0), number("SHARES").unwrap_or(1));
    install(CONFIG);
    let page = arm();
    let mut plans = plans(page);
    plans.retain(|plan| plan.point as usize % shares == share && plan.name().contains(&only));
    let step = (plans.len() / count.clamp(1, plans.len().max(1))).max(1);
    let plans = plans.into_iter().step_by(step).take(count);
    let (setups, others): (Vec<_>, Vec<_>) = plans.partition(|plan| plan.phase == Phase::Setup);
    println!("{} cases", setups.len() + others.len());
    let mut cases: Vec<Case> = setups.into_iter().map(|plan| meet(page, plan, None)).collect();
    Phase::Setup.prepare();
    Phase::Setup.act();
    let kept = Kept::make();
    cases.extend(others.into_iter().map(|plan| meet(page, plan, Some(&kept))));
    kept.verify();
    let cases: Vec<Value> = cases.iter().map(Case::json).collect();
    fs::write("/run/crash-points.json", Value::from(cases).to_string()).unwrap();
}

/// Puts the programs that have the points in the place of the others.
fn arm() -> &'static Page {
    let page = Page::make().unwrap();
    sh("install -m 0755 crash/airlock /usr/bin/ && install -m 0755 crash/airlock-dm-* /usr/libexec/airlock/").ok();
    fs::create_dir_all("/etc/systemd/system/airlock.service.d").unwrap();
    let lines = format!("[Service]\nReadWritePaths={FOLDER}\n");
    fs::write("/etc/systemd/system/airlock.service.d/crash-points.conf", lines).unwrap();
    sh("systemctl daemon-reload").ok();
    page
}

/// What there is to try, by a run of each phase in which nobody ends: every pass of every point for
/// the process itself, up to [`MOST`] of them (one where it is not the main job), and one each for the
/// other side and for both.
fn plans(page: &Page) -> Vec<Plan> {
    const MOST: u32 = 3;
    let mut passes = Vec::new();
    for phase in Phase::ALL {
        phase.prepare();
        page.forget();
        let told = phase.act();
        assert_eq!(told.code, Some(0), "{}: {}{}\n{}", phase.name(), told.out, told.err, logs());
        let points = Point::ALL.iter().filter(|point| phase.tries(**point));
        passes.extend(points.map(|point| (phase, *point, page.passed(*point))));
        phase.undo();
    }
    let mut plans = Vec::new();
    for point in Point::ALL {
        let mut of_point: Vec<_> =
            passes.iter().filter(|(_, it, n)| it == point && *n > 0).collect();
        println!(
            "{}: {:?}",
            point.name(),
            of_point.iter().map(|(p, _, n)| (p.name(), n)).collect::<Vec<_>>()
        );
        assert!(!of_point.is_empty(), "{} is never passed", point.name());
        // What an operator does most comes first.
        of_point.sort_by_key(|(phase, ..)| *phase != Phase::Run);
        let (phase, _, passes) = *of_point[0];
        for whom in [Whom::Other, Whom::Both] {
            let nth = if whom == Whom::Other { passes.div_ceil(2) } else { passes };
            plans.push(Plan { phase, point: *point, nth, whom });
        }
        // A verification that nobody asks for again.
        if of_point.iter().any(|(phase, ..)| *phase == Phase::Verify) {
            let (phase, point, whom) = (Phase::Verify, *point, Whom::Both);
            plans.push(Plan { phase, point, nth: 1, whom });
        }
        for (phase, _, passes) in of_point {
            let tried = (*passes).min(if *phase == Phase::Run { MOST } else { 1 });
            for index in 0..tried {
                // Spread over all passes, the first and the last among them.
                let nth = if tried == 1 { 1 } else { 1 + index * (passes - 1) / (tried - 1) };
                plans.push(Plan { phase: *phase, point: *point, nth, whom: Whom::Itself });
            }
        }
    }
    plans
}

/// One case.
fn meet(page: &Page, mut plan: Plan, kept: Option<&Kept>) -> Case {
    let begin = Instant::now();
    let mut found = tried(page, plan, kept);
    // Polls are more or fewer, and the day's first run sees more: then it is the last pass there was.
    while found.0 == NOT_REACHED && plan.nth > 1 {
        plan.nth -= 1;
        found = tried(page, plan, kept);
    }
    let ((outcome, detail), name) = (found, plan.name());
    let seconds = begin.elapsed().as_secs_f32();
    println!("{name}: {outcome}: {detail} ({seconds:.1} s)");
    if outcome != "clean" {
        println!("{}", logs());
    }
    Case::new(name, outcome, format!("{detail}; {seconds:.1} s"))
}

fn tried(page: &Page, plan: Plan, kept: Option<&Kept>) -> (&'static str, String) {
    let Plan { phase, point, nth, whom } = plan;
    phase.prepare();
    drop(sh("systemctl reset-failed airlock.service airlock-dm-helper.service"));
    page.forget();
    page.order(point, nth, if whom == Whom::Itself { Order::End } else { Order::Wait });
    let acting = thread::spawn(move || phase.act());
    while !page.is_reached() && !acting.is_finished() {
        sleep(Duration::from_millis(5));
    }
    let is_reached = page.is_reached();
    if is_reached && whom != Whom::Itself {
        kill_other_than(point.program());
        page.change(if whom == Whom::Both { Order::End } else { Order::GoOn });
    }
    let told = acting.join().unwrap();
    page.order(point, 0, Order::GoOn);
    if !is_reached {
        let passed = format!("passed {} times", page.passed(point));
        phase.undo();
        return (NOT_REACHED, passed);
    }
    if let Err(why) = recovered() {
        return ("broken", why);
    }
    let how = match phase.finish(&told) {
        Ok(how) => how,
        Err(why) => return ("broken", why),
    };
    let mut left = phase.left(kept);
    if phase == Phase::Run {
        phase.undo();
        left.extend(Phase::Remove.left(kept));
    }
    if left.is_empty() { ("clean", how) } else { ("left", format!("{how}; {}", left.join("; "))) }
}

/// Kills the daemon, or all of the helper's processes: whichever does not come to the point.
fn kill_other_than(program: Program) {
    let victims = if program == Program::Daemon {
        ["airlock-dm-helper", "airlock-dm-broker", "airlock-dm-worker"].map(pids).concat()
    } else {
        vec![main_pid("airlock.service")]
    };
    for pid in victims.into_iter().filter(|pid| *pid != 0) {
        drop(sh(&format!("kill -9 {pid}")));
    }
}

/// Asks until it is done.
fn until_done(words: &str) -> Result<Duration, String> {
    let begin = Instant::now();
    loop {
        let told = sh(&format!("airlock {words}"));
        if told.code == Some(0) {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() > Duration::from_mins(1) {
            return Err(format!("airlock {words}: not within a minute: {}", told.err));
        }
        sleep(Duration::from_millis(200));
    }
}
