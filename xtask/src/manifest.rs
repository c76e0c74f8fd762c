//! `lab.toml`: what a lab promises. Read by every verb, held to by `verify`.

use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use backends::Backend;
use serde::{Deserialize, Serialize};

/// The name of the file, in the lab's folder.
pub const FILE: &str = "lab.toml";

/// The identity of a lab: `18.1.1`, or `m-1` in the capstone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabId(Family, Vec<u32>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Family {
    Chapter,
    Monitor,
}

impl LabId {
    /// Reads `18.1.1`, `18-1-1`, `18_1_1`, `m-1` or `m.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let (text, family, parts) = match text.strip_prefix('m') {
            Some(rest) => (rest.trim_start_matches(['-', '.', '_']), Family::Monitor, 1),
            None => (text.as_str(), Family::Chapter, 3),
        };
        let numbers: Vec<u32> = text
            .split(['.', '-', '_'])
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        (numbers.len() == parts).then_some(LabId(family, numbers))
    }

    /// As folder names write it: `18-1-1`, `m-1`.
    pub fn dashed(&self) -> String {
        let numbers = self.1.iter().map(u32::to_string).collect::<Vec<_>>();
        match self.0 {
            Family::Chapter => numbers.join("-"),
            Family::Monitor => format!("m-{}", numbers.join("-")),
        }
    }

    /// As file names of checkers write it: `18_1_1`, `m_1`.
    pub fn underscored(&self) -> String {
        self.dashed().replace('-', "_")
    }
}

impl fmt::Display for LabId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Family::Chapter => f.pad(&self.dashed().replace('-', ".")),
            Family::Monitor => f.pad(&self.dashed()),
        }
    }
}

impl TryFrom<String> for LabId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        LabId::parse(&text).ok_or_else(|| format!("`{text}` is no lab's id, such as 18.1.1 or m-1"))
    }
}

impl From<LabId> for String {
    fn from(id: LabId) -> String {
        id.to_string()
    }
}

/// What a learner does in a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Read,
    Fix,
    Instrument,
    Design,
    Build,
    Operate,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Read => "read",
            Kind::Fix => "fix",
            Kind::Instrument => "instrument",
            Kind::Design => "design",
            Kind::Build => "build",
            Kind::Operate => "operate",
        })
    }
}

/// A server that some checks talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    Etcd,
    Redis,
    Postgres,
    Prometheus,
    Alertmanager,
}

impl Server {
    /// The server itself.
    pub fn backend(self) -> Backend {
        match self {
            Server::Etcd => Backend::Etcd,
            Server::Redis => Backend::Redis,
            Server::Postgres => Backend::Postgres,
            Server::Prometheus => Backend::Prometheus,
            Server::Alertmanager => Backend::Alertmanager,
        }
    }
}

/// A lab's manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub id: LabId,
    pub title: String,
    /// One or two kinds, in the order in which the learner meets them.
    pub kind: Vec<Kind>,
    /// How long a working engineer takes.
    pub minutes: u32,
    pub tags: Vec<String>,
    /// The learner's files and folders, relative to the lab's folder: what `reset` restores and
    /// what `grade --submission` takes from elsewhere.
    pub learner: Vec<String>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(rename = "check")]
    pub checks: Vec<Check>,
    /// What `bench` judges.
    #[serde(rename = "figure", default)]
    pub figures: Vec<Figure>,
}

/// The limits of one check's process.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Wall time, in seconds.
    pub seconds: u64,
    /// Memory, in MiB.
    pub memory_mb: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            seconds: 15,
            memory_mb: 1024,
        }
    }
}

/// One check: a `#[test]` of the lab's checker.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The test's name, without its module.
    pub name: String,
    pub title: String,
    pub points: u32,
    /// How the untouched start fares.
    pub start: Start,
    /// From vague to pointed.
    pub hints: Vec<String>,
    /// Servers without which the check is not run.
    #[serde(default)]
    pub needs: Vec<Server>,
}

/// How the start fares in a check.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Start {
    /// It fails, and the message has this part.
    Fails(String),
    /// This question is not answered yet.
    Unanswered(String),
    /// It passes; this is what the check guards.
    Passes(String),
}

/// A figure that a benchmark measures and `bench` judges.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// As the benchmark records it.
    pub name: String,
    pub title: String,
    /// Upper limit, in the figure's unit; a ratio of 1.02 is two percent more.
    pub at_most: Option<f64>,
    /// Lower limit, in the figure's unit.
    pub at_least: Option<f64>,
}

impl Manifest {
    /// Reads the manifest in a lab's folder.
    pub fn read(lab: &Path) -> Result<Self> {
        let path = lab.join(FILE);
        let shown = path.display();
        let text = crate::files::given(&path)?;
        let manifest: Manifest = toml::from_str(&text)
            .with_context(|| format!("{shown} is not valid; {}", crate::files::RESTORE))?;
        manifest
            .validate()
            .with_context(|| format!("{shown} is not valid; {}", crate::files::RESTORE))?;
        Ok(manifest)
    }

    /// All points that the lab gives.
    pub fn points(&self) -> u32 {
        self.checks.iter().map(|check| check.points).sum()
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// What is enough of a check's name to mean this check alone with `--check`: its first words, or
    /// the whole name where another's contains it.
    pub fn short_name<'c>(&self, check: &'c Check) -> &'c str {
        let name = check.name.as_str();
        let means_it_alone = |part: &str| {
            let meant = self.checks.iter().filter(|other| other.name.contains(part));
            meant.count() == 1
        };
        let mut parts = name.match_indices('_').map(|(end, _)| &name[..end]);
        parts.find(|part| means_it_alone(part)).unwrap_or(name)
    }

    /// The kinds, as one word or two.
    pub fn kinds(&self) -> String {
        let kinds: Vec<String> = self.kind.iter().map(Kind::to_string).collect();
        kinds.join(", ")
    }

    fn validate(&self) -> Result<()> {
        if self.kind.is_empty() || self.checks.is_empty() || self.learner.is_empty() {
            bail!("a lab has at least one kind, one check and one file of the learner's");
        }
        for check in &self.checks {
            if self
                .checks
                .iter()
                .filter(|other| other.name == check.name)
                .count()
                > 1
            {
                bail!("the check `{}` is declared twice", check.name);
            }
        }
        for check in &self.checks {
            let (Start::Fails(said) | Start::Unanswered(said) | Start::Passes(said)) = &check.start;
            if said.trim().is_empty() {
                bail!(
                    "the check `{}` does not say how the start fares",
                    check.name
                );
            }
        }
        for path in &self.learner {
            let path = Path::new(path);
            let inside = path
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside {
                bail!("`{}` does not lie in the lab's folder", path.display());
            }
        }
        for figure in &self.figures {
            if figure.at_most.is_none() && figure.at_least.is_none() {
                bail!("the figure `{}` has no limit", figure.name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_in_every_form_that_people_write() {
        for text in ["18.1.1", "18-1-1", "18_1_1", " 18.1.1 "] {
            assert_eq!(LabId::parse(text).expect(text).to_string(), "18.1.1");
        }
        for text in ["m-10", "M-10", "m10", "m.10"] {
            assert_eq!(LabId::parse(text).expect(text).to_string(), "m-10");
        }
        for text in [
            "", "18", "18.1", "18.1.1.1", "18.1.x", "m", "m-1-2", "-1.1.1",
        ] {
            assert_eq!(LabId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_short_name_is_a_beginning_that_no_other_check_has_in_its_name() {
        let checks: String = [
            "median_is_interpolated",
            "backpressure_is_answered",
            "backpressure_takes_a_queue",
            "a_queue",
        ]
        .iter()
        .map(|name| {
            format!(
                "[[check]]\nname = \"{name}\"\ntitle = \"\"\npoints = 5\nhints = []\n\
                 start = {{ passes = \"it is right\" }}\n"
            )
        })
        .collect();
        let head = "id = \"18.1.1\"\ntitle = \"\"\nkind = [\"read\"]\nminutes = 5\ntags = []\n\
                    learner = []\n";
        let manifest: Manifest = toml::from_str(&format!("{head}{checks}")).expect("it is valid");
        let short: Vec<&str> = manifest
            .checks
            .iter()
            .map(|check| manifest.short_name(check))
            .collect();
        assert_eq!(
            short,
            ["median", "backpressure_is", "backpressure_takes", "a_queue"]
        );
    }

    #[test]
    fn labs_are_ordered_by_number_and_not_by_letter() {
        let mut ids: Vec<LabId> = ["m-10", "18.2.5", "18.2.10", "m-2", "17.7.2"]
            .iter()
            .map(|text| LabId::parse(text).expect(text))
            .collect();
        ids.sort();
        let ids: Vec<String> = ids.iter().map(LabId::to_string).collect();
        assert_eq!(ids, ["17.7.2", "18.2.5", "18.2.10", "m-2", "m-10"]);
    }
}
