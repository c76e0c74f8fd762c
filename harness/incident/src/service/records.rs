//! Log lines and traces, as a log store and a collector would have received them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Setup;
use super::engine::mixed;
use crate::calendar::rfc3339_millis;

/// The lines that arrived.
pub(super) struct LogBook {
    epoch_ms: i64,
    service: String,
    one_in: u32,
    window: u64,
    seed: u64,
    lines: Vec<(u64, String)>,
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

#[expect(
    clippy::cast_possible_wrap,
    reason = "times of a simulation are far below 2^63"
)]
fn millis(micros: u64) -> i64 {
    (micros / 1_000) as i64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number of seconds"
)]
fn window(setup: &Setup) -> u64 {
    (setup.warm_up * 1e6) as u64
}

impl LogBook {
    pub(super) fn new(epoch_ms: i64, setup: &Setup) -> Self {
        LogBook {
            epoch_ms,
            service: setup.service.name.clone(),
            one_in: setup.log_one_in,
            window: window(setup),
            seed: mixed(setup.seed ^ 0x0106),
            lines: Vec::new(),
        }
    }

    pub(super) fn keeps(&self) -> bool {
        self.one_in > 0
    }

    /// Whether a line of this request and level (an index of [`super::registry::LEVELS`]) is kept.
    pub(super) fn wants(&self, request: u64, level: usize) -> bool {
        self.one_in > 0
            && (level > 0 || mixed(request ^ self.seed).is_multiple_of(u64::from(self.one_in)))
    }

    pub(super) fn request_id(&self, request: u64) -> String {
        format!("{:016x}", mixed(request ^ self.seed ^ 0x1D))
    }

    pub(super) fn line(
        &mut self,
        at: u64,
        level: &str,
        instance: &str,
        message: &str,
        fields: &[(&'static str, String)],
        numbers: &[(&'static str, f64)],
    ) {
        if at < self.window {
            return;
        }
        let mut line = format!(
            "{{\"time\":\"{}\",\"level\":\"{level}\",\"service\":{},\"instance\":{},\"message\":{}",
            rfc3339_millis(self.epoch_ms + millis(at)),
            quoted(&self.service),
            quoted(instance),
            quoted(message),
        );
        for (name, text) in fields {
            let _ = write!(line, ",\"{name}\":{}", quoted(text));
        }
        for (name, number) in numbers {
            let _ = write!(line, ",\"{name}\":{number}");
        }
        line.push_str("}\n");
        self.lines.push((at, line));
    }

    pub(super) fn into_text(self) -> String {
        self.lines.into_iter().map(|(_, line)| line).collect()
    }
}

struct Span {
    name: String,
    start: u64,
    end: u64,
    error: Option<String>,
    attributes: Vec<(String, String)>,
}

/// The sampled traces.
pub(super) struct Tracer {
    epoch_ms: i64,
    service: String,
    one_in: u32,
    window: u64,
    seed: u64,
    /// Spans of requests that have not ended, by the number of the request.
    open: BTreeMap<u64, Vec<Span>>,
    /// By instance: finished spans as JSON.
    done: BTreeMap<usize, Vec<String>>,
}

impl Tracer {
    pub(super) fn new(epoch_ms: i64, setup: &Setup) -> Self {
        Tracer {
            epoch_ms,
            service: setup.service.name.clone(),
            one_in: setup.trace_one_in,
            window: window(setup),
            seed: mixed(setup.seed ^ 0x7ACE),
            open: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// Whether the request of this number is traced: decided at its start, by its number alone.
    pub(super) fn wants(&self, request: u64) -> bool {
        self.one_in > 0 && mixed(request ^ self.seed).is_multiple_of(u64::from(self.one_in))
    }

    pub(super) fn trace_id(&self, request: u64) -> String {
        let high = mixed(request ^ self.seed ^ 0x1);
        // Ids must not be zero.
        let low = mixed(request ^ self.seed ^ 0x2) | 1;
        format!("{high:016x}{low:016x}")
    }

    fn span_id(&self, request: u64, nth: u64) -> String {
        let id = mixed(mixed(request ^ self.seed).wrapping_add(nth)) | 1;
        format!("{id:016x}")
    }

    pub(super) fn span(
        &mut self,
        request: u64,
        name: &str,
        start: u64,
        end: u64,
        error: Option<&str>,
        attributes: &[(&str, &str)],
    ) {
        self.open.entry(request).or_default().push(Span {
            name: name.into(),
            start,
            end,
            error: error.map(str::to_owned),
            attributes: attributes
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        });
    }

    pub(super) fn forget(&mut self, request: u64) {
        self.open.remove(&request);
    }

    #[expect(clippy::too_many_arguments, reason = "what a root span says")]
    pub(super) fn root(
        &mut self,
        request: u64,
        name: &str,
        start: u64,
        end: u64,
        status: u16,
        tenant: &str,
        instance: usize,
    ) {
        let children = self.open.remove(&request).unwrap_or_default();
        if start < self.window {
            return;
        }
        let trace = self.trace_id(request);
        let root_id = self.span_id(request, 0);
        let mut attributes = vec![(
            "http.response.status_code".to_owned(),
            format!("{{\"intValue\":\"{status}\"}}"),
        )];
        if !tenant.is_empty() {
            attributes.push(("tenant".into(), text_value(tenant)));
        }
        let error = (status >= 500).then_some("");
        let root = self.json(
            &trace,
            &root_id,
            None,
            name,
            2,
            start,
            end,
            error,
            &attributes,
        );
        let mut spans = vec![root];
        for (nth, child) in children.iter().enumerate() {
            let id = self.span_id(request, 1 + nth as u64);
            let attributes: Vec<(String, String)> = child
                .attributes
                .iter()
                .map(|(name, value)| (name.clone(), text_value(value)))
                .collect();
            let kind = match child.name.split(' ').next() {
                Some("query" | "call") => 3,
                _ => 1,
            };
            spans.push(self.json(
                &trace,
                &id,
                Some(&root_id),
                &child.name,
                kind,
                child.start,
                child.end,
                child.error.as_deref(),
                &attributes,
            ));
        }
        self.done.entry(instance).or_default().extend(spans);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the format")]
    fn json(
        &self,
        trace: &str,
        id: &str,
        parent: Option<&str>,
        name: &str,
        kind: u8,
        start: u64,
        end: u64,
        error: Option<&str>,
        attributes: &[(String, String)],
    ) -> String {
        let nanos = |micros: u64| {
            let epoch = u64::try_from(self.epoch_ms).unwrap_or(0);
            epoch * 1_000_000 + micros * 1_000
        };
        let mut json = format!("{{\"traceId\":\"{trace}\",\"spanId\":\"{id}\",");
        if let Some(parent) = parent {
            let _ = write!(json, "\"parentSpanId\":\"{parent}\",");
        }
        let _ = write!(
            json,
            "\"name\":{},\"kind\":{kind},\"startTimeUnixNano\":\"{}\",\"endTimeUnixNano\":\"{}\"",
            quoted(name),
            nanos(start),
            nanos(end)
        );
        let listed: Vec<String> = attributes
            .iter()
            .map(|(name, value)| format!("{{\"key\":{},\"value\":{value}}}", quoted(name)))
            .collect();
        let _ = write!(json, ",\"attributes\":[{}]", listed.join(","));
        match error {
            Some("") => json.push_str(",\"status\":{\"code\":2}"),
            Some(message) => {
                let message = quoted(message);
                let _ = write!(json, ",\"status\":{{\"code\":2,\"message\":{message}}}");
            }
            None => {}
        }
        json.push('}');
        json
    }

    pub(super) fn into_text(self, instances: &[String]) -> String {
        let groups: Vec<String> = self
            .done
            .iter()
            .map(|(&instance, spans)| {
                format!(
                    "{{\"resource\":{{\"attributes\":[\
                     {{\"key\":\"service.name\",\"value\":{}}},\
                     {{\"key\":\"service.instance.id\",\"value\":{}}}]}},\
                     \"scopeSpans\":[{{\"scope\":{{\"name\":{}}},\"spans\":[\n{}\n]}}]}}",
                    text_value(&self.service),
                    text_value(&instances[instance]),
                    quoted(&self.service),
                    spans.join(",\n")
                )
            })
            .collect();
        format!("{{\"resourceSpans\":[{}]}}\n", groups.join(","))
    }
}

fn text_value(text: &str) -> String {
    format!("{{\"stringValue\":{}}}", quoted(text))
}
