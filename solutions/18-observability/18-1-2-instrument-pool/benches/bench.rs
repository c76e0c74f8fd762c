use instrument_pool_solution as subject;
#[path = "../../../../harness/benches/18-observability/18_1_2.rs"]
mod bench;

fn main() {
    bench::main();
}
