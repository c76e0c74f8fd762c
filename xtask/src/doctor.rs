//! `doctor`: what is installed here, and what each missing thing would enable.

use std::collections::BTreeSet;
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

/// How many labs are named in a line.
const NAMED: usize = 3;

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
        line(enough, "disk", &what, "12 GiB hold all labs, built");
    }
    line(
        version("git").is_some(),
        "git",
        version("git").as_deref().unwrap_or("not found"),
        "only to keep your work",
    );
    if !sound {
        println!("\n  Rust is had from rustup, which installs what rust-toolchain.toml names.");
    }
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
            let mut seen = BTreeSet::new();
            names.retain(|name| seen.insert(*name));
            names
        };
        println!(
            "    Debian  {}",
            install("apt-get", &packages(Tool::debian_package))
        );
        println!(
            "    macOS   {}",
            install("brew", &packages(Tool::brew_formula))
        );
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The command that installs these, continued on a second line where it is long.
fn install(manager: &str, packages: &[&str]) -> console::StyledObject<String> {
    const IN_A_LINE: usize = 4;
    let lines: Vec<String> = packages
        .chunks(IN_A_LINE)
        .map(|packages| packages.join(" "))
        .collect();
    command(format!(
        "{manager} install {}",
        lines.join(" \\\n              ")
    ))
}

fn line(found: bool, name: &str, what: &str, enables: &str) {
    let mark = if found {
        style("yes ").green()
    } else {
        style("no  ").yellow()
    };
    let row = format!("  {mark} {name:<14} {what:<30} {}", style(enables).dim());
    println!("{}", row.trim_end());
}

/// The labs that have checks which need a server.
fn enables(catalog: &Catalog, tool: Tool) -> String {
    let backend = match tool {
        Tool::Server(backend) => backend,
        Tool::Promtool | Tool::Amtool => return "checks rule files by hand".into(),
        Tool::DockerClient | Tool::DockerEngine => {
            return "servers in containers".into();
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
    } else if labs.len() <= NAMED {
        format!("lab {}", labs.join(", "))
    } else {
        let (named, more) = labs.split_at(NAMED - 1);
        format!("lab {}, {} more", named.join(", "), more.len())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_continued_as_a_shell_reads_it() {
        let packages = [
            "etcd-server",
            "redis-server",
            "postgresql",
            "prometheus",
            "prometheus-alertmanager",
            "docker.io",
        ];
        let shown = install("apt-get", &packages)
            .force_styling(false)
            .to_string();
        assert_eq!(
            shown,
            "apt-get install etcd-server redis-server postgresql prometheus \\\n              \
             prometheus-alertmanager docker.io"
        );
    }
}
