//! TLS before the S3 server, with a certificate of an authority made for the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A running TLS end; it ends with the runtime of its test.
pub(crate) struct Tls {
    pub(crate) endpoint: String,
    /// The certificate of the authority that the server's leads to.
    pub(crate) authority: PathBuf,
    /// One of another authority.
    pub(crate) stranger: PathBuf,
}

impl Tls {
    pub(crate) async fn start(upstream: &str, folder: &Path) -> Self {
        for name in ["authority", "stranger"] {
            openssl(
                folder,
                &format!(
                    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"
                ),
            );
        }
        fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        openssl(
            folder,
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=s3 -keyout s3.key -out s3.csr",
        );
        openssl(
            folder,
            "x509 -req -in s3.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out s3.pem",
        );
        let chain = vec![CertificateDer::from_pem_file(folder.join("s3.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(folder.join("s3.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, acceptor.clone(), upstream.clone()));
            }
        });
        let file = |name: &str| folder.join(name);
        Self { endpoint, authority: file("authority.pem"), stranger: file("stranger.pem") }
    }
}

async fn carry(client: TcpStream, acceptor: TlsAcceptor, upstream: String) {
    // A client that does not trust the certificate goes away here.
    let Ok(mut client) = acceptor.accept(client).await else { return };
    let mut server = TcpStream::connect(upstream).await.unwrap();
    drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
}

fn openssl(folder: &Path, line: &str) {
    #[expect(clippy::disallowed_methods, reason = "the test's own certificates")]
    let mut command = Command::new("openssl");
    command.args(line.split(' ')).current_dir(folder).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "openssl {line}");
}
