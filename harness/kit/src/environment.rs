//! What of the machine's environment a check gets to see.
//!
//! A verdict must not depend on whose machine it is given on, and many libraries listen to
//! variables: `OTEL_*`, `RUST_LOG`, `LOOM_*`, `PROPTEST_*`, `TOKIO_WORKER_THREADS`, proxies. A list
//! of those would never be complete, so what is listed here is what stays; everything else is
//! taken away, by the runner before it starts a check and by [`crate::check`] under plain
//! `cargo test`.
//!
//! Not about the build: what a machine tells its compiler and linker is often needed to build at
//! all.

use std::ffi::OsStr;

/// What a check needs to start programs and servers, and what measures the harness itself.
const KEPT: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "DYLD_FALLBACK_LIBRARY_PATH",
    "LLVM_PROFILE_FILE",
    "RUST_BACKTRACE",
];

/// Ours, and where containers are to be had.
const KEPT_PREFIXES: [&str; 3] = ["NIGHTSHIFT_", "DOCKER_", "TESTCONTAINERS_"];

/// What is the same for every check: output without colors, and the time zone of the telemetry.
pub const FIXED: [(&str, &str); 2] = [("NO_COLOR", "1"), ("TZ", "UTC")];

/// Whether a check gets to see the variable `name` of the machine.
pub fn is_kept(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// Takes away from this process what a check does not get to see. The first call counts.
#[cfg(unix)]
pub(crate) fn settle() {
    static SETTLED: std::sync::Once = std::sync::Once::new();
    SETTLED.call_once(|| {
        let foreign = std::env::vars_os().filter(|(name, _)| !is_kept(name));
        for (name, _) in foreign {
            // SAFETY: the standard library locks its own reads. Others read without a lock, from
            // code that the bodies of checks run; no body begins before this is over, since each
            // check comes through here first.
            unsafe { std::env::remove_var(name) };
        }
        for (name, value) in FIXED {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    });
}

/// Elsewhere the system itself reads variables of many names, so they stay.
#[cfg(not(unix))]
pub(crate) fn settle() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_programs_and_servers_is_kept_and_what_steers_libraries_is_not() {
        for name in [
            "PATH",
            "HOME",
            "NIGHTSHIFT_ETCD_URL",
            "NIGHTSHIFT_REQUIRE_BACKENDS",
            "DOCKER_HOST",
        ] {
            assert!(is_kept(OsStr::new(name)), "{name}");
        }
        for name in [
            "OTEL_TRACES_SAMPLER",
            "RUST_LOG",
            "LOOM_MAX_PREEMPTIONS",
            "PROPTEST_CASES",
            "TOKIO_WORKER_THREADS",
            "RUST_MIN_STACK",
            "http_proxy",
            "LD_PRELOAD",
            "MALLOC_ARENA_MAX",
            "CARGO_MANIFEST_DIR",
            "PATHS",
            "",
        ] {
            assert!(!is_kept(OsStr::new(name)), "{name}");
        }
    }
}
