//! pprof: no panic, bounded memory, and writing keeps what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::profiles::Profile;

fuzz_target!(|bytes: &[u8]| {
    let Ok(profile) = Profile::from_pprof(bytes) else {
        return;
    };
    let _ = profile.to_folded(0);
    assert_eq!(Profile::from_pprof(&profile.to_pprof()), Ok(profile));
});
