//! The command line: commands, options, and what `--help` says of them.

mod list;

use std::path::PathBuf;
use std::time::Duration;

use airlock_policy::name::SnapshotName;
use airlock_policy::size::ByteSize;
use airlock_policy::source::{InvalidSource, Source};
use airlock_protocol::control::RunId;
use clap::{Parser, Subcommand, ValueEnum};

use super::help;
use super::moment;
pub(crate) use list::{
    ImageSort, ImageStatus, ListArgs, RunSort, RunStatus, SnapshotSort, SnapshotStatus, TimeForm,
};

/// Takes untrusted container images from S3 to sealed thin volumes, and activates them.
#[derive(Debug, Parser)]
#[command(
    name = "airlock",
    version,
    disable_help_subcommand = true,
    disable_help_flag = true,
    disable_version_flag = true,
    help_template = "{about}\n{usage-heading} {usage}\n\n{all-args}{after-help}",
    after_long_help = help::AIRLOCK
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Write results as a table for people, or as JSON for programs
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value = "table")]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) output: OutputFormat,
    /// Write nothing but results and errors
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(crate) quiet: bool,
    #[arg(help = "When to use colours; NO_COLOR and CLICOLOR_FORCE are obeyed")]
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value = "auto")]
    #[arg(hide_short_help = true)]
    pub(crate) color: ColorWhen,
    #[arg(help = "The daemon's socket [env: AIRLOCK_SOCKET] [default: /run/airlock/control.sock]")]
    #[arg(long, global = true, value_name = "PATH", hide_short_help = true)]
    pub(crate) socket: Option<PathBuf>,
    #[arg(help = "How to show the progress of a run [env: AIRLOCK_PROGRESS] [default: auto]")]
    #[arg(long, global = true, value_enum, value_name = "KIND", hide_short_help = true)]
    pub(crate) progress: Option<ProgressKind>,
    /// How long to wait, such as 30s or 5m; a run goes on when the waiting ends (exit 8)
    #[arg(long, global = true, value_name = "DURATION", value_parser = moment::parse_duration)]
    #[arg(hide_short_help = true)]
    pub(crate) timeout: Option<Duration>,
    /// Say more: the ids of request and run in errors
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(crate) verbose: bool,
    /// Print help; --help prints more
    #[arg(short, long, global = true, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// The form of results.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people; may change.
    Table,
    /// For programs; documented and stable.
    Json,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal.
    Auto,
    /// Even in a pipe.
    Always,
    /// Not at all.
    Never,
}

/// How the progress of a run is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ProgressKind {
    /// Moving lines on a terminal, plain ones elsewhere.
    Auto,
    /// Moving lines, where the terminal can.
    Bar,
    /// A line a change of state, and one every 10 s.
    Plain,
    /// Nothing.
    None,
}

const SOURCES: &str =
    "Where from: s3://BUCKET/KEY or tar:FILE, each with an optional @sha256:DIGEST";

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch, validate and unpack images
    #[command(after_long_help = help::PULL)]
    Pull {
        #[arg(required = true, value_name = "SOURCE", value_parser = parse_source, help = SOURCES)]
        sources: Vec<Source>,
        #[command(flatten)]
        when: WhenArgs,
    },
    /// Make an image that is here appear as a block device
    #[command(after_long_help = help::ACTIVATE)]
    Activate {
        /// The image: its name, a source, or 12 or more hex digits of its digest
        image: String,
        #[command(flatten)]
        how: ActivationArgs,
        #[command(flatten)]
        when: WhenArgs,
    },
    /// Pull and activate; starts no process
    ///
    /// Starts no process: pulls images and activates them. Prints the devices and nothing else to
    /// stdout.
    #[command(after_long_help = help::RUN)]
    Run {
        #[arg(required = true, value_name = "SOURCE", value_parser = parse_source, help = SOURCES)]
        sources: Vec<Source>,
        #[command(flatten)]
        how: ActivationArgs,
        #[command(flatten)]
        when: WhenArgs,
    },
    /// List images
    #[command(after_long_help = help::IMAGES)]
    Images {
        /// Only those that are so far, and no further
        #[arg(long, value_enum, value_name = "STATE")]
        status: Option<ImageStatus>,
        /// What to sort by
        #[arg(long, value_enum, value_name = "COLUMN", default_value = "name")]
        sort: ImageSort,
        #[command(flatten)]
        list: ListArgs,
    },
    /// List activated images
    #[command(after_long_help = help::SNAPSHOTS)]
    Snapshots {
        /// Only those whose device is there, or is not
        #[arg(long, value_enum, value_name = "STATE")]
        status: Option<SnapshotStatus>,
        /// What to sort by
        #[arg(long, value_enum, value_name = "COLUMN", default_value = "name")]
        sort: SnapshotSort,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show images and snapshots in full
    #[command(after_long_help = help::INSPECT)]
    Inspect {
        /// An image or a snapshot; with -q only the exit status tells whether it is there
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Take devices away, with what was written to them
    #[command(after_long_help = help::DEACTIVATE)]
    Deactivate {
        /// The snapshot
        #[arg(required = true, value_name = "SNAPSHOT")]
        snapshots: Vec<SnapshotName>,
        /// Take one that is not there for one that is gone
        #[arg(long)]
        if_exists: bool,
    },
    /// Remove images that are not active
    #[command(after_long_help = help::RM)]
    Rm {
        /// The image: its name, a source, or 12 or more hex digits of its digest
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Take one that is not there for one that is gone
        #[arg(long)]
        if_exists: bool,
    },
    /// Read the volumes of images again, and compare them with what was extracted
    #[command(after_long_help = help::VERIFY)]
    Verify {
        /// The image: its name, a source, or 12 or more hex digits of its digest
        #[arg(required_unless_present = "all", value_name = "IMAGE")]
        images: Vec<String>,
        /// Every image that is unpacked
        #[arg(long, conflicts_with = "images")]
        all: bool,
    },
    /// Bring the pool of volumes up, or say how it is
    #[command(after_long_help = help::POOL)]
    Pool {
        #[command(subcommand)]
        action: PoolAction,
    },
    /// List, show and watch runs
    #[command(after_long_help = help::RUNS, args_conflicts_with_subcommands = true)]
    Runs {
        /// List those that ended too
        #[arg(long)]
        all: bool,
        /// Only those in this state, ended or not
        #[arg(long, value_enum, value_name = "STATE")]
        status: Option<RunStatus>,
        /// What to sort by
        #[arg(long, value_enum, value_name = "COLUMN", default_value = "age")]
        sort: RunSort,
        #[command(flatten)]
        list: ListArgs,
        #[command(subcommand)]
        action: Option<RunsAction>,
    },
    /// Begin runs that failed or were cancelled again
    #[command(after_long_help = help::RETRY)]
    Retry {
        /// The run
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<RunId>,
    },
    /// Cancel runs
    #[command(after_long_help = help::CANCEL)]
    Cancel {
        /// The run
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<RunId>,
    },
    /// Say what is well and what is not
    #[command(after_long_help = help::DOCTOR)]
    Doctor {
        /// Look at this host alone: needs no daemon, helper, pool, database or configuration
        #[arg(long)]
        preflight: bool,
        /// Bring the database in line with the helper's ledger and the blobs; nothing else changes
        #[arg(long, conflicts_with = "preflight")]
        fix: bool,
        /// With --fix: only say what it would do
        #[arg(long, requires = "fix")]
        dry_run: bool,
    },
    /// Back up, check or restore the daemon's database
    #[command(after_long_help = help::DB)]
    Db {
        /// The daemon's configuration [default: /etc/airlock/daemon.toml, where there is one]
        #[arg(long, global = true, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(subcommand)]
        action: DbAction,
    },
    /// Be the daemon: fetch, validate, keep the records
    // The service calls it, and no person: the screen of `-h` has no room for both.
    #[command(after_long_help = help::DAEMON, hide = true)]
    Daemon {
        /// The configuration [default: /etc/airlock/daemon.toml, where there is one]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the versions of command, daemon and helper
    #[command(after_long_help = help::VERSION)]
    Version,
    /// Print a completion script for a shell
    // Packages install the scripts: the screen of `-h` has room for what people call.
    #[command(after_long_help = help::COMPLETIONS, hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// How to activate.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ActivationArgs {
    /// The snapshot's name, and its device's beneath /dev/airlock [default: the image's]
    #[arg(long)]
    pub(crate) name: Option<SnapshotName>,
    /// Make a device that refuses writes
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Mount it beneath /run/airlock/mnt, nosuid and nodev, instead of handing out a device
    #[arg(long)]
    pub(crate) mount: bool,
    /// Grow it and its filesystem to this size, such as 20GiB [default: the image's]
    #[arg(long, value_name = "SIZE")]
    pub(crate) size: Option<ByteSize>,
}

/// When to begin.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "When to begin")]
pub(crate) struct WhenArgs {
    /// After this run, once that is done
    #[arg(long, value_name = "RUN", hide_short_help = true)]
    pub(crate) after: Option<RunId>,
    /// What to do if the run before is not done: skip (it fails, too), or run all the same
    #[arg(long, value_enum, value_name = "WHAT", requires = "after", hide_short_help = true)]
    #[arg(default_value = "skip", hide_default_value = true, hide_possible_values = true)]
    pub(crate) if_failed: OnFailure,
    /// So long from now, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = moment::parse_duration)]
    #[arg(hide_short_help = true)]
    pub(crate) delay: Option<Duration>,
    /// At this time, such as 2026-11-25T03:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment::parse_time, conflicts_with = "delay")]
    #[arg(hide_short_help = true)]
    pub(crate) at: Option<i64>,
}

/// What to do if the run before is not done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum OnFailure {
    /// Fail, too.
    #[default]
    Skip,
    /// Run all the same.
    Run,
}

/// What to do with the pool.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Subcommand)]
pub(crate) enum PoolAction {
    /// Bring the pool up, and make it where there is none
    #[command(after_long_help = help::POOL)]
    Setup,
    /// Make the pool's files larger, while it is in use
    #[command(after_long_help = help::POOL)]
    Extend {
        /// The size that the data file is to have at least, such as 20GiB
        #[arg(long, value_name = "SIZE", required_unless_present = "metadata")]
        data: Option<ByteSize>,
        /// The size that the metadata file is to have at least
        #[arg(long, value_name = "SIZE")]
        metadata: Option<ByteSize>,
    },
    /// Say how full and how well the pool is
    #[command(after_long_help = help::POOL)]
    Status,
}

/// What to do with the database.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DbAction {
    /// Copy it, as it is at one moment, into a new file; the daemon may work
    #[command(after_long_help = help::DB)]
    Backup {
        /// The file to make
        file: PathBuf,
    },
    /// Look through it, or through a backup, for damage; the daemon may work
    #[command(after_long_help = help::DB)]
    Check {
        /// A backup [default: the database in use]
        file: Option<PathBuf>,
    },
    /// Put a backup in its place; the daemon must be stopped
    #[command(after_long_help = help::DB)]
    Restore {
        /// The backup
        file: PathBuf,
    },
    /// Move it away, so that the daemon starts with a new one; the daemon must be stopped
    #[command(after_long_help = help::DB)]
    SetAside,
}

/// What to do with a run.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RunsAction {
    /// Show a run with every attempt at every step
    #[command(after_long_help = help::RUNS)]
    Show {
        /// The run
        run: RunId,
        /// Show bytes and time of each part of each step, too
        #[arg(long)]
        timing: bool,
    },
    /// Watch a run to its end
    #[command(after_long_help = help::RUNS)]
    Watch {
        /// The run
        run: RunId,
    },
    /// Show every state that runs go through: attempts, deadline, queue, and how busy it is
    #[command(after_long_help = help::RUNS)]
    Machines,
}

/// The same commands without their types, for completion scripts.
pub(crate) fn definition() -> clap::Command {
    <CommandLine as clap::CommandFactory>::command()
}

/// Parses a source; a relative file is taken as seen from here, for the daemon has its own folder.
fn parse_source(text: &str) -> Result<Source, InvalidSource> {
    let (file, pin) = match text.rsplit_once("@sha256:") {
        Some((file, hex)) => (file, Some(hex)),
        None => (text, None),
    };
    let Some(file) = file.strip_prefix("tar:").filter(|file| !file.is_empty()) else {
        return text.parse();
    };
    let path = std::path::absolute(file).map_err(|_no_current_folder| InvalidSource::Path)?;
    let path = path.to_str().ok_or(InvalidSource::Path)?;
    match pin {
        Some(hex) => format!("tar:{path}@sha256:{hex}").parse(),
        None => format!("tar:{path}").parse(),
    }
}

#[cfg(test)]
mod tests;
