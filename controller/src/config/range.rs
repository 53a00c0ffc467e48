//! The range of every value, checked after all files were merged.

use std::path::Path;

use airlock_policy::size::ByteSize;

use super::keys::{
    AttemptsConfig, BackoffConfig, BackupConfig, Config, DeadlinesConfig, HistoryConfig,
    LimitsConfig, QueuesConfig, S3Config,
};
use super::timespan::TimeSpan;

/// A value outside its range: the key, and what it must be.
pub(super) type OutOfRange = (&'static str, &'static str);

/// Checks every range.
pub(super) fn check(config: &Config) -> Result<(), OutOfRange> {
    let Config {
        state_dir,
        blobs_dir,
        control_socket,
        helper_socket,
        s3,
        queues,
        attempts,
        deadlines,
        backoff,
        limits,
        backup,
        history,
        log,
    } = config;
    absolute(Some(state_dir), "state_dir")?;
    absolute(blobs_dir.as_deref(), "blobs_dir")?;
    absolute(Some(control_socket), "control_socket")?;
    absolute(Some(helper_socket), "helper_socket")?;
    check_s3(s3)?;
    check_queues(queues)?;
    check_attempts(attempts)?;
    check_deadlines(deadlines)?;
    check_backoff(backoff)?;
    check_limits(limits)?;
    check_backup(backup)?;
    check_history(history)?;
    require(!log.level.is_empty(), "log.level", "a level, such as \"info\"")
}

fn check_s3(s3: &S3Config) -> Result<(), OutOfRange> {
    let url = s3.endpoint.as_deref().is_none_or(|url| {
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        // A password in a URL would end up in logs.
        host.is_some_and(|h| !h.is_empty() && !h.contains(['@', ' ', '?', '#']))
    });
    require(url, "s3.endpoint", "\"https://host\" or \"http://host\", without user or query")?;
    let region = s3.region.as_deref().is_none_or(|r| !r.is_empty() && r.is_ascii());
    require(region, "s3.region", "a region's name, such as \"eu-central-1\"")?;
    absolute(s3.credentials_file.as_deref(), "s3.credentials_file")?;
    let one_answer = !(s3.anonymous && s3.credentials_file.is_some());
    require(one_answer, "s3.anonymous", "false when s3.credentials_file is set")?;
    absolute(s3.ca_file.as_deref(), "s3.ca_file")?;
    require((1..=32).contains(&s3.concurrency), "s3.concurrency", "1 to 32")?;
    let part = (ByteSize::mib(1)..=ByteSize::gib(1)).contains(&s3.part_size);
    require(part, "s3.part_size", "1 MiB to 1 GiB")?;
    let connect = (TimeSpan::seconds(1)..=TimeSpan::seconds(60)).contains(&s3.connect_timeout);
    require(connect, "s3.connect_timeout", "1 s to 1 min")?;
    let stall = (TimeSpan::seconds(1)..=TimeSpan::seconds(600)).contains(&s3.stall_timeout);
    require(stall, "s3.stall_timeout", "1 s to 10 min")?;
    require((1..=20).contains(&s3.attempts), "s3.attempts", "1 to 20")?;
    let rate = s3.rate_limit.is_none_or(|rate| rate >= ByteSize(64 << 10));
    require(rate, "s3.rate_limit", "at least 64 KiB")
}

fn check_queues(queues: &QueuesConfig) -> Result<(), OutOfRange> {
    require((1..=64).contains(&queues.downloads), "queues.downloads", "1 to 64")?;
    let unpack = queues.unpack.is_none_or(|limit| (1..=64).contains(&limit));
    require(unpack, "queues.unpack", "1 to 64")?;
    let activate = queues.activate.is_none_or(|limit| (1..=1024).contains(&limit));
    require(activate, "queues.activate", "1 to 1024")
}

/// Checks the same range of several keys of a section.
macro_rules! each {
    ($values:ident, $section:literal, $is:expr, $must:literal, $($key:ident)+) => {
        $( require($is($values.$key), concat!($section, ".", stringify!($key)), $must)?; )+
    };
}

fn check_attempts(attempts: &AttemptsConfig) -> Result<(), OutOfRange> {
    let is = |count: u32| (1..=100).contains(&count);
    each!(
        attempts, "attempts", is, "1 to 100",
        check_exists download validate store_metadata
        check_unpacked create_device extract_layers verify_layout update_db
        check_snapshot create_snapshot register
    );
    Ok(())
}

fn check_deadlines(deadlines: &DeadlinesConfig) -> Result<(), OutOfRange> {
    let is = |span| (TimeSpan::seconds(1)..=TimeSpan::seconds(86_400)).contains(&span);
    require(deadlines.download.is_none_or(is), "deadlines.download", "1 s to 1 d")?;
    each!(
        deadlines, "deadlines", is, "1 s to 1 d",
        check_exists validate store_metadata
        check_unpacked create_device extract_layers verify_layout update_db
        check_snapshot create_snapshot register
    );
    Ok(())
}

fn check_backoff(backoff: &BackoffConfig) -> Result<(), OutOfRange> {
    let BackoffConfig { first, factor, longest, longest_s3 } = *backoff;
    let is_first = (TimeSpan::millis(1)..=TimeSpan::seconds(60)).contains(&first);
    require(is_first, "backoff.first", "1 ms to 1 min")?;
    require((1..=10).contains(&factor), "backoff.factor", "1 to 10")?;
    let is = |span| (first..=TimeSpan::seconds(3600)).contains(&span);
    require(is(longest), "backoff.longest", "backoff.first to 1 h")?;
    require(is(longest_s3), "backoff.longest_s3", "backoff.first to 1 h")
}

fn check_limits(limits: &LimitsConfig) -> Result<(), OutOfRange> {
    let object = (ByteSize::mib(1)..=ByteSize::gib(16 << 10)).contains(&limits.object_size);
    require(object, "limits.object_size", "1 MiB to 16 TiB")?;
    require((1..=10_000_000).contains(&limits.entries), "limits.entries", "1 to 10000000")?;
    require(limits.file_size.0 > 0, "limits.file_size", "more than nothing")?;
    require(limits.total_size.0 > 0, "limits.total_size", "more than nothing")?;
    require(limits.ratio >= 1, "limits.ratio", "at least 1")
}

fn check_backup(backup: &BackupConfig) -> Result<(), OutOfRange> {
    let every = (TimeSpan::seconds(3600)..=TimeSpan::seconds(7 * 86_400)).contains(&backup.every);
    require(every, "backup.every", "1 h to 7 d")?;
    require((1..=365).contains(&backup.keep), "backup.keep", "1 to 365")
}

fn check_history(history: &HistoryConfig) -> Result<(), OutOfRange> {
    let is = |span| (TimeSpan::seconds(86_400)..=TimeSpan::seconds(3650 * 86_400)).contains(&span);
    require(is(history.age), "history.age", "1 d to 3650 d")?;
    require((100..=1_000_000).contains(&history.runs), "history.runs", "100 to 1000000")?;
    require(is(history.outcomes), "history.outcomes", "1 d to 3650 d")
}

fn absolute(path: Option<&Path>, key: &'static str) -> Result<(), OutOfRange> {
    require(path.is_none_or(Path::is_absolute), key, "an absolute path")
}

const fn require(holds: bool, key: &'static str, must: &'static str) -> Result<(), OutOfRange> {
    if holds { Ok(()) } else { Err((key, must)) }
}
