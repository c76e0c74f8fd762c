//! Dumps of goroutines, Tokio tasks and threads, read into one model.

use proptest::prelude::*;
use telemetry::tasks::{Format, Frame, Minutes, Task, TaskDump};

const GOROUTINES: &str = include_str!("data/goroutines.txt");
const TOKIO: &str = include_str!("data/tokio_dump.txt");
const GDB: &str = include_str!("data/gdb_threads.txt");

fn read(text: &str) -> TaskDump {
    TaskDump::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn only(text: &str) -> Task {
    let mut dump = read(text);
    assert_eq!(dump.tasks.len(), 1, "{dump:#?}");
    dump.tasks.remove(0)
}

fn shown(frames: &[Frame]) -> Vec<(&str, Option<&str>, Option<u32>)> {
    frames
        .iter()
        .map(|frame| (&*frame.function, frame.file.as_deref(), frame.line))
        .collect()
}

#[test]
fn the_shortened_goroutine_dump_is_read_with_what_it_leaves_out() {
    let dump = read(GOROUTINES);
    let states: Vec<(Option<u64>, Option<&str>, Option<Minutes>)> = dump
        .tasks
        .iter()
        .map(|task| (task.id, task.state.as_deref(), task.waited))
        .collect();
    let waited = Some(Minutes(312));
    assert_eq!(
        states,
        [
            (Some(1), Some("running"), None),
            (Some(18), Some("select"), None),
            (Some(19), Some("chan receive"), None),
            (Some(20), Some("chan receive"), None),
            (Some(34), Some("semacquire"), waited),
            (Some(35), Some("semacquire"), waited),
        ]
    );
    assert_eq!(
        shown(&dump.tasks[4].frames),
        [
            (
                "sync.runtime_SemacquireMutex",
                Some("runtime/sema.go"),
                Some(77)
            ),
            ("sync.(*Mutex).Lock", Some("sync/mutex.go"), Some(102)),
            ("main.(*Cache).Set", Some("/app/cache.go"), Some(67)),
            ("main.handleRequest", Some("/app/handler.go"), Some(43)),
        ]
    );
    assert_eq!(
        dump.tasks[4].frames[2].arguments.as_deref(),
        Some("0xc000145000, ...")
    );
    let omitted: Vec<Option<u64>> = dump.omitted.iter().map(|omitted| omitted.count).collect();
    assert_eq!(omitted, [Some(14), Some(847)]);
}

#[test]
fn a_goroutine_is_read_with_its_creator_its_thread_and_elided_frames() {
    let text = "SIGQUIT: quit\nPC=0x46d8c1 m=0 sigcode=0\n\n\
        goroutine 7 gp=0xc000006c40 m=nil [sync.Mutex.Lock, 3 minutes, locked to thread]:\n\
        main.run[...]({0xc000, 0x1}, 0x2)\n\
        \t/home/a b/app:v2/main.go:12 +0x1f fp=0xc0 sp=0xc1 pc=0x2\n\
        ...2 frames elided...\n\
        created by main.(*Pool).Start in goroutine 1\n\
        \t/app/pool.go:9 +0x65\n\nrax    0xca\nrip    0x46d8c1\nexit status 2\n";
    let task = only(text);
    assert_eq!((task.line, task.id, task.count), (4, Some(7), 1));
    assert_eq!(task.state.as_deref(), Some("sync.Mutex.Lock"));
    assert_eq!(task.waited, Some(Minutes(3)));
    assert!(task.locked_to_thread);
    assert_eq!(
        shown(&task.frames),
        [("main.run[...]", Some("/home/a b/app:v2/main.go"), Some(12))]
    );
    let creator = task.created_by.unwrap();
    assert_eq!(creator.task, Some(1));
    assert_eq!(
        shown(&[creator.frame]),
        [("main.(*Pool).Start", Some("/app/pool.go"), Some(9))]
    );
}

#[test]
fn an_aggregated_profile_counts_equal_stacks() {
    let text = "goroutine profile: total 851\n\
        849 @ 0x43d2c5 0x44e8a5 0x46a3c4\n\
        # labels: {\"route\":\"/cart\"}\n\
        #\t0x46a3c4\tsync.runtime_SemacquireMutex+0x24\t/usr/local/go/src/runtime/sema.go:77\n\
        #\t0x4a5b11\tmain.(*Cache).Get+0x91\t\t\t/app/cache.go:45\n\n\
        2 @ 0x43d2c5\n\
        #\t0x46a3c4\tmain.(*Server).run+0x24\t/app/server.go:87\n";
    let dump = read(text);
    let counts: Vec<(u64, Option<u64>)> = dump.tasks.iter().map(|t| (t.count, t.id)).collect();
    assert_eq!(counts, [(849, None), (2, None)]);
    assert_eq!(
        shown(&dump.tasks[0].frames),
        [
            (
                "sync.runtime_SemacquireMutex",
                Some("/usr/local/go/src/runtime/sema.go"),
                Some(77)
            ),
            ("main.(*Cache).Get", Some("/app/cache.go"), Some(45)),
        ]
    );
}

#[test]
fn a_tokio_dump_is_read_innermost_first_with_a_stack_for_each_branch() {
    let dump = read(TOKIO);
    let ids: Vec<Option<u64>> = dump.tasks.iter().map(|task| task.id).collect();
    assert_eq!(ids, [Some(3), Some(4), Some(5)]);
    let waiter = &dump.tasks[1];
    assert_eq!(waiter.frames.len(), 5);
    assert_eq!(
        shown(&waiter.frames[4..]),
        [("shop::lock", Some("src/main.rs"), Some(4))]
    );
    assert!(
        waiter.frames[0]
            .function
            .contains("batch_semaphore::Acquire"),
        "{waiter:#?}"
    );
    let both = &dump.tasks[2];
    assert_eq!(both.branches.len(), 1, "{both:#?}");
    for stack in [&both.frames, &both.branches[0]] {
        let names: Vec<&str> = stack.iter().map(|frame| &*frame.function).collect();
        assert_eq!(names.len(), 7, "{names:#?}");
        assert_eq!(
            (names[0], names[6]),
            ("tokio::time::sleep::Sleep", "shop::both")
        );
        assert_eq!(names[4], "shop::both::{{closure}}");
    }
}

#[test]
fn a_tokio_task_is_known_by_every_way_to_print_its_id() {
    for header in ["7:", "task 7:", "TASK 7:", "Task Id(7):"] {
        let task = only(&format!(
            "{header}\nshop::serve at src/main.rs:3:9\n└╼ at lib.rs:4\n"
        ));
        assert_eq!(task.id, Some(7), "{header}");
        assert_eq!(
            shown(&task.frames),
            [
                ("", Some("lib.rs"), Some(4)),
                ("shop::serve", Some("src/main.rs"), Some(3))
            ]
        );
    }
    assert!(only("task 7:\n\n").frames.is_empty());
}

#[test]
fn the_threads_that_gdb_prints_are_read_with_names_functions_and_places() {
    let dump = read(GDB);
    let threads: Vec<(Option<u64>, Option<&str>, usize)> = dump
        .tasks
        .iter()
        .map(|task| (task.id, task.name.as_deref(), task.frames.len()))
        .collect();
    assert_eq!(
        threads,
        [
            (Some(3), Some("worker (1)"), 20),
            (Some(2), Some("holder"), 19),
            (Some(1), Some("shop"), 25),
        ]
    );
    let worker = &dump.tasks[0].frames;
    assert_eq!(
        shown(&worker[..7]),
        [
            (
                "syscall",
                Some("../sysdeps/unix/sysv/linux/x86_64/syscall.S"),
                Some(38)
            ),
            (
                "std::sys::pal::unix::futex::futex_wait",
                Some("library/std/src/sys/pal/unix/futex.rs"),
                Some(73)
            ),
            (
                "std::sys::sync::mutex::futex::Mutex::lock_contended",
                Some("library/std/src/sys/sync/mutex/futex.rs"),
                Some(61)
            ),
            (
                "std::sys::sync::mutex::futex::Mutex::lock",
                Some("/rust/library/std/src/sys/sync/mutex/futex.rs"),
                Some(33)
            ),
            (
                "std::sync::poison::mutex::Mutex<u32>::lock<u32>",
                Some("/rust/library/std/src/sync/poison/mutex.rs"),
                Some(492)
            ),
            ("shop::Cache::get", Some("src/main.rs"), Some(2)),
            ("shop::main::{closure#1}", Some("src/main.rs"), Some(7)),
        ]
    );
    assert_eq!(
        worker[5].arguments.as_deref(),
        Some("self=0x1, m=0x55c519b20af0, f=...")
    );
    assert_eq!(
        worker[16].function,
        "alloc::boxed::{impl#31}::call_once<(), (dyn core::ops::function::FnOnce<(), Output=()> + \
         core::marker::Send), alloc::alloc::Global>"
    );
    let last = &dump.tasks[2].frames[24];
    assert_eq!((last.function.as_str(), last.line), ("_start", None));
}

#[test]
fn a_frame_that_gdb_broke_over_lines_or_has_no_source_is_one_frame() {
    let text = "Thread 1 (LWP 42):\n\
        #0  0x00007f in a::b<fn(u32) -> u64> (text=\"(x) at y\",\n    n=2)\n    at src/a.rs:7\n\
        #1  <signal handler called>\n\
        #2  0x00007f in read () from /lib/libc.so.6\n\
        #3  0x000055 in ?? ()\nBacktrace stopped: corrupt stack?\n";
    let task = only(text);
    assert_eq!(
        shown(&task.frames),
        [
            ("a::b<fn(u32) -> u64>", Some("src/a.rs"), Some(7)),
            ("<signal handler called>", None, None),
            ("read", Some("/lib/libc.so.6"), None),
            ("??", None, None),
        ]
    );
    assert_eq!(
        task.frames[0].arguments.as_deref(),
        Some("text=\"(x) at y\", n=2")
    );
}

#[test]
fn a_line_that_does_not_belong_is_refused_with_line_column_and_expectation() {
    let cases = [
        (
            "hello\n",
            "line 1, column 1: expected a dump with a line such as `goroutine 1 [running]:`",
        ),
        (
            "goroutine 1 [running\n",
            "line 1, column 21: expected `]` after the state",
        ),
        (
            "goroutine 1 [running]\n",
            "line 1, column 22: expected `:` at the end",
        ),
        ("goroutine 1 []:\n", "line 1, column 14: expected a state"),
        (
            "goroutine 1 [select, x minutes]:\n",
            "line 1, column 22: expected a whole number of minutes",
        ),
        (
            "goroutine 99999999999999999999 [running]:\n",
            "line 1, column 11: expected the number of a goroutine",
        ),
        (
            "goroutine 1 [running]:\nmain.main\n",
            "line 2, column 1: expected a function with its arguments",
        ),
        (
            "goroutine 1 [running]:\nmain.main()\n\t/app/main.go\n",
            "line 3, column 2: expected a file and a line",
        ),
        (
            "goroutine 1 [running]:\n\t/app/main.go:1\n",
            "line 2, column 1: expected a function, not indented",
        ),
        (
            "goroutine 1 [running]:\ncreated by main.x in goroutine y\n",
            "line 2, column 32: expected the number of a goroutine",
        ),
        (
            "goroutine 1 [running]:\nmain.main()\n\nwhat is this\n",
            "line 4, column 1: expected a goroutine such as",
        ),
        ("849 @ 0x1 y\n", "line 1, column 7: expected addresses"),
        (
            "849 @ 0x1\n#\t0x1\n",
            "line 2, column 3: expected an address, a function and its place",
        ),
        (
            "849 @ 0x1\n#\t0x1\tmain.f+0x1\tmain.go\n",
            "line 2, column 18: expected a file and a line",
        ),
        (
            "849 @ 0x1\nmain\n",
            "line 2, column 1: expected a count and addresses",
        ),
        (
            "task 1:\n  └╼ a at b.rs:1\n",
            "line 2, column 6: expected the outermost function",
        ),
        (
            "task 1:\na\n └╼ \n",
            "line 3, column 5: expected a function",
        ),
        (
            "Thread 1 (LWP 4):\nmain\n",
            "line 2, column 1: expected a frame such as",
        ),
        (
            "Thread 1 (LWP 4):\n#x main ()\n",
            "line 2, column 2: expected the number of a frame",
        ),
    ];
    for (text, message) in cases {
        let error = TaskDump::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}\nof {text:?}");
    }
}

#[test]
fn a_tree_too_deep_or_too_wide_is_an_error_and_not_a_lack_of_memory() {
    let mut deep = String::from("task 1:\nroot\n");
    for depth in 0..5000 {
        deep.push_str(&format!("{}└╼ f\n", " ".repeat(depth)));
    }
    assert!(
        TaskDump::parse(&deep)
            .unwrap_err()
            .to_string()
            .contains("at most 4096 frames")
    );
    let mut wide = String::from("task 1:\nroot\n");
    for depth in 0..1000 {
        wide.push_str(&format!("{}└╼ f\n", " ".repeat(depth)));
    }
    let branch = format!("{}└╼ f\n", " ".repeat(999));
    wide.push_str(&branch.repeat(2000));
    assert!(
        TaskDump::parse(&wide)
            .unwrap_err()
            .to_string()
            .contains("frames in all")
    );
}

/// Lines that the formats know, in any order.
fn nearly_a_dump() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "goroutine [0-9]{1,2} \\[(select|chan receive)(, [0-9x] minutes)?(, locked to thread)?\\]:?",
        "[a-z.(*)]{1,8}\\([0-9a-fx, .]{0,6}\\)",
        "[ \t]{1,4}/?[a-z:]{1,5}(:[0-9]{1,3})?( [+]0x1)?",
        "(created by|\\[\\.\\.\\.|#|#0 |# 0x1) ?[a-z ()<>\t:0-9+]{0,12}",
        "[0-9]{1,3} @ (0x[0-9a-f]{1,3} ?){0,3}",
        "(task |TASK |)[0-9]{1,3}:",
        "[ │\u{a0}]{0,6}(└╼|├╼|╼|)\u{a0}[a-z]{0,3}( at [a-z]{0,3}(:[0-9]{1,2}){0,2})?",
        "Thread [0-9] \\((LWP 1)?( \"[a-z\"]{0,3}\")?\\):",
        "#[0-9]{1,2} (0x[0-9] in )?[a-z<>( )-]{0,10}( at [a-z]:[0-9])?",
        "",
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = TaskDump::from_slice(&bytes);
    }

    #[test]
    fn lines_in_any_order_never_panic_in_any_format(text in nearly_a_dump()) {
        let _ = TaskDump::parse(&text);
        for format in [Format::GoStacks, Format::GoProfile, Format::Tokio, Format::Gdb] {
            let _ = TaskDump::parse_as(&text, format);
        }
    }
}
