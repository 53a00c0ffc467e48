//! Users and groups by name, from `/etc/passwd` and `/etc/group` alone: no library that a network
//! service could answer through is asked.

use crate::file;

/// How much of a file is read. Larger ones are refused, not cut off.
const MOST: u64 = 16 << 20;

/// Ids from here on are the workers': the user namespace maps them.
const FIRST_WORKER_ID: u32 = 0x8000_0000;

/// A user of the system.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Nobody of that name, or nobody that can be meant.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAccount {
    #[error("{0} cannot be read")]
    Read(&'static str, #[source] std::io::Error),
    #[error("{file} has {count} lines for {name:?}")]
    NotOne { file: &'static str, name: String, count: usize },
    #[error("{file} has a malformed line for {name:?}")]
    Malformed { file: &'static str, name: String },
    #[error("{0:?} is root, or has an id of the workers'")]
    Reserved(String),
}

/// A user by name. Never root: whoever the helper serves is not trusted.
pub(super) fn user(name: &str) -> Result<User, NoAccount> {
    let file = "/etc/passwd";
    let text = file::read_system(file, MOST).map_err(|error| NoAccount::Read(file, error))?;
    user_in(&text, name)
}

/// A group's id by name.
pub(super) fn group(name: &str) -> Result<u32, NoAccount> {
    let file = "/etc/group";
    let text = file::read_system(file, MOST).map_err(|error| NoAccount::Read(file, error))?;
    let fields = only_line(&text, name, file)?;
    number(&fields, 2).ok_or(NoAccount::Malformed { file, name: name.to_owned() })
}

fn user_in(text: &[u8], name: &str) -> Result<User, NoAccount> {
    let file = "/etc/passwd";
    let fields = only_line(text, name, file)?;
    let user = number(&fields, 2).zip(number(&fields, 3)).map(|(uid, gid)| User { uid, gid });
    let user = user.ok_or_else(|| NoAccount::Malformed { file, name: name.to_owned() })?;
    if user.uid == 0 || user.uid >= FIRST_WORKER_ID {
        return Err(NoAccount::Reserved(name.to_owned()));
    }
    Ok(user)
}

/// The fields of the one line whose first is `name` (passwd(5), group(5)).
fn only_line<'t>(
    text: &'t [u8],
    name: &str,
    file: &'static str,
) -> Result<Vec<&'t [u8]>, NoAccount> {
    let lines = text.split(|byte| *byte == b'\n');
    let fields = lines.map(|line| line.split(|byte| *byte == b':').collect::<Vec<_>>());
    let mut found: Vec<_> = fields.filter(|f| f.first() == Some(&name.as_bytes())).collect();
    match (found.pop(), found.len()) {
        (Some(line), 0) => Ok(line),
        (line, others) => {
            let count = others.saturating_add(usize::from(line.is_some()));
            Err(NoAccount::NotOne { file, name: name.to_owned(), count })
        }
    }
}

fn number(fields: &[&[u8]], index: usize) -> Option<u32> {
    let digits = fields.get(index)?;
    let are_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| are_digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"root:x:0:0::/:/bin/sh\na:x:7:8:::\nb:x:+7:8\nc:x:7\nd:x:1:1\nd:x:2:2\n\
                          e:x:2147483648:1\n";

    #[test]
    fn one_well_formed_line_names_a_user() {
        assert_eq!(user_in(TEXT, "a").unwrap(), User { uid: 7, gid: 8 });
        assert!(matches!(user_in(TEXT, "nobody"), Err(NoAccount::NotOne { count: 0, .. })));
        assert!(matches!(user_in(TEXT, "d"), Err(NoAccount::NotOne { count: 2, .. })));
        for name in ["b", "c"] {
            assert!(matches!(user_in(TEXT, name), Err(NoAccount::Malformed { .. })), "{name}");
        }
        for name in ["root", "e"] {
            assert!(matches!(user_in(TEXT, name), Err(NoAccount::Reserved(_))), "{name}");
        }
    }
}
