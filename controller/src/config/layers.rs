//! Reads file and drop-ins, and remembers which of them set each value.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::keys::{Config, KEYS};
use super::nearest::nearest;
use super::range;
use super::{ConfigFault, DEFAULT_FILE};

/// Where a value was set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// In a file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nowhere: it is the default.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

/// Every value that a file sets, with its origin.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    values: BTreeMap<String, (toml::Value, Origin)>,
}

impl Layers {
    /// Reads the file and its drop-ins; see [`Config::load`].
    pub fn read(path: Option<&Path>, dropins: &Path) -> Result<Self, ConfigFault> {
        let mut layers = Self::default();
        if let Some(path) = path {
            layers.add(path)?;
        } else if Path::new(DEFAULT_FILE).exists() {
            layers.add(Path::new(DEFAULT_FILE))?;
        }
        for dropin in sorted(dropins)? {
            layers.add(&dropin)?;
        }
        Ok(layers)
    }

    /// The configuration that results.
    pub fn config(&self) -> Result<Config, ConfigFault> {
        let mut table = toml::Table::new();
        for (dotted, (value, _)) in &self.values {
            match dotted.split_once('.') {
                None => drop(table.insert(dotted.clone(), value.clone())),
                Some((section, key)) => {
                    let section = table.entry(section).or_insert_with(empty);
                    if let Some(section) = section.as_table_mut() {
                        drop(section.insert(key.to_owned(), value.clone()));
                    }
                }
            }
        }
        // Every file was deserialised by itself before, so this fails only together with them.
        let config = Config::deserialize(table).map_err(|e| ConfigFault::Syntax {
            origin: Origin::BuiltIn,
            message: e.message().to_owned(),
        })?;
        range::check(&config).map_err(|(key, must)| ConfigFault::OutOfRange {
            origin: self.origin(key),
            key,
            must,
        })?;
        Ok(config)
    }

    /// Where the value of a key comes from.
    pub fn origin(&self, dotted: &str) -> Origin {
        self.values.get(dotted).map_or(Origin::BuiltIn, |(_, origin)| origin.clone())
    }

    fn add(&mut self, path: &Path) -> Result<(), ConfigFault> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigFault::Read { path: path.to_owned(), source })?;
        let file = Text { path, text: &text };
        let keys = DeTable::parse(&text).map_err(|e| file.syntax(&e))?;
        let mut lines = BTreeMap::new();
        file.walk("", keys.get_ref(), &mut lines)?;
        // For its type errors, which know their line only here.
        drop(toml::from_str::<Config>(&text).map_err(|e| file.syntax(&e))?);
        let values: toml::Table = toml::from_str(&text).map_err(|e| file.syntax(&e))?;
        for (dotted, line) in lines {
            let value = match dotted.split_once('.') {
                None => values.get(&dotted),
                Some((section, key)) => values.get(section).and_then(|table| table.get(key)),
            };
            if let Some(value) = value {
                let origin = Origin::File { path: path.to_owned(), line };
                drop(self.values.insert(dotted, (value.clone(), origin)));
            }
        }
        Ok(())
    }
}

fn empty() -> toml::Value {
    toml::Value::Table(toml::Table::new())
}

/// The drop-ins, in the order of their names.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>, ConfigFault> {
    let fault = |source| ConfigFault::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(fault(e)),
    };
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|e| e.path())).collect();
    let mut paths = paths.map_err(fault)?;
    // An editor's backup (`x.toml~`, `.x.toml.swp`) must not become configuration.
    let hidden = |p: &Path| p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
    paths.retain(|path| path.extension().is_some_and(|e| e == "toml") && !hidden(path));
    paths.sort();
    Ok(paths)
}

/// One file's text.
struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Text<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigFault {
        let offset = error.span().map_or(0, |span| span.start);
        ConfigFault::Syntax { origin: self.origin(offset), message: error.message().to_owned() }
    }

    /// Notes the line of every key beneath `prefix`; refuses the first that airlock does not know.
    fn walk(
        &self,
        prefix: &str,
        table: &DeTable<'_>,
        lines: &mut BTreeMap<String, usize>,
    ) -> Result<(), ConfigFault> {
        let known = || KEYS.iter().copied().flatten();
        for (key, value) in table {
            let dotted = if prefix.is_empty() {
                key.get_ref().to_string()
            } else {
                format!("{prefix}.{}", key.get_ref())
            };
            let origin = self.origin(key.span().start);
            if known().any(|k| k.dotted() == dotted) {
                if let Origin::File { line, .. } = origin {
                    lines.insert(dotted, line);
                }
                continue;
            }
            let is_section = known().any(|k| k.section == dotted);
            if let DeValue::Table(inner) = value.get_ref()
                && (is_section || !inner.is_empty())
            {
                self.walk(&dotted, inner, lines)?;
            } else if !is_section {
                let names: Vec<_> = known().map(super::Key::dotted).collect();
                let nearest = nearest(&dotted, names.iter().map(String::as_str));
                let nearest = nearest.map(str::to_owned);
                return Err(ConfigFault::UnknownKey { origin, key: dotted, nearest });
            }
            // A section of the wrong type is left to the deserialiser.
        }
        Ok(())
    }
}
