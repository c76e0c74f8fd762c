use use_method as subject;
#[path = "../../../../harness/checks/18-observability/18_1_5.rs"]
mod check;
