use trace_the_pool_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_4_2.rs"]
mod check;
