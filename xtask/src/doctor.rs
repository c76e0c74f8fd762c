//! `doctor`: what is installed here, and what each missing thing would enable.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;
use backends::{Discovery, Place, Tool};
use console::style;

use crate::build;
use crate::catalog::Catalog;
use crate::screen::{self, command};

/// The target folder of all labs grows to about this, in bytes.
const DISK_WANTED: u64 = 12 << 30;

#[derive(clap::Args)]
pub struct Options {}

pub fn doctor(_options: &Options) -> Result<ExitCode> {
    let catalog = Catalog::load()?;
    screen::title("doctor", "what is here, and what it enables");
    println!();
    let mut sound = true;
    for (program, why) in [("cargo", "everything"), ("rustc", "everything")] {
        let version = version(program);
        sound &= version.is_some();
        line(
            version.is_some(),
            program,
            version.as_deref().unwrap_or("not found"),
            why,
        );
    }
    if let Some(wanted) = pinned(&catalog.root) {
        let fits = version("rustc").is_some_and(|version| version.contains(&wanted));
        sound &= fits;
        line(
            fits,
            "toolchain",
            &format!("{wanted} is pinned"),
            "rust-toolchain.toml",
        );
    }
    if let Some(free) = free_bytes(&catalog.root) {
        let enough = free > DISK_WANTED;
        let what = format!("{} GiB free", free >> 30);
        line(
            enough,
            "disk",
            &what,
            "the target folder takes up to 12 GiB",
        );
    }
    line(
        version("git").is_some(),
        "git",
        version("git").as_deref().unwrap_or("not found"),
        "only for keeping your work; reset does without",
    );
    println!();
    let mut missing = Vec::new();
    for discovery in backends::discover() {
        let enables = enables(&catalog, discovery.tool);
        match place(&discovery) {
            Some(place) => line(true, discovery.tool.name(), &place, &enables),
            None => {
                line(false, discovery.tool.name(), "not found", &enables);
                missing.push(discovery.tool);
            }
        }
    }
    if !missing.is_empty() {
        println!("\n  Everything else works without these; to have them too:");
        let packages = |name: fn(Tool) -> &'static str| {
            let mut names: Vec<&str> = missing.iter().map(|tool| name(*tool)).collect();
            names.dedup();
            names.join(" ")
        };
        println!(
            "    Debian  {}",
            command(format!(
                "apt-get install {}",
                packages(Tool::debian_package)
            ))
        );
        println!(
            "    macOS   {}",
            command(format!("brew install {}", packages(Tool::brew_formula)))
        );
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn line(found: bool, name: &str, what: &str, enables: &str) {
    let mark = if found {
        style("yes ").green()
    } else {
        style("no  ").yellow()
    };
    println!("  {mark} {name:<14} {what:<28} {}", style(enables).dim());
}

/// The labs that have checks which need a server.
fn enables(catalog: &Catalog, tool: Tool) -> String {
    let backend = match tool {
        Tool::Server(backend) => backend,
        Tool::Promtool | Tool::Amtool => return "checks rule files by hand".into(),
        Tool::DockerClient | Tool::DockerEngine => {
            return "servers from containers instead".into();
        }
    };
    let labs: Vec<String> = catalog
        .labs
        .iter()
        .filter(|lab| {
            lab.manifest
                .checks
                .iter()
                .flat_map(|check| &check.needs)
                .any(|server| server.backend() == backend)
        })
        .map(|lab| lab.id().to_string())
        .collect();
    if labs.is_empty() {
        "no lab yet".into()
    } else {
        format!("lab {}", labs.join(", "))
    }
}

fn place(discovery: &Discovery) -> Option<String> {
    let found = discovery.found.as_ref()?;
    let version = found.version.as_deref().unwrap_or("");
    Some(match &found.place {
        Place::Address { url, answers: true } => format!("at {url}"),
        Place::Address {
            url,
            answers: false,
        } => format!("{url} does not answer"),
        Place::Binary(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name} {version}").trim_end().to_owned()
        }
        Place::Engine(address) => format!("{version} at {address}"),
    })
}

fn version(program: &str) -> Option<String> {
    let mut command = match program {
        "cargo" => build::cargo(),
        other => Command::new(other),
    };
    let output = command
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = words
        .iter()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some((*number).to_owned())
}

/// The toolchain that `rust-toolchain.toml` asks for.
fn pinned(root: &Path) -> Option<String> {
    let text = std::fs::read_to_string(root.join("rust-toolchain.toml")).ok()?;
    let table: toml::Table = toml::from_str(&text).ok()?;
    Some(table.get("toolchain")?.get("channel")?.as_str()?.to_owned())
}

#[cfg(unix)]
fn free_bytes(root: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(root).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_root: &Path) -> Option<u64> {
    None
}
