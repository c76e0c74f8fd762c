//! A day of a service and the rules over it.

use promql::{Labels, Storage};

pub const DAY_MS: i64 = 24 * 3_600_000;
pub const INTERVAL_MS: i64 = 15_000;
const INSTANCES: u64 = 10;
const BOUNDS: [&str; 8] = ["0.05", "0.1", "0.2", "0.5", "1", "2", "5", "+Inf"];

/// Ten instances of a service: requests by code, a latency histogram, a queue and its limit.
pub fn day() -> Storage {
    let mut storage = Storage::new();
    for instance in 0..INSTANCES {
        let of = |name: &str, label: &str, value: &str| {
            let instance = format!("api-{instance}:9100");
            Labels::named(
                name,
                [
                    ("job", "api"),
                    ("instance", instance.as_str()),
                    (label, value),
                ],
            )
        };
        let mut noise = instance + 1;
        let mut totals = [0.0; BOUNDS.len()];
        let mut errors = 0.0;
        for at_ms in (0..=DAY_MS).step_by(INTERVAL_MS as usize) {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let load = 40.0 + (noise >> 60) as f64;
            // Two hours of trouble a day.
            let sick = (10 * 3_600_000..12 * 3_600_000).contains(&at_ms);
            for (nth, total) in totals.iter_mut().enumerate() {
                let share = if sick { 0.08 } else { 0.2 } * (nth + 1) as f64;
                *total += (load * share.min(1.0)).floor();
            }
            errors += if sick {
                4.0
            } else {
                f64::from(noise >> 62 == 3)
            };
            let mut put = |labels, value| storage.append(labels, at_ms, value).unwrap();
            for (bound, total) in BOUNDS.iter().zip(totals) {
                put(of("request_duration_seconds_bucket", "le", bound), total);
            }
            put(
                of("requests_total", "code", "200"),
                totals[BOUNDS.len() - 1],
            );
            put(of("requests_total", "code", "500"), errors);
            put(
                of("queue_size", "", ""),
                load * if sick { 20.0 } else { 1.0 },
            );
            put(of("queue_limit", "", ""), 500.0);
        }
    }
    storage
}

/// A rule file: ten services' worth of five rules each, as teams write them.
pub fn rules() -> String {
    let mut text = String::from("groups:\n");
    for group in 0..10 {
        text.push_str(&format!(
            "- name: service{group}
  rules:
  - record: service{group}:requests:rate5m
    expr: sum by (job) (rate(requests_total[5m]))
  - record: service{group}:errors:ratio_rate5m
    expr: sum by (job) (rate(requests_total{{code=\"500\"}}[5m])) / service{group}:requests:rate5m
  - alert: ErrorBudgetBurns{group}
    expr: service{group}:errors:ratio_rate5m > 14.4 * 0.001
    for: 2m
    labels: {{severity: critical}}
    annotations: {{summary: '{{{{ $value | humanizePercentage }}}} of requests fail'}}
  - alert: Slow{group}
    expr: histogram_quantile(0.99, sum by (le) (rate(request_duration_seconds_bucket[5m]))) > 1
    for: 5m
    labels: {{severity: warning}}
    annotations: {{summary: 'p99 is {{{{ $value }}}} s'}}
  - alert: QueueFull{group}
    expr: queue_size / on (job, instance) queue_limit > 0.9
    for: 2m
    labels: {{severity: warning}}
    annotations: {{summary: '{{{{ $labels.instance }}}} is full'}}
"
        ));
    }
    text
}
