//! The service level of the gateway: where its rules and its dashboard lie, in this folder.
//!
//! `cargo run -p slo-burn-rate-solution --example month -- outage 7` plays a month of practice.

/// The rule file that Prometheus loads.
pub const RULES: &str = "rules.yml";

/// The dashboard that Grafana loads.
pub const DASHBOARD: &str = "dashboard.json";
