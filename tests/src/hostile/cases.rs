//! The list: a file for each kind of attack.

mod format;
mod kinds;
mod limits;
mod links;
mod names;
mod whiteouts;
mod wrapped;

use super::Case;

/// Every case. `canary` is an absolute path of the host, without its leading slash; in it lie
/// `file` and `folder`, which the archives go for.
pub fn all(canary: &str) -> Vec<Case> {
    let mut cases = names::cases();
    cases.extend(kinds::cases());
    cases.extend(links::cases(canary));
    cases.extend(whiteouts::cases(canary));
    cases.extend(wrapped::cases(canary));
    cases.extend(format::cases());
    cases.extend(limits::cases());
    cases
}
