use job_lock as subject;
#[path = "../../../../harness/checks/23-distributed/23_5_1.rs"]
mod check;
