//! Logs: no panic, and printing keeps what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::logs;

fuzz_target!(|bytes: &[u8]| {
    let Ok(lines) = logs::from_slice(bytes) else {
        return;
    };
    for line in lines {
        let printed = line.to_string();
        let again = logs::parse(&printed).expect("what was printed can be read");
        assert_eq!(again[0].fields, line.fields);
        assert_eq!(again[0].time, line.time);
        let _ = line.time.map(|time| time.to_string());
    }
});
