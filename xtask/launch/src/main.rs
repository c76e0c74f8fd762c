//! What `cargo xtask` runs: starts the runner, and has cargo build it first when it is not there or
//! its sources have changed since.
//!
//! `cargo run --package xtask` would do the same, and look through the eighty packages that the
//! runner is made of before every verdict; this package has none. It knows the runner by the list
//! of sources that cargo leaves beside a binary, and whenever it is in doubt, it asks cargo.

mod freshness;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use freshness::Stamp;

/// The package of the runner, and its binary.
const RUNNER: &str = "xtask";
/// What cargo itself exits with when it could not build.
const FAILED: u8 = 101;

fn main() -> ExitCode {
    match launch() {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::from(FAILED)
        }
    }
}

fn launch() -> Result<ExitCode, String> {
    let root = root()?;
    let folder = env::current_exe()
        .map_err(|error| format!("could not find the folder of the runner: {error}"))?
        .parent()
        .map(Path::to_owned)
        .ok_or("could not find the folder of the runner")?;
    let runner = folder.join(format!("{RUNNER}{}", env::consts::EXE_SUFFIX));
    let stamp = Stamp::of(&root, &runner);
    if !stamp.is_fresh() {
        eprintln!(
            "building the runner{}",
            if runner.is_file() {
                ", whose sources may have changed"
            } else {
                "; the first time takes longest"
            }
        );
        let begun = stamp.begin();
        let status = cargo()
            .current_dir(&root)
            .args(["build", "--quiet", "--package", RUNNER])
            .status()
            .map_err(|error| format!("could not start cargo: {error}"))?;
        if !status.success() {
            // Cargo has said why.
            return Ok(ExitCode::from(FAILED));
        }
        begun.keep();
    }
    start(Command::new(&runner).args(env::args_os().skip(1)))
        .map_err(|error| format!("could not start {}: {error}", runner.display()))
}

/// The folder of the workspace: `cargo run` tells where this package is.
fn root() -> Result<PathBuf, String> {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .ok_or("this program is started by cargo: run `cargo xtask`")?;
    let root = package.ancestors().nth(2).map(Path::to_owned);
    root.ok_or_else(|| format!("there is no workspace around {}", package.display()))
}

/// Cargo, as this process was started by it. What `cargo run` says about this package is not about
/// the runner.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Becomes the runner, so that signals and the exit status are its own.
#[cfg(unix)]
fn start(runner: &mut Command) -> std::io::Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    Err(runner.exec())
}

#[cfg(not(unix))]
fn start(runner: &mut Command) -> std::io::Result<ExitCode> {
    let status = runner.status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
