use useless_dashboard_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_5_3.rs"]
mod check;
