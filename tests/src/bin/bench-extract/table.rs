//! The figures, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::seconds;
use crate::subject::Figures;

/// One case by one subject.
pub(crate) struct Row {
    case: String,
    subject: &'static str,
    median_s: f64,
    runs: usize,
    /// The most of all runs.
    peak_rss_kib: Option<u64>,
}

impl Row {
    /// `None` if there was no run.
    pub(crate) fn of(case: &str, subject: &'static str, figures: &[Figures]) -> Option<Self> {
        let mut times: Vec<_> = figures.iter().map(|run| run.time).collect();
        times.sort();
        let median_s = seconds(*times.get(times.len() / 2)?);
        let peak_rss_kib = figures.iter().filter_map(|run| run.peak_rss_kib).max();
        Some(Self { case: case.to_owned(), subject, median_s, runs: times.len(), peak_rss_kib })
    }
}

/// What the columns are.
pub(crate) fn heading(runs: usize) -> String {
    let names = crate::subject::SUBJECTS.iter();
    let columns = names.fold(String::new(), |mut line, subject| {
        write!(line, " {:>15}", subject.name).unwrap();
        line
    });
    format!(
        "median seconds of {runs} runs, flush included (in parentheses: airlock's time by it); below: peak memory in MiB\n\
         {:<32}{columns}",
        "case"
    )
}

/// The lines of a case.
pub(crate) fn lines(rows: &[Row]) -> String {
    let ours = rows.iter().find(|row| row.subject == "airlock").map_or(0.0, |row| row.median_s);
    let mut times = format!("{:<32}", rows.first().map_or("", |row| &row.case));
    let mut peaks = " ".repeat(32);
    for subject in crate::subject::SUBJECTS {
        let row = rows.iter().find(|row| row.subject == subject.name);
        let time = row.map_or_else(
            || "-".to_owned(),
            |row| format!("{:.2} ({:.2})", row.median_s, ours / row.median_s),
        );
        let peak = row
            .and_then(|row| row.peak_rss_kib)
            .map_or_else(|| "-".to_owned(), |kib| kib.div_ceil(1024).to_string());
        write!(times, " {time:>15}").unwrap();
        write!(peaks, " {peak:>15}").unwrap();
    }
    format!("{times}\n{peaks}")
}

/// Writes all rows as JSON.
pub(crate) fn write(rows: &[Row], file: &Path) {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "case": row.case, "subject": row.subject, "median_s": row.median_s,
                "runs": row.runs, "peak_rss_kib": row.peak_rss_kib,
            })
        })
        .collect();
    std::fs::write(file, serde_json::to_string_pretty(&rows).unwrap()).unwrap();
}
