use alert_thresholds as subject;
#[path = "../../../../harness/checks/17-production/17_1_4.rs"]
mod check;
