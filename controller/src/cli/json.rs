//! The documents that programs read: names, types and order of keys are a contract.

mod image;
mod machines;
mod pool;
mod run;

pub(crate) use image::{ImageItem, SnapshotItem};
pub(crate) use machines::MachinesItem;
pub(crate) use pool::{METADATA_BLOCK, PoolItem};
pub(crate) use run::{Line, RunItem};

use serde::Serialize;

/// A document: its schema's name, then its keys.
#[derive(Debug, Serialize)]
pub(crate) struct Document<T> {
    schema: &'static str,
    #[serde(flatten)]
    body: T,
}

impl<T> Document<T> {
    /// A document of this schema.
    pub(crate) const fn new(schema: &'static str, body: T) -> Self {
        Self { schema, body }
    }
}

/// A list.
#[derive(Debug, Serialize)]
pub(crate) struct Items<T> {
    items: Vec<T>,
    next: Option<String>,
}

impl<T> Items<T> {
    /// A list that is whole.
    pub(crate) fn new(items: impl IntoIterator<Item = impl Into<T>>) -> Self {
        Self { items: items.into_iter().map(Into::into).collect(), next: None }
    }
}

/// One thing that was looked at, by the daemon or before there is one.
#[derive(Debug, Serialize)]
pub(crate) struct CheckItem {
    /// What.
    pub(crate) name: String,
    /// How it is: `ok`, `warning`, `failed`, `missing`, `unknown`.
    pub(crate) state: &'static str,
    /// The same in words.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: Vec<String>,
}

/// One thing that was mended, or is to be.
#[derive(Debug, Serialize)]
pub(crate) struct RepairItem {
    /// Of what.
    pub(crate) subject: String,
    /// What came of it: `planned`, `done`, `lost`, `failed`.
    pub(crate) outcome: &'static str,
    /// The same in words.
    pub(crate) message: String,
}
