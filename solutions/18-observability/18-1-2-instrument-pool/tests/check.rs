use instrument_pool_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_1_2.rs"]
mod check;
