//! `fixture`: a dump of another system, made from a seed, to practice on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use kit::seed::Seed;
use serde::Deserialize;

use crate::build;
use crate::catalog::{Catalog, Lab};
use crate::progress::FOLDER;
use crate::screen::{self, command};

#[derive(clap::Args)]
pub struct Options {
    /// The lab: 18.1.1, its name or a part of it
    lab: String,
    /// Which variant: equal seeds give equal bytes
    #[arg(long, default_value = "1")]
    seed: Seed,
    /// The folder to write to; one below .nightshift if left out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Say what the truth is, too
    #[arg(long)]
    truth: bool,
}

/// What `incident` prints.
#[derive(Deserialize)]
struct Variant {
    files: Vec<(String, String)>,
    truth: String,
}

/// A variant that was written to a folder.
pub struct Written {
    /// In the order of the dump.
    pub files: Vec<PathBuf>,
    pub truth: String,
}

/// Makes the variant of a lab and writes its files to `out`, or below `.nightshift`.
///
/// # Errors
/// When the lab has no variants, and when something cannot be written.
pub fn make(catalog: &Catalog, lab: &Lab, seed: Seed, out: Option<&Path>) -> Result<Written> {
    let output = build::cargo()
        .current_dir(&catalog.root)
        .args(["run", "--quiet", "--package", "incident", "--"])
        .args([lab.id().to_string(), seed.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("could not start cargo, which should be on the PATH")?;
    if !output.status.success() {
        bail!("could not make a variant of {}", lab.id());
    }
    let variant: Variant = serde_json::from_slice(&output.stdout)
        .context("could not read what the simulator wrote")?;
    let folder = out.map_or_else(
        || {
            let name = format!("{}-seed-{seed}", lab.slug);
            catalog.root.join(FOLDER).join("fixtures").join(name)
        },
        Path::to_owned,
    );
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let mut files = Vec::new();
    for (name, text) in &variant.files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        files.push(path);
    }
    Ok(Written {
        files,
        truth: variant.truth,
    })
}

pub fn fixture(options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    let lab = catalog.find(&options.lab)?;
    let written = make(&catalog, lab, options.seed, options.out.as_deref())?;
    for path in &written.files {
        println!("{}", lab.relative(path));
    }
    if options.truth {
        println!("\n{}", screen::indented(&written.truth, 2));
    } else {
        let again = format!(
            "cargo xtask fixture {} --seed {} --truth",
            lab.id(),
            options.seed
        );
        println!("when you have your answer: {}", command(again));
    }
    Ok(ExitCode::SUCCESS)
}
