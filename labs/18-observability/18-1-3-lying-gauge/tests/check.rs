use lying_gauge as subject;
#[path = "../../../../harness/checks/18-observability/18_1_3.rs"]
mod check;
