use deploy_correlation_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_5_2.rs"]
mod check;
