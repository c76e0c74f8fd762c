use trace_the_pool as subject;
#[path = "../../../../harness/checks/18-observability/18_4_2.rs"]
mod check;
