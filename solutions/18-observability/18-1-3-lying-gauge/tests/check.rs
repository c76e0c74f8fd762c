use lying_gauge_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_1_3.rs"]
mod check;
