//! Prints a tree as text: `tree-list FOLDER`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        return ExitCode::from(2);
    };
    let printed = airlock_tests::tree::list(Path::new(&folder))
        .and_then(|text| std::io::stdout().write_all(text.as_bytes()));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "tree-list: {}: {error}", folder.display()));
            ExitCode::FAILURE
        }
    }
}
