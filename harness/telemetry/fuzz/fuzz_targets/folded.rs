//! Folded stacks: no panic, and printing keeps what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::profiles::Profile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(profile) = Profile::from_folded_slice(bytes) else {
        return;
    };
    let printed = profile.to_folded(0).expect("folded stacks have one value");
    // A carriage return within a name is the one thing that the text cannot keep.
    if !bytes.contains(&b'\r') {
        assert_eq!(Profile::from_folded(&printed), Ok(profile));
    }
});
