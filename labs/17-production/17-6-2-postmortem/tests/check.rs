use postmortem as subject;
#[path = "../../../../harness/checks/17-production/17_6_2.rs"]
mod check;
