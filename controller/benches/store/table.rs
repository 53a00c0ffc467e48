//! What was measured, as a table and as `target/bench/store.json`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// A measured case.
pub(crate) struct Line {
    pub(crate) case: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) times: Vec<Duration>,
    pub(crate) peak_kib: u64,
}

impl Line {
    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        times[times.len() / 2].as_secs_f64()
    }
}

/// The most memory that a process has used (proc(5), `VmHWM`).
pub(crate) fn peak(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Prints the table and its ratios, and writes the report.
pub(crate) fn tell(lines: &[Line]) {
    let aim = |case: &str| match case {
        "lookup" => "< 1 ms",
        "page" => "< 10 ms",
        "startup" => "< 1 s",
        "rerun" => "5 ms",
        _ => "",
    };
    let mut json = Vec::new();
    println!(
        "{:10}  {:30}  {:>10}  {:>6}  {:>9}  aim",
        "case", "subject", "median", "runs", "peak RSS"
    );
    for line in lines {
        let Line { case, subject, times, peak_kib } = line;
        let (median, runs) = (line.median(), times.len());
        let shown = format!("{:.3} ms", median * 1000.0);
        println!(
            "{case:10}  {subject:30}  {shown:>10}  {runs:>6}  {:>5} MiB  {}",
            peak_kib >> 10,
            aim(case)
        );
        // A subject is a program: what was asked of ours is part of the case.
        let is_program = ["airlock", "floor"].contains(subject);
        let (name, program) = if is_program {
            ((*case).to_owned(), *subject)
        } else {
            (format!("{case}: {subject}"), "airlock")
        };
        json.push(row(&name, program, line));
    }
    for (case, whole, floor) in [
        ("transition", "airlock", "floor"),
        ("rerun", "airlock", "airlock version"),
        ("startup", "after kill -9, checked", "airlock"),
    ] {
        let median = |subject| {
            let line = lines.iter().find(|line| line.case == case && line.subject == subject);
            line.map_or(f64::NAN, Line::median)
        };
        let ratio = median(whole) / median(floor);
        // Neither was asked for, perhaps.
        if ratio.is_finite() {
            println!("{case}: {whole} / {floor} = {ratio:.2}");
        }
    }
    for case in ["lookup", "page"] {
        let asked = lines.iter().filter(|line| line.case == case && line.subject != "floor");
        let slowest = asked.max_by(|a, b| a.median().total_cmp(&b.median()));
        json.extend(slowest.map(|line| row(case, "airlock", line)));
    }
    let mut text = String::new();
    writeln!(text, "[\n  {}\n]", json.join(",\n  ")).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("store.json"), text).unwrap();
}

fn row(case: &str, subject: &str, line: &Line) -> String {
    let (median, runs, peak_kib) = (line.median(), line.times.len(), line.peak_kib);
    format!(
        "{{\"case\":\"{case}\",\"subject\":\"{subject}\",\"median_s\":{median:.6},\"runs\":{runs},\"peak_rss_kib\":{peak_kib}}}"
    )
}
