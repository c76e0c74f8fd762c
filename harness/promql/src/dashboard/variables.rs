//! `$name` in queries: the dashboard's variables, and those that Grafana knows by itself.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::{Engine, Query, Storage};

use super::decode::duration;
use super::{Dashboard, VariableKind, View};

/// What Grafana writes for "everything" among the values of a variable.
const ALL: &str = "$__all";
/// The values of all variables in one view.
#[derive(Clone)]
pub(super) struct Values {
    /// Each value may be several texts.
    by_name: HashMap<String, Chosen>,
}

#[derive(Clone)]
struct Chosen {
    texts: Vec<String>,
    /// Inserted as it is: a regular expression that the dashboard gives for "All".
    raw: bool,
    /// One of several that could be chosen together, so that it is inserted into a regular
    /// expression.
    several: bool,
}

impl Values {
    /// The values on opening the dashboard, less what the view chooses itself. Without a storage,
    /// label values are those that the dashboard was saved with.
    pub(super) fn of(dashboard: &Dashboard, storage: Option<&Storage>, view: &View) -> Self {
        let mut values = Self {
            by_name: HashMap::new(),
        };
        let range_ms = (view.to_ms - view.from_ms).max(0);
        for (name, text) in [
            ("__range", format!("{}s", range_ms / 1_000)),
            ("__range_s", (range_ms / 1_000).to_string()),
            ("__range_ms", range_ms.to_string()),
            ("__from", view.from_ms.to_string()),
            ("__to", view.to_ms.to_string()),
        ] {
            values.set(name, vec![text]);
        }
        values.interval(Duration::from_secs(15), view);
        for variable in &dashboard.variables {
            let options = values.options(&variable.kind, storage, view);
            let chosen = view.chosen.get(&variable.name).map(std::slice::from_ref);
            let chosen = chosen.unwrap_or(&variable.current);
            let all = chosen.iter().any(|text| text == ALL || text == "All");
            let several = chosen.len() > 1 || all;
            let chosen = match &variable.all {
                Some(pattern) if all => Chosen {
                    texts: vec![pattern.clone()],
                    raw: true,
                    several,
                },
                _ if all => Chosen {
                    texts: options,
                    raw: false,
                    several,
                },
                _ if chosen.is_empty() => Chosen {
                    texts: options.into_iter().take(1).collect(),
                    raw: false,
                    several,
                },
                _ => Chosen {
                    texts: chosen.to_vec(),
                    raw: false,
                    several,
                },
            };
            values.by_name.insert(variable.name.clone(), chosen);
        }
        values
    }

    fn set(&mut self, name: &str, texts: Vec<String>) {
        let chosen = Chosen {
            texts,
            raw: false,
            several: false,
        };
        self.by_name.insert(name.to_owned(), chosen);
    }

    /// Sets `$__interval` and `$__rate_interval` for a panel whose points are that far apart.
    ///
    /// The latter is the larger of four scrapes and one scrape more than the interval, so that a
    /// rate always has two samples to go by (Grafana's own definition).
    pub(super) fn interval(&mut self, interval: Duration, view: &View) {
        let rate = (interval + view.scrape_interval).max(view.scrape_interval * 4);
        self.set("__interval", vec![written(interval)]);
        self.set("__interval_ms", vec![interval.as_millis().to_string()]);
        self.set("__rate_interval", vec![written(rate)]);
    }

    fn options(&self, kind: &VariableKind, storage: Option<&Storage>, view: &View) -> Vec<String> {
        match kind {
            VariableKind::Constant(text) | VariableKind::TextBox(text) => vec![text.clone()],
            VariableKind::Custom(texts) | VariableKind::Interval(texts) => texts.clone(),
            VariableKind::LabelValues { selector, label } => storage
                .map(|storage| self.label_values(selector.as_deref(), label, storage, view))
                .unwrap_or_default(),
            VariableKind::Other(_) => Vec::new(),
        }
    }

    /// The values of a label on the series that exist in the view.
    fn label_values(
        &self,
        selector: Option<&str>,
        label: &str,
        storage: &Storage,
        view: &View,
    ) -> Vec<String> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        let mut note = |labels: &crate::Labels| {
            if let Some(value) = labels.get(label) {
                found.insert(value.to_owned());
            }
        };
        match selector {
            None => storage.series().iter().for_each(|s| note(s.labels())),
            Some(selector) => {
                let window = ((view.to_ms - view.from_ms) / 1_000).max(1);
                let exists = self
                    .filled(selector)
                    .ok()
                    .and_then(|selector| Query::parse(&format!("{selector}[{window}s]")).ok());
                if let Some(query) = exists
                    && let Ok(answer) = Engine::default().instant(storage, &query, view.to_ms)
                {
                    answer.value.rows().iter().for_each(|row| note(&row.labels));
                }
            }
        }
        found.into_iter().collect()
    }

    /// A text with its variables filled in: `$name`, `${name}`, `${name:format}`, `[[name]]`.
    ///
    /// # Errors
    /// The name that no variable has.
    pub(super) fn filled(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['$', '[']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some((name, format, length)) = reference(rest) else {
                let width = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..width]);
                rest = &rest[width..];
                continue;
            };
            match self.by_name.get(name) {
                Some(chosen) => out.push_str(&chosen.written(format)),
                // A dollar sign in a regular expression, or in a replacement: `$1`.
                None if name.chars().all(|c| c.is_ascii_digit()) => out.push_str(&rest[..length]),
                None => return Err(name.to_owned()),
            }
            rest = &rest[length..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The reference at the start of a text: its name, its format and its length in bytes.
fn reference(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    for (open, close) in [("${", "}"), ("[[", "]]")] {
        if let Some(inner) = text.strip_prefix(open) {
            let end = inner.find(close)?;
            let (name, format) = match inner[..end].split_once(':') {
                Some((name, format)) => (name, Some(format)),
                None => (&inner[..end], None),
            };
            return is_name(name).then_some((name, format, open.len() + end + close.len()));
        }
    }
    let inner = text.strip_prefix('$')?;
    let end = inner
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(inner.len());
    is_name(&inner[..end]).then_some((&inner[..end], None, 1 + end))
}

impl Chosen {
    fn written(&self, format: Option<&str>) -> String {
        if self.raw {
            return self.texts.join("|");
        }
        match format {
            Some("csv" | "raw") => self.texts.join(","),
            Some("pipe") => self.texts.join("|"),
            Some("regex") => alternatives(&self.texts),
            // Grafana's Prometheus data source escapes only what may be one of several.
            _ if self.several => alternatives(&self.texts),
            _ => self.texts.join(","),
        }
    }
}

fn alternatives(texts: &[String]) -> String {
    // Within a quoted string of a query, so that a backslash is written twice.
    let escaped: Vec<String> = texts
        .iter()
        .map(|text| regex::escape(text).replace('\\', "\\\\"))
        .collect();
    match escaped.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join("|")),
    }
}

fn written(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1_000) {
        format!("{}s", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

/// Grafana's round steps for the distance of points, in milliseconds.
const STEPS_MS: [i64; 22] = [
    1_000,
    2_000,
    5_000,
    10_000,
    15_000,
    20_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    900_000,
    1_200_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    604_800_000,
    2_592_000_000,
];

/// The distance of a panel's points: the view's range over the points that fit, rounded to one of
/// Grafana's steps, and not below the panel's own minimum or the scrape interval.
pub(super) fn interval(view: &View, points: u32, min_interval: Option<Duration>) -> Duration {
    let exact = (view.to_ms - view.from_ms).max(0) / i64::from(points.max(1));
    let nearest = STEPS_MS
        .iter()
        .copied()
        .min_by_key(|step| (step - exact).abs())
        .unwrap_or(60_000);
    let rounded = Duration::from_millis(u64::try_from(nearest).unwrap_or(60_000));
    rounded.max(min_interval.unwrap_or(view.scrape_interval))
}

/// Whether a text is a duration, as the values of an interval variable have to be.
pub(super) fn is_duration(text: &str) -> bool {
    text == "auto" || text.starts_with("$__auto") || duration(text).is_some()
}
