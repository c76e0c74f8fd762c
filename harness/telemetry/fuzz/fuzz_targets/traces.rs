//! Traces: no panic, printing keeps what was read, and every span has a place in the tree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::traces;

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = traces::from_slice(bytes) else {
        return;
    };
    for trace in &read {
        if let Ok(tree) = trace.tree() {
            assert_eq!(tree.walk().count(), trace.spans.len());
        }
    }
    assert_eq!(traces::parse(&traces::to_otlp_json(&read)), Ok(read));
});
