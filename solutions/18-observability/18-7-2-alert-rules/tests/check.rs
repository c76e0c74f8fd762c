use alert_rules_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_7_2.rs"]
mod check;
