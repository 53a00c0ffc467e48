//! The only place where the command reads its environment.

use std::path::PathBuf;

/// What the environment says. There is nothing in it for the output's format: a script must not
/// change its meaning by its caller.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `AIRLOCK_SOCKET`.
    pub(crate) socket: Option<PathBuf>,
    /// `AIRLOCK_PROGRESS`.
    pub(crate) progress: Option<String>,
    /// `AIRLOCK_ASCII`, or a locale or terminal that shows nothing else.
    pub(crate) ascii: bool,
    /// What `NO_COLOR`, else `CLICOLOR_FORCE`, decide.
    pub(crate) color: Option<bool>,
    /// Whether `TERM` is one that obeys no escape sequences.
    pub(crate) dumb: bool,
    /// `COLUMNS`.
    pub(crate) columns: Option<usize>,
}

impl Environment {
    /// Reads it.
    pub(crate) fn read() -> Self {
        Self::from(variable)
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).is_some_and(|value| !value.is_empty());
        let term = variable("TERM").unwrap_or_default();
        // The first of these that is set and not empty decides (POSIX, Environment Variables 8.2).
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| variable(name).filter(|value| !value.is_empty()))
            .unwrap_or_default()
            .to_lowercase();
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        let force = variable("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0");
        Self {
            socket: variable("AIRLOCK_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from),
            progress: variable("AIRLOCK_PROGRESS").filter(|kind| !kind.is_empty()),
            ascii: set("AIRLOCK_ASCII") || !utf8 || matches!(term.as_str(), "dumb" | "linux"),
            color: if set("NO_COLOR") { Some(false) } else { force.then_some(true) },
            dumb: matches!(term.as_str(), "" | "dumb"),
            columns: variable("COLUMNS").and_then(|n| n.parse().ok()).filter(|n| *n > 0),
        }
    }
}

/// The folders of `PATH`.
pub(crate) fn search_path() -> Vec<PathBuf> {
    std::env::split_paths(&variable("PATH").unwrap_or_default()).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "these variables are the terminal's and the operator's own; no setting of the daemon or the helper comes from here"
)]
fn variable(name: &str) -> Option<String> {
    // One that is not UTF-8 is as good as none: nothing that is read here has such a value.
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::from(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn signs_are_ascii_unless_the_locale_and_the_terminal_show_more() {
        for (variables, ascii) in [
            (&[("LANG", "C.UTF-8"), ("TERM", "xterm")][..], false),
            (&[("LC_ALL", "de_DE.utf8"), ("LANG", "C"), ("TERM", "xterm")], false),
            (&[("LC_ALL", "C"), ("LANG", "C.UTF-8"), ("TERM", "xterm")], true),
            (&[("LC_ALL", ""), ("LANG", "C.UTF-8"), ("TERM", "xterm")], false),
            (&[("LANG", "C.UTF-8"), ("TERM", "linux")], true),
            (&[("LANG", "C.UTF-8"), ("TERM", "dumb")], true),
            (&[("LANG", "C.UTF-8"), ("TERM", "xterm"), ("AIRLOCK_ASCII", "1")], true),
            (&[], true),
        ] {
            assert_eq!(read(variables).ascii, ascii, "{variables:?}");
        }
    }

    #[test]
    fn an_empty_variable_is_none() {
        let empty = read(&[("NO_COLOR", ""), ("AIRLOCK_SOCKET", ""), ("COLUMNS", "0")]);
        assert!(empty.color.is_none() && empty.socket.is_none() && empty.columns.is_none());
        assert_eq!(read(&[("NO_COLOR", "0"), ("CLICOLOR_FORCE", "1")]).color, Some(false));
        assert_eq!(read(&[("CLICOLOR_FORCE", "1")]).color, Some(true));
        assert_eq!(read(&[("CLICOLOR_FORCE", "0")]).color, None);
    }
}
