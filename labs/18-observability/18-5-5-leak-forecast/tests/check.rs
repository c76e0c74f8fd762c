use leak_forecast as subject;
#[path = "../../../../harness/checks/18-observability/18_5_5.rs"]
mod check;
