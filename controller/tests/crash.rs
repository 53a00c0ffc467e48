//! `kill -9` of the real daemon, again and again: what was begun is finished, once, and nothing is
//! left over. The helper is a double behind a real socket, and outlives the daemon as the real one
//! does.

#[cfg(test)]
#[path = "../src/testing/fake.rs"]
#[expect(dead_code, clippy::arithmetic_side_effects, reason = "shared with the crate's own tests")]
mod fake;
#[cfg(test)]
#[path = "../src/testing/image.rs"]
#[expect(dead_code, clippy::arithmetic_side_effects, reason = "shared with the crate's own tests")]
mod image;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use airlock_policy::source::Source;
    use airlock_protocol::control::{
        Activation, ControlClient, ImageState, ListImages, ListRuns, RunState, Submit, When, Work,
    };
    use airlock_protocol::reply::VolumeState;
    use airlock_protocol::wire::transport;
    use tarpc::context;
    use tokio::net::UnixStream;

    use super::fake::{FakeHelper, Pool};
    use super::image::rootfs;

    struct Daemon(Child);

    impl Drop for Daemon {
        fn drop(&mut self) {
            // SIGKILL: no handler, no destructor, nothing flushed.
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the test starts the daemon")]
    fn start(config: &Path) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_airlock"))
            .args(["daemon", "--config"])
            .arg(config)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Daemon(child)
    }

    async fn connect(socket: &Path) -> ControlClient {
        for _ in 0..1000 {
            if let Ok(stream) = UnixStream::connect(socket).await {
                return ControlClient::new(tarpc::client::Config::default(), transport(stream))
                    .spawn();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the daemon does not listen");
    }

    async fn submit(client: &ControlClient, source: &Source) {
        let request = "r1".to_owned().try_into().unwrap();
        let work = Work::Run { source: source.clone(), activation: Activation::default() };
        client
            .submit(context::current(), Submit { request, work, when: When::default() })
            .await
            .unwrap()
            .unwrap();
    }

    async fn all_done(client: &ControlClient, count: usize) -> bool {
        let ask = ListRuns { all: true, ..ListRuns::default() };
        let runs = client.runs(context::current(), ask).await.unwrap().unwrap().items;
        assert_eq!(runs.len(), count);
        for run in &runs {
            assert!(!matches!(run.state, RunState::Failed | RunState::Cancelled), "{run:#?}");
        }
        runs.iter().all(|run| run.state == RunState::Done)
    }

    async fn wait_for_all(client: &ControlClient, count: usize) {
        for _ in 0..1000 {
            if all_done(client, count).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the runs do not end");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_daemon_that_is_killed_again_and_again_finishes_what_it_began() {
        let dir: PathBuf =
            std::env::temp_dir().join(format!("airlock-crash-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = |name: &str| dir.join(name);
        let config = path("daemon.toml");
        let text = format!(
            "state_dir = {:?}\ncontrol_socket = {:?}\nhelper_socket = {:?}\n[limits]\ndisk_reserve = \"0 B\"\n",
            path("state"),
            path("control.sock"),
            path("dm.sock"),
        );
        std::fs::write(&config, text).unwrap();
        let helper = FakeHelper::new(Pool::Up);
        helper.state().polls = 8;
        let listening = helper.listen(&path("dm.sock"));
        let sources: Vec<Source> = (0..4)
            .map(|n| {
                let file = path(&format!("i{n}.tar"));
                std::fs::write(&file, rootfs(&n.to_string())).unwrap();
                format!("tar:{}", file.display()).parse().unwrap()
            })
            .collect();
        {
            let _daemon = start(&config);
            let client = connect(&path("control.sock")).await;
            for source in &sources {
                submit(&client, source).await;
            }
        }
        let mut killed_at_work = 1;
        for delay in [1, 7, 15, 30, 50, 80, 120, 170] {
            let _daemon = start(&config);
            let client = connect(&path("control.sock")).await;
            tokio::time::sleep(Duration::from_millis(delay)).await;
            killed_at_work += u32::from(!all_done(&client, 4).await);
        }
        assert!(killed_at_work >= 3, "the daemon was hardly ever killed at work");
        let _daemon = start(&config);
        let client = connect(&path("control.sock")).await;
        wait_for_all(&client, 4).await;
        {
            let state = helper.state();
            assert_eq!((state.volumes.len(), state.snapshots.len()), (4, 4));
            assert!(state.volumes.values().all(|volume| volume.state == VolumeState::Sealed));
        }
        assert_eq!(helper.asked("extractions"), 4, "nothing was extracted twice");
        let ask = ListImages::default();
        let images = client.images(context::current(), ask).await.unwrap().unwrap().items;
        assert_eq!(images.len(), 4);
        assert!(images.iter().all(|image| image.state == ImageState::Active));
        let blobs = std::fs::read_dir(path("state/blobs/sha256")).unwrap().count();
        let parts = std::fs::read_dir(path("state/blobs/partial")).unwrap().count();
        assert_eq!((blobs, parts), (4, 0));
        listening.abort();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
