//! Downloads from a real S3 server, with a proxy in between where something has to go wrong.

#[cfg(test)]
#[path = "s3/proxy.rs"]
mod proxy;
#[cfg(test)]
#[path = "s3/server.rs"]
mod server;
#[cfg(test)]
#[path = "s3/stage.rs"]
mod stage;
#[cfg(test)]
#[path = "s3/tests.rs"]
mod tests;
#[cfg(test)]
#[path = "s3/tls.rs"]
mod tls;
#[cfg(test)]
#[path = "s3/trouble.rs"]
mod trouble;
