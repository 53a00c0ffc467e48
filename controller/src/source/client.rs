//! Builds the S3 client: credentials, endpoint, TLS, proxy, time-outs (DAEMON-5).

use std::io;
use std::path::Path;

use airlock_policy::source::Place;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::{BehaviorVersion, ConfigLoader, Region};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    ResponseChecksumValidation, RuntimeComponents, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::SourceFault;
use crate::config::S3Config;

/// Log targets of the libraries below, which must stay at `warn`: more than that shows headers of
/// signed requests.
pub const NOISY_COMPONENTS: [&str; 9] = [
    "aws_config",
    "aws_credential_types",
    "aws_runtime",
    "aws_sdk_s3",
    "aws_sigv4",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "aws_smithy_runtime_api",
    "hyper_util",
];

const FALLBACK_REGION: &str = "us-east-1";

/// Builds the client. Looks for the region now, for credentials at the first request.
pub(super) async fn connect(s3: &S3Config, place: &Place) -> Result<Client, SourceFault> {
    let trust = match &s3.ca_file {
        None => TrustStore::default(),
        Some(path) => TrustStore::empty().with_pem_certificate(authorities(path, place)?),
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region(s3))
        // Tokens and instance credentials come from elsewhere: there the system's trust counts.
        .http_client(https(TrustStore::default(), place)?);
    if let Some(profile) = &s3.profile {
        loader = loader.profile_name(profile);
    }
    let shared = credentials(loader, s3).load().await;
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(s3.connect_timeout.duration())
        .read_timeout(s3.stall_timeout.duration())
        .build();
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .http_client(https(trust, place)?)
        .timeout_config(timeouts)
        .force_path_style(s3.uses_path_style())
        // Tries are counted in one place, `Backoff`; here they would multiply.
        .retry_config(RetryConfig::disabled())
        // A stall is noticed in `Body`, with the configured length.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // A checksum of the whole object says nothing about a range.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(endpoint) = &s3.endpoint {
        config = config.endpoint_url(endpoint);
    }
    if s3.anonymous {
        config = config.allow_no_auth();
    }
    Ok(Client::from_conf(config.build()))
}

fn credentials(loader: ConfigLoader, s3: &S3Config) -> ConfigLoader {
    if s3.anonymous {
        return loader.no_credentials();
    }
    let Some(path) = &s3.credentials_file else { return loader };
    let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
    let mut provider = ProfileFileCredentialsProvider::builder().profile_files(files);
    if let Some(profile) = &s3.profile {
        provider = provider.profile_name(profile);
    }
    loader.credentials_provider(provider.build())
}

fn region(s3: &S3Config) -> RegionProviderChain {
    let configured = RegionProviderChain::first_try(s3.region.clone().map(Region::new));
    let chain = if s3.endpoint.is_none() {
        configured.or_default_provider()
    } else {
        // Away from AWS there is no instance metadata: asking for it costs seconds.
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &s3.profile {
            profile = profile.profile_name(name);
        }
        configured.or_else(EnvironmentVariableRegionProvider::new()).or_else(profile.build())
    };
    chain.or_else(Region::from_static(FALLBACK_REGION))
}

fn https(trust: TrustStore, place: &Place) -> Result<SharedHttpClient, SourceFault> {
    let tls = TlsContext::builder().with_trust_store(trust).build().map_err(|e| {
        SourceFault::Setting { place: place.clone(), what: "TLS", source: io::Error::other(e) }
    })?;
    // The plain builder of an HTTPS client takes no proxy: only the one of connectors does.
    let client = aws_smithy_http_client::Builder::new();
    Ok(client.build_with_connector_fn(move |settings, runtime| {
        let mut connector = Connector::builder();
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(runtime.and_then(RuntimeComponents::sleep_impl));
        connector
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls.clone())
            .build()
    }))
}

/// Reads a file of PEM certificates. Each is tried here, because the HTTP client panics at a bad
/// one.
fn authorities(path: &Path, place: &Place) -> Result<Vec<u8>, SourceFault> {
    let fault = |source| SourceFault::Setting { place: place.clone(), what: "s3.ca_file", source };
    let pem = std::fs::read(path).map_err(fault)?;
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| fault(io::Error::other(e.to_string())))?;
        store.add(certificate).map_err(|e| fault(io::Error::other(e)))?;
    }
    if store.is_empty() {
        return Err(fault(io::Error::other("the file holds no PEM certificate")));
    }
    Ok(pem)
}
