use two_node_cache_solution as subject;
#[path = "../../../../harness/checks/17-production/17_7_2.rs"]
mod check;
