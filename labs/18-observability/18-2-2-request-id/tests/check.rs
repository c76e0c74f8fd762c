use request_id as subject;
#[path = "../../../../harness/checks/18-observability/18_2_2.rs"]
mod check;
