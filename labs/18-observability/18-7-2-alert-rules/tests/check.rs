use alert_rules as subject;
#[path = "../../../../harness/checks/18-observability/18_7_2.rs"]
mod check;
