use cache_stampede_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_2_5.rs"]
mod check;
