//! Tells udev whose the nodes of airlock's devices are: its own default would undo what the
//! configuration says.

use airlock_policy::helper_config::NodeConfig;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// udev reads it at the next event that comes 3 s or more after the last look. It comes before no
/// rule of the system's that sets a group, but 50-udev-default.rules.
const RULES: &str = "/run/udev/rules.d/51-airlock-node.rules";
const UNFINISHED: &str = "/run/udev/rules.d/.51-airlock-node.new";

/// Writes the rules. Where no udev runs, nodes stay as the launcher leaves them.
pub(super) fn write(node: &NodeConfig, group: u32) -> Result<(), Errno> {
    if rustix::fs::access("/run/udev", rustix::fs::Access::EXISTS).is_err() {
        return Ok(());
    }
    match rustix::fs::mkdir("/run/udev/rules.d", Mode::from_raw_mode(0o755)) {
        Ok(()) => rustix::fs::chmod("/run/udev/rules.d", Mode::from_raw_mode(0o755))?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(UNFINISHED, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::io::write(&file, rules(node, group).as_bytes())?;
    rustix::fs::rename(UNFINISHED, RULES)
}

/// A device that is not handed out is root's alone: a layer is extracted into it, or it is mounted.
fn rules(node: &NodeConfig, group: u32) -> String {
    let match_of = |uuid: &str| format!("SUBSYSTEM==\"block\", ATTR{{dm/uuid}}==\"{uuid}\"");
    format!(
        "# Written by airlock-dm-helper at its start, from [node] in dm-helper.toml.\n\
         {}, OWNER=\"root\", GROUP=\"root\", MODE=\"0600\"\n\
         {}, OWNER=\"root\", GROUP=\"{group}\", MODE=\"{}\"\n",
        match_of("AIRLOCK-*"),
        match_of("AIRLOCK-OUT-*"),
        node.mode,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_handed_out_is_somebody_elses() {
        let node = NodeConfig { group: "x".to_owned(), mode: "0640".to_owned() };
        let text = rules(&node, 77);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert!(lines[0].contains("==\"AIRLOCK-*\"") && lines[0].ends_with("MODE=\"0600\""));
        assert!(lines[1].contains("==\"AIRLOCK-OUT-*\""));
        assert!(lines[1].ends_with("GROUP=\"77\", MODE=\"0640\""), "{text}");
    }
}
