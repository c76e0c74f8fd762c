use circuit_breaker_solution as subject;
#[path = "../src/breaker.rs"]
#[allow(dead_code)]
mod under_loom;
mod sync {
    pub use loom::sync::*;
}
#[path = "../../../../harness/checks/17-production/17_2_1.rs"]
mod check;
