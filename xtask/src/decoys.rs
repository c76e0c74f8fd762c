//! Decoys and alternatives: submissions that a checker must reject, and others that it must accept.
//!
//! A decoy is the worked solution with one mistake, written as an edit. All decoys and alternatives
//! of a lab become modules of one test binary, in a workspace of their own below the target
//! folder, so that ten of them cost one link instead of ten. Names within a submission are kept
//! apart by rewriting `crate::` to the path of its module.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;

use crate::catalog::{Catalog, Lab};
use crate::files::{entries, files_below, learner_files, write};
use crate::scratch::Scratch;

/// A wrong submission, as its file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoy {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// The mistake, in words.
    pub why: String,
    /// The check that must reject it.
    pub rejected_by: String,
    /// A part of that check's message.
    pub symptom: String,
    /// What is edited: the solution, unless it says `start`.
    #[serde(default)]
    pub base: Base,
    #[serde(rename = "edit")]
    pub edits: Vec<Edit>,
}

/// What a decoy is an edit of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    #[default]
    Solution,
    Start,
}

/// One replacement. `find` occurs exactly once in `file`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    pub file: String,
    pub find: String,
    pub replace: String,
}

/// The decoys of a lab, in the order of their names.
pub fn decoys(lab: &Lab) -> Result<Vec<Decoy>> {
    let mut decoys = Vec::new();
    for path in entries(&lab.decoy_dir())? {
        if path.extension().is_none_or(|ending| ending != "toml") {
            bail!(
                "{} is no decoy: a decoy is a file NAME.toml",
                path.display()
            );
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("could not read {}", path.display()))?;
        let mut decoy: Decoy =
            toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        decoy.name = module_name(&path)?;
        if decoy.why.is_empty() || decoy.symptom.is_empty() || decoy.edits.is_empty() {
            bail!("{} says no reason, no symptom or no edit", path.display());
        }
        decoys.push(decoy);
    }
    Ok(decoys)
}

/// The folders of the alternatives of a lab, by name.
pub fn alternatives(lab: &Lab) -> Result<Vec<(String, PathBuf)>> {
    entries(&lab.alternative_dir())?
        .into_iter()
        .map(|path| Ok((module_name(&path)?, path)))
        .collect()
}

/// Where the submissions of a lab were laid out: the package that has them all, and the folder of
/// each.
#[derive(Debug)]
pub struct LaidOut {
    pub package: String,
    pub submissions: BTreeMap<String, PathBuf>,
}

/// The workspace of all decoys and alternatives.
#[derive(Debug)]
pub struct Yard(pub Scratch);

impl Yard {
    /// Makes the workspace that `lay_out` puts packages into.
    pub fn prepare(catalog: &Catalog) -> Result<Self> {
        Scratch::prepare(catalog, "decoys", "*/*").map(Yard)
    }

    /// Lays out the decoys and alternatives of one lab as a package with one test binary.
    pub fn lay_out(&self, lab: &Lab) -> Result<LaidOut> {
        let package = format!("{}-decoys", lab.package());
        let folder = self.0.root.join(&lab.chapter).join(&lab.slug);
        let mut submissions = BTreeMap::new();
        for decoy in decoys(lab)? {
            let base = match decoy.base {
                Base::Solution => lab.solution_dir(),
                Base::Start => lab.dir(),
            };
            let mut files = learner_files(lab, &base)?;
            apply(&decoy, &mut files)
                .with_context(|| format!("could not apply the decoy `{}`", decoy.name))?;
            let place = self.submission(lab, &folder, &decoy.name, files)?;
            submissions.insert(decoy.name, place);
        }
        for (name, path) in alternatives(lab)? {
            let mut files = learner_files(lab, &lab.solution_dir())?;
            let own = files_below(&path)?;
            if own.is_empty() {
                bail!("the alternative `{name}` is empty");
            }
            // Its sources are whole; what it does not bring, such as answers, is the solution's.
            if own.keys().any(|file| file.starts_with("src/")) {
                files.retain(|file, _| !file.starts_with("src/"));
            }
            files.extend(own);
            let place = self.submission(lab, &folder, &name, files)?;
            if submissions.insert(name.clone(), place).is_some() {
                bail!("`{name}` names a decoy and an alternative");
            }
        }
        let root: String = submissions
            .keys()
            .map(|name| format!("#[path = \"../{name}/bind.rs\"]\nmod {name};\n"))
            .collect();
        let root = format!("#![allow(dead_code, unused, clippy::all)]\n{root}");
        write(&folder.join("tests/check.rs"), &root)?;
        write(&folder.join("src/lib.rs"), "")?;
        write(
            &folder.join("Cargo.toml"),
            &package_manifest(lab, &package)?,
        )?;
        // What was deleted in the harness must not linger here.
        for path in entries(&folder)? {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let ours = ["tests", "src", "Cargo.toml"].contains(&name.as_str());
            if !ours && !submissions.contains_key(&name) {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("could not remove {}", path.display()))?;
            }
        }
        Ok(LaidOut {
            package,
            submissions,
        })
    }

    fn submission(
        &self,
        lab: &Lab,
        folder: &Path,
        name: &str,
        files: BTreeMap<String, String>,
    ) -> Result<PathBuf> {
        let place = folder.join(name);
        let binding = fs::read_to_string(lab.solution_dir().join("tests/check.rs"))
            .context("could not read the solution's tests/check.rs")?;
        let library = lab.solution_package().replace('-', "_");
        let checks = lab.checker();
        let harness = checks.parent().expect("checkers lie in a folder");
        let binding = rewritten(&binding, &format!("crate::{name}::"))
            .replace(
                &format!("use {library} as subject;"),
                "#[path = \"src/lib.rs\"]\npub mod subject;",
            )
            .replace("\"../src/", "\"again/")
            .replace(
                &format!("../../../../harness/checks/{}", lab.chapter),
                &harness.display().to_string(),
            );
        if !binding.contains("pub mod subject;") {
            bail!("the solution's tests/check.rs does not say `use {library} as subject;`");
        }
        let again = binding.contains("\"again/");
        write(&place.join("bind.rs"), &binding)?;
        for (file, text) in &files {
            let text = if file.ends_with(".rs") {
                rewritten(text, &format!("crate::{name}::subject::"))
            } else {
                text.clone()
            };
            write(&place.join(file), &text)?;
        }
        for (file, text) in files.iter().filter(|_| again) {
            if let Some(rest) = file.strip_prefix("src/") {
                let text = rewritten(text, &format!("crate::{name}::"));
                write(&place.join("again").join(rest), &text)?;
            }
        }
        Ok(place)
    }
}

fn apply(decoy: &Decoy, files: &mut BTreeMap<String, String>) -> Result<()> {
    for edit in &decoy.edits {
        let text = files
            .get_mut(&edit.file)
            .ok_or_else(|| anyhow!("there is no {} to edit", edit.file))?;
        match text.matches(&edit.find).count() {
            1 => *text = text.replacen(&edit.find, &edit.replace, 1),
            0 => bail!(
                "{} does not have the text to find:\n{}",
                edit.file,
                edit.find
            ),
            several => bail!(
                "{} has the text to find {several} times:\n{}",
                edit.file,
                edit.find
            ),
        }
    }
    Ok(())
}

/// Source text in which paths that begin with `crate::` begin with `prefix` instead.
fn rewritten(source: &str, prefix: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("crate::") {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        let part_of_a_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        text.push_str(if part_of_a_word { "crate::" } else { prefix });
        rest = &after["crate::".len()..];
    }
    text.push_str(rest);
    text
}

/// The manifest of the package: what the solution's crate and its tests depend on, in one.
fn package_manifest(lab: &Lab, package: &str) -> Result<String> {
    let path = lab.solution_dir().join("Cargo.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let solution: toml::Table =
        toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
    let mut manifest = toml::Table::new();
    let mut head = solution
        .get("package")
        .and_then(toml::Value::as_table)
        .cloned()
        .ok_or_else(|| anyhow!("{} has no [package]", path.display()))?;
    head.insert("name".into(), package.into());
    manifest.insert("package".into(), head.into());
    let mut all = toml::Table::new();
    for section in ["dependencies", "dev-dependencies"] {
        if let Some(table) = solution.get(section).and_then(toml::Value::as_table) {
            // Criterion belongs to the benchmark, which decoys do not have.
            for (name, wanted) in table.iter().filter(|(name, _)| *name != "criterion") {
                match all.get_mut(name) {
                    // Named twice, once for the crate and once for its tests: they need both.
                    Some(known) => add_features(known, wanted),
                    None => {
                        all.insert(name.clone(), wanted.clone());
                    }
                }
            }
        }
    }
    manifest.insert("dependencies".into(), toml::Table::new().into());
    manifest.insert("dev-dependencies".into(), all.into());
    Ok(toml::to_string(&manifest)?)
}

/// Adds the features of one mention of a dependency to those of another.
fn add_features(known: &mut toml::Value, wanted: &toml::Value) {
    let more = wanted.get("features").and_then(toml::Value::as_array);
    let (Some(known), Some(more)) = (known.as_table_mut(), more) else {
        return;
    };
    let features = known
        .entry("features")
        .or_insert_with(|| toml::Value::Array(Vec::new()));
    if let Some(features) = features.as_array_mut() {
        features.extend(more.iter().cloned());
    }
}

fn module_name(path: &Path) -> Result<String> {
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !fits || ["src", "tests", "check", "subject", "again"].contains(&name.as_str()) {
        bail!(
            "{}: a name is lower case with underscores, and no module's",
            path.display()
        );
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_that_begin_with_crate_are_rewritten() {
        let source = "use crate::sync::Arc; pub(crate) fn f() { my_crate::g(); crate::h() }";
        assert_eq!(
            rewritten(source, "crate::d::subject::"),
            "use crate::d::subject::sync::Arc; pub(crate) fn f() { my_crate::g(); \
             crate::d::subject::h() }"
        );
    }

    #[test]
    fn an_edit_must_find_its_text_exactly_once() {
        let decoy = |find: &str| Decoy {
            name: "x".into(),
            why: "y".into(),
            rejected_by: "c".into(),
            symptom: "s".into(),
            base: Base::Solution,
            edits: vec![Edit {
                file: "src/lib.rs".into(),
                find: find.into(),
                replace: "z".into(),
            }],
        };
        let files = || BTreeMap::from([("src/lib.rs".to_owned(), "a b b".to_owned())]);
        let mut edited = files();
        apply(&decoy("a"), &mut edited).expect("once");
        assert_eq!(edited["src/lib.rs"], "z b b");
        assert!(apply(&decoy("b"), &mut files()).is_err());
        assert!(apply(&decoy("c"), &mut files()).is_err());
    }
}
