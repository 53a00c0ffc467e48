//! `docs/protocol.md`, written from the types: the page and the code cannot disagree.
//!
//! A difference fails the test; `AIRLOCK_BLESS=1` writes the page anew. The sources are read line
//! by line, as rustfmt leaves them; a line that is not understood fails the test too.

#![expect(clippy::arithmetic_side_effects, reason = "counts of braces")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::PathBuf;

use airlock_policy::errand::Stage;
use airlock_protocol::PROTOCOL;
use airlock_protocol::wire::{MAX_DEADLINE, MAX_FRAME};

/// What stands in one brace: a type with its fields or variants.
#[derive(Default)]
struct Item {
    name: String,
    doc: Vec<String>,
    /// Name, type (empty for a variant without one), doc.
    members: Vec<(String, String, String)>,
}

fn source(path: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// The types that are declared at `depth` braces of a source.
fn items(text: &str, depth: usize) -> Vec<Item> {
    let (mut found, mut doc, mut level) = (Vec::<Item>::new(), Vec::new(), 0_usize);
    // Levels opened by something that is no type: functions, modules, macros.
    let mut skipped = Vec::new();
    let mut variant: Option<(String, Vec<String>)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            doc.push(words.trim().to_owned());
            continue;
        }
        if line.starts_with("//") || line.starts_with("#[") || line.is_empty() {
            continue;
        }
        let here = level == depth && skipped.is_empty();
        let inside = level == depth + 1 && skipped.is_empty();
        let member = line.trim_start_matches("pub ").trim_end_matches(',');
        if let Some(name) = line.strip_suffix(" {}").filter(|_| here) {
            found.push(Item { name: name.to_owned(), doc: doc.clone(), members: Vec::new() });
        } else if let Some(head) = line.strip_suffix(" {").filter(|_| here) {
            match type_name(head) {
                Some(name) => {
                    found.push(Item { name, doc: std::mem::take(&mut doc), members: Vec::new() });
                }
                None if !head.ends_with('!') => skipped.push(level),
                None => {}
            }
        } else if inside && line.ends_with('{') {
            // A variant with fields of its own.
            variant = Some((member.trim_end_matches(" {").to_owned(), std::mem::take(&mut doc)));
        } else if level == depth + 2 && skipped.is_empty() && !line.starts_with('}') {
            let (name, words) = variant.as_ref().unwrap_or_else(|| panic!("whose field: {line}"));
            let (field, kind) = member.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            let text = format!("{} `{field}`: {}", words.join(" "), doc.join(" "));
            found.last_mut().unwrap().members.push((name.clone(), kind.to_owned(), text));
        } else if inside && !line.starts_with('}') {
            let words = doc.join(" ");
            let (name, kind) = member
                .split_once(": ")
                .or_else(|| Some(member.strip_suffix(')')?.split_once('(').unwrap()))
                .unwrap_or((member, ""));
            found.last_mut().unwrap().members.push((name.to_owned(), kind.to_owned(), words));
        }
        doc.clear();
        let opened = line.matches('{').count();
        let closed = line.matches('}').count();
        level = (level + opened).checked_sub(closed).unwrap();
        skipped.retain(|began| *began < level);
    }
    found
}

/// The name that `pub struct Name`, `pub enum Name`, or `Name` inside a macro declares.
fn type_name(head: &str) -> Option<String> {
    let name = head.trim_start_matches("pub ").trim_start_matches("struct ");
    let name = name.trim_start_matches("enum ");
    let is_name = name.chars().all(char::is_alphanumeric) && name.starts_with(char::is_uppercase);
    is_name.then(|| name.to_owned())
}

fn types(page: &mut String, items: &[Item], of_all: &str) {
    for Item { name, doc, members } in items {
        writeln!(page, "\n### {name}\n\n{}", doc.join(" ")).unwrap();
        if members.is_empty() && of_all.is_empty() {
            continue;
        }
        writeln!(page, "\n| name | holds | what |\n| --- | --- | --- |\n{of_all}").unwrap();
        page.truncate(page.trim_end_matches('\n').len() + 1);
        for (name, kind, words) in members {
            let kind = if kind.is_empty() { String::new() } else { format!("`{kind}`") };
            writeln!(page, "| `{}` | {kind} | {words} |", wire_name(name)).unwrap();
        }
    }
}

/// A variant is written in lower case with underscores; a field is as it is.
fn wire_name(name: &str) -> String {
    let mut written = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !written.is_empty() {
            written.push('_');
        }
        written.extend(letter.to_lowercase());
    }
    written
}

fn verbs(page: &mut String) {
    let text = source("protocol/src/service.rs");
    let mut doc = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            doc.push(words.strip_prefix(' ').unwrap_or(words).to_owned());
        } else if let Some(call) = line.strip_prefix("async fn ") {
            let (verb, rest) = call.split_once("(request: ").unwrap();
            let (request, rest) = rest.split_once(") -> Result<").unwrap();
            let reply = rest.strip_suffix(", NotDone>;").unwrap();
            writeln!(page, "\n### {verb}\n\n`{request}` to `{reply}`, or `NotDone`.\n").unwrap();
            writeln!(page, "{}", doc.join("\n")).unwrap();
            doc.clear();
        }
    }
}

/// The rows `Variant "code" "text";` of the table of refusals.
fn refusals(page: &mut String) {
    let text = source("protocol/src/not_done.rs");
    let (_, table) = text.split_once("refusals! {").unwrap();
    let (table, _) = table.split_once("\n}").unwrap();
    for row in table.lines().map(str::trim).filter(|row| row.ends_with(';')) {
        let parts: Vec<&str> = row.split('"').collect();
        let [variant, code, _, words, _] = parts[..] else { panic!("no row: {row}") };
        writeln!(page, "| `{code}` | `{}` | {words} |", wire_name(variant.trim())).unwrap();
    }
}

/// How the values of `policy` look on the wire; the last part of the page shows each.
const VALUES: &str = "
## Values

| name | on the wire |
| --- | --- |
| `RequestId` | text, 1 to 32 of `a-z0-9` |
| `ChainId`, `DiffId`, `BlobDigest` | text, `sha256:` and 64 hexadecimal digits in lower case |
| `SnapshotName` | text, `[a-z0-9][a-z0-9._-]{0,127}` |
| `ThinId` | a number below 2^24 |
| `PoolPart` | text, `data` or `metadata` |
| `Rule` | text, the rule's code, as in docs/threat-model.md |
| `Stage` | a number, as in the last table |
";

fn page() -> String {
    let mut page = format!(
        "<!-- Written by protocol/tests/page.rs from the types; AIRLOCK_BLESS=1 writes it anew. -->\n\
         # The helper's protocol\n\n\
         Version {PROTOCOL}. tarpc over a Unix socket: each frame is a length (four bytes, big-endian) and JSON of at \
         most {} KiB. A request's deadline is at most {} s; a frame that asks for more, or that is no request, ends its \
         connection. The kernel says who the peer is; only the daemon's user is answered. Every request carries \
         `request`, the operator's request id, which stands in every log line. Unknown fields are refused.\n\n\
         ## Verbs\n",
        MAX_FRAME / 1024,
        MAX_DEADLINE.as_secs(),
    );
    verbs(&mut page);
    page.push_str(VALUES);
    page.push_str("\n## Requests\n");
    let every = "| `request` | `RequestId` | The operator's request that this is done for. |";
    let (_, requests) = { source("protocol/src/request.rs") }
        .split_once("\nrequests! {")
        .map(|(head, rest)| (head.to_owned(), format!("requests! {{{rest}")))
        .unwrap();
    let (inside, after) = requests.split_once("\n}").unwrap();
    types(&mut page, &items(inside, 1), every);
    types(&mut page, &items(after, 0), "");
    page.push_str("\n## Answers\n");
    types(&mut page, &items(&source("protocol/src/reply.rs"), 0), "");
    page.push_str("\n## Refusals\n\nA refusal has changed nothing, but for `layer`.\n\n");
    page.push_str("| code | on the wire | why |\n| --- | --- | --- |\n");
    refusals(&mut page);
    page.push_str("\n## Steps of an errand that can fail\n\n`Failed` names a step and the kernel's errno. An errand's step is a number:\n\n");
    page.push_str("| number | failed to |\n| --- | --- |\n");
    for stage in Stage::ALL {
        writeln!(page, "| {} | {} |", stage.number(), stage.text()).unwrap();
    }
    page.push_str("\n## Every message, as it looks on the wire\n\n```text\n");
    page.push_str(&source("protocol/tests/golden.txt"));
    page.push_str("```\n");
    page
}

#[test]
fn the_protocol_page_is_written_from_the_types() {
    let page = page();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    if std::env::var_os("AIRLOCK_BLESS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == stored,
        "docs/protocol.md is not what the types say: see the head of this file"
    );
}
