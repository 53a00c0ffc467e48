//! What a run came to, told at its end.

use airlock_protocol::control::{Reused, RunKind, RunResult, RunView};

use super::failure::{Failure, fault};
use super::pen::{Ink, Pen, Sign};
use super::report::labelled;
use super::{amount, moment, word};
use airlock_protocol::control::ErrorClass;

/// The block that ends a command: image, digest, snapshot, device, size, time, what was reused.
pub(crate) fn block(pen: Pen, result: &RunResult) -> String {
    let mut labels = vec![
        ("image".to_owned(), Ink::Plain, result.image.clone()),
        ("digest".to_owned(), Ink::Plain, result.digest.to_string()),
    ];
    let mut label = |label: &str, ink, text: String| labels.push((label.to_owned(), ink, text));
    if let Some(snapshot) = &result.snapshot {
        label("snapshot", Ink::Plain, format!("{snapshot}, {}", word::mode(result.read_only)));
    }
    if let Some(device) = &result.device {
        label("device", Ink::Paste, device.clone());
    }
    if let Some(bytes) = result.device_bytes {
        label("size", Ink::Plain, amount::bytes(bytes));
    }
    label("time", Ink::Plain, moment::took(result.took_ms));
    label("fetched", Ink::Plain, amount::bytes(result.fetched_bytes));
    label("reused", Ink::Plain, reused(result.reused));
    format!("{} {}\n{}", pen.signed(Sign::Done), headline(pen, result), labelled(pen, &labels))
}

/// What the run was for: the device, or the digest of a pull. A run that was to have a device and
/// has none is an error: a script must not go on with an empty name.
pub(crate) fn product(view: &RunView, result: &RunResult) -> Result<String, Failure> {
    match (view.kind, &result.device) {
        (RunKind::Pull, _) => Ok(result.digest.to_string()),
        (RunKind::Run | RunKind::Activate, Some(device)) => Ok(device.clone()),
        (RunKind::Run | RunKind::Activate, None) => {
            let what = "the daemon says done, but names no device";
            let mut failure = Failure::from(fault("run.no_device", ErrorClass::Internal, what));
            failure.run = Some(view.run.clone());
            Err(failure)
        }
    }
}

/// What a run waits for before it begins: `after k7f29qxm`, `at 2026-11-25T03:00:00.000Z`.
pub(crate) fn wait(view: &RunView) -> Option<String> {
    let after = view.links.after.as_ref().filter(|_| view.links.waits);
    let after = after.map(|after| format!("after {after}"));
    let at = view.links.not_before.filter(|time| *time > moment::now()).map(moment::utc);
    let at = at.map(|time| format!("at {time}"));
    match (after, at) {
        (Some(after), Some(at)) => {
            Some(format!("{after}, not before {}", at.trim_start_matches("at ")))
        }
        (after, at) => after.or(at),
    }
}

fn headline(pen: Pen, result: &RunResult) -> String {
    let took = moment::took(result.took_ms);
    let image = pen.text(&result.image);
    match (&result.snapshot, result.changed) {
        (Some(name), true) => {
            let name = pen.ink(Ink::Bold, name.as_str());
            let size = result.device_bytes.map(|bytes| format!(", {}", amount::bytes(bytes)));
            let mode = word::mode(result.read_only);
            format!("{name} is active: {image}, {mode}{} in {took}", size.unwrap_or_default())
        }
        (Some(name), false) => {
            let name = pen.ink(Ink::Bold, name.as_str());
            format!("{name} is already active (nothing to do) in {took}")
        }
        (None, true) => format!("{} is here in {took}", pen.ink(Ink::Bold, image.as_str())),
        (None, false) => {
            let image = pen.ink(Ink::Bold, image.as_str());
            format!("{image} is already here (nothing to do) in {took}")
        }
    }
}

fn reused(reused: Reused) -> String {
    let Reused { blob, volume, snapshot } = reused;
    let parts = [(blob, "blob"), (volume, "volume"), (snapshot, "snapshot")];
    let parts: Vec<_> = parts.iter().filter(|(held, _)| *held).map(|(_, what)| *what).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    #[test]
    fn a_command_ends_with_one_block() {
        let digest = "9c".repeat(32);
        assert_eq!(
            block(Pen::PLAIN, &sample::result()),
            format!(
                "+ web is active: golang:2, rw, 8.0 GiB in 12.1s
  image     golang:2
  digest    sha256:{digest}
  snapshot  web, rw
  device    /dev/airlock/web
  size      8.0 GiB
  time      12.1s
  fetched   316.6 MiB
  reused    blob
"
            )
        );
    }

    #[test]
    fn what_was_so_already_says_so() {
        let held = RunResult { changed: false, took_ms: 3, ..sample::result() };
        assert_eq!(headline(Pen::PLAIN, &held), "web is already active (nothing to do) in 3ms");
        let pulled = RunResult { snapshot: None, device: None, ..held };
        assert_eq!(
            headline(Pen::PLAIN, &pulled),
            "golang:2 is already here (nothing to do) in 3ms"
        );
    }

    #[test]
    fn a_run_without_its_device_is_an_error() {
        let result = RunResult { device: None, ..sample::result() };
        assert_eq!(product(&sample::run(), &result).unwrap_err().fault.code, "run.no_device");
        assert_eq!(product(&sample::run(), &sample::result()).unwrap(), "/dev/airlock/web");
    }
}
