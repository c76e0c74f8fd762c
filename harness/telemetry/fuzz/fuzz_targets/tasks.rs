//! Task dumps: no panic in any format, whatever the text is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::tasks::{Format, TaskDump};

fuzz_target!(|bytes: &[u8]| {
    let _ = TaskDump::from_slice(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        for format in [
            Format::GoStacks,
            Format::GoProfile,
            Format::Tokio,
            Format::Gdb,
        ] {
            let _ = TaskDump::parse_as(text, format);
        }
    }
});
