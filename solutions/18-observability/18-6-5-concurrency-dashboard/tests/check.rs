use concurrency_dashboard_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_6_5.rs"]
mod check;
