//! `version`: who speaks which protocol.

use std::time::Duration;

use airlock_protocol::PROTOCOL;
use airlock_protocol::control::DaemonInfo;
use serde::Serialize;

use super::Session;
use crate::cli::client::Client;
use crate::cli::failure::{Exit, Failure};
use crate::cli::json::Document;

/// How long the daemon has to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Versions {
    client: Speaker,
    daemon: Option<Speaker>,
    helper: Option<Speaker>,
}

#[derive(Debug, Serialize)]
struct Speaker {
    version: String,
    protocol: u32,
}

/// `version`
pub(crate) async fn version(session: &Session) -> Result<Exit, Failure> {
    let Session { console, socket, limit } = session;
    let client = Speaker { version: env!("CARGO_PKG_VERSION").to_owned(), protocol: PROTOCOL };
    // Which daemon and which helper: only where they can be reached. That is no error.
    let limit = limit.unwrap_or(PATIENCE);
    let hello = Client::hello(socket, limit).await.map_err(Failure::from);
    if console.json {
        let (daemon, helper) = hello.map(speakers).unwrap_or_default();
        let versions = Versions { client, daemon, helper };
        console.document(&Document::new("airlock.version/1", versions))?;
        return Ok(Exit::OK);
    }
    let line = |name: &str, Speaker { version, protocol }| {
        let version = console.out.text(&version);
        format!("{name:8}  {version}, protocol {protocol}\n")
    };
    let absent =
        |name: &str, why: &str| format!("{name:8}  not reached{}\n", console.out.text(why));
    let mut lines = vec![line("command", client)];
    match hello.map(speakers) {
        Ok((daemon, helper)) => {
            lines.extend(daemon.map(|daemon| line("daemon", daemon)));
            lines
                .push(helper.map_or_else(|| absent("helper", ""), |helper| line("helper", helper)));
        }
        Err(failure) => lines.push(absent("daemon", &format!(": {}", failure.fault.message))),
    }
    console.result(&lines.concat())?;
    Ok(Exit::OK)
}

fn speakers(info: DaemonInfo) -> (Option<Speaker>, Option<Speaker>) {
    let helper = info
        .helper_version
        .zip(info.helper_protocol)
        .map(|(version, protocol)| Speaker { version, protocol });
    (Some(Speaker { version: info.version, protocol: info.protocol }), helper)
}
