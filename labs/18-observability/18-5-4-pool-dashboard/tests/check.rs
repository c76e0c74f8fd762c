use pool_dashboard as subject;
#[path = "../../../../harness/checks/18-observability/18_5_4.rs"]
mod check;
