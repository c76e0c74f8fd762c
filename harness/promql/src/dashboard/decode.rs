//! From JSON to a dashboard. What is not needed is passed over, as Grafana does; what is needed has
//! to have Grafana's type.

use std::time::Duration;

use serde_json::Value as Json;

use super::{
    Calculation, Dashboard, DashboardError, Field, Grid, MAX_BYTES, Mapped, Mapping, Matcher,
    Override, Panel, Property, Row, Step, Target, Thresholds, Variable, VariableKind,
};

type Result<T> = std::result::Result<T, DashboardError>;

pub(super) fn dashboard(text: &str) -> Result<Dashboard> {
    if text.len() > MAX_BYTES {
        return Err(error(
            "",
            format!("the text has {} bytes", text.len()),
            format!("a dashboard takes {MAX_BYTES} at most"),
        ));
    }
    // What an editor put in front; the browser that imports the file takes it off too.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        let remedy = "export the dashboard into it".to_owned();
        return Err(error("", "the file is empty".to_owned(), remedy));
    }
    let json: Json = serde_json::from_str(text).map_err(|problem| {
        error(
            "",
            format!("it is not JSON: {problem}"),
            "mend the text at that place".to_owned(),
        )
    })?;
    // The API wraps a dashboard into an object of its own: the older one as `dashboard`, the newer
    // one, which Grafana 12 exports as a resource, as `spec`.
    let wrapped = ["dashboard", "spec"]
        .into_iter()
        .find(|&name| json.get("panels").is_none() && json.get(name).is_some_and(Json::is_object));
    let root = match wrapped {
        Some(name) => Place {
            json: &json[name],
            path: name.to_owned(),
        },
        None => Place {
            json: &json,
            path: String::new(),
        },
    };
    root.object()?;
    if root.get("elements").is_some() && root.get("panels").is_none() {
        return Err(error(
            &root.child("elements").path,
            "this is a dashboard of schema version 2".to_owned(),
            "export it with the classic model, which has `panels`".to_owned(),
        ));
    }
    let mut read = Dashboard {
        title: root.text_or_empty("title")?,
        schema_version: root.whole("schemaVersion")?,
        range: range(&root)?,
        variables: Vec::new(),
        panels: Vec::new(),
        rows: Vec::new(),
    };
    if let Some(templating) = root.get("templating") {
        for item in templating.list("list")? {
            read.variables.push(variable(&item)?);
        }
    }
    let mut row = None;
    let mut free_standing = Vec::new();
    for item in root.list("panels")? {
        if item.text_or_empty("type")? == "row" {
            read.rows.push(Row {
                id: item.whole("id")?,
                title: item.text_or_empty("title")?,
                grid: grid(&item)?,
                collapsed: item.flag("collapsed")?,
            });
            row = Some(read.rows.len() - 1);
            for inner in item.list("panels")? {
                read.panels.push(panel(&inner, row)?);
            }
        } else {
            free_standing.push(read.panels.len());
            read.panels.push(panel(&item, row)?);
        }
    }
    // What Grafana goes by is the place on the grid, not the order in the file.
    if let Some(headings) = read
        .rows
        .iter()
        .map(|row| Some(row.grid?.y))
        .collect::<Option<Vec<u32>>>()
    {
        for index in free_standing {
            let panel = &mut read.panels[index];
            if let Some(grid) = panel.grid {
                panel.row = (0..headings.len())
                    .filter(|&row| headings[row] <= grid.y)
                    .max_by_key(|&row| headings[row]);
            }
        }
    }
    Ok(read)
}

/// How far back `time.from` lies: of `now-6h`, six hours.
fn range(root: &Place<'_>) -> Result<Option<Duration>> {
    let Some(time) = root.get("time") else {
        return Ok(None);
    };
    Ok(time
        .text("from")?
        .as_deref()
        .and_then(|from| from.trim().strip_prefix("now-"))
        .and_then(duration))
}

fn panel(place: &Place<'_>, row: Option<usize>) -> Result<Panel> {
    let kind = place.text_or_empty("type")?;
    let options = place.get("options");
    let reduce = options
        .as_ref()
        .and_then(|options| options.get("reduceOptions"));
    let mut calculations = Vec::new();
    if let Some(reduce) = &reduce {
        for name in reduce.texts("calcs")? {
            let calculation = Calculation::named(&name).ok_or_else(|| {
                error(
                    &reduce.child("calcs").path,
                    format!("`{name}` is no calculation that is known here"),
                    format!("use one of {}", Calculation::NAMES.join(", ")),
                )
            })?;
            calculations.push(calculation);
        }
    }
    if calculations.is_empty() {
        calculations.push(Calculation::LastNotNull);
    }
    let config = place.get("fieldConfig");
    let defaults = config.as_ref().and_then(|config| config.get("defaults"));
    let mode = match &defaults {
        Some(defaults) => match defaults.get("color") {
            Some(color) => color.text_or_empty("mode")?,
            None => String::new(),
        },
        None => String::new(),
    };
    let color_mode = match &options {
        Some(options) => options.text_or_empty("colorMode")?,
        None => String::new(),
    };
    let mut targets = Vec::new();
    for item in place.list("targets")? {
        targets.push(Target {
            ref_id: item.text_or_empty("refId")?,
            expression: item.text_or_empty("expr")?,
            legend: item.text_or_empty("legendFormat")?,
            instant: item.flag("instant")? && !item.flag("range")?,
            hidden: item.flag("hide")?,
            min_interval: min_interval(&item)?,
            source: source(&item)?,
            path: item.path,
        });
    }
    let by_thresholds = match mode.as_str() {
        "thresholds" => true,
        // What a panel of numbers does when nobody chose; series get a color of the palette.
        "" => matches!(
            kind.as_str(),
            "stat" | "gauge" | "bargauge" | "table" | "status-history"
        ),
        _ => false,
    };
    let custom = defaults
        .as_ref()
        .and_then(|defaults| defaults.get("custom"));
    let part = |name: &str, inner: &str| -> Result<String> {
        match custom.as_ref().and_then(|custom| custom.get(name)) {
            Some(given) => given.text_or_empty(inner),
            None => Ok(String::new()),
        }
    };
    let colored = match kind.as_str() {
        "stat" => by_thresholds && color_mode != "none",
        // A cell has a color only where its kind says so.
        "table" => by_thresholds && part("cellOptions", "type")?.starts_with("color"),
        // Its cells are colored by how many there are.
        "heatmap" => false,
        "timeseries" => {
            by_thresholds || !matches!(part("thresholdsStyle", "mode")?.as_str(), "" | "off")
        }
        _ => by_thresholds,
    };
    let mut overrides = Vec::new();
    if let Some(config) = &config {
        for item in config.list("overrides")? {
            overrides.push(override_of(&item)?);
        }
    }
    let mut transformations = Vec::new();
    for item in place.list("transformations")? {
        if !item.flag("disabled")? {
            transformations.push(item.text_or_empty("id")?);
        }
    }
    Ok(Panel {
        path: place.path.clone(),
        id: place.whole("id")?,
        title: place.text_or_empty("title")?,
        description: place.text_or_empty("description")?,
        grid: grid(place)?,
        row,
        source: source(place)?,
        targets,
        min_interval: min_interval(place)?,
        max_points: place
            .whole("maxDataPoints")?
            .map(|points| u32::try_from(points).unwrap_or(u32::MAX)),
        field: match &defaults {
            Some(defaults) => field(defaults)?,
            None => Field::default(),
        },
        overrides,
        transformations,
        time_from: place
            .text("timeFrom")?
            .as_deref()
            .map(|text| text.trim().trim_start_matches("now-"))
            .and_then(duration),
        calculations,
        colored,
        kind,
    })
}

/// The shortest interval that a panel or one of its queries states.
fn min_interval(place: &Place<'_>) -> Result<Option<Duration>> {
    match place.text("interval")? {
        // A variable is not known before the dashboard is looked at.
        Some(text) if !text.is_empty() && !text.starts_with('$') => {
            let found = duration(text.trim_start_matches('>'));
            Some(found.ok_or_else(|| {
                error(
                    &place.child("interval").path,
                    format!("`{text}` is no duration"),
                    "write it as in 15s or 1m".to_owned(),
                )
            }))
            .transpose()
        }
        _ => Ok(None),
    }
}

fn override_of(place: &Place<'_>) -> Result<Override> {
    let matcher = place.child("matcher");
    matcher.object()?;
    let id = matcher.text_or_empty("id")?;
    let of = match id.as_str() {
        "byName" => Matcher::Name(matcher.text_or_empty("options")?),
        "byRegexp" => Matcher::Pattern(matcher.text_or_empty("options")?),
        "byFrameRefID" => Matcher::Query(matcher.text_or_empty("options")?),
        _ => Matcher::Other(id),
    };
    let mut properties = Vec::new();
    for item in place.list("properties")? {
        properties.push(match item.text_or_empty("id")?.as_str() {
            "unit" => Property::Unit(item.text_or_empty("value")?),
            "decimals" => Property::Decimals(decimals(&item, "value")?),
            "min" => Property::Min(item.number("value")?),
            "max" => Property::Max(item.number("value")?),
            "thresholds" => Property::Thresholds(thresholds(&item.child("value"))?),
            "mappings" => {
                let mut mappings = Vec::new();
                for inner in item.list("value")? {
                    mapping(&inner, &mut mappings)?;
                }
                Property::Mappings(mappings)
            }
            "noValue" => Property::NoValue(item.text("value")?),
            "displayName" => Property::DisplayName(item.text_or_empty("value")?),
            "color" => {
                Property::Colored(item.child("value").text_or_empty("mode")? == "thresholds")
            }
            _ => continue,
        });
    }
    Ok(Override { of, properties })
}

fn decimals(place: &Place<'_>, name: &str) -> Result<Option<u32>> {
    Ok(place
        .whole(name)?
        .map(|decimals| u32::try_from(decimals).unwrap_or(u32::MAX).min(15)))
}

fn thresholds(place: &Place<'_>) -> Result<Thresholds> {
    let mut thresholds = Thresholds {
        percentage: place.text_or_empty("mode")? == "percentage",
        steps: Vec::new(),
    };
    for step in place.list("steps")? {
        // The first has no bound; Grafana 12 writes 0 for it.
        let is_base = thresholds.steps.is_empty();
        let from = step.number("value")?;
        thresholds.steps.push(Step {
            from: from.filter(|&from| !is_base || from != 0.0),
            color: step.text_or_empty("color")?,
        });
    }
    Ok(thresholds)
}

/// The type of a data source: an object with a type, or, in old dashboards, a name.
fn source(place: &Place<'_>) -> Result<Option<String>> {
    let Some(source) = place.get("datasource") else {
        return Ok(None);
    };
    match source.json {
        Json::Object(_) => Ok(source
            .text("type")?
            // A variable of data sources names the type by itself.
            .filter(|kind| !kind.is_empty() && !kind.starts_with('$'))),
        Json::String(name) => Ok(["loki", "tempo", "jaeger", "elasticsearch"]
            .iter()
            .find(|known| name.to_lowercase().contains(*known))
            .map(|known| (*known).to_owned())),
        _ => Err(source.wrong("an object with `type` and `uid`")),
    }
}

fn grid(place: &Place<'_>) -> Result<Option<Grid>> {
    let Some(grid) = place.get("gridPos") else {
        return Ok(None);
    };
    let number = |name| -> Result<u32> {
        let value = grid.whole(name)?.ok_or_else(|| {
            error(
                &grid.path,
                format!("there is no `{name}`"),
                "a panel needs x, y, w and h".to_owned(),
            )
        })?;
        // Far beyond any screen; larger numbers would only overflow sums.
        u32::try_from(value)
            .ok()
            .filter(|&value| value <= 1_000_000)
            .ok_or_else(|| grid.child(name).wrong("a whole number of grid units"))
    };
    Ok(Some(Grid {
        x: number("x")?,
        y: number("y")?,
        width: number("w")?,
        height: number("h")?,
    }))
}

fn field(place: &Place<'_>) -> Result<Field> {
    let mut mappings = Vec::new();
    for item in place.list("mappings")? {
        mapping(&item, &mut mappings)?;
    }
    Ok(Field {
        unit: place.text_or_empty("unit")?,
        decimals: decimals(place, "decimals")?,
        min: place.number("min")?,
        max: place.number("max")?,
        thresholds: match place.get("thresholds") {
            Some(given) => thresholds(&given)?,
            None => Thresholds::default(),
        },
        mappings,
        no_value: place.text("noValue")?,
    })
}

fn mapping(place: &Place<'_>, into: &mut Vec<Mapping>) -> Result<()> {
    let kind = place.text_or_empty("type")?;
    let Some(options) = place.get("options") else {
        return Ok(());
    };
    let result = |result: &Place<'_>, what: Mapped| -> Result<Mapping> {
        Ok(Mapping {
            what,
            text: result.text("text")?,
            color: result.text("color")?,
        })
    };
    let one = |what: Mapped| -> Result<Mapping> {
        match options.get("result") {
            Some(given) => result(&given, what),
            None => Ok(Mapping {
                what,
                text: None,
                color: None,
            }),
        }
    };
    match kind.as_str() {
        "value" => {
            for (value, _) in options.object()? {
                let given = options.child(value);
                into.push(result(&given, Mapped::Value(value.clone()))?);
            }
        }
        "range" => into.push(one(Mapped::Range(
            options.number("from")?,
            options.number("to")?,
        ))?),
        "regex" => into.push(one(Mapped::Regex(options.text_or_empty("pattern")?))?),
        "special" => match options.text_or_empty("match")?.as_str() {
            "null" | "empty" => into.push(one(Mapped::Null)?),
            "nan" => into.push(one(Mapped::NaN)?),
            "null+nan" => {
                into.push(one(Mapped::Null)?);
                into.push(one(Mapped::NaN)?);
            }
            "true" => into.push(one(Mapped::Value("true".to_owned()))?),
            "false" => into.push(one(Mapped::Value("false".to_owned()))?),
            other => {
                return Err(error(
                    &options.child("match").path,
                    format!("`{other}` is no special value"),
                    "use null, nan, null+nan, true, false or empty".to_owned(),
                ));
            }
        },
        other => {
            return Err(error(
                &place.child("type").path,
                format!("`{other}` is no kind of mapping"),
                "use value, range, regex or special".to_owned(),
            ));
        }
    }
    Ok(())
}

fn variable(place: &Place<'_>) -> Result<Variable> {
    let kind = place.text_or_empty("type")?;
    let query = match place.get("query") {
        Some(query) => match query.json {
            Json::String(text) => text.clone(),
            Json::Object(_) => query.text_or_empty("query")?,
            _ => return Err(query.wrong("a text, or an object with `query`")),
        },
        None => String::new(),
    };
    let listed = || -> Vec<String> {
        query
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect()
    };
    let current = match place.get("current") {
        Some(current) => match current.get("value") {
            Some(value) => match value.json {
                Json::String(text) => vec![text.clone()],
                Json::Array(_) => current.texts("value")?,
                _ => return Err(value.wrong("a text or a list of texts")),
            },
            None => Vec::new(),
        },
        None => Vec::new(),
    };
    let parsed = match kind.as_str() {
        "constant" => VariableKind::Constant(query),
        "custom" => VariableKind::Custom(listed()),
        "interval" => VariableKind::Interval(listed()),
        "textbox" => VariableKind::TextBox(query),
        "query" => label_values(&query).ok_or_else(|| {
            error(
                &place.child("query").path,
                format!("`{query}` is no query for a variable that is known here"),
                "write it as label_values(label) or label_values(selector, label)".to_owned(),
            )
        })?,
        other => VariableKind::Other(other.to_owned()),
    };
    Ok(Variable {
        path: place.path.clone(),
        name: place.text_or_empty("name")?,
        kind: parsed,
        current,
        all: place.text("allValue")?.filter(|all| !all.is_empty()),
    })
}

/// `label_values(label)` or `label_values(selector, label)`.
fn label_values(query: &str) -> Option<VariableKind> {
    let inner = query
        .trim()
        .strip_prefix("label_values(")?
        .strip_suffix(')')?;
    let (selector, label) = match inner.rsplit_once(',') {
        Some((selector, label)) => (Some(selector.trim().to_owned()), label.trim()),
        None => (None, inner.trim()),
    };
    let is_name = !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| VariableKind::LabelValues {
        selector,
        label: label.to_owned(),
    })
}

/// A duration as Grafana writes it, such as `500ms`, `15s` or `1m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit_ms)?))
}

fn error(path: &str, what: String, remedy: String) -> DashboardError {
    DashboardError {
        path: path.to_owned(),
        what,
        remedy,
    }
}

/// A value in the JSON, and where it stands.
struct Place<'a> {
    json: &'a Json,
    path: String,
}

impl<'a> Place<'a> {
    fn child(&self, name: &str) -> Place<'a> {
        static NULL: Json = Json::Null;
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        Place {
            json: self.json.get(name).unwrap_or(&NULL),
            path,
        }
    }

    /// The value under `name`; `None` where it is missing or null.
    fn get(&self, name: &str) -> Option<Place<'a>> {
        Some(self.child(name)).filter(|child| !child.json.is_null())
    }

    fn wrong(&self, expected: &str) -> DashboardError {
        let found = match self.json {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => format!("the truth value {value}"),
            Json::Number(value) => format!("the number {value}"),
            Json::String(value) => format!("the text {value:?}"),
            Json::Array(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
        };
        error(
            &self.path,
            format!("it is {found}"),
            format!("it should be {expected}"),
        )
    }

    fn object(&self) -> Result<&'a serde_json::Map<String, Json>> {
        self.json.as_object().ok_or_else(|| self.wrong("an object"))
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(child) = self.get(name) else {
            return Ok(None);
        };
        match child.json {
            Json::String(text) => Ok(Some(text.clone())),
            // Grafana takes numbers for texts in many places.
            Json::Number(number) => Ok(Some(number.to_string())),
            _ => Err(child.wrong("a text")),
        }
    }

    fn text_or_empty(&self, name: &str) -> Result<String> {
        Ok(self.text(name)?.unwrap_or_default())
    }

    fn number(&self, name: &str) -> Result<Option<f64>> {
        let Some(child) = self.get(name) else {
            return Ok(None);
        };
        let number = match child.json {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(child.wrong("a number")),
        }
    }

    fn whole(&self, name: &str) -> Result<Option<u64>> {
        let Some(child) = self.get(name) else {
            return Ok(None);
        };
        match child.json.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(child.wrong("a whole number")),
        }
    }

    fn flag(&self, name: &str) -> Result<bool> {
        let Some(child) = self.get(name) else {
            return Ok(false);
        };
        child
            .json
            .as_bool()
            .ok_or_else(|| child.wrong("true or false"))
    }

    fn list(&self, name: &str) -> Result<Vec<Place<'a>>> {
        let Some(child) = self.get(name) else {
            return Ok(Vec::new());
        };
        let items = child.json.as_array().ok_or_else(|| child.wrong("a list"))?;
        let places = items.iter().enumerate().map(|(index, json)| Place {
            json,
            path: format!("{}[{index}]", child.path),
        });
        places
            .map(|place| match place.json {
                Json::Object(_) => Ok(place),
                _ => Err(place.wrong("an object")),
            })
            .collect()
    }

    fn texts(&self, name: &str) -> Result<Vec<String>> {
        let Some(child) = self.get(name) else {
            return Ok(Vec::new());
        };
        let items = child.json.as_array().ok_or_else(|| child.wrong("a list"))?;
        items
            .iter()
            .map(|item| match item {
                Json::String(text) => Ok(text.clone()),
                _ => Err(child.wrong("a list of texts")),
            })
            .collect()
    }
}
