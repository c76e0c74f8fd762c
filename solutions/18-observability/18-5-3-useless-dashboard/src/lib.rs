//! The dashboard of the API and its alert: where they lie, in this folder.
//!
//! `cargo run -p useless-dashboard --example play -- pool 7` plays sixteen minutes of practice.

/// The dashboard that Grafana loads.
pub const DASHBOARD: &str = "dashboard.json";

/// The rule file that Prometheus loads.
pub const RULES: &str = "rules.yml";
