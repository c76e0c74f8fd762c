use latency_runbook as subject;
#[path = "../../../../harness/checks/17-production/17_6_1.rs"]
mod check;
