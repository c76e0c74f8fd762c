//! The judge is judged: checks that misbehave in every way that could be thought of, each run in a
//! process of its own, each with the verdict that it must get.
//!
//! The checks stand in the module [`check`], in this same binary. They are marked `#[ignore]`, so
//! that the tests are run by `cargo test` and the checks by the judge alone.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use judge::{CheckProcess, JudgeError, Judged, Limits, ProcessEnd, Verdict, judge_all};
use kit::seed::Seed;

/// Digits that no other process on this machine carries: the checks hand them to their children,
/// in the environment or as an argument.
const MARK: &str = "NIGHTSHIFT_TEST_MARK";

/// Checks that misbehave on purpose.
#[expect(
    clippy::zombie_processes,
    reason = "children that nobody waits for are what the judge has to end"
)]
mod check {
    use std::hint::black_box;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};
    use std::sync::{Arc, Barrier, Mutex};
    use std::thread;
    use std::time::Duration;

    use kit::protocol::{Nonce, Record, VERDICT_FILE};

    fn hostile(body: impl FnOnce() + Send + 'static) {
        let runner = std::env::var_os(VERDICT_FILE);
        assert!(runner.is_some(), "this check is for the judge to run");
        kit::check_within(Duration::from_secs(60), body);
    }

    fn mark() -> String {
        std::env::var(super::MARK).expect("the test sets a mark")
    }

    /// `sleep` for more than a quarter of an hour, with the mark as its fraction of a second.
    fn sleep_command() -> Command {
        let mut command = Command::new("sleep");
        command.arg(format!("1000.{}", mark()));
        command
    }

    /// Leaves `command` behind as an orphan in a session of its own, by a double fork.
    fn daemonize(command: &mut Command) {
        use std::os::unix::process::CommandExt as _;
        // SAFETY: between the forks and the exec, system calls only.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                match libc::fork() {
                    0 => Ok(()),
                    _ => libc::_exit(0),
                }
            });
        }
        command.spawn().unwrap().wait().unwrap();
    }

    fn send(signal: i32, to: i32) {
        // SAFETY: a system call on numbers.
        unsafe { libc::kill(to, signal) };
    }

    fn supervisor() -> i32 {
        // SAFETY: a system call without arguments.
        unsafe { libc::getppid() }
    }

    fn sleep_for_ever() -> ! {
        loop {
            thread::park();
        }
    }

    struct PanicsInDrop;

    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("the destructor panics");
        }
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn passes() {
        hostile(|| println!("all is well"));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn sees_a_symptom() {
        hostile(|| kit::symptom(format!("the queue of {} holds 847 tasks", mark())));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn is_unanswered() {
        hostile(|| kit::unanswered("tail.count"));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn is_not_run() {
        hostile(|| kit::not_run("no etcd on this machine", "apt-get install etcd-server"));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn panics() {
        hostile(|| panic!("clear \u{1b}[2J the screen"));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn panics_outside_of_the_kit() {
        panic!("no verdict is recorded for this");
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn passes_its_own_deadline() {
        kit::check_within(Duration::from_millis(50), || {
            kit::step("waiting for the ninth task");
            sleep_for_ever();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn deadlocks() {
        hostile(|| {
            kit::step("moving money both ways");
            let (a, b) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
            let both_hold_one = Arc::new(Barrier::new(2));
            let other = thread::spawn({
                let (a, b, barrier) = (a.clone(), b.clone(), both_hold_one.clone());
                move || {
                    let _b = b.lock().unwrap();
                    barrier.wait();
                    let _a = a.lock().unwrap();
                }
            });
            let _a = a.lock().unwrap();
            both_hold_one.wait();
            let _b = b.lock().unwrap();
            other.join().unwrap();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn spins() {
        hostile(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn ignores_sigterm_and_spins() {
        hostile(|| {
            // SAFETY: ignoring a signal installs no handler.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            loop {
                std::hint::spin_loop();
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn stops_itself() {
        // SAFETY: a system call without arguments.
        hostile(|| send(libc::SIGSTOP, unsafe { libc::getpid() }));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn fills_memory() {
        hostile(|| {
            let mut queue = Vec::new();
            loop {
                queue.push(vec![1_u8; 1 << 20]);
                black_box(&queue);
                thread::sleep(Duration::from_micros(200));
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn fills_memory_in_children() {
        hostile(|| {
            for _ in 0..4 {
                // `tail` keeps all of a text without line ends in memory.
                Command::new("tail")
                    .args(["-n", "1"])
                    .stdin(std::fs::File::open("/dev/zero").unwrap())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
            }
            sleep_for_ever();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn allocates_a_tebibyte() {
        hostile(|| {
            black_box(Vec::<u8>::with_capacity(black_box(1 << 40)));
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn starts_500_threads() {
        hostile(|| {
            let all_run = Arc::new(Barrier::new(501));
            let threads: Vec<_> = (0..500)
                .map(|_| {
                    let all_run = all_run.clone();
                    thread::spawn(move || {
                        black_box(vec![1_u8; 1_000]);
                        all_run.wait();
                    })
                })
                .collect();
            all_run.wait();
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    #[expect(unconditional_recursion, reason = "it is there to overflow the stack")]
    fn recurse(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        recurse(depth + 1) + frame[depth as usize % 64]
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn recurses_for_ever() {
        hostile(|| {
            black_box(recurse(0));
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn recurses_for_ever_on_a_thread() {
        hostile(|| {
            let thread = thread::Builder::new().name("tree walker".to_owned());
            thread.spawn(|| recurse(0)).unwrap().join().unwrap();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn aborts() {
        hostile(|| std::process::abort());
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn exits_with_0() {
        hostile(|| std::process::exit(0));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn exits_with_3() {
        hostile(|| std::process::exit(3));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn exits_with_0_from_another_thread() {
        hostile(|| {
            thread::spawn(|| {
                thread::sleep(Duration::from_millis(50));
                std::process::exit(0);
            });
            sleep_for_ever();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn exits_with_0_after_forging_what_libtest_prints() {
        hostile(|| {
            println!("test check::exits_with_0_after_forging_what_libtest_prints ... ok\n");
            println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured");
            std::process::exit(0);
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn forges_a_record() {
        hostile(|| {
            let file = std::env::var_os(VERDICT_FILE).unwrap();
            let mut rest_of_stdin = String::new();
            std::io::stdin().read_to_string(&mut rest_of_stdin).unwrap();
            for nonce in [
                rest_of_stdin.as_str(),
                "",
                "00000000000000000000000000000000",
            ] {
                let forged = Record::Passed(Nonce::from_line(nonce));
                forged.append_to(file.as_ref()).unwrap();
            }
            std::process::exit(0);
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn forges_a_report_of_its_supervisor() {
        hostile(|| {
            let report = r#"{"nonce":"0","outcome":{"Ended":{"end":{"Exited":0},"took":{"secs":0,"nanos":1},"peak_memory":null,"output":{"head":"","tail":"","dropped":0}}}}"#;
            let pipe = format!("/proc/{}/fd/1", supervisor());
            if let Ok(mut pipe) = std::fs::OpenOptions::new().write(true).open(pipe) {
                writeln!(pipe, "not a report\n{report}").unwrap();
            }
            kit::symptom("the true symptom");
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn prints_for_ever() {
        hostile(|| {
            loop {
                println!("still here");
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn prints_for_ever_without_a_line_end() {
        hostile(|| {
            loop {
                eprint!("{}", "\u{1b}[2J".repeat(1_000));
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn prints_in_a_child_for_ever() {
        hostile(|| {
            Command::new("yes").arg(mark()).spawn().unwrap();
            sleep_for_ever();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn prints_more_than_a_pipe_holds() {
        hostile(|| {
            for line in 0..20_000 {
                println!("line {line}");
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn panics_in_drop() {
        hostile(|| drop(PanicsInDrop));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn panics_in_drop_while_unwinding() {
        hostile(|| {
            let _guard = PanicsInDrop;
            panic!("the first panic");
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn survives_a_panic_on_another_thread() {
        hostile(|| {
            let joined = thread::spawn(|| panic!("the worker panics")).join();
            assert!(joined.is_err());
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn leaves_a_child() {
        hostile(|| {
            let mut command = sleep_command();
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null()).spawn().unwrap();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn leaves_a_child_that_holds_stdout() {
        hostile(|| {
            sleep_command().spawn().unwrap();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn leaves_a_daemon() {
        hostile(|| daemonize(sleep_command().env_clear()));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn leaves_a_daemon_and_hangs() {
        hostile(|| {
            daemonize(sleep_command().env_clear());
            sleep_for_ever();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn leaves_a_hundred_children() {
        hostile(|| {
            for child in 0..100 {
                let mut command = sleep_command();
                if child % 2 == 0 {
                    command.spawn().unwrap();
                } else {
                    daemonize(&mut command);
                }
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn leaves_a_child_that_has_children() {
        hostile(|| {
            let script = format!("sleep 1000.{0} & (sleep 1000.{0} & wait) & wait", mark());
            Command::new("sh").args(["-c", &script]).spawn().unwrap();
            thread::sleep(Duration::from_millis(100));
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn leaves_a_chain_that_forks_on_and_on() {
        hostile(|| {
            // Each link starts the next one and exits: none of them lives long.
            // SAFETY: the children make system calls only.
            unsafe {
                if libc::fork() == 0 {
                    loop {
                        if libc::fork() != 0 {
                            libc::_exit(0);
                        }
                        libc::setsid();
                    }
                }
            }
            thread::sleep(Duration::from_millis(50));
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn closes_its_descriptors() {
        hostile(|| {
            for descriptor in 0..3 {
                // SAFETY: nothing in this process owns the three standard descriptors.
                unsafe { libc::close(descriptor) };
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn kills_itself() {
        // SAFETY: a system call without arguments.
        hostile(|| send(libc::SIGKILL, unsafe { libc::getpid() }));
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn terminates_its_group() {
        hostile(|| {
            send(libc::SIGTERM, 0);
            sleep_for_ever();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn terminates_the_group_of_its_parent() {
        hostile(|| {
            // SAFETY: a system call on a number.
            let group = unsafe { libc::getpgid(supervisor()) };
            send(libc::SIGTERM, -group);
            send(libc::SIGINT, -group);
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn kills_its_supervisor() {
        hostile(|| {
            sleep_command().spawn().unwrap();
            daemonize(&mut sleep_command());
            send(libc::SIGKILL, supervisor());
            sleep_for_ever();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn stops_its_supervisor() {
        hostile(|| {
            sleep_command().spawn().unwrap();
            send(libc::SIGSTOP, supervisor());
            sleep_for_ever();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn touches_memory_that_is_not_its_own() {
        // SAFETY: none; the segmentation fault is the point.
        hostile(|| unsafe {
            black_box(std::ptr::null::<u8>().wrapping_add(black_box(0xdead))).read_volatile();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn changes_its_directory() {
        hostile(|| std::env::set_current_dir("/").unwrap());
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn removes_its_records() {
        hostile(|| {
            let file = std::env::var_os(VERDICT_FILE).unwrap();
            std::fs::remove_file(file).unwrap();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn replaces_its_records_by_an_endless_device() {
        hostile(|| {
            let file = std::env::var_os(VERDICT_FILE).unwrap();
            std::fs::remove_file(&file).unwrap();
            std::os::unix::fs::symlink("/dev/zero", file).unwrap();
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn floods_its_records() {
        hostile(|| {
            for line in 0..300_000 {
                if line % 3 == 0 {
                    kit::step(format!("writing line {line}"));
                }
            }
            kit::symptom("the records are long");
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn reads_stdin() {
        hostile(|| {
            let mut text = String::new();
            let read = std::io::stdin().read_line(&mut text).unwrap();
            assert_eq!((read, text.as_str()), (0, ""));
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn aborts_at_exit() {
        extern "C" fn abort() {
            std::process::abort();
        }
        // SAFETY: the function is a plain one that lives for ever.
        hostile(|| unsafe {
            libc::atexit(abort);
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn panics_in_the_drop_of_a_thread_local() {
        thread_local! {
            static LATE: PanicsInDrop = const { PanicsInDrop };
        }
        hostile(|| {});
        // The judge runs one test at a time, on the main thread: this lives until its end.
        LATE.with(|_| {});
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn hangs_at_exit() {
        extern "C" fn hang() {
            sleep_for_ever();
        }
        // SAFETY: the function is a plain one that lives for ever.
        hostile(|| unsafe {
            libc::atexit(hang);
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn looks_around() {
        hostile(|| {
            for (name, _) in super::STEERING {
                assert_eq!(std::env::var_os(name), None, "{name} is there");
            }
            for name in ["PATH", "NIGHTSHIFT_ETCD_URL"] {
                assert!(std::env::var_os(name).is_some(), "{name} is not there");
            }
        });
    }

    #[test]
    #[ignore = "for the judge to run"]
    fn passes_only_with_what_it_was_given() {
        hostile(|| {
            kit::seed::each(&[1, 2], |seed| assert_eq!(seed, kit::seed::Seed(77)));
            let here = std::env::current_dir().unwrap();
            let wanted = std::env::var_os("WANTED_DIRECTORY").unwrap();
            assert_eq!(here, std::path::Path::new(&wanted));
            assert_eq!(std::env::var("NO_COLOR").as_deref(), Ok("1"));
            std::io::stderr()
                .write_all(b"\xff\x1b[31mred\x1b[0m\n")
                .unwrap();
            // SAFETY: the set is filled in by the call that reads the mask.
            let blocked = unsafe {
                let mut set = std::mem::zeroed();
                libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut set);
                libc::sigismember(&raw const set, libc::SIGTERM)
            };
            assert_eq!(blocked, 0, "the check must not inherit a signal mask");
        });
    }
}

/// Variables of a machine that steer libraries or the kit, none of which a check may see.
const STEERING: [(&str, &str); 10] = [
    ("OTEL_TRACES_SAMPLER", "always_off"),
    ("RUST_LOG", "off"),
    ("LOOM_MAX_PREEMPTIONS", "0"),
    ("PROPTEST_CASES", "1"),
    ("TOKIO_WORKER_THREADS", "1"),
    ("RUST_MIN_STACK", "67108864"),
    ("http_proxy", "http://127.0.0.1:9"),
    ("LD_PRELOAD", ""),
    ("NIGHTSHIFT_SEED", "4711"),
    ("NIGHTSHIFT_LAB_DIR", "/no/such/folder"),
];

/// Runners that tests start, to do to them what cannot be done to a test.
mod runner {
    #[test]
    #[ignore = "started by a test, with variables that must not reach the check"]
    fn runs_a_check_that_looks_around() {
        let mark = std::env::var(super::MARK).unwrap();
        let judged = super::judge_marked(&super::Case::of("looks_around"), mark).unwrap();
        assert_eq!(judged.verdict, super::Verdict::Passed);
    }

    #[test]
    #[ignore = "started by a test, which kills it"]
    fn runs_a_check_that_leaves_a_daemon_and_hangs() {
        if let Ok(mark) = std::env::var(super::MARK) {
            super::this_binary();
            judge::expect_checks(4);
            let case = super::Case::of("leaves_a_daemon_and_hangs").wall_ms(60_000);
            super::judge_marked(&case, mark).unwrap();
        }
    }

    #[test]
    #[ignore = "started by a test, in a process without other children"]
    fn loses_the_supervisors_that_it_has_started_ahead() {
        if std::env::var_os(super::MARK).is_some() {
            super::this_binary();
            judge::expect_checks(3);
            let waiting = super::own_children();
            assert_eq!(waiting.len(), 3);
            for child in waiting {
                // SAFETY: a system call on numbers; the child has not been waited for.
                unsafe { libc::kill(child, libc::SIGKILL) };
                while !super::is_zombie(child) {
                    std::thread::yield_now();
                }
            }
            super::passed("passes");
            assert!(super::own_children().is_empty(), "a zombie is left");
        }
    }
}

/// A check of the module [`check`], and the limits it is run with.
struct Case {
    test: String,
    limits: Limits,
}

impl Case {
    fn of(name: &str) -> Case {
        Case {
            test: format!("check::{name}"),
            limits: Limits {
                wall: Duration::from_secs(10),
                memory: 256 << 20,
                output: 1 << 20,
            },
        }
    }

    fn wall_ms(mut self, wall: u64) -> Case {
        self.limits.wall = Duration::from_millis(wall);
        self
    }

    /// Judges the check, and holds the judge to what is true of every check: it takes no longer
    /// than its limit and some cleaning up, nothing is left running, no text commands a terminal.
    #[track_caller]
    fn judged(self) -> Judged {
        let mark = new_mark();
        let started = Instant::now();
        let judged = judge_marked(&self, mark.clone()).unwrap();
        let took = started.elapsed();
        let bound = self.limits.wall + Duration::from_secs(8);
        assert!(took < bound, "took {took:?}: {judged:#?}");
        assert_eq!(bearers(&mark), NOBODY, "left running by {judged:#?}");
        for text in [judged.sentence(), judged.output.text()] {
            let control = text
                .chars()
                .find(|c| c.is_control() && !"\n\t".contains(*c));
            assert_eq!(control, None, "in {text:?}");
        }
        judged
    }
}

const NOBODY: Vec<String> = Vec::new();

fn judge_marked(case: &Case, mark: String) -> Result<Judged, JudgeError> {
    let binary = this_binary();
    judge::judge(&process(&binary, case, mark))
}

fn this_binary() -> PathBuf {
    judge::supervise_with(env!("CARGO_BIN_EXE_judge-supervisor"));
    // Some are judged by supervisors that were started ahead, some by others.
    judge::expect_checks(1);
    std::env::current_exe().unwrap()
}

fn process<'a>(binary: &'a Path, case: &'a Case, mark: String) -> CheckProcess<'a> {
    CheckProcess {
        binary,
        test: &case.test,
        cwd: Path::new(env!("CARGO_MANIFEST_DIR")),
        environment: vec![
            (MARK.into(), mark.into()),
            // What this machine asks of its servers is not what is judged here.
            (kit::protocol::REQUIRE_BACKENDS.into(), "0".into()),
        ],
        limits: case.limits,
        seed: None,
    }
}

fn new_mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{:010}{next:05}", std::process::id())
}

/// The command lines of all processes that carry `mark`, in their arguments or their environment.
/// Zombies are none: they run nothing.
fn bearers(mark: &str) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return NOBODY;
    };
    processes
        .flatten()
        .filter_map(|process| {
            let name = process.file_name().into_string().ok()?;
            name.parse::<u32>().ok()?;
            let read = |file| fs::read(process.path().join(file)).unwrap_or_default();
            let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let environment = read("environ");
            let environment = String::from_utf8_lossy(&environment);
            (command.contains(mark) || environment.contains(mark))
                .then(|| format!("{name}: {command}"))
        })
        .collect()
}

/// The sentence holds each of `parts`, and says so if it does not.
#[track_caller]
fn says(judged: &Judged, parts: &[&str]) {
    let sentence = judged.sentence();
    for part in parts {
        assert!(
            sentence.contains(part),
            "no {part:?} in: {sentence}\n{judged:#?}"
        );
    }
}

#[track_caller]
fn passed(name: &str) -> Judged {
    let judged = Case::of(name).judged();
    assert_eq!(judged.verdict, Verdict::Passed, "{judged:#?}");
    judged
}

#[test]
fn a_check_that_passes_passes_and_its_output_is_kept() {
    let judged = passed("passes");
    assert!(judged.output.text().contains("all is well"), "{judged:#?}");
    assert!(judged.took < Duration::from_secs(5), "{judged:#?}");
    assert!(
        judged.peak_memory.is_some_and(|bytes| bytes > 100_000),
        "{judged:#?}"
    );
    assert!(judged.verdict.passed());
}

#[test]
fn what_the_checker_says_is_the_verdict() {
    let judged = Case::of("sees_a_symptom").judged();
    assert_eq!(judged.verdict.kind(), "failed");
    says(&judged, &["holds 847 tasks"]);

    let judged = Case::of("is_unanswered").judged();
    let key = "tail.count".to_owned();
    assert_eq!(judged.verdict, Verdict::Unanswered { key });
    says(&judged, &["`tail.count`", "answers.toml"]);

    let judged = Case::of("is_not_run").judged();
    assert_eq!(judged.verdict.kind(), "not_run");
    says(&judged, &["no etcd", "apt-get install etcd-server"]);

    let judged = Case::of("passes_its_own_deadline").judged();
    let after = Duration::from_millis(50);
    assert_eq!(judged.verdict, Verdict::TimedOut { after }, "{judged:#?}");
    says(
        &judged,
        &["within 50ms while waiting for the ninth task: look for a deadlock"],
    );
}

#[test]
fn a_panic_is_told_with_its_place_and_without_its_escape_sequences() {
    let judged = Case::of("panics").judged();
    assert_eq!(judged.verdict.kind(), "panicked", "{judged:#?}");
    says(
        &judged,
        &["tests/hostile.rs:", "clear \u{241b}[2J the screen"],
    );
}

#[test]
fn a_panic_that_the_kit_does_not_see_is_read_from_the_output() {
    let judged = Case::of("panics_outside_of_the_kit").judged();
    assert_eq!(judged.verdict.kind(), "panicked", "{judged:#?}");
    says(
        &judged,
        &["tests/hostile.rs:", "no verdict is recorded for this"],
    );
}

#[test]
fn a_deadlock_ends_at_the_limit_and_names_the_step() {
    let judged = Case::of("deadlocks").wall_ms(400).judged();
    let after = Duration::from_millis(400);
    assert_eq!(judged.verdict, Verdict::TimedOut { after }, "{judged:#?}");
    says(
        &judged,
        &["400ms while moving money both ways", "look for a deadlock"],
    );
}

#[test]
fn an_endless_loop_ends_at_the_limit() {
    for name in ["spins", "ignores_sigterm_and_spins", "stops_itself"] {
        let judged = Case::of(name).wall_ms(300).judged();
        assert_eq!(judged.verdict.kind(), "timed_out", "{judged:#?}");
        says(&judged, &["did not end within 300ms", "an endless loop"]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn memory_that_grows_without_bound_ends_at_the_limit() {
    let judged = Case::of("fills_memory").judged();
    assert_eq!(judged.verdict.kind(), "out_of_memory", "{judged:#?}");
    says(
        &judged,
        &["more memory than the 256 MiB", "grows without bound"],
    );
    let peak = judged.peak_memory.unwrap();
    assert!(((250 << 20)..(1_024 << 20)).contains(&peak), "{judged:#?}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_memory_of_children_counts() {
    let judged = Case::of("fills_memory_in_children").judged();
    assert_eq!(judged.verdict.kind(), "out_of_memory", "{judged:#?}");
}

#[test]
#[cfg(target_os = "linux")]
fn one_giant_allocation_is_out_of_memory_and_its_size_is_told() {
    let judged = Case::of("allocates_a_tebibyte").judged();
    let expected = Verdict::OutOfMemory {
        limit: 256 << 20,
        asked: Some(1 << 40),
    };
    assert_eq!(judged.verdict, expected, "{judged:#?}");
    says(
        &judged,
        &["asked for 1 TiB", "256 MiB in all", "wraps around"],
    );
}

#[test]
fn many_threads_fit_into_the_default_limit_of_memory() {
    let mut case = Case::of("starts_500_threads");
    case.limits.memory = Limits::default().memory;
    let judged = case.judged();
    assert_eq!(judged.verdict, Verdict::Passed, "{judged:#?}");
}

#[test]
fn a_stack_overflow_names_its_thread() {
    let judged = Case::of("recurses_for_ever").judged();
    assert_eq!(judged.verdict.kind(), "stack_overflow", "{judged:#?}");
    says(&judged, &["the stack of the check's thread", "recursion"]);

    let judged = Case::of("recurses_for_ever_on_a_thread").judged();
    assert_eq!(judged.verdict.kind(), "stack_overflow", "{judged:#?}");
    says(&judged, &["the stack of thread `tree walker`"]);
}

#[test]
fn an_abort_is_told_from_other_ends() {
    let judged = Case::of("aborts").judged();
    assert_eq!(
        judged.verdict,
        Verdict::Aborted { message: None },
        "{judged:#?}"
    );
    says(&judged, &["aborted", "std::process::abort"]);
}

#[test]
fn an_early_exit_is_no_pass_whatever_was_printed_before() {
    for name in [
        "exits_with_0",
        "exits_with_0_from_another_thread",
        "exits_with_0_after_forging_what_libtest_prints",
        "forges_a_record",
    ] {
        let judged = Case::of(name).judged();
        assert_eq!(
            judged.verdict,
            Verdict::ExitedEarly { code: 0 },
            "{name}: {judged:#?}"
        );
        says(&judged, &["exited with code 0", "std::process::exit"]);
    }
    let judged = Case::of("exits_with_3").judged();
    assert_eq!(
        judged.verdict,
        Verdict::ExitedEarly { code: 3 },
        "{judged:#?}"
    );
}

#[test]
fn a_report_that_the_check_forges_is_not_believed() {
    let judged = Case::of("forges_a_report_of_its_supervisor").judged();
    assert_eq!(judged.verdict.kind(), "failed", "{judged:#?}");
    says(&judged, &["the true symptom"]);
}

#[test]
fn output_without_end_ends_at_the_limit() {
    for name in [
        "prints_for_ever",
        "prints_for_ever_without_a_line_end",
        "prints_in_a_child_for_ever",
    ] {
        let judged = Case::of(name).judged();
        assert_eq!(
            judged.verdict,
            Verdict::Flooded { limit: 1 << 20 },
            "{name}"
        );
        says(&judged, &["printed more than 1 MiB", "endless loop"]);
        assert!(judged.output.dropped() > 0, "{name}");
        assert!(judged.output.text().len() < 300_000, "{name}");
    }
}

#[test]
fn output_of_more_than_a_pipe_holds_does_not_block_the_check() {
    let judged = passed("prints_more_than_a_pipe_holds");
    let text = judged.output.text();
    for part in ["line 0\n", "bytes left out", "line 19999\n"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn a_panic_in_a_destructor_is_a_panic_and_while_unwinding_an_abort() {
    let judged = Case::of("panics_in_drop").judged();
    assert_eq!(judged.verdict.kind(), "panicked", "{judged:#?}");
    says(&judged, &["tests/hostile.rs:", "the destructor panics"]);

    let judged = Case::of("panics_in_drop_while_unwinding").judged();
    assert_eq!(judged.verdict.kind(), "aborted", "{judged:#?}");
    says(
        &judged,
        &[
            "aborted: panic in a destructor during cleanup: the destructor panics (",
            "hostile.rs:",
        ],
    );
}

#[test]
fn a_panic_on_another_thread_is_for_the_check_to_judge() {
    let judged = passed("survives_a_panic_on_another_thread");
    assert!(
        judged.output.text().contains("the worker panics"),
        "{judged:#?}"
    );
}

#[test]
fn children_that_are_left_behind_are_ended_and_delay_nothing() {
    for name in [
        "leaves_a_child",
        "leaves_a_child_that_holds_stdout",
        "leaves_a_child_that_has_children",
    ] {
        let judged = passed(name);
        assert!(judged.took < Duration::from_secs(5), "{name}: {judged:#?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn daemons_that_left_the_session_are_ended() {
    passed("leaves_a_daemon");
    passed("leaves_a_hundred_children");
    let judged = Case::of("leaves_a_daemon_and_hangs").wall_ms(300).judged();
    assert_eq!(judged.verdict.kind(), "timed_out", "{judged:#?}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_chain_that_forks_on_and_on_is_ended() {
    passed("leaves_a_chain_that_forks_on_and_on");
}

#[test]
fn harmless_oddities_pass() {
    for name in [
        "closes_its_descriptors",
        "changes_its_directory",
        "removes_its_records",
        "reads_stdin",
    ] {
        passed(name);
    }
}

#[test]
fn a_signal_is_named() {
    let judged = Case::of("kills_itself").judged();
    let signal = libc::SIGKILL;
    assert_eq!(judged.verdict, Verdict::Signaled { signal }, "{judged:#?}");
    says(&judged, &["SIGKILL (signal 9)"]);

    let judged = Case::of("terminates_its_group").judged();
    let signal = libc::SIGTERM;
    assert_eq!(judged.verdict, Verdict::Signaled { signal }, "{judged:#?}");
    says(&judged, &["SIGTERM (signal 15)"]);

    let judged = Case::of("touches_memory_that_is_not_its_own").judged();
    let signal = libc::SIGSEGV;
    assert_eq!(judged.verdict, Verdict::Signaled { signal }, "{judged:#?}");
    says(&judged, &["SIGSEGV", "unsafe code"]);
}

#[test]
fn signals_to_the_group_of_its_parent_do_not_reach_the_runner() {
    passed("terminates_the_group_of_its_parent");
}

#[test]
#[cfg(target_os = "linux")]
fn a_check_that_takes_its_supervisor_down_is_found_out_and_cleaned_up() {
    let judged = Case::of("kills_its_supervisor").judged();
    let signal = Some(libc::SIGKILL);
    assert_eq!(
        judged.verdict,
        Verdict::SupervisorLost { signal },
        "{judged:#?}"
    );
    says(&judged, &["was ended by SIGKILL", "parent process"]);

    let judged = Case::of("stops_its_supervisor").wall_ms(300).judged();
    assert_eq!(
        judged.verdict,
        Verdict::SupervisorLost { signal: None },
        "{judged:#?}"
    );
    says(&judged, &["was stopped", "parent process"]);
}

#[test]
fn records_that_were_tampered_with_are_no_pass_and_no_hang() {
    let judged = Case::of("replaces_its_records_by_an_endless_device").judged();
    assert_eq!(
        judged.verdict,
        Verdict::ExitedEarly { code: 0 },
        "{judged:#?}"
    );

    let judged = Case::of("floods_its_records").judged();
    assert_eq!(judged.verdict.kind(), "failed", "{judged:#?}");
    assert_eq!(judged.step.as_deref(), Some("writing line 299997"));
}

#[test]
fn a_check_that_is_not_there_is_named_so() {
    let judged = Case::of("was_renamed").judged();
    assert_eq!(judged.verdict, Verdict::NoSuchCheck, "{judged:#?}");
    says(&judged, &["no check of this name"]);
}

#[test]
fn a_pass_whose_process_ends_badly_is_none() {
    let aborted = ProcessEnd::Signaled(libc::SIGABRT);
    for (name, expected, part) in [
        ("aborts_at_exit", aborted, "afterwards the process aborted"),
        (
            "panics_in_the_drop_of_a_thread_local",
            aborted,
            "the destructor panics (",
        ),
        (
            "hangs_at_exit",
            ProcessEnd::OverTime,
            "afterwards the process did not end",
        ),
    ] {
        let judged = Case::of(name).wall_ms(2_000).judged();
        match &judged.verdict {
            Verdict::EndedBadly { end, .. } => assert_eq!(*end, expected, "{name}: {judged:#?}"),
            _ => panic!("{name}: {judged:#?}"),
        }
        says(&judged, &["every assertion held", part, "destructor"]);
    }
}

#[test]
fn seed_environment_and_directory_reach_the_check() {
    let binary = this_binary();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    let case = Case::of("passes_only_with_what_it_was_given");
    let mut process = process(&binary, &case, new_mark());
    process.cwd = &directory;
    process.seed = Some(Seed(77));
    let wanted = (OsString::from("WANTED_DIRECTORY"), directory.clone().into());
    process.environment.push(wanted);
    let judged = judge::judge(&process).unwrap();
    assert_eq!(judged.verdict, Verdict::Passed, "{judged:#?}");
    assert_eq!(judged.seed, Some(Seed(77)));
    assert!(
        judged.output.text().contains("\u{fffd}red\n"),
        "{judged:#?}"
    );
}

#[test]
fn trouble_of_the_runner_is_an_error_and_no_verdict() {
    let _ = this_binary();
    let case = Case::of("passes");
    let missing = Path::new("/nonexistent/check-0123456789abcdef");
    let error = judge::judge(&process(missing, &case, new_mark())).unwrap_err();
    assert!(matches!(error, JudgeError::NoBinary(_)), "{error:?}");
    assert!(error.to_string().contains("build it first"), "{error}");

    let checks = [missing, missing, missing].map(|binary| process(binary, &case, new_mark()));
    let error = judge_all(&checks, 2, |index, _| panic!("check {index} was judged")).unwrap_err();
    assert!(matches!(error, JudgeError::NoBinary(_)), "{error:?}");

    let not_a_program = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let error = judge::judge(&process(&not_a_program, &case, new_mark())).unwrap_err();
    assert!(matches!(error, JudgeError::Check { .. }), "{error:?}");
    assert!(error.to_string().contains("Cargo.toml"), "{error}");
}

#[test]
fn many_checks_at_once_do_not_confuse_one_another() {
    let binary = this_binary();
    let names = [
        "passes",
        "sees_a_symptom",
        "leaves_a_hundred_children",
        "exits_with_3",
        "aborts",
        "spins",
        "leaves_a_child_that_holds_stdout",
    ];
    let kinds = [
        "passed",
        "failed",
        "passed",
        "exited_early",
        "aborted",
        "timed_out",
        "passed",
    ];
    let cases: Vec<Case> = (0..42)
        .map(|index| {
            let name = names[index % names.len()];
            let wall = if name == "spins" { 200 } else { 10_000 };
            Case::of(name).wall_ms(wall)
        })
        .collect();
    let marks: Vec<String> = cases.iter().map(|_| new_mark()).collect();
    let processes: Vec<CheckProcess> = cases
        .iter()
        .zip(&marks)
        .map(|(case, mark)| process(&binary, case, mark.clone()))
        .collect();
    let mut told = HashSet::new();
    let judged = judge_all(&processes, 6, |index, judged| {
        assert!(told.insert(index), "check {index} was told twice");
        assert_eq!(
            judged.verdict.kind(),
            kinds[index % kinds.len()],
            "{judged:#?}"
        );
    })
    .unwrap();
    assert_eq!(told.len(), cases.len());
    for (index, judged) in judged.iter().enumerate() {
        assert_eq!(
            judged.verdict.kind(),
            kinds[index % kinds.len()],
            "{judged:#?}"
        );
        if judged.verdict.kind() == "failed" {
            says(judged, &[&marks[index]]);
        }
        assert_eq!(bearers(&marks[index]), NOBODY);
    }
}

#[test]
fn a_pass_stays_a_pass_200_times() {
    let binary = this_binary();
    let case = Case::of("passes");
    let processes: Vec<CheckProcess> = (0..200)
        .map(|_| process(&binary, &case, new_mark()))
        .collect();
    for judged in judge_all(&processes, 4, |_, _| {}).unwrap() {
        assert_eq!(judged.verdict, Verdict::Passed, "{judged:#?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn nothing_is_left_when_the_runner_is_killed_or_interrupted() {
    for signal in [libc::SIGKILL, libc::SIGINT] {
        let mark = new_mark();
        let temporary = tempfile::tempdir().unwrap();
        let files = || fs::read_dir(temporary.path()).unwrap().count();
        let mut runner = Command::new(this_binary());
        runner
            .args([
                "runner::runs_a_check_that_leaves_a_daemon_and_hangs",
                "--exact",
            ])
            .args(["--ignored", "--nocapture"])
            .env(MARK, &mark)
            .env("TMPDIR", temporary.path())
            .process_group(0);
        let mut runner = runner.spawn().unwrap();
        let daemon = format!("sleep 1000.{mark}");
        wait_until("the check has left its daemon", || {
            bearers(&mark)
                .iter()
                .any(|process| process.contains(&daemon))
        });
        assert_eq!(files(), 1, "the file for the records");
        // SAFETY: a system call on numbers; the child has not been waited for.
        unsafe { libc::kill(-i32::try_from(runner.id()).unwrap(), signal) };
        runner.wait().unwrap();
        wait_until("no process is left", || bearers(&mark).is_empty());
        assert_eq!(files(), 0, "left in the folder for temporary files");
    }
}

#[test]
fn a_machine_cannot_steer_a_check_by_its_environment() {
    let mark = new_mark();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .arg("runner::runs_a_check_that_looks_around")
        .envs(STEERING)
        .env("NIGHTSHIFT_ETCD_URL", "http://127.0.0.1:2379")
        .env(MARK, &mark)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_supervisor_that_is_gone_before_its_check_begins_is_replaced() {
    let status = Command::new(this_binary())
        .args([
            "runner::loses_the_supervisors_that_it_has_started_ahead",
            "--exact",
        ])
        .args(["--ignored", "--nocapture"])
        .env(MARK, new_mark())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

/// The children of this process, zombies among them.
fn own_children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .flat_map(|task| {
            let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap();
            let children = children.split_whitespace().map(|child| child.parse());
            children.collect::<Result<Vec<i32>, _>>().unwrap()
        })
        .collect()
}

fn is_zombie(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Looks every few milliseconds, for ten seconds at most.
#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
