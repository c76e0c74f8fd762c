use instrument_pool as subject;
#[path = "../../../../harness/checks/18-observability/18_1_2.rs"]
mod check;
