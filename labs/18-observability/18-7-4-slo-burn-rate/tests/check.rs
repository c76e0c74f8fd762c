use slo_burn_rate as subject;
#[path = "../../../../harness/checks/18-observability/18_7_4.rs"]
mod check;
