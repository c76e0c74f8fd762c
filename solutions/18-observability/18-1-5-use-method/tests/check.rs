use use_method_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_1_5.rs"]
mod check;
