//! [`Scrape`] to text, for both formats, and the constructors that simulators print with.
//!
//! What one format cannot say is degraded as the official clients degrade it, never dropped
//! silently: an `info` becomes a gauge in exposition, a counter that lacks `_total` becomes
//! `unknown` in OpenMetrics. Only units and exemplars have no place in exposition.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use super::{
    Escaped, Exemplar, Family, Format, Histogram, Kind, Labels, MetricName, NameError, Number,
    Sample, Scrape, Timestamp,
};

impl Scrape {
    /// The scrape in text exposition format 0.0.4.
    ///
    /// Reading it back gives an equal scrape if this one was itself read from that format.
    pub fn to_exposition(&self) -> String {
        let mut out = String::new();
        for family in &self.families {
            exposition_family(&mut out, family);
        }
        out
    }

    /// The scrape in OpenMetrics 1.0, with its `# EOF`.
    ///
    /// Reading it back gives an equal scrape if this one was itself read from that format.
    pub fn to_openmetrics(&self) -> String {
        let taken: HashSet<&str> = self.families.iter().map(|family| &*family.name).collect();
        let mut out = String::new();
        for family in &self.families {
            openmetrics_family(&mut out, family, &taken);
        }
        out.push_str("# EOF\n");
        out
    }
}

/// The text exposition format.
impl fmt::Display for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_exposition())
    }
}

impl FromIterator<Family> for Scrape {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        Self {
            families: families.into_iter().collect(),
        }
    }
}

impl Family {
    /// A counter, named as in exposition: with `_total`.
    ///
    /// # Errors
    /// [`NameError::Metric`].
    pub fn counter(name: &str, help: &str) -> Result<Self, NameError> {
        Self::described(name, Kind::Counter, help)
    }

    /// A gauge.
    ///
    /// # Errors
    /// [`NameError::Metric`].
    pub fn gauge(name: &str, help: &str) -> Result<Self, NameError> {
        Self::described(name, Kind::Gauge, help)
    }

    /// A classic histogram, to be filled by [`Family::push_histogram`].
    ///
    /// # Errors
    /// [`NameError::Metric`].
    pub fn histogram(name: &str, help: &str) -> Result<Self, NameError> {
        Self::described(name, Kind::Histogram, help)
    }

    fn described(name: &str, kind: Kind, help: &str) -> Result<Self, NameError> {
        let mut family = Self::new(MetricName::new(name)?, kind);
        family.help = Some(help.to_owned());
        Ok(family)
    }

    /// Adds a sample that bears the family's own name.
    ///
    /// # Errors
    /// [`NameError::Label`] or [`NameError::Twice`].
    pub fn push(&mut self, labels: &[(&str, &str)], value: f64) -> Result<&mut Self, NameError> {
        let labels = Labels::new(labels.iter().copied())?;
        self.samples
            .push(Sample::new(self.name.clone(), labels, value));
        Ok(self)
    }

    /// Adds every sample of a histogram.
    ///
    /// # Errors
    /// [`NameError::Label`] if its labels hold an `le` that no bucket could be told apart from.
    pub fn push_histogram(&mut self, histogram: &Histogram) -> Result<&mut Self, NameError> {
        let labels = &histogram.labels;
        if labels.get("le").is_some() {
            return Err(NameError::Label("le".to_owned()));
        }
        let named = |suffix: &str| MetricName::new(&format!("{}{suffix}", self.name));
        let (bucket_name, sum, count) = (named("_bucket")?, named("_sum")?, named("_count")?);
        for bucket in &histogram.buckets {
            let labels = labels.with("le", &Number(bucket.le).to_string())?;
            let sample = Sample::new(bucket_name.clone(), labels, bucket.cumulative);
            self.samples.push(sample);
        }
        let sum = Sample::new(sum, labels.clone(), histogram.sum);
        let count = Sample::new(count, labels.clone(), histogram.count);
        self.samples.extend([sum, count]);
        Ok(self)
    }
}

// Writing into a String cannot fail, hence the ignored results below.

fn header(out: &mut String, name: &str, kind: &str, family: &Family, format: Format) {
    if let Some(help) = &family.help {
        let quotes = format == Format::OpenMetrics;
        let help = Escaped { text: help, quotes };
        let _ = writeln!(out, "# HELP {name} {help}");
    }
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if let (Format::OpenMetrics, Some(unit)) = (format, &family.unit) {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
}

fn exposition_family(out: &mut String, family: &Family) {
    let is_created = |sample: &&Sample| {
        sample.name != family.name
            && sample.name.strip_suffix("_created") == Some(family.name.as_str())
    };
    let main: Vec<&Sample> = family.samples.iter().filter(|s| !is_created(s)).collect();
    match family.kind {
        Kind::Gauge | Kind::Unknown | Kind::Histogram | Kind::Summary => {
            let word = family.kind.word(Format::Exposition).unwrap_or("untyped");
            header(out, &family.name, word, family, Format::Exposition);
            exposition_samples(out, main);
        }
        Kind::Counter => exposition_groups(out, family, main, "counter"),
        Kind::Info | Kind::StateSet | Kind::GaugeHistogram => {
            exposition_groups(out, family, main, "gauge");
        }
    }
    let created: Vec<&Sample> = family.samples.iter().filter(is_created).collect();
    if !created.is_empty() {
        exposition_groups(out, family, created, "gauge");
    }
}

/// Writes one exposition family for each sample name, since exposition adds no suffix to these.
fn exposition_groups(out: &mut String, family: &Family, samples: Vec<&Sample>, kind: &str) {
    if samples.is_empty() {
        header(out, &family.name, kind, family, Format::Exposition);
    }
    let mut names: Vec<&MetricName> = Vec::new();
    for sample in &samples {
        if !names.contains(&&sample.name) {
            names.push(&sample.name);
        }
    }
    for name in names {
        header(out, name, kind, family, Format::Exposition);
        exposition_samples(out, samples.iter().copied().filter(|s| s.name == *name));
    }
}

fn exposition_samples<'a>(out: &mut String, samples: impl IntoIterator<Item = &'a Sample>) {
    for sample in samples {
        let _ = write!(out, "{sample}");
        if let Some(timestamp) = sample.timestamp {
            let _ = write!(out, " {}", timestamp.as_millis());
        }
        out.push('\n');
    }
}

fn openmetrics_family(out: &mut String, family: &Family, taken: &HashSet<&str>) {
    let (name, kind) = match family.kind {
        Kind::Counter => match family.name.strip_suffix("_total") {
            Some(base) if !base.is_empty() && !taken.contains(base) => (base, Kind::Counter),
            Some(_) => (family.name.as_str(), Kind::Unknown),
            None if family.samples.iter().any(|s| s.name == family.name) => {
                (family.name.as_str(), Kind::Unknown)
            }
            None => (family.name.as_str(), Kind::Counter),
        },
        // Exposition tolerates a sample with the histogram's own name, OpenMetrics does not.
        Kind::Histogram if family.samples.iter().any(|s| s.name == family.name) => {
            (family.name.as_str(), Kind::Unknown)
        }
        kind => (family.name.as_str(), kind),
    };
    let fits = |sample: &&Sample| {
        sample
            .name
            .strip_prefix(name)
            .is_some_and(|suffix| kind.suffixes(Format::OpenMetrics).contains(&suffix))
    };
    let word = kind.word(Format::OpenMetrics).unwrap_or("unknown");
    header(out, name, word, family, Format::OpenMetrics);
    openmetrics_samples(out, family.samples.iter().filter(fits));
    let mut others: Vec<&Sample> = family.samples.iter().filter(|s| !fits(s)).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    for group in others.chunk_by(|a, b| a.name == b.name) {
        let _ = writeln!(out, "# TYPE {} unknown", group[0].name);
        openmetrics_samples(out, group.iter().copied());
    }
}

fn openmetrics_samples<'a>(out: &mut String, samples: impl IntoIterator<Item = &'a Sample>) {
    for sample in samples {
        let _ = write!(out, "{sample}{}", At(sample.timestamp));
        if let Some(exemplar) = &sample.exemplar {
            openmetrics_exemplar(out, exemplar);
        }
        out.push('\n');
    }
}

fn openmetrics_exemplar(out: &mut String, exemplar: &Exemplar) {
    out.push_str(" # ");
    if exemplar.labels.is_empty() {
        out.push_str("{}");
    }
    let (labels, value) = (&exemplar.labels, Number(exemplar.value));
    let _ = write!(out, "{labels} {value}{}", At(exemplar.timestamp));
}

/// A timestamp in seconds after its space, or nothing.
struct At(Option<Timestamp>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(timestamp) => write!(f, " {}", timestamp.as_seconds()),
            None => Ok(()),
        }
    }
}
