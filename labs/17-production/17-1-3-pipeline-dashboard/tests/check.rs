use pipeline_dashboard as subject;
#[path = "../../../../harness/checks/17-production/17_1_3.rs"]
mod check;
