//! Records that cannot be read: each is set aside once, with all that it held, and blocks nothing.
//!
//! A flow's row stays as it is, but ended, which frees its subject, and without what is no JSON. A run's row is made readable
//! again, so that lists show it; an id that is none gives way to a fresh one.

use std::collections::BTreeMap;
use std::fmt;

use airlock_policy::digest::Digest;
use airlock_protocol::control::{ErrorClass, Fault, RunId};
use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{OptionalExtension as _, Row, Transaction};
use serde_json::Value;

use super::flow::FlowId;
use super::{StoreFault, now, run};
use crate::fault::{Explain as _, fault};

/// A record that this version cannot read, or not go on with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadRecord {
    /// Which.
    pub key: Key,
    /// The code under which people are told.
    pub code: &'static str,
    /// Why.
    pub why: String,
}

/// The code of a record that is damaged.
pub const DAMAGED: &str = "run.unreadable";
/// The code of a flow that another version of airlock began.
pub const OTHER_VERSION: &str = "run.definition";

/// Which record.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// A flow.
    Flow(FlowId),
    /// A run, by what stands where its id belongs.
    Run(Vec<u8>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow(id) => write!(f, "flow {id}"),
            Self::Run(id) => write!(f, "run {}", String::from_utf8_lossy(id).escape_debug()),
        }
    }
}

impl BadRecord {
    /// The record of this key, where an error is about no more than that record.
    pub(super) fn of(key: Key, error: StoreFault) -> StoreFault {
        if !error.is_of_one_record() {
            return error;
        }
        let why = match std::error::Error::source(&error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        StoreFault::Record(Box::new(Self { key, code: DAMAGED, why }))
    }

    /// What the runs that waited for it are told.
    pub fn fault(&self) -> Fault {
        let message = match self.code {
            OTHER_VERSION => "this version of airlock cannot go on with what another one began",
            _ => "a record of it cannot be read: it was set aside",
        };
        fault(ErrorClass::Internal, self.code, message)
            .fact("record", self.key.to_string())
            .fact("why", self.why.clone())
            .next("airlock runs --all")
            .next("airlock doctor")
    }
}

/// Whether this record was set aside.
pub fn holds(tx: &Transaction<'_>, key: &Key) -> Result<bool, StoreFault> {
    let (kind, id) = match key {
        Key::Flow(id) => ("flow", id.to_string()),
        Key::Run(id) => ("run", String::from_utf8_lossy(id).into_owned()),
    };
    let found = "SELECT 1 FROM unreadable WHERE kind = ?1 AND id = ?2";
    Ok(tx.prepare_cached(found)?.exists((kind, id))?)
}

/// Sets a flow aside: it has ended, and its subject is free. False where that was so before.
pub fn flow(tx: &Transaction<'_>, id: FlowId, why: &str) -> Result<bool, StoreFault> {
    let dump = tx
        .prepare("SELECT * FROM flows WHERE id = ?1")?
        .query_row([id], |row| Ok(dump(row)))
        .optional()?;
    let Some(dump) = dump else { return Ok(false) };
    if !note(tx, "flow", &id.to_string(), why, &dump?)? {
        return Ok(false);
    }
    tx.execute(
        "UPDATE flows SET ended_at = coalesce(ended_at, ?2), \
         input = CASE WHEN json_valid(input) THEN input ELSE '{}' END, \
         data = CASE WHEN json_valid(data) THEN data ELSE '{}' END, \
         fault = CASE WHEN json_valid(fault) THEN fault END WHERE id = ?1",
        (id, now()),
    )?;
    Ok(true)
}

/// Sets a run aside: it has ended. Answers under which id it is listed, or nothing where it was
/// set aside before.
pub fn run(tx: &Transaction<'_>, bad: &BadRecord, key: &[u8]) -> Result<Option<RunId>, StoreFault> {
    let found = tx
        .prepare("SELECT * FROM runs WHERE CAST(id AS BLOB) = ?1")?
        .query_row([key], |row| Ok((dump(row), Mended::read(row))))
        .optional()?;
    let Some((dump, mended)) = found else { return Ok(None) };
    let known = std::str::from_utf8(key).ok().and_then(|id| id.parse::<RunId>().ok());
    let id = match known {
        Some(id) => id,
        None => run::fresh_id(tx)?,
    };
    if !note(tx, "run", id.as_str(), &bad.why, &dump?)? {
        return Ok(None);
    }
    // No row may be left that refers to an id that is no more, or was never one.
    let flows: Vec<FlowId> = {
        let mut of = tx.prepare(
            "DELETE FROM run_flows WHERE CAST(run AS BLOB) = ?1 \
             OR NOT EXISTS (SELECT 1 FROM runs WHERE runs.id = run_flows.run) RETURNING flow",
        )?;
        of.query_map([key], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    mended.write(tx, key, &id, &bad.fault())?;
    for flow in flows {
        tx.execute("INSERT OR IGNORE INTO run_flows VALUES (?1, ?2)", (id.as_str(), flow))?;
    }
    Ok(Some(id))
}

fn note(
    tx: &Transaction<'_>,
    kind: &str,
    id: &str,
    why: &str,
    record: &str,
) -> Result<bool, StoreFault> {
    let added = tx.execute(
        "INSERT OR IGNORE INTO unreadable (kind, id, why, record, since) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        (kind, id, why, record, now()),
    )?;
    Ok(added == 1)
}

/// All that a row holds, as JSON; text that is none in hex digits.
fn dump(row: &Row<'_>) -> Result<String, StoreFault> {
    let mut all = BTreeMap::new();
    let names: Vec<String> = row.as_ref().column_names().map(str::to_owned).collect();
    for name in names {
        let value = match row.get_ref(name.as_str())? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(text) | ValueRef::Blob(text) => match std::str::from_utf8(text) {
                Ok(text) => text.into(),
                Err(_not_utf8) => hex(text).into(),
            },
        };
        all.insert(name, value);
    }
    Ok(serde_json::to_string(&all)?)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold("hex:".to_owned(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

/// What can still be read of a run's row.
struct Mended {
    kind: &'static str,
    key: String,
    subject: String,
    source: Option<String>,
    image: Option<String>,
    state: String,
    request: String,
    uid: u32,
    submitted_at: i64,
    ended_at: i64,
    parent: Option<String>,
    members: u32,
}

impl Mended {
    fn read(row: &Row<'_>) -> Self {
        fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Option<T> {
            row.get(name).ok()
        }
        let text = |name| column::<String>(row, name);
        let source = text("source");
        let kind = text("kind").as_deref().and_then(run::kind_of);
        let guessed = match (&source, row.get_ref("activation")) {
            (None, _) => "activate",
            (Some(_), Ok(ValueRef::Null)) => "pull",
            (Some(_), _) => "run",
        };
        let ended_at = column::<Option<i64>>(row, "ended_at").flatten();
        let was = text("state").filter(|state| run::Standing::of(state).is_some());
        let state = was.filter(|state| ended_at.is_some() && state != "running");
        let image = text("image").filter(|text| text.parse::<Digest>().is_ok());
        Self {
            kind: kind.map_or(guessed, run::kind_name),
            key: text("key").unwrap_or_default(),
            subject: text("subject").unwrap_or_else(|| "?".to_owned()),
            source,
            image,
            state: state.unwrap_or_else(|| "failed".to_owned()),
            request: text("request").unwrap_or_else(|| "-".to_owned()),
            uid: column(row, "uid").unwrap_or(u32::MAX),
            submitted_at: column(row, "submitted_at").unwrap_or(0),
            ended_at: ended_at.unwrap_or_else(now),
            parent: text("parent").filter(|id| id.parse::<RunId>().is_ok()),
            members: column(row, "members").unwrap_or(0),
        }
    }

    fn write(
        &self,
        tx: &Transaction<'_>,
        key: &[u8],
        id: &RunId,
        fault: &Fault,
    ) -> Result<(), StoreFault> {
        tx.execute(
            "UPDATE runs SET id = ?2, kind = ?3, key = ?4, subject = ?5, source = ?6, image = ?7, \
             activation = NULL, position = 0, state = ?8, tally = '{}', fault = ?9, request = ?10, \
             uid = ?11, submitted_at = ?12, ended_at = ?13, parent = ?14, members = ?15, place = 0, \
             wanted = NULL, follows = NULL, released = 0, runs_anyway = 0, not_before = NULL WHERE CAST(id AS BLOB) = ?1",
            rusqlite::params![
                key,
                id.as_str(),
                self.kind,
                self.key,
                self.subject,
                self.source,
                self.image,
                self.state,
                serde_json::to_string(fault)?,
                self.request,
                self.uid,
                self.submitted_at,
                self.ended_at,
                self.parent,
                self.members,
            ],
        )?;
        Ok(())
    }
}

/// A record that was set aside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SetAside {
    /// `flow` or `run`.
    pub kind: String,
    /// Its number or id.
    pub id: String,
    /// Why.
    pub why: String,
    /// When.
    pub since: i64,
}

/// Those that the operator is not done with, oldest first.
pub fn all(tx: &Transaction<'_>) -> Result<Vec<SetAside>, StoreFault> {
    let mut found = tx.prepare(
        "SELECT kind, id, why, since FROM unreadable WHERE settled_at IS NULL ORDER BY since, id",
    )?;
    let rows = found.query_map([], |row| {
        let (kind, id, why, since) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(SetAside { kind, id, why, since })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes that the operator is done with all of them. They stay on record.
pub fn settle(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    tx.execute("UPDATE unreadable SET settled_at = ?1 WHERE settled_at IS NULL", [now()])?;
    Ok(())
}
