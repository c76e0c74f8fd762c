//! Reads an Alertmanager configuration file.
//!
//! Strict where Alertmanager 0.25 is. Of the services behind receivers, the fields of webhook, Slack,
//! e-mail, PagerDuty and Opsgenie are checked by name; of the others only `send_resolved` is read.

use std::collections::HashSet;
use std::time::Duration;

use crate::labels::is_label_name;
use crate::yaml::{self, ConfigError, Fields, Problems, View};

use super::interval::TimeInterval;
use super::matcher::{LabelMatcher, MatchOperator};
use super::tree::{GroupBy, Route};
use super::{InhibitRule, Routing};

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    name: String,
    integrations: Vec<Integration>,
}

/// One service of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Integration {
    kind: &'static str,
    index: usize,
    send_resolved: bool,
    target: Option<String>,
    max_alerts: usize,
}

impl Receiver {
    /// The name that routes refer to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The services behind it; none means that nobody is told.
    pub fn integrations(&self) -> &[Integration] {
        &self.integrations
    }
}

impl Integration {
    /// The kind, as in `webhook` or `slack`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Which one of its kind in the receiver, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether it is told that alerts are resolved.
    pub fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    /// The most alerts that a webhook's request holds; 0 is no limit.
    pub fn max_alerts(&self) -> usize {
        self.max_alerts
    }

    /// The webhook's URL, the Slack channel or the e-mail address, if the file has it.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }
}

struct Kind {
    name: &'static str,
    list: &'static str,
    send_resolved: bool,
    /// The field that says where notifications go.
    target: &'static str,
    /// Every field, or nothing if the names are not checked.
    fields: &'static [&'static str],
}

const KINDS: [Kind; 12] = [
    Kind {
        name: "discord",
        list: "discord_configs",
        send_resolved: true,
        target: "",
        fields: &[],
    },
    Kind {
        name: "email",
        list: "email_configs",
        send_resolved: false,
        target: "to",
        fields: &[
            "send_resolved",
            "to",
            "from",
            "hello",
            "smarthost",
            "auth_username",
            "auth_password",
            "auth_password_file",
            "auth_secret",
            "auth_identity",
            "headers",
            "html",
            "text",
            "require_tls",
            "tls_config",
        ],
    },
    Kind {
        name: "pagerduty",
        list: "pagerduty_configs",
        send_resolved: true,
        target: "url",
        fields: &[
            "send_resolved",
            "http_config",
            "service_key",
            "service_key_file",
            "routing_key",
            "routing_key_file",
            "url",
            "client",
            "client_url",
            "description",
            "details",
            "images",
            "links",
            "source",
            "severity",
            "class",
            "component",
            "group",
        ],
    },
    Kind {
        name: "slack",
        list: "slack_configs",
        send_resolved: false,
        target: "channel",
        fields: &[
            "send_resolved",
            "http_config",
            "api_url",
            "api_url_file",
            "channel",
            "username",
            "color",
            "title",
            "title_link",
            "pretext",
            "text",
            "fields",
            "short_fields",
            "footer",
            "fallback",
            "callback_id",
            "icon_emoji",
            "icon_url",
            "image_url",
            "thumb_url",
            "link_names",
            "mrkdwn_in",
            "actions",
        ],
    },
    Kind {
        name: "webhook",
        list: "webhook_configs",
        send_resolved: true,
        target: "url",
        fields: &["send_resolved", "http_config", "url", "max_alerts"],
    },
    Kind {
        name: "opsgenie",
        list: "opsgenie_configs",
        send_resolved: true,
        target: "api_url",
        fields: &[
            "send_resolved",
            "http_config",
            "api_key",
            "api_key_file",
            "api_url",
            "message",
            "description",
            "source",
            "details",
            "entity",
            "responders",
            "actions",
            "tags",
            "note",
            "priority",
            "update_alerts",
        ],
    },
    Kind {
        name: "wechat",
        list: "wechat_configs",
        send_resolved: false,
        target: "",
        fields: &[],
    },
    Kind {
        name: "pushover",
        list: "pushover_configs",
        send_resolved: true,
        target: "",
        fields: &[],
    },
    Kind {
        name: "victorops",
        list: "victorops_configs",
        send_resolved: true,
        target: "",
        fields: &[],
    },
    Kind {
        name: "sns",
        list: "sns_configs",
        send_resolved: true,
        target: "",
        fields: &[],
    },
    Kind {
        name: "telegram",
        list: "telegram_configs",
        send_resolved: true,
        target: "",
        fields: &[],
    },
    Kind {
        name: "webex",
        list: "webex_configs",
        send_resolved: true,
        target: "",
        fields: &[],
    },
];

const GLOBAL: [&str; 27] = [
    "resolve_timeout",
    "http_config",
    "smtp_from",
    "smtp_hello",
    "smtp_smarthost",
    "smtp_auth_username",
    "smtp_auth_password",
    "smtp_auth_password_file",
    "smtp_auth_secret",
    "smtp_auth_identity",
    "smtp_require_tls",
    "slack_api_url",
    "slack_api_url_file",
    "pagerduty_url",
    "opsgenie_api_url",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "wechat_api_url",
    "wechat_api_secret",
    "wechat_api_corp_id",
    "victorops_api_url",
    "victorops_api_key",
    "victorops_api_key_file",
    "telegram_api_url",
    "webex_api_url",
    "discord_api_url",
    "pushover_api_url",
];

const ROUTE: [&str; 12] = [
    "receiver",
    "group_by",
    "group_wait",
    "group_interval",
    "repeat_interval",
    "match",
    "match_re",
    "matchers",
    "continue",
    "routes",
    "mute_time_intervals",
    "active_time_intervals",
];

pub(super) fn parse(text: &str) -> Result<Routing, ConfigError> {
    let node = yaml::read(text)?;
    let mut problems = Problems::default();
    let root = View::root(&node);
    let fields = root.fields(
        &[
            "global",
            "route",
            "inhibit_rules",
            "receivers",
            "templates",
            "mute_time_intervals",
            "time_intervals",
        ],
        &mut problems,
    );
    let global = fields
        .get("global")
        .map(|view| view.fields(&GLOBAL, &mut problems));
    let resolve_timeout = global
        .as_ref()
        .and_then(|global| global.duration("resolve_timeout", &mut problems))
        .unwrap_or(Duration::from_secs(5 * 60));
    let receivers = decode_receivers(&fields, global.as_ref(), &mut problems);
    let intervals = decode_intervals(&fields, &mut problems);
    let inhibit_rules = fields
        .list("inhibit_rules", &mut problems)
        .iter()
        .map(|view| decode_inhibit_rule(view, &mut problems))
        .collect();
    let known = Known {
        receivers: receivers.iter().map(Receiver::name).collect(),
        intervals: intervals.iter().map(TimeInterval::name).collect(),
    };
    let route = match fields.get("route") {
        Some(view) => Some(decode_route(&view, None, &known, &mut 0, &mut problems)),
        None => {
            problems.add(
                &root,
                "there is no route",
                "add `route` with a `receiver`: every alert needs one",
            );
            None
        }
    };
    let (Some(root), true) = (route, problems.is_empty()) else {
        return problems.or_error(|| unreachable!("a file without a route has a problem"));
    };
    Ok(Routing {
        root,
        receivers,
        inhibit_rules,
        intervals,
        resolve_timeout,
    })
}

struct Known<'a> {
    receivers: HashSet<&'a str>,
    intervals: HashSet<&'a str>,
}

fn decode_receivers(
    fields: &Fields<'_>,
    global: Option<&Fields<'_>>,
    problems: &mut Problems,
) -> Vec<Receiver> {
    let mut names = HashSet::new();
    let known: Vec<&str> = std::iter::once("name")
        .chain(KINDS.iter().map(|kind| kind.list))
        .collect();
    let mut receivers = Vec::new();
    for view in fields.list("receivers", problems) {
        let fields = view.fields(&known, problems);
        let name = fields.text("name", problems).unwrap_or_default().to_owned();
        if name.is_empty() {
            problems.add(&view, "the receiver has no name", "add `name`");
        } else if !names.insert(name.clone()) {
            problems.add(
                &view,
                format!("a receiver above is called `{name}` too"),
                "give each receiver a name of its own",
            );
        }
        let mut integrations = Vec::new();
        for kind in &KINDS {
            for (index, view) in fields.list(kind.list, problems).iter().enumerate() {
                integrations.push(decode_integration(kind, index, view, global, problems));
            }
        }
        receivers.push(Receiver { name, integrations });
    }
    receivers
}

fn decode_integration(
    kind: &Kind,
    index: usize,
    view: &View<'_>,
    global: Option<&Fields<'_>>,
    problems: &mut Problems,
) -> Integration {
    let fields = if kind.fields.is_empty() {
        view.open_fields(problems)
    } else {
        view.fields(kind.fields, problems)
    };
    let globally = |name: &str| global.is_some_and(|global| global.get(name).is_some());
    let send_resolved = fields
        .boolean("send_resolved", problems)
        .unwrap_or(kind.send_resolved);
    let target = fields
        .text(kind.target, problems)
        .filter(|target| !target.is_empty())
        .map(str::to_owned);
    let max_alerts = fields.get("max_alerts").map_or(0, |view| {
        let text = view.text(problems);
        text.parse().unwrap_or_else(|_| {
            problems.add(
                &view,
                format!("`{text}` is no number of alerts"),
                "write a whole number; 0 is no limit",
            );
            0
        })
    });
    match kind.name {
        "webhook" => match &target {
            None => problems.add(view, "the webhook has no `url`", "add `url`"),
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => {
                problems.add(
                    &fields.get("url").unwrap_or_else(|| view.clone()),
                    format!("the URL `{url}` does not begin with http:// or https://"),
                    "write the whole URL",
                );
            }
            Some(_) => {}
        },
        "slack"
            if fields.get("api_url").is_none()
                && fields.get("api_url_file").is_none()
                && !globally("slack_api_url")
                && !globally("slack_api_url_file") =>
        {
            problems.add(
                view,
                "Slack's address is not known",
                "add `api_url` here or `slack_api_url` under `global`",
            );
        }
        "email" => {
            if target.is_none() {
                problems.add(view, "the e-mail has no address", "add `to`");
            }
            for (own, global) in [("smarthost", "smtp_smarthost"), ("from", "smtp_from")] {
                if fields.get(own).is_none() && !globally(global) {
                    problems.add(
                        view,
                        format!("the e-mail has no `{own}`"),
                        format!("add `{own}` here or `{global}` under `global`"),
                    );
                }
            }
        }
        "pagerduty"
            if [
                "service_key",
                "service_key_file",
                "routing_key",
                "routing_key_file",
            ]
            .iter()
            .all(|key| fields.get(key).is_none()) =>
        {
            problems.add(
                view,
                "PagerDuty's key is missing",
                "add `routing_key` or `service_key`",
            );
        }
        "opsgenie"
            if fields.get("api_key").is_none()
                && fields.get("api_key_file").is_none()
                && !globally("opsgenie_api_key")
                && !globally("opsgenie_api_key_file") =>
        {
            problems.add(
                view,
                "Opsgenie's key is missing",
                "add `api_key` here or `opsgenie_api_key` under `global`",
            );
        }
        _ => {}
    }
    Integration {
        kind: kind.name,
        index,
        send_resolved,
        target,
        max_alerts,
    }
}

fn decode_intervals(fields: &Fields<'_>, problems: &mut Problems) -> Vec<TimeInterval> {
    let mut names = HashSet::new();
    let mut intervals = Vec::new();
    for list in ["mute_time_intervals", "time_intervals"] {
        for view in fields.list(list, problems) {
            let interval = TimeInterval::decode(&view, problems);
            if !interval.name().is_empty() && !names.insert(interval.name().to_owned()) {
                problems.add(
                    &view,
                    format!("a time interval above is called `{}` too", interval.name()),
                    "give each a name of its own",
                );
            }
            intervals.push(interval);
        }
    }
    intervals
}

fn decode_inhibit_rule(view: &View<'_>, problems: &mut Problems) -> InhibitRule {
    let fields = view.fields(
        &[
            "source_match",
            "source_match_re",
            "source_matchers",
            "target_match",
            "target_match_re",
            "target_matchers",
            "equal",
        ],
        problems,
    );
    let source = decode_matchers(&fields, "source_", problems);
    let target = decode_matchers(&fields, "target_", problems);
    let equal = fields
        .list("equal", problems)
        .iter()
        .map(|name| decode_label_name(name, problems))
        .collect();
    InhibitRule {
        source,
        target,
        equal,
    }
}

fn decode_label_name(view: &View<'_>, problems: &mut Problems) -> String {
    let name = view.text(problems);
    if !is_label_name(name) {
        problems.add(
            view,
            format!("`{name}` is no name of a label"),
            "use letters, digits and underscores, not a digit first",
        );
    }
    name.to_owned()
}

/// The matchers of all three syntaxes under one prefix, sorted.
fn decode_matchers(
    fields: &Fields<'_>,
    prefix: &str,
    problems: &mut Problems,
) -> Vec<LabelMatcher> {
    let mut matchers = Vec::new();
    for (name, operator) in [
        ("match", MatchOperator::Equal),
        ("match_re", MatchOperator::Regex),
    ] {
        let Some(view) = fields.get(&format!("{prefix}{name}")) else {
            continue;
        };
        for (key, value) in view.pairs(problems) {
            if !is_label_name(key.text) {
                key.problem(
                    problems,
                    format!("`{}` is no name of a label", key.text),
                    "use letters, digits and underscores, not a digit first",
                );
            }
            match LabelMatcher::new(key.text, operator, value.text(problems)) {
                Ok(matcher) => matchers.push(matcher),
                Err(error) => problems.add(
                    &value,
                    error.to_string(),
                    "mind that it must match the whole value",
                ),
            }
        }
    }
    for view in fields.list(&format!("{prefix}matchers"), problems) {
        match LabelMatcher::parse_list(view.text(problems)) {
            Ok(parsed) => matchers.extend(parsed),
            Err(error) => problems.add(
                &view,
                error.to_string(),
                "one matcher in a line, in single quotes as a whole if the value has double ones",
            ),
        }
    }
    matchers.sort_by(|a, b| {
        (a.name(), a.value(), a.operator()).cmp(&(b.name(), b.value(), b.operator()))
    });
    matchers
}

fn decode_route(
    view: &View<'_>,
    parent: Option<&Route>,
    known: &Known<'_>,
    next_index: &mut usize,
    problems: &mut Problems,
) -> Route {
    let fields = view.fields(&ROUTE, problems);
    let matchers = decode_matchers(&fields, "", problems);
    let receiver = decode_receiver_name(view, &fields, parent, known, problems);
    let group_by = decode_group_by(&fields, problems);
    let mut interval_names = |name: &str| -> Vec<String> {
        let mut names = Vec::new();
        for view in fields.list(name, problems) {
            let interval = view.text(problems);
            if !known.intervals.contains(interval) {
                problems.add(
                    &view,
                    format!("no time interval is called `{interval}`"),
                    "define it under `time_intervals`",
                );
            }
            names.push(interval.to_owned());
        }
        names
    };
    let mute_time_intervals = interval_names("mute_time_intervals");
    let active_time_intervals = interval_names("active_time_intervals");
    let goes_on = fields.boolean("continue", problems).unwrap_or(false);
    if parent.is_none() {
        let limits = [
            (
                !matchers.is_empty(),
                "the root route has matchers",
                "take them away: the root takes what no other route does; \
                 put the condition on a route under `routes`",
            ),
            (
                goes_on,
                "the root route has `continue`",
                "take it away: nothing stands beside the root",
            ),
            (
                !mute_time_intervals.is_empty() || !active_time_intervals.is_empty(),
                "the root route has time intervals",
                "put them on a route under `routes`",
            ),
        ];
        for (broken, what, remedy) in limits {
            if broken {
                problems.add(view, what, remedy);
            }
        }
    }
    let mut positive = |name: &str| {
        let duration = fields.duration(name, problems)?;
        if let (true, Some(view)) = (duration.is_zero(), fields.get(name)) {
            problems.add(&view, format!("`{name}` is zero"), "make it `1s` or more");
        }
        Some(duration)
    };
    let group_interval = positive("group_interval")
        .or(parent.map(|parent| parent.group_interval))
        .unwrap_or(Duration::from_secs(5 * 60));
    let repeat_interval = positive("repeat_interval")
        .or(parent.map(|parent| parent.repeat_interval))
        .unwrap_or(Duration::from_secs(4 * 3600));
    let group_wait = fields
        .duration("group_wait", problems)
        .or(parent.map(|parent| parent.group_wait))
        .unwrap_or(Duration::from_secs(30));
    let listed: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    let own_key = format!("{{{}}}", listed.join(","));
    let key = match parent {
        Some(parent) => format!("{}/{own_key}", parent.key),
        None => own_key,
    };
    let index = *next_index;
    *next_index += 1;
    let mut route = Route {
        receiver,
        matchers,
        group_by: group_by
            .or(parent.map(|parent| parent.group_by.clone()))
            .unwrap_or(GroupBy::Labels(Vec::new())),
        group_wait,
        group_interval,
        repeat_interval,
        mute_time_intervals,
        active_time_intervals,
        goes_on,
        key,
        index,
        routes: Vec::new(),
    };
    route.routes = fields
        .list("routes", problems)
        .iter()
        .map(|view| decode_route(view, Some(&route), known, next_index, problems))
        .collect();
    route
}

fn decode_receiver_name(
    view: &View<'_>,
    fields: &Fields<'_>,
    parent: Option<&Route>,
    known: &Known<'_>,
    problems: &mut Problems,
) -> String {
    let name = fields.text("receiver", problems).unwrap_or_default();
    match parent {
        _ if !name.is_empty() => {
            if !known.receivers.contains(name) {
                let view = fields.get("receiver").unwrap_or_else(|| view.clone());
                problems.add(
                    &view,
                    format!("no receiver is called `{name}`"),
                    "define it under `receivers`",
                );
            }
            name.to_owned()
        }
        Some(parent) => parent.receiver.clone(),
        None => {
            problems.add(
                view,
                "the root route has no receiver",
                "add `receiver`: it takes what no other route does",
            );
            String::new()
        }
    }
}

/// `None` where the route leaves it to its parent.
fn decode_group_by(fields: &Fields<'_>, problems: &mut Problems) -> Option<GroupBy> {
    let view = fields.get("group_by")?;
    let mut names: Vec<String> = Vec::new();
    let mut all = false;
    for item in view.list(problems) {
        if item.text(problems) == "..." {
            all = true;
            continue;
        }
        let name = decode_label_name(&item, problems);
        if names.contains(&name) {
            problems.add(&item, format!("`{name}` is there twice"), "keep one");
        }
        names.push(name);
    }
    if all && !names.is_empty() {
        problems.add(
            &view,
            "`...` stands beside labels",
            "write `...` alone, which is every label, or the labels alone",
        );
    }
    names.sort();
    match (all, names.is_empty()) {
        (true, _) => Some(GroupBy::All),
        (false, true) => None,
        (false, false) => Some(GroupBy::Labels(names)),
    }
}
