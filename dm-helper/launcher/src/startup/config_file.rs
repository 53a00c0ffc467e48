//! Root's configuration, from a file that nobody else can have written (PROC-7).

use std::os::fd::OwnedFd;
use std::path::Path;

use airlock_policy::helper_config::{HelperConfig, InvalidConfig};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::file::{self, Untrusted};

/// The longest configuration, in bytes.
const MOST: u64 = 64 << 10;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoConfig {
    #[error("{path} cannot be opened")]
    Open { path: String, source: Errno },
    #[error("{path} cannot be trusted")]
    Untrusted { path: String, source: Untrusted },
    #[error("the file cannot be read")]
    Read(#[from] std::io::Error),
    #[error("the file is not text")]
    NotText(#[from] std::string::FromUtf8Error),
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
}

/// The open file: what the launcher reads is what the broker will read.
#[derive(Debug)]
pub(crate) struct ConfigFile(OwnedFd);

/// Opens the file. It and its folder must be root's, and not writable by anybody else.
pub(crate) fn open(path: &Path) -> Result<ConfigFile, NoConfig> {
    let open = |path: &Path, source| NoConfig::Open { path: path.display().to_string(), source };
    let trust =
        |path: &Path, source| NoConfig::Untrusted { path: path.display().to_string(), source };
    let folder_path = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| open(path, Errno::ISDIR))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder =
        rustix::fs::open(folder_path, flags, Mode::empty()).map_err(|e| open(folder_path, e))?;
    let stat = rustix::fs::fstat(&folder).map_err(|e| open(folder_path, e))?;
    file::check(&stat, FileType::Directory, file::WRITE).map_err(|e| trust(folder_path, e))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let config =
        rustix::fs::openat(&folder, name, flags, Mode::empty()).map_err(|e| open(path, e))?;
    let stat = rustix::fs::fstat(&config).map_err(|e| open(path, e))?;
    file::check(&stat, FileType::RegularFile, file::WRITE).map_err(|e| trust(path, e))?;
    Ok(ConfigFile(config))
}

impl ConfigFile {
    /// Reads the file, and goes back to its beginning for the broker, which shares the position.
    pub(crate) fn parse(&self) -> Result<HelperConfig, NoConfig> {
        let text = file::read(self.0.try_clone()?, MOST)?;
        rustix::fs::seek(&self.0, SeekFrom::Start(0)).map_err(std::io::Error::from)?;
        Ok(HelperConfig::parse(&String::from_utf8(text)?)?)
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// A folder of root's, removed at the end.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_file_that_somebody_else_could_have_written_is_refused() {
        assert!(rustix::process::geteuid().is_root(), "this test makes files of other users");
        let folder = Folder::new("airlock-config");
        let path = folder.0.join("c.toml");
        fs::write(&path, "controller_user = \"nobody\"").unwrap();
        assert_eq!(open(&path).unwrap().parse().unwrap().controller_user, "nobody");
        for (name, mode) in [("c.toml", 0o664), ("c.toml", 0o646), ("", 0o777)] {
            folder.mode(name, mode);
            assert!(matches!(open(&path), Err(NoConfig::Untrusted { .. })), "{name} {mode:o}");
            folder.mode(name, 0o755);
        }
        std::os::unix::fs::chown(&path, Some(1), None).unwrap();
        assert!(matches!(open(&path), Err(NoConfig::Untrusted { .. })));
        let link = folder.0.join("link.toml");
        symlink("c.toml", &link).unwrap();
        assert!(matches!(open(&link), Err(NoConfig::Open { source: Errno::LOOP, .. })));
    }

    #[test]
    fn the_broker_reads_from_the_beginning() {
        assert!(rustix::process::geteuid().is_root(), "the file must be root's");
        let folder = Folder::new("airlock-rewound");
        let path = folder.0.join("c.toml");
        fs::write(&path, "state = \"/s\"").unwrap();
        let config = open(&path).unwrap();
        config.parse().unwrap();
        assert_eq!(config.parse().unwrap().state, Path::new("/s"));
    }
}
