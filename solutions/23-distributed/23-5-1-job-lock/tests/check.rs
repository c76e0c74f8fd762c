use job_lock_solution as subject;
#[path = "../../../../harness/checks/23-distributed/23_5_1.rs"]
mod check;
