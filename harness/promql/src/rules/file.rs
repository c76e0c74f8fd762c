//! Reads a rule file, as strictly as `promtool check rules` does.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::dialect::Dialect;
use crate::labels::{METRIC_NAME, is_label_name, is_metric_name};
use crate::query::Query;
use crate::template::Template;
use crate::yaml::{self, ConfigError, Fields, Problems, View};

use super::{AlertingRule, Group, RecordingRule, Rule};

const NAME_REMEDY: &str = "use letters, digits and underscores, not a digit first";

pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Vec<Group>, ConfigError> {
    let node = yaml::read(text)?;
    let mut problems = Problems::default();
    let fields = View::root(&node).fields(&["groups"], &mut problems);
    let mut names = HashSet::new();
    let mut groups = Vec::new();
    for view in fields.list("groups", &mut problems) {
        let known: &[&str] = match dialect {
            Dialect::V2 => &["name", "interval", "limit", "rules"],
            Dialect::V3 => &[
                "name",
                "interval",
                "query_offset",
                "limit",
                "labels",
                "rules",
            ],
        };
        let fields = view.fields(known, &mut problems);
        let name = fields.text("name", &mut problems).unwrap_or_default();
        if name.is_empty() {
            problems.add(&view, "the group has no name", "add `name`");
        } else if !names.insert(name) {
            let view = fields.get("name").unwrap_or_else(|| view.clone());
            problems.add(
                &view,
                format!("a group above is called `{name}` too"),
                "give each group of a file a name of its own",
            );
        }
        let interval = fields
            .duration("interval", &mut problems)
            .filter(|interval| !interval.is_zero());
        let limit = decode_limit(&fields, &mut problems);
        let query_offset = fields
            .duration("query_offset", &mut problems)
            .unwrap_or(Duration::ZERO);
        let rules = fields
            .list("rules", &mut problems)
            .iter()
            .filter_map(|view| decode_rule(view, &fields, dialect, &mut problems))
            .collect();
        groups.push(Group {
            name: name.into(),
            interval,
            query_offset,
            limit,
            rules,
        });
    }
    problems.or_error(|| groups)
}

fn decode_limit(fields: &Fields<'_>, problems: &mut Problems) -> usize {
    let Some(view) = fields.get("limit") else {
        return 0;
    };
    let text = view.text(problems);
    text.parse::<i64>().map_or_else(
        |_| {
            problems.add(
                &view,
                format!("`{text}` is no whole number"),
                "write how many series or alerts a rule may have; 0 is no limit",
            );
            0
        },
        // Prometheus takes a negative limit as none.
        |limit| usize::try_from(limit).unwrap_or(0),
    )
}

fn decode_rule(
    view: &View<'_>,
    group: &Fields<'_>,
    dialect: Dialect,
    problems: &mut Problems,
) -> Option<Rule> {
    let fields = view.fields(
        &[
            "record",
            "alert",
            "expr",
            "for",
            "keep_firing_for",
            "labels",
            "annotations",
        ],
        problems,
    );
    let record = fields
        .text("record", problems)
        .filter(|name| !name.is_empty());
    let alert = fields
        .text("alert", problems)
        .filter(|name| !name.is_empty());
    let query = decode_query(view, &fields, dialect, problems);
    let hold = fields.duration("for", problems).unwrap_or(Duration::ZERO);
    let keep_firing = fields
        .duration("keep_firing_for", problems)
        .unwrap_or(Duration::ZERO);
    match (record, alert) {
        (Some(_), Some(_)) => {
            problems.add(
                view,
                "the rule has both `record` and `alert`",
                "make two rules of it",
            );
            None
        }
        (None, None) => {
            problems.add(
                view,
                "the rule has neither `record` nor `alert`",
                "name the series to record, or the alert",
            );
            None
        }
        (Some(name), None) => {
            let name_view = fields.get("record").unwrap_or_else(|| view.clone());
            // Version 3 takes names of any letters. Braces say that a selector is meant.
            let sound = match dialect {
                Dialect::V2 => is_metric_name(name),
                Dialect::V3 => !name.contains(['{', '}']),
            };
            if !sound {
                problems.add(
                    &name_view,
                    format!("`{name}` is no name of a metric"),
                    "use letters, digits, underscores and colons, not a digit first, \
                     as in `job:requests:rate5m`",
                );
            }
            for (field, set) in [
                ("for", !hold.is_zero()),
                ("keep_firing_for", !keep_firing.is_zero()),
                (
                    "annotations",
                    fields
                        .get("annotations")
                        .is_some_and(|view| !view.pairs(problems).is_empty()),
                ),
            ] {
                if set {
                    let view = fields.get(field).unwrap_or_else(|| view.clone());
                    problems.add(
                        &view,
                        format!("a recording rule takes no `{field}`"),
                        "take it away, or write `alert` instead of `record`",
                    );
                }
            }
            let own = decode_names(&fields, "labels", dialect, problems);
            let labels = decode_names(group, "labels", dialect, problems)
                .into_iter()
                .chain(own)
                .map(|(name, value)| (name, value.text(problems).to_owned()))
                .collect();
            Some(Rule::Recording(RecordingRule {
                name: name.to_owned(),
                query: query?,
                labels,
            }))
        }
        (None, Some(name)) => {
            let mut labels = decode_templates(group, "labels", dialect, problems);
            labels.extend(decode_templates(&fields, "labels", dialect, problems));
            let annotations = decode_templates(&fields, "annotations", dialect, problems);
            Some(Rule::Alerting(Arc::new(AlertingRule {
                name: name.to_owned(),
                query: query?,
                hold,
                keep_firing,
                labels,
                annotations,
            })))
        }
    }
}

fn decode_query(
    view: &View<'_>,
    fields: &Fields<'_>,
    dialect: Dialect,
    problems: &mut Problems,
) -> Option<Query> {
    let text = fields.text("expr", problems).unwrap_or_default();
    let Some(view) = fields.get("expr").filter(|_| !text.is_empty()) else {
        problems.add(view, "the rule has no expression", "add `expr`");
        return None;
    };
    match Query::parse_as(text, dialect) {
        Ok(query) => Some(query),
        Err(diagnostic) => {
            let remedy = match &diagnostic.help {
                Some(help) => help.clone(),
                None => "mind that the place counts from the start of the expression".to_owned(),
            };
            problems.add(&view, diagnostic.to_string(), remedy);
            None
        }
    }
}

fn decode_names<'a>(
    fields: &Fields<'a>,
    field: &str,
    dialect: Dialect,
    problems: &mut Problems,
) -> Vec<(String, View<'a>)> {
    let Some(view) = fields.get(field) else {
        return Vec::new();
    };
    let mut named = Vec::new();
    for (key, value) in view.pairs(problems) {
        let reserved = field == "labels" && key.text == METRIC_NAME;
        let sound = match dialect {
            Dialect::V2 => is_label_name(key.text),
            Dialect::V3 => !key.text.is_empty(),
        };
        if !sound || reserved {
            let kind = if field == "labels" {
                "a label"
            } else {
                "an annotation"
            };
            key.problem(
                problems,
                format!("`{}` is no name of {kind}", key.text),
                NAME_REMEDY,
            );
        }
        named.push((key.text.to_owned(), value));
    }
    named
}

fn decode_templates(
    fields: &Fields<'_>,
    field: &str,
    dialect: Dialect,
    problems: &mut Problems,
) -> Vec<(String, Template)> {
    decode_names(fields, field, dialect, problems)
        .into_iter()
        .filter_map(
            |(name, value)| match Template::parse(value.text(problems)) {
                Ok(template) => Some((name, template)),
                Err(error) => {
                    let remedy = error.remedy.clone().unwrap_or_else(|| {
                        "see the templates of Prometheus's alerting rules".into()
                    });
                    let what = format!("the template: {} at `{}`", error.what, error.excerpt);
                    problems.add(&value, what, remedy);
                    None
                }
            },
        )
        .collect()
}
