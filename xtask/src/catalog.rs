//! The labs of this workspace, and how what a person types becomes one of them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::manifest::{LabId, Manifest};

/// A lab and its folders.
#[derive(Clone, Debug)]
pub struct Lab {
    pub manifest: Manifest,
    /// `18-observability`.
    pub chapter: String,
    /// `18-1-1-read-pool-metrics`.
    pub slug: String,
    root: PathBuf,
}

impl Lab {
    pub fn id(&self) -> &LabId {
        &self.manifest.id
    }

    /// The package's name: the slug without its number.
    pub fn package(&self) -> &str {
        package_of(&self.slug)
    }

    /// The package of the worked solution.
    pub fn solution_package(&self) -> String {
        format!("{}-solution", self.package())
    }

    /// `labs/CHAPTER/SLUG`.
    pub fn dir(&self) -> PathBuf {
        self.under("labs")
    }

    /// `solutions/CHAPTER/SLUG`.
    pub fn solution_dir(&self) -> PathBuf {
        self.under("solutions")
    }

    /// `fixtures/CHAPTER/SLUG`.
    pub fn fixture_dir(&self) -> PathBuf {
        self.under("fixtures")
    }

    /// `harness/decoys/CHAPTER/SLUG`.
    pub fn decoy_dir(&self) -> PathBuf {
        self.under("harness/decoys")
    }

    /// `harness/alternatives/CHAPTER/SLUG`.
    pub fn alternative_dir(&self) -> PathBuf {
        self.under("harness/alternatives")
    }

    /// The start, kept apart from the files that the learner edits.
    pub fn kept_start(&self) -> PathBuf {
        let file = format!("{}.json", self.slug);
        self.root
            .join("harness/starts")
            .join(&self.chapter)
            .join(file)
    }

    /// The hidden checker.
    pub fn checker(&self) -> PathBuf {
        let file = format!("{}.rs", self.id().underscored());
        self.root
            .join("harness/checks")
            .join(&self.chapter)
            .join(file)
    }

    /// A path as a person at the root would write it.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }

    fn under(&self, top: &str) -> PathBuf {
        self.root.join(top).join(&self.chapter).join(&self.slug)
    }
}

/// All labs, in the order of the curriculum.
#[derive(Debug)]
pub struct Catalog {
    pub root: PathBuf,
    pub labs: Vec<Lab>,
}

impl Catalog {
    /// Reads every `lab.toml` of [`workspace_root`].
    pub fn load() -> Result<Self> {
        Self::at(workspace_root())
    }

    /// What it takes to [`find`](Self::find) `query`: a lab that is given by its id can be told by the
    /// name of its folder, and then no other `lab.toml` is read.
    pub fn load_for(query: Option<&str>) -> Result<Self> {
        let root = workspace_root();
        if let Some(id) = query.and_then(LabId::parse) {
            let start = format!("{}-", id.dashed());
            let catalog = Self::of(root.clone(), |slug| slug.starts_with(&start))?;
            if !catalog.labs.is_empty() {
                return Ok(catalog);
            }
        }
        Self::at(root)
    }

    /// Reads every `lab.toml` below `root`.
    pub fn at(root: PathBuf) -> Result<Self> {
        let catalog = Self::of(root, |_| true)?;
        if catalog.labs.is_empty() {
            bail!(
                "there is no lab in {}; restore that folder from the repository",
                catalog.root.join("labs").display()
            );
        }
        Ok(catalog)
    }

    fn of(root: PathBuf, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let mut labs = Vec::new();
        for chapter in folders(&root.join("labs"))? {
            for slug in folders(&root.join("labs").join(&chapter))? {
                let dir = root.join("labs").join(&chapter).join(&slug);
                if !wanted(&slug) || !dir.join(crate::manifest::FILE).exists() {
                    continue;
                }
                labs.push(Lab {
                    manifest: Manifest::read(&dir)?,
                    chapter: chapter.clone(),
                    slug,
                    root: root.clone(),
                });
            }
        }
        labs.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(Catalog { root, labs })
    }

    /// The lab that `query` means: an id in any form, a slug, a package's name, or a part of the
    /// slug that only one lab has.
    pub fn find(&self, query: &str) -> Result<&Lab> {
        let query = query.trim().trim_end_matches('/');
        let query = query.rsplit('/').next().unwrap_or(query);
        if let Some(id) = LabId::parse(query)
            && let Some(lab) = self.labs.iter().find(|lab| *lab.id() == id)
        {
            return Ok(lab);
        }
        let lower = query.to_lowercase().replace([' ', '_'], "-");
        let exact = |lab: &&Lab| {
            lower == lab.slug || lower == lab.package() || lower == lab.solution_package()
        };
        if let Some(lab) = self.labs.iter().find(exact) {
            return Ok(lab);
        }
        let part = lower.replace('.', "-");
        let holding: Vec<&Lab> = match part.as_str() {
            "" => Vec::new(),
            part => self
                .labs
                .iter()
                .filter(|lab| lab.slug.contains(part))
                .collect(),
        };
        match holding.as_slice() {
            [lab] => Ok(lab),
            [] => Err(anyhow!(
                "there is no lab `{query}`; the nearest are\n{}",
                listed(&self.nearest(&part))
            )),
            several => Err(anyhow!(
                "`{query}` could be any of {} labs; write more of one of\n{}",
                several.len(),
                listed(several)
            )),
        }
    }

    /// The labs whose names come closest to what was typed, by edit distance.
    fn nearest(&self, query: &str) -> Vec<&Lab> {
        const SHOWN: usize = 4;
        let likeness = |lab: &Lab| {
            let id = lab.id().dashed();
            [lab.slug.as_str(), lab.package(), id.as_str()]
                .map(|name| strsim::jaro_winkler(name, query))
                .into_iter()
                .fold(0.0, f64::max)
        };
        let mut labs: Vec<&Lab> = self.labs.iter().collect();
        labs.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
        labs.truncate(SHOWN);
        labs
    }
}

/// Environment variable: the folder of the workspace, where it is not the one that the runner lies in.
const WORKSPACE: &str = "NIGHTSHIFT_WORKSPACE";
/// Environment variable, set by `cargo run`: the folder of the package that it runs.
const PACKAGE: &str = "CARGO_MANIFEST_DIR";
/// A file of a workspace's root.
const ROOT: &str = "Cargo.toml";

/// The root of the workspace whose labs the runner is for.
pub fn workspace_root() -> PathBuf {
    if let Some(root) = std::env::var_os(WORKSPACE) {
        return std::path::absolute(&root).unwrap_or_else(|_| root.into());
    }
    // Where it was built comes last: a repository may have been moved since, and cargo builds
    // nothing anew for that.
    std::env::var_os(PACKAGE)
        .and_then(|package| root_around(Path::new(&package)))
        .unwrap_or_else(|| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .parent()
                .expect("the runner lies in the workspace")
                .to_owned()
        })
}

/// The folder with the labs that a package lies in.
fn root_around(package: &Path) -> Option<PathBuf> {
    let mut folders = package.ancestors();
    let root =
        folders.find(|folder| folder.join("labs").is_dir() && folder.join(ROOT).is_file())?;
    Some(root.to_owned())
}

/// The package's name in a slug: what follows the number.
pub fn package_of(slug: &str) -> &str {
    let rest = slug.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    match slug.strip_prefix("m-") {
        Some(capstone) => capstone.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-'),
        None => rest,
    }
}

fn listed(labs: &[&Lab]) -> String {
    let lines: Vec<String> = labs
        .iter()
        .map(|lab| format!("  {:<8}{}", lab.id().to_string(), lab.package()))
        .collect();
    lines.join("\n")
}

fn folders(parent: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(parent) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("could not list {}", parent.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("could not list {}", parent.display()))?;
        if entry.path().is_dir()
            && let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_the_slug_without_its_number() {
        for (slug, package) in [
            ("18-1-1-read-pool-metrics", "read-pool-metrics"),
            ("17-7-2-two-node-cache", "two-node-cache"),
            ("m-10-monitoring-stack", "monitoring-stack"),
        ] {
            assert_eq!(package_of(slug), package);
        }
    }

    #[test]
    fn a_lab_is_found_by_whatever_names_it_alone() {
        let catalog = Catalog::load().expect("the labs are whole");
        for query in [
            "18.1.1",
            "18-1-1",
            "18-1-1-read-pool-metrics",
            "read-pool-metrics",
            "read-pool",
            "read_pool_metrics",
            "labs/18-observability/18-1-1-read-pool-metrics/",
            "Read pool",
        ] {
            let lab = catalog.find(query).expect(query);
            assert_eq!(lab.id().to_string(), "18.1.1", "{query}");
        }
    }

    #[test]
    fn a_lab_that_is_given_by_its_id_is_read_alone_and_any_other_query_sees_all() {
        let all = Catalog::load().expect("the labs are whole").labs.len();
        for (query, read) in [
            (Some("18.1.1"), 1),
            (Some("18-1-1"), 1),
            (Some("99.9.9"), all),
            (Some("read-pool"), all),
            (None, all),
        ] {
            let catalog = Catalog::load_for(query).expect("the labs are whole");
            assert_eq!(catalog.labs.len(), read, "{query:?}");
        }
    }

    #[test]
    fn what_names_no_lab_or_several_lists_the_nearest() {
        let catalog = Catalog::load().expect("the labs are whole");
        let unknown = catalog
            .find("reed-pool-metrics")
            .expect_err("a typing error");
        assert!(
            unknown.to_string().contains("read-pool-metrics"),
            "{unknown}"
        );
        let several = catalog.find("pool").expect_err("several labs have it");
        assert!(several.to_string().contains("could be any of"), "{several}");
        for query in ["", ".", "/", "99.9.9", "\u{0}", "💥"] {
            assert!(catalog.find(query).is_err(), "{query:?}");
        }
    }
}
