//! How a failed fetch is told to a command: causes, facts, what to do next.

use airlock_protocol::control::Fault;

use super::SourceFault;
use crate::source::Reply;

impl SourceFault {
    /// The error as a command shows it.
    pub fn fault(&self) -> Fault {
        Fault {
            code: self.code().to_owned(),
            class: self.class(),
            message: self.to_string(),
            cause: self.causes(),
            facts: self.facts(),
            remedy: self.remedies().into_iter().map(str::to_owned).collect(),
        }
    }

    /// What the server said, if it said anything.
    fn reply(&self) -> Option<&Reply> {
        if let Self::GaveUp { last, .. } = self {
            return last.reply();
        }
        if let Self::NotFound { reply, .. }
        | Self::Bucket { reply, .. }
        | Self::Denied { reply, .. }
        | Self::Region { reply, .. }
        | Self::Server { reply, .. }
        | Self::Answer { reply, .. } = self
        {
            return Some(reply);
        }
        None
    }

    fn causes(&self) -> Vec<String> {
        if let Self::GaveUp { last, .. } = self {
            return last.causes();
        }
        if let Self::Credentials { why, .. }
        | Self::Unreachable { why, .. }
        | Self::Request { why, .. }
        | Self::Cut { why, .. } = self
        {
            return why.clone();
        }
        if let Self::Disk { source, .. }
        | Self::File { source, .. }
        | Self::Setting { source, .. } = self
        {
            return vec![source.to_string()];
        }
        if let Self::NotS3 { what, .. } = self {
            return vec![(*what).to_owned()];
        }
        self.reply().map(Reply::to_string).into_iter().collect()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let fact = |label: &str, text: String| (label.to_owned(), text);
        if let Self::Digest { pinned, found, .. } = self {
            return vec![fact("pinned", pinned.to_string()), fact("found", found.to_string())];
        }
        if let Self::DiskFull { needed, free, reserve, .. } = self {
            return vec![
                fact("needed", needed.to_string()),
                fact("free", free.to_string()),
                fact("reserve", reserve.to_string()),
            ];
        }
        let mut facts = Vec::new();
        if let Some(reply) = self.reply() {
            facts.extend(reply.request_id.clone().map(|id| fact("s3 request", id)));
            facts.extend(reply.region.clone().map(|region| fact("region", region)));
        }
        facts
    }

    fn remedies(&self) -> Vec<&'static str> {
        match self {
            Self::NotFound { .. } | Self::Bucket { .. } => {
                vec!["check bucket and key; both are case-sensitive"]
            }
            Self::Denied { reply, .. } => match reply.code.as_deref() {
                Some("RequestTimeTooSkewed") => vec!["set this machine's clock: timedatectl"],
                Some("SignatureDoesNotMatch" | "InvalidAccessKeyId") => {
                    vec!["check the access key and secret of the daemon"]
                }
                Some("ExpiredToken" | "InvalidToken") => vec!["renew the daemon's session token"],
                _ => vec![
                    "allow s3:GetObject on the object",
                    "S3 answers so for a missing key too, unless s3:ListBucket is allowed",
                ],
            },
            Self::Credentials { .. } => vec![
                "set s3.credentials_file or s3.profile in /etc/airlock/daemon.toml, or give the daemon AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                "for a public bucket set s3.anonymous = true",
            ],
            Self::Region { .. } => vec!["set s3.region in /etc/airlock/daemon.toml"],
            Self::Unreachable { why, .. } => {
                if why.iter().any(|reason| reason.contains("certificate")) {
                    vec!["for a private authority set s3.ca_file in /etc/airlock/daemon.toml"]
                } else {
                    vec!["check s3.endpoint and s3.path_style, the network and the proxy"]
                }
            }
            Self::Server { .. } | Self::Cut { .. } | Self::Stalled { .. } => {
                vec!["try again later, or lower s3.concurrency; what was fetched is kept"]
            }
            Self::GaveUp { last, .. } => last.remedies(),
            Self::Changed { .. } => {
                vec!["pull again; a pin (@sha256:…) holds a source to one content"]
            }
            Self::TooLarge { .. } => vec!["raise limits.object_size in /etc/airlock/daemon.toml"],
            Self::Digest { .. } => {
                vec!["find out who changed the object before trusting its new digest"]
            }
            Self::DiskFull { .. } => {
                vec!["airlock rm IMAGE", "free space, or lower limits.disk_reserve"]
            }
            Self::File { .. } => vec!["the daemon's own user must be able to read the file"],
            Self::Setting { .. } => {
                vec!["mend the setting in /etc/airlock/daemon.toml, then systemctl restart airlock"]
            }
            Self::Answer { .. }
            | Self::Request { .. }
            | Self::NotS3 { .. }
            | Self::Disk { .. }
            | Self::Busy { .. }
            | Self::Cancelled => vec![],
        }
    }
}
