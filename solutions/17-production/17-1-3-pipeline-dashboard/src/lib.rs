//! The dashboard of the image pipeline: where it lies, in this folder.
//!
//! `cargo run -p pipeline-dashboard --example play -- resize 7` plays a quarter of an hour of practice.

/// The dashboard that Grafana loads.
pub const DASHBOARD: &str = "dashboard.json";
