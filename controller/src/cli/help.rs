//! Examples and exit statuses, as they stand at the end of every `--help`.

/// Puts the exit statuses and the manual's name under a command's examples.
macro_rules! help {
    ($($(#[$doc:meta])* $NAME:ident = $page:literal $examples:literal;)+) => {
        $(
            $(#[$doc])*
            pub(crate) const $NAME: &str = concat!(
                "Examples:\n", $examples, "

Exit status:
  0  done, or there was nothing to do
  1  internal error, or several targets failed for different reasons
  2  the command or a configuration file is wrong
  3  refused by policy, signature or digest
  4  not found
  5  unavailable: daemon, helper, S3, pool or space
  6  conflict with what is there
  7  busy: somebody uses it
  8  timed out; a run goes on
  130, 143  left by Ctrl-C or SIGTERM; a run goes on

Tables are for people and may change; the documents of --output json are stable.
Manual: ", $page
            );
        )+

        /// All of them.
        #[cfg(test)]
        pub(crate) const ALL: &[&str] = &[$($NAME),+];
    };
}

help! {
    /// The whole program.
    AIRLOCK = "airlock(1)"
"  $ airlock run s3://images/golang/2.tar --name web
  $ airlock images --output json | jq .items";
    /// `pull`.
    PULL = "airlock-pull(1)"
"  $ airlock pull s3://images/golang/2.tar
  $ airlock pull --quiet tar:./rootfs.tar.zst s3://images/node/20.tar.gz
  $ airlock pull s3://images/golang/3.tar --at 2026-11-25T03:00:00Z";
    /// `activate`.
    ACTIVATE = "airlock-activate(1)"
"  $ airlock activate golang:2 --name web
  $ airlock activate golang:2 --name web --mount --size 20GiB
  $ airlock activate golang:3 --after k7f29qxm
  $ dev=$(airlock activate 9c1e4f0a77d2 --read-only)";
    /// `run`.
    RUN = "airlock-run(1)"
"  $ airlock run s3://images/golang/2.tar --name web
  $ dev=$(airlock run --quiet tar:./rootfs.tar)";
    /// `images`.
    IMAGES = "airlock-images(1)"
"  $ airlock images
  $ airlock images --wide --time utc
  $ airlock images --status unpacked --older-than 30d --sort size";
    /// `snapshots`.
    SNAPSHOTS = "airlock-snapshots(1)"
"  $ airlock snapshots
  $ airlock snapshots --source s3://images/ --sort age
  $ airlock snapshots --output json | jq -r .items[].device";
    /// `inspect`.
    INSPECT = "airlock-inspect(1)"
"  $ airlock inspect golang:2 web
  $ airlock inspect --quiet golang:2";
    /// `deactivate`.
    DEACTIVATE = "airlock-deactivate(1)"
"  $ airlock deactivate web
  $ airlock deactivate --if-exists ci-4471 ci-4472";
    /// `rm`.
    RM = "airlock-rm(1)"
"  $ airlock rm golang:1
  $ airlock rm --if-exists 9c1e4f0a77d2";
    /// `verify`.
    VERIFY = "airlock-verify(1)"
"  $ airlock verify golang:2
  $ airlock verify --all --output json";
    /// `pool` and what is beneath it.
    POOL = "airlock-pool(1)"
"  $ airlock pool setup
  $ airlock pool extend --data 20GiB
  $ airlock pool status --output json";
    /// `runs` and what is beneath it.
    RUNS = "airlock-runs(1)"
"  $ airlock runs --all
  $ airlock runs --status failed --source s3://images/golang/
  $ airlock runs show k7f29qxm --timing
  $ airlock runs watch k7f29qxm --timeout 10m
  $ airlock runs machines";
    /// `retry`.
    RETRY = "airlock-retry(1)"
"  $ airlock retry k7f29qxm
  $ airlock runs --status failed --quiet | xargs airlock retry";
    /// `cancel`.
    CANCEL = "airlock-cancel(1)"
"  $ airlock cancel k7f29qxm
  $ airlock cancel k7f29qxm h2d8vv0c";
    /// `doctor`.
    DOCTOR = "airlock-doctor(1)"
"  $ airlock doctor
  $ airlock doctor --preflight --output json
  $ airlock doctor --fix --dry-run";
    /// `db` and what is beneath it.
    DB = "airlock-db(8)"
"  $ airlock db backup /srv/backup/airlock.sqlite
  $ airlock db check
  $ airlock db restore /srv/backup/airlock.sqlite";
    /// `daemon`.
    DAEMON = "airlock-daemon(8)"
"  $ airlock daemon
  $ airlock daemon --config /etc/airlock/daemon.toml";
    /// `version`.
    VERSION = "airlock-version(1)"
"  $ airlock version
  $ airlock version --output json";
    /// `completions`.
    COMPLETIONS = "airlock-completions(1)"
"  $ airlock completions bash > /usr/share/bash-completion/completions/airlock
  $ airlock completions fish > ~/.config/fish/completions/airlock.fish";
}
