use concurrency_dashboard as subject;
#[path = "../../../../harness/checks/18-observability/18_6_5.rs"]
mod check;
