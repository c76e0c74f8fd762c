//! What the Rust runtime prints when it takes a process down, read from the check's output.
//!
//! The learner's code can print the same lines. That changes what a failure is called, never that
//! it is one.

/// The size of the allocation that failed, in bytes.
pub(crate) fn failed_allocation(output: &str) -> Option<u64> {
    last_line_with(output, "memory allocation of ", |rest| {
        let (bytes, _) = rest.split_once(" bytes failed")?;
        bytes.parse().ok()
    })
}

/// The name of the thread that ran out of stack.
pub(crate) fn overflowed_stack(output: &str) -> Option<String> {
    last_line_with(output, "thread '", |rest| {
        let (name, after) = rest.rsplit_once('\'')?;
        after
            .contains("has overflowed its stack")
            .then(|| name.to_owned())
    })
}

/// A panic as the default hook prints it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panic {
    pub(crate) message: String,
    /// `file:line:column`.
    pub(crate) location: String,
}

/// The last panic whose place is not in the standard library's own panic machinery.
pub(crate) fn last_panic(output: &str) -> Option<Panic> {
    let lines: Vec<&str> = output.lines().collect();
    lines.iter().enumerate().rev().find_map(|(index, line)| {
        let location = panic_location(line)?;
        if location.contains("core/src/panicking.rs") {
            return None;
        }
        let message: Vec<&str> = lines[index + 1..]
            .iter()
            .copied()
            .take_while(|line| !ends_message(line))
            .take(20)
            .collect();
        Some(Panic {
            message: message.join("\n").trim_end().to_owned(),
            location: location.to_owned(),
        })
    })
}

/// Why the process aborted, as far as the runtime said so.
pub(crate) fn abort_reason(output: &str) -> Option<String> {
    let runtime = [
        "panic in a destructor during cleanup",
        "panic in a function that cannot unwind",
    ]
    .into_iter()
    .find(|reason| output.lines().any(|line| line == *reason))
    .map(str::to_owned)
    .or_else(|| {
        last_line_with(output, "fatal runtime error: ", |rest| {
            Some(rest.trim_end_matches(", aborting").to_owned())
        })
    });
    let panic = last_panic(output).map(|panic| format!("{} ({})", panic.message, panic.location));
    match (runtime, panic) {
        (Some(reason), Some(panic)) => Some(format!("{reason}: {panic}")),
        (reason, panic) => reason.or(panic),
    }
}

/// Whether libtest found no test of the name that it was given.
pub(crate) fn no_test_was_run(output: &str) -> bool {
    output.lines().any(|line| line == "running 0 tests")
}

fn panic_location(line: &str) -> Option<&str> {
    let (before, location) = line.rsplit_once(" panicked at ")?;
    let location = location.strip_suffix(':')?;
    before.contains("thread '").then_some(location)
}

fn ends_message(line: &str) -> bool {
    line.starts_with("note: run with `RUST_BACKTRACE")
        || line.starts_with("stack backtrace:")
        || line.starts_with("thread caused non-unwinding panic")
        || line.starts_with("fatal runtime error: ")
        || panic_location(line).is_some()
}

fn last_line_with<T>(output: &str, marker: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    output
        .lines()
        .rev()
        .find_map(|line| read(&line[line.find(marker)? + marker.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_tells_its_size() {
        let output = "working\nmemory allocation of 1099511627776 bytes failed\n";
        assert_eq!(failed_allocation(output), Some(1 << 40));
        assert_eq!(
            failed_allocation("memory allocation of many bytes failed"),
            None
        );
    }

    #[test]
    fn a_stack_overflow_names_its_thread_with_and_without_the_number() {
        let with = "\nthread 'it's mine' (4321) has overflowed its stack\nfatal runtime error: stack overflow, aborting\n";
        assert_eq!(overflowed_stack(with).as_deref(), Some("it's mine"));
        let without = "thread 'worker' has overflowed its stack";
        assert_eq!(overflowed_stack(without).as_deref(), Some("worker"));
        assert_eq!(
            overflowed_stack("thread 'worker' panicked at a.rs:1:1:"),
            None
        );
    }

    #[test]
    fn a_panic_while_unwinding_is_told_with_the_message_of_the_destructor() {
        let output = "\
thread 'x' (7) panicked at src/lib.rs:3:9:
first
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

thread 'x' (7) panicked at src/lib.rs:8:13:
second
of two lines

thread 'x' (7) panicked at /rustc/abc/library/core/src/panicking.rs:230:5:
panic in a destructor during cleanup
thread caused non-unwinding panic. aborting.
";
        assert_eq!(
            last_panic(output),
            Some(Panic {
                message: "second\nof two lines".to_owned(),
                location: "src/lib.rs:8:13".to_owned(),
            })
        );
        assert_eq!(
            abort_reason(output).as_deref(),
            Some("panic in a destructor during cleanup: second\nof two lines (src/lib.rs:8:13)")
        );
    }
}
