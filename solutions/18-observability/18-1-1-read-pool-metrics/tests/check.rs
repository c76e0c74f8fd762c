use read_pool_metrics_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_1_1.rs"]
mod check;
