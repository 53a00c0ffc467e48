//! Files and drop-ins as an operator writes them.

use std::fs;

use super::*;

/// A folder of this test alone, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("airlock-config-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(path.join("daemon.d")).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn load(&self) -> Result<Config, ConfigFault> {
        Config::load(Some(&self.0.join("daemon.toml")), &self.0.join("daemon.d"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn an_empty_file_is_the_default() {
    let folder = Folder::new("empty");
    folder.write("daemon.toml", "");
    assert_eq!(folder.load().unwrap(), Config::default());
    assert_eq!(Config::default().blobs_dir(), PathBuf::from("/var/lib/airlock/blobs"));
    assert_eq!(range::check(&Config::default()), Ok(()));
}

#[test]
fn drop_ins_lie_over_the_file_in_the_order_of_their_names() {
    let folder = Folder::new("order");
    folder.write("daemon.toml", "[s3]\nregion = \"a\"\nconcurrency = 2\n[queues]\ndownloads = 3\n");
    folder.write("daemon.d/20.toml", "[s3]\nregion = \"c\"\n");
    folder.write("daemon.d/10.toml", "[s3]\nregion = \"b\"\nstall_timeout = \"10 s\"\n");
    folder.write("daemon.d/30.toml~", "[s3]\nregion = \"no\"\n");
    folder.write("daemon.d/.40.toml", "[s3]\nregion = \"no\"\n");
    let config = folder.load().unwrap();
    assert_eq!(config.s3.region.as_deref(), Some("c"));
    assert_eq!((config.s3.concurrency, config.queues.downloads), (2, 3));
    assert_eq!(config.s3.stall_timeout, TimeSpan::seconds(10));
    let layers =
        Layers::read(Some(&folder.0.join("daemon.toml")), &folder.0.join("daemon.d")).unwrap();
    assert!(layers.origin("s3.region").to_string().ends_with("daemon.d/20.toml:2"));
    assert!(layers.origin("s3.concurrency").to_string().ends_with("daemon.toml:3"));
    assert_eq!(layers.origin("s3.attempts"), Origin::BuiltIn);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
    let folder = Folder::new("unknown");
    for (text, said) in [
        (
            "\n[s3]\nendpiont = \"https://x\"\n",
            ":3: there is no key \"s3.endpiont\"; did you mean \"s3.endpoint\"?",
        ),
        ("state_dri = \"/x\"\n", ":1: there is no key \"state_dri\"; did you mean \"state_dir\"?"),
        (
            "[s4]\nregion = \"x\"\n",
            ":2: there is no key \"s4.region\"; did you mean \"s3.region\"?",
        ),
        (
            "[attempts]\nextract_layer = 1\n",
            ":2: there is no key \"attempts.extract_layer\"; did you mean \"attempts.extract_layers\"?",
        ),
        ("[colours]\n", ":1: there is no key \"colours\""),
        ("s3.region.x = 1\n", ":1: invalid type: map, expected a string"),
    ] {
        folder.write("daemon.toml", text);
        let error = folder.load().unwrap_err().to_string();
        assert!(error.ends_with(said), "{error}");
    }
}

#[test]
fn a_value_of_the_wrong_type_or_outside_its_range_is_refused_with_its_line() {
    let folder = Folder::new("range");
    for (text, said) in [
        ("s3 = 5\n", ":1: invalid type"),
        ("[limits]\nobject_size = \"5G\"\n", ":2: \"5G\" is ambiguous"),
        ("[s3]\nstall_timeout = 30\n", ":2: invalid type"),
        ("[s3]\npart_size = \"1 B\"\n", ":2: s3.part_size must be 1 MiB to 1 GiB"),
        ("[attempts]\ndownload = 0\n", ":2: attempts.download must be 1 to 100"),
        ("[deadlines]\nregister = \"2 d\"\n", ":2: deadlines.register must be 1 s to 1 d"),
        ("[queues]\nactivate = 0\n", ":2: queues.activate must be 1 to 1024"),
        ("[backoff]\nlongest = \"50 ms\"\n", ":2: backoff.longest must be backoff.first to 1 h"),
        ("[s3]\nendpoint = \"https://user:secret@host\"\n", ":2: s3.endpoint must be"),
        ("state_dir = \"relative\"\n", ":1: state_dir must be an absolute path"),
        ("[s3\n", ":1: "),
    ] {
        folder.write("daemon.toml", text);
        let error = folder.load().unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(error.fault().class, ErrorClass::Usage);
    }
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let folder = Folder::new("missing");
    assert!(matches!(folder.load(), Err(ConfigFault::Read { .. })));
}

/// A section with the same value for every state of a run.
fn states(section: &str, value: &str) -> String {
    let states = "check_exists download validate store_metadata check_unpacked create_device \
                  extract_layers verify_layout update_db check_snapshot create_snapshot register";
    let lines = states.split_whitespace().map(|state| format!("{state} = {value}\n"));
    format!("[{section}]\n{}", lines.collect::<String>())
}

#[test]
fn every_key_can_be_written_and_says_its_default() {
    let written = [
        "state_dir = \"/a\"\nblobs_dir = \"/b\"\ncontrol_socket = \"/c\"\nhelper_socket = \"/d\"\n",
        "[s3]\nendpoint = \"http://h\"\nregion = \"r\"\npath_style = false\nanonymous = false\n",
        "profile = \"p\"\ncredentials_file = \"/e\"\nca_file = \"/f\"\nconcurrency = 1\n",
        "part_size = \"1 MiB\"\nconnect_timeout = \"1 s\"\nstall_timeout = \"1 s\"\nattempts = 1\n",
        "rate_limit = \"1 MiB\"\n[queues]\ndownloads = 1\nunpack = 1\nactivate = 1\n",
        &states("attempts", "7"),
        &states("deadlines", "\"7 s\""),
        "[backoff]\nfirst = \"1 s\"\nfactor = 3\nlongest = \"1 s\"\nlongest_s3 = \"1 s\"\n[limits]\n",
        "object_size = \"1 GiB\"\ndisk_reserve = \"0 B\"\nentries = 1\nfile_size = \"1 B\"\n",
        "total_size = \"1 B\"\nratio = 1\nsetuid = \"strip\"\n[backup]\nevery = \"1 h\"\nkeep = 1\n[history]\nage = \"1 d\"\nruns = 100\noutcomes = \"1 d\"\n[log]\nlevel = \"debug\"\n",
    ]
    .concat();
    let folder = Folder::new("all");
    folder.write("daemon.toml", &written);
    drop(folder.load().unwrap());
    let layers = Layers::read(Some(&folder.0.join("daemon.toml")), &folder.0).unwrap();
    for key in KEYS.into_iter().flatten() {
        assert_ne!(layers.origin(&key.dotted()), Origin::BuiltIn, "{}", key.dotted());
        assert!(key.doc.to_lowercase().contains("default"), "{}", key.dotted());
    }
}

/// The file that packages install: every key with its meaning, commented out at its default.
fn shipped() -> String {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let mut lines = vec![
        "# What may be decided about airlock's daemon: every key, commented out at its default.".to_owned(),
        "# Files in daemon.d/ lie over this one, in the order of their names. A key that is not known".to_owned(),
        "# is refused. A change needs: systemctl restart airlock".to_owned(),
    ];
    for section in KEYS {
        let name = section[0].section;
        if !name.is_empty() {
            lines.push(format!("\n[{name}]"));
        }
        for Key { name: key, doc, .. } in section {
            let within = if name.is_empty() { &defaults } else { &defaults[name] };
            if name.is_empty() {
                lines.push(String::new());
            }
            lines.extend(doc.trim_end().lines().map(|line| format!("#{line}")));
            let value = Some(&within[key]).filter(|value| !value.is_null());
            lines.push(value.map_or(format!("# {key} ="), |value| format!("# {key} = {value}")));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

#[test]
fn the_shipped_file_has_every_key_at_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/config/daemon.toml");
    if std::env::var_os("AIRLOCK_BLESS").is_some() {
        fs::write(path, shipped()).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), shipped(), "AIRLOCK_BLESS=1 writes it anew");
    let folder = Folder::new("shipped");
    folder.write("daemon.toml", &shipped());
    assert_eq!(folder.load().unwrap(), Config::default());
    // Whatever has a default can be uncommented as it stands.
    let is_key = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let uncommented = |line| str::strip_prefix(line, "# ").filter(is_key).unwrap_or(line);
    let live: Vec<_> = shipped().lines().map(|line| uncommented(line).to_owned()).collect();
    assert!(live.iter().filter(|line| is_key(&line.as_str())).count() > 40, "{live:#?}");
    folder.write("daemon.toml", &live.join("\n"));
    assert_eq!(folder.load().unwrap(), Config::default());
}
