//! The real daemon and `airlock db` on one state directory: who holds it, and how copies of its
//! database come and go.
#![expect(
    clippy::disallowed_methods,
    reason = "the programs are started as an operator starts them"
)]

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Output, Stdio};
    use std::time::Duration;

    struct Host(PathBuf);

    impl Host {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("airlock-db-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            let path = |name: &str| dir.join(name);
            let text = format!(
                "state_dir = {:?}\ncontrol_socket = {:?}\nhelper_socket = {:?}\n",
                path("state"),
                path("control.sock"),
                path("dm.sock"),
            );
            std::fs::write(path("daemon.toml"), text).unwrap();
            Self(dir)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        fn airlock(&self, words: &[&str]) -> Command {
            let mut command = Command::new(env!("CARGO_BIN_EXE_airlock"));
            command.args(words).arg("--config").arg(self.path("daemon.toml"));
            command
        }

        fn db(&self, words: &[&str]) -> Output {
            self.airlock(&[&["db"], words].concat()).output().unwrap()
        }

        fn daemon(&self) -> Daemon {
            drop(std::fs::remove_file(self.path("control.sock")));
            let started = self.airlock(&["daemon"]).stderr(Stdio::null()).spawn();
            let daemon = Daemon(started.unwrap());
            for _ in 0..1000 {
                if self.path("control.sock").exists() {
                    return daemon;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            panic!("the daemon does not listen");
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    struct Daemon(Child);

    impl Drop for Daemon {
        fn drop(&mut self) {
            // SIGKILL: no handler, no destructor.
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn err(output: &Output) -> String {
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }

    #[test]
    fn a_second_daemon_says_who_the_first_is_and_a_killed_one_leaves_nothing_to_remove() {
        let host = Host::new("second");
        let first = host.daemon();
        let second = host.airlock(&["daemon"]).output().unwrap();
        let told = err(&second);
        assert_eq!(second.status.code(), Some(6), "{told}");
        assert!(told.contains(&format!("pid      {}", first.0.id())), "{told}");
        assert!(told.contains("airlock daemon --config"), "{told}");
        assert!(told.contains("started  20"), "{told}");
        drop(first);
        // Straight after kill -9, with lock file, socket and journal still there.
        drop(host.daemon());
    }

    #[test]
    fn a_backup_is_made_beside_the_daemon_and_restored_without_it() {
        let host = Host::new("restore");
        let backup = host.path("copy.sqlite");
        let daemon = host.daemon();
        let made = host.db(&["backup", text(&backup)]);
        assert_eq!(made.status.code(), Some(0), "{}", err(&made));
        assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o007, 0);
        let again = host.db(&["backup", text(&backup)]);
        assert_eq!(
            again.status.code(),
            Some(6),
            "never over a file that is there: {}",
            err(&again)
        );
        for file in [&[][..], &[text(&backup)]] {
            let sound = host.db(&[&["check"], file].concat());
            assert_eq!(sound.status.code(), Some(0), "{}", err(&sound));
        }
        let held = host.db(&["restore", text(&backup)]);
        assert_eq!(held.status.code(), Some(6));
        let told = err(&held);
        assert!(told.contains(&format!("pid      {}", daemon.0.id())), "{told}");
        assert!(told.contains("systemctl stop airlock.socket airlock.service"), "{told}");
        drop(daemon);
        let restored = host.db(&["restore", text(&backup), "--output", "json"]);
        assert_eq!(restored.status.code(), Some(0), "{}", err(&restored));
        let json = String::from_utf8(restored.stdout).unwrap();
        assert!(
            json.contains("\"schema\":\"airlock.db/1\"") && json.contains("set-aside-"),
            "{json}"
        );
        drop(host.daemon());
    }

    #[test]
    fn what_is_no_sound_backup_is_not_restored() {
        let host = Host::new("unsound");
        drop(host.daemon());
        let noise = host.path("noise.sqlite");
        std::fs::write(&noise, [7_u8; 9000]).unwrap();
        let refused = host.db(&["restore", text(&noise)]);
        assert_eq!(refused.status.code(), Some(5), "{}", err(&refused));
        let absent = host.db(&["restore", "/nonexistent/x"]);
        assert_eq!(absent.status.code(), Some(4), "{}", err(&absent));
        let sound = host.db(&["check"]);
        assert_eq!(sound.status.code(), Some(0), "the database is as it was: {}", err(&sound));
    }

    #[test]
    fn a_damaged_database_ends_the_start_with_what_helps() {
        let host = Host::new("damaged");
        drop(host.daemon());
        let database = host.path("state/airlock.sqlite");
        std::fs::write(&database, [7_u8; 9000]).unwrap();
        drop(std::fs::remove_file(host.path("state/airlock.sqlite-wal")));
        let refused = host.airlock(&["daemon"]).output().unwrap();
        let told = err(&refused);
        assert_eq!(refused.status.code(), Some(5), "{told}");
        assert!(told.contains("airlock db set-aside"), "{told}");
        let aside = host.db(&["set-aside"]);
        assert_eq!(aside.status.code(), Some(0), "{}", err(&aside));
        drop(host.daemon());
    }
}
