//! The service level of the gateway: its rules and its dashboard, as they are deployed.
//!
//! `cargo run -p slo-burn-rate-solution --example month -- outage 7` plays a month of practice.

/// The rule file that Prometheus loads.
pub const RULES: &str = include_str!("../rules.yml");

/// The dashboard that Grafana loads.
pub const DASHBOARD: &str = include_str!("../dashboard.json");
