use incident_at_3am_solution as subject;
#[path = "../../../../harness/checks/18-observability/18_5_1.rs"]
mod check;
