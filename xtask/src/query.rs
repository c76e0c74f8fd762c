//! `query`: asks a dump of metrics in PromQL, without a server.
//!
//! The evaluator is a program of its own, which cargo builds when it is first asked for: linked
//! into the runner it would make every other verb wait for its parser to build.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::build;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// --metrics FILE [--time T | --start T --end T --step D] EXPR; --help shows all
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn query(options: &Options) -> Result<ExitCode> {
    let status = build::cargo()
        .args(["run", "--quiet", "--package", "promql", "--", "query"])
        .args(&options.arguments)
        .status()
        .context("could not start cargo, which should be on the PATH")?;
    Ok(
        match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(code) => ExitCode::from(code),
            None => ExitCode::FAILURE,
        },
    )
}
