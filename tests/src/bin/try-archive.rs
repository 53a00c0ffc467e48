//! Extracts archives one by one as airlock would, and prints a line of JSON for each: see `HELP`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::exit,
    clippy::indexing_slicing,
    reason = "a tool for people who test: it prints, builds the worker, ends by exit codes, and fails \
              by panicking"
)]

use std::fs::File;
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use airlock_archive::{LayerFault, Position, scan};
use airlock_dm_launcher::errand::Desk;
use airlock_dm_launcher::errand::extract::Input;
use airlock_policy::errand::Answer;
use airlock_policy::helper_config::HelperConfig;
use airlock_tests::extraction::{Measured, Template, desk, input, measured_with};
use serde_json::{Value, json};

const HELP: &str = "\
try-archive [--layer] [--keep DIR] FILE...

Extracts each FILE by itself into a new, empty ext4 on a loop device, with the real launcher's and
worker's code and the default limits, and prints one line of JSON for it, whatever happens. Root
only; no thin pool is used.

  --layer     FILE is an upper layer: hard links may name what lies below, so the scan lets them
              pass and the worker decides (nothing lies below here). Without it FILE is the lowest
              layer, as a root filesystem tar is. Whiteouts mean the same in both, as they do to
              the controller: they remove what lies below and are never stored, whatever the
              archive is called.
  --keep DIR  leaves the tree of the n-th FILE, if it was accepted, mounted read-only at DIR/n,
              n from 0: `umount DIR/*` at the end.

  verdict       accepted, refused (by the worker), or failed: `failure` then says what
  rule, entry   the code of the rule that was broken, and the number of the entry, from 0
  scan          what the controller's scan says: accepted, or a rule's code
  entries, bytes  how many entries, and the bytes of the files they make, holes included
  unwrapped     whether all of it lay in one directory `rootfs`, which was taken for the root
  tree_digest   of the whole tree, of what `verify` compares
  seconds, peak_rss_kib  of the worker alone; the peak as it was last seen, at most 1 ms before
                its end
";

/// The size of each volume, as dm-helper.toml has it by default. It takes no more room on the
/// disk than what is written.
const VOLUME: u64 = 10 << 30;

struct Options {
    is_layer: bool,
    keep: Option<PathBuf>,
    files: Vec<PathBuf>,
}

fn main() {
    let Some(options) = options() else {
        eprint!("{HELP}");
        exit(2);
    };
    build_worker();
    let desk = desk(HelperConfig::default());
    let template = Template::new(&desk, VOLUME);
    for (number, file) in options.files.iter().enumerate() {
        let keep = options.keep.as_ref().map(|folder| folder.join(number.to_string()));
        // One archive that makes a test of ours panic must not hide what the others do.
        let tried = catch_unwind(AssertUnwindSafe(|| {
            tried(&desk, &template, file, options.is_layer, keep.as_deref())
        }));
        let failed = |_| line(file, &json!({"verdict": "failed", "failure": "try-archive failed"}));
        println!("{}", tried.unwrap_or_else(failed));
    }
}

fn options() -> Option<Options> {
    let mut options = Options { is_layer: false, keep: None, files: Vec::new() };
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--layer") => options.is_layer = true,
            Some("--keep") => options.keep = Some(arguments.next()?.into()),
            Some("--") => options.files.extend(arguments.by_ref().map(PathBuf::from)),
            Some(other) if other.starts_with('-') => return None,
            _ => options.files.push(argument.into()),
        }
    }
    (!options.files.is_empty()).then_some(options)
}

/// `cargo run` builds only this program: the worker beside it may be missing, or an old one.
fn build_worker() {
    let Some(cargo) = std::env::var_os("CARGO") else { return };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked", "-p", "airlock-dm-worker"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    if !build.current_dir(airlock_tests::checkout()).status().is_ok_and(|status| status.success()) {
        eprintln!("try-archive: the worker cannot be built");
        exit(1);
    }
}

fn tried(
    desk: &Desk,
    template: &Template,
    path: &Path,
    is_layer: bool,
    keep: Option<&Path>,
) -> Value {
    let open = || File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta)));
    let file = match open() {
        Ok((file, meta)) if meta.is_file() => file,
        Ok(_) => return line(path, &json!({"verdict": "failed", "failure": "no regular file"})),
        Err(error) => {
            return line(path, &json!({"verdict": "failed", "failure": error.to_string()}));
        }
    };
    let limits = desk.config.limits.archive();
    let position = if is_layer { Position::Upper } else { Position::Alone };
    let (scanned, unwrap) = match scan(File::open(path).unwrap(), &limits, position) {
        Ok(scan) => ("accepted".to_owned(), scan.is_wrapped),
        Err(LayerFault::Refused(refusal)) => (refusal.rule.code().to_owned(), false),
        Err(other) => (other.to_string(), false),
    };
    let volume = template.volume();
    let input = Input { unwrap, ..input(file.as_fd()) };
    let Measured { answer, time, peak_rss_kib } = measured_with(desk, &volume, input);
    let mut said = match answer {
        Answer::Extracted(extracted) => {
            if let Some(folder) = keep {
                volume.leave_mounted(folder);
            }
            json!({
                "verdict": "accepted",
                "entries": extracted.progress.entries,
                "bytes": extracted.file_bytes,
                "unwrapped": unwrap,
                "tree_digest": extracted.tree.to_string(),
            })
        }
        Answer::Refused { rule, entry } => {
            json!({"verdict": "refused", "rule": rule.code(), "entry": entry})
        }
        Answer::Failed(failure) => json!({
            "verdict": "failed",
            "failure": format!("failed to {} (errno {})", failure.stage.text(), failure.errno),
        }),
        other @ (Answer::Verified { .. }
        | Answer::Differs { .. }
        | Answer::Done
        | Answer::Backing(_)
        | Answer::Progress(_)) => {
            json!({"verdict": "failed", "failure": format!("{other:?}")})
        }
    };
    said["scan"] = scanned.into();
    said["seconds"] = ((time.as_secs_f64() * 1000.0).round() / 1000.0).into();
    said["peak_rss_kib"] = peak_rss_kib.into();
    line(path, &said)
}

/// The line of a file: every key is there, null where nothing is to be said.
fn line(path: &Path, said: &Value) -> Value {
    let mut line = json!({
        "file": path.to_string_lossy(), "verdict": null, "rule": null, "entry": null,
        "entries": null, "bytes": null, "unwrapped": null, "tree_digest": null, "seconds": null,
        "peak_rss_kib": null, "scan": null,
    });
    for (key, value) in said.as_object().into_iter().flatten() {
        line[key.as_str()] = value.clone();
    }
    line
}
