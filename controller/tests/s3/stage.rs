//! What every test needs: a bucket and a blob folder of its own, and the way between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use airlock::blob::{BlobStore, Fetched, Progress, Wanted};
use airlock::config::Config;
use airlock::source::{ObjectInfo, SourceFault, Sources};
use airlock_policy::digest::Digest;
use airlock_policy::size::ByteSize;
use airlock_policy::source::Place;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use tokio_util::sync::CancellationToken;

use crate::proxy::{Proxy, Trouble};
use crate::server::server;
use crate::tls::Tls;

pub(crate) const MIB: usize = 1 << 20;

const FOLDER: &str = "AIRLOCK_TEST_FOLDER";
const BUCKET: &str = "AIRLOCK_TEST_BUCKET";
const ENDPOINT: &str = "AIRLOCK_TEST_ENDPOINT";

/// Bytes that do not repeat within a part, the same in every run.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length.saturating_add(8));
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A test's own bucket and blob folder.
pub(crate) struct Stage {
    pub(crate) bucket: String,
    pub(crate) folder: PathBuf,
    pub(crate) config: Config,
    pub(crate) store: BlobStore,
    pub(crate) sources: Sources,
    pub(crate) progress: Arc<Progress>,
    pub(crate) cancel: CancellationToken,
    is_ours: bool,
}

impl Stage {
    pub(crate) async fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("airlock-s3-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        let mut stage =
            Self::at(folder, format!("{name}-{}", std::process::id()), &server().endpoint);
        stage.credentials(&server().secret_key);
        admin().create_bucket().bucket(&stage.bucket).send().await.unwrap();
        stage.is_ours = true;
        stage
    }

    /// The stage of the test that started this process, if one did.
    pub(crate) fn of_parent() -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os(FOLDER)?);
        let text = |name: &str| std::env::var_os(name).unwrap().into_string().unwrap();
        Some(Self::at(folder, text(BUCKET), &text(ENDPOINT)))
    }

    fn at(folder: PathBuf, bucket: String, endpoint: &str) -> Self {
        let mut config = Config { blobs_dir: Some(folder.clone()), ..Config::default() };
        config.s3.endpoint = Some(endpoint.to_owned());
        config.s3.credentials_file = Some(folder.join("credentials"));
        config.s3.part_size = ByteSize::mib(1);
        config.limits.disk_reserve = ByteSize(0);
        Self {
            store: BlobStore::open(&config).unwrap(),
            sources: Sources::new(&config),
            progress: Arc::default(),
            cancel: CancellationToken::new(),
            is_ours: false,
            bucket,
            folder,
            config,
        }
    }

    /// This test once more, as a process of its own on this stage.
    pub(crate) fn child(&self, test: &str) -> Command {
        #[expect(clippy::disallowed_methods, reason = "a test starts itself")]
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]);
        command.env(FOLDER, &self.folder).env(BUCKET, &self.bucket);
        command.env(ENDPOINT, self.config.s3.endpoint.as_ref().unwrap());
        command
    }

    /// Takes the configuration as it is now.
    pub(crate) fn apply(&mut self) {
        self.store = BlobStore::open(&self.config).unwrap();
        self.sources = Sources::new(&self.config);
        self.progress = Arc::default();
        self.cancel = CancellationToken::new();
    }

    /// Goes through a proxy from now on.
    pub(crate) async fn through(&mut self, trouble: Trouble) -> Proxy {
        let proxy = Proxy::start(&server().endpoint, trouble).await;
        self.config.s3.endpoint = Some(proxy.endpoint.clone());
        self.apply();
        proxy
    }

    /// Goes through TLS from now on.
    pub(crate) async fn through_tls(&mut self) -> Tls {
        let tls = Tls::start(&server().endpoint, &self.folder).await;
        self.config.s3.endpoint = Some(tls.endpoint.clone());
        tls
    }

    pub(crate) fn credentials(&self, secret: &str) {
        let id = &server().access_key;
        let text =
            format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        fs::write(self.folder.join("credentials"), text).unwrap();
    }

    pub(crate) fn place(&self, key: &str) -> Place {
        format!("s3://{}/{key}", self.bucket).parse().unwrap()
    }

    pub(crate) async fn put(&self, key: &str, bytes: &[u8]) {
        let body = bytes.to_vec().into();
        admin().put_object().bucket(&self.bucket).key(key).body(body).send().await.unwrap();
    }

    pub(crate) async fn head(&self, key: &str) -> Result<ObjectInfo, SourceFault> {
        self.sources.head(&self.place(key), &self.cancel).await
    }

    pub(crate) async fn fetch(&self, key: &str) -> Result<Fetched, SourceFault> {
        let info = self.head(key).await?;
        self.fetch_as(key, &info, None).await
    }

    pub(crate) async fn fetch_as(
        &self,
        key: &str,
        info: &ObjectInfo,
        pin: Option<Digest>,
    ) -> Result<Fetched, SourceFault> {
        let place = self.place(key);
        let wanted = Wanted { place: &place, info, pin };
        self.store.fetch(&self.sources, wanted, &self.progress, &self.cancel).await
    }

    /// The same, without touching the progress of the other.
    pub(crate) async fn fetch_quietly(
        &self,
        key: &str,
        info: &ObjectInfo,
    ) -> Result<Fetched, SourceFault> {
        let place = self.place(key);
        let wanted = Wanted { place: &place, info, pin: None };
        self.store.fetch(&self.sources, wanted, &Arc::default(), &self.cancel).await
    }

    /// Files of unfinished downloads.
    pub(crate) fn partials(&self) -> usize {
        count(&self.folder.join("partial"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.is_ours {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// A client that shares no code with airlock's own.
fn admin() -> aws_sdk_s3::Client {
    let server = server();
    let keys = Credentials::new(&server.access_key, &server.secret_key, None, None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(&server.endpoint)
        .credentials_provider(keys)
        .force_path_style(true)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}
