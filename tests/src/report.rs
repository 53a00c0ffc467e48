//! What a sweep found, case by case: printed as a table, kept as `target/report/NAME.json`.

use std::fs::{self, File};
use std::io;

use serde_json::{Value, json};

/// One case of a sweep.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Case {
    /// What was tried.
    pub case: String,
    /// How it ended, in a word.
    pub outcome: String,
    /// What was seen.
    pub detail: String,
}

impl Case {
    /// A case.
    pub fn new(
        case: impl Into<String>,
        outcome: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { case: case.into(), outcome: outcome.into(), detail: detail.into() }
    }

    /// Reads a list of cases, as it is printed and kept.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn list(text: &str) -> Vec<Self> {
        let list: Vec<Value> = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let field = |case: &Value, name: &str| case[name].as_str().unwrap_or_default().to_owned();
        list.iter()
            .map(|case| Self {
                case: field(case, "case"),
                outcome: field(case, "outcome"),
                detail: field(case, "detail"),
            })
            .collect()
    }

    /// The case as it is kept.
    pub fn json(&self) -> Value {
        let Self { case, outcome, detail } = self;
        json!({"case": case, "outcome": outcome, "detail": detail})
    }
}

/// Prints the cases of one place, puts them into the report in the place of older ones from there,
/// and returns those with a bad outcome.
///
/// # Panics
///
/// When the report cannot be written.
pub fn record(report: &str, place: &str, cases: &[Case], bad: &[&str]) -> Vec<Case> {
    let cases: Vec<Case> = cases
        .iter()
        .map(|case| Case { case: format!("{place}/{}", case.case), ..case.clone() })
        .collect();
    let width = cases.iter().map(|case| case.case.len()).max().unwrap_or_default();
    for Case { case, outcome, detail } in &cases {
        println!("{case:width$}  {outcome:9} {detail}");
    }
    keep(report, place, &cases).unwrap_or_else(|error| panic!("{report}.json: {error}"));
    cases.into_iter().filter(|case| bad.contains(&case.outcome.as_str())).collect()
}

fn keep(report: &str, place: &str, cases: &[Case]) -> io::Result<()> {
    let folder = crate::checkout().join("target/report");
    fs::create_dir_all(&folder)?;
    // Tests of several places write into one report at the same time.
    let lock = File::create(folder.join(".lock"))?;
    lock.lock()?;
    let path = folder.join(format!("{report}.json"));
    let older = fs::read_to_string(&path).map(|text| Case::list(&text)).unwrap_or_default();
    let elsewhere = older.iter().filter(|case| !case.case.starts_with(&format!("{place}/")));
    let all: Vec<Value> = elsewhere.chain(cases).map(Case::json).collect();
    let unfinished = folder.join(format!("{report}.new"));
    fs::write(&unfinished, serde_json::to_vec_pretty(&all)?)?;
    fs::rename(unfinished, path)
}
