//! Where servers come from, as the environment says. Each test gives the environment to a process
//! of its own, since that of a test process belongs to all of its threads.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use backends::{Backend, Place, Redis, Tool, discover};
use rustix::process::{Pid, Signal, kill_process};

use crate::or_not_run;
use crate::processes::{Holder, hold_server};

const SECOND: Duration = Duration::from_secs(1);

/// Without binaries in `PATH` and without an engine.
fn bare(name: &str) -> Command {
    let mut command = hold_server(name);
    command
        .env("PATH", "/nonexistent")
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock");
    for backend in Backend::ALL {
        command.env_remove(backend.address_variable());
    }
    command
}

#[test]
fn a_missing_binary_is_unavailable_and_names_the_packages() {
    for backend in Backend::ALL {
        let message = match Holder::start(&mut bare(backend.slug())) {
            Err(message) => message,
            Ok(holder) => {
                // It is in one of the folders beyond PATH, so it is not missing.
                holder.close();
                let sources = "address,container";
                let mut command = bare(backend.slug());
                command.env(backends::SOURCES_VARIABLE, sources);
                Holder::start(&mut command)
                    .err()
                    .expect("there is no source left")
            }
        };
        for part in [
            "could not find",
            backend.name(),
            backend.debian_package(),
            backend.brew_formula(),
            backend.address_variable(),
        ] {
            assert!(message.contains(part), "{part} is not in:\n{message}");
        }
        for line in message.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn a_source_that_does_not_exist_is_an_error_that_lists_those_that_do() {
    let mut command = hold_server("redis");
    command.env(backends::SOURCES_VARIABLE, "adress");
    let message = Holder::start(&mut command).err().expect("it started");
    assert!(message.contains("\"adress\""), "{message}");
    assert!(message.contains("address, binary, container"), "{message}");
}

#[test]
fn a_server_named_by_the_environment_is_used_and_not_touched() {
    let Some(redis) = or_not_run(Redis::start()) else {
        return;
    };
    let mut command = bare("redis");
    command.env(Backend::Redis.address_variable(), redis.url());
    let mut first = Holder::start(&mut command).unwrap();
    let second = Holder::start(&mut command).unwrap();
    assert_eq!(first.fact("url"), Some(redis.url()));
    assert_eq!(first.fact("source"), Some("address"));
    assert_eq!(first.fact("pid"), None);
    assert_ne!(first.fact("namespace"), second.fact("namespace"));
    for verb in ["pause", "resume", "kill", "restart"] {
        let answer = first.say(verb);
        assert!(answer.starts_with(&format!("could not {verb}")), "{answer}");
        assert!(answer.contains("NIGHTSHIFT_REDIS_URL"), "{answer}");
    }
    first.close();
    second.kill();
    redis.answers(SECOND).unwrap();
}

#[test]
fn an_address_where_nobody_answers_is_an_error_and_not_another_server() {
    let mut command = hold_server("redis");
    // Port 9 (discard) is below every range from which ports are given out.
    command.env(Backend::Redis.address_variable(), "redis://127.0.0.1:9/");
    let message = Holder::start(&mut command).err().expect("it started");
    assert!(message.contains("does not answer"), "{message}");
}

#[test]
fn a_server_in_a_static_ends_with_a_process_that_exits() {
    let Some(mut holder) = Holder::or_not_run(&mut hold_server("redis")) else {
        return;
    };
    let trace = holder.trace();
    assert_eq!(holder.say("exit"), "");
    trace.assert_gone_within(10 * SECOND);
}

#[test]
fn a_paused_server_does_not_outlive_a_killed_test() {
    let Some(mut holder) = Holder::or_not_run(&mut hold_server("postgres")) else {
        return;
    };
    let trace = holder.trace();
    assert!(
        trace.pids().count() > 1,
        "PostgreSQL has children: {trace:?}"
    );
    assert_eq!(holder.say("pause"), "ok");
    holder.kill();
    trace.assert_gone_within(10 * SECOND);
}

#[test]
fn killing_the_group_of_a_test_leaves_nothing_behind() {
    let mut command = hold_server("redis");
    command.process_group(0);
    let Some(holder) = Holder::or_not_run(&mut command) else {
        return;
    };
    let trace = holder.trace();
    rustix::process::kill_process_group(holder.pid(), Signal::KILL).unwrap();
    holder.kill();
    trace.assert_gone_within(10 * SECOND);
}

#[test]
fn a_soft_limit_on_the_test_does_not_starve_its_server() {
    let mut command = Command::new("/bin/sh");
    // In units of 1024 bytes: less address space than a Go program reserves at its start.
    let script = "ulimit -S -v 300000; exec \"$0\" prometheus";
    command
        .args(["-c", script])
        .arg(env!("CARGO_BIN_EXE_hold-server"));
    if let Some(holder) = Holder::or_not_run(&mut command) {
        holder.close();
    }
}

#[test]
fn discovery_is_quick_starts_nothing_and_agrees_with_what_starts() {
    // The best of five: the bound is on what it does, not on what else the machine does.
    let mut quickest = Duration::MAX;
    let mut found = Vec::new();
    for _ in 0..5 {
        let before = Instant::now();
        found = discover();
        quickest = quickest.min(before.elapsed());
    }
    assert!(quickest < Duration::from_millis(300), "{quickest:?}");
    assert_eq!(found.len(), Tool::ALL.len());
    for line in found {
        let located = line.tool.locate();
        match line.found.map(|found| found.place) {
            Some(Place::Binary(path)) => assert_eq!(Some(path), located),
            Some(Place::Address { url, .. }) => assert!(!url.is_empty()),
            Some(Place::Engine(address)) => assert!(address.contains("://")),
            None => assert_eq!(located, None, "{:?}", line.tool),
        }
    }
}

#[test]
fn a_server_that_dies_by_itself_is_noticed_and_can_be_started_again() {
    let Some(redis) = or_not_run(Redis::start()) else {
        return;
    };
    let Some(pid) = redis.pid() else { return };
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let deadline = Instant::now() + 5 * SECOND;
    while redis.pid().is_some() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(redis.pid(), None);
    redis.restart().unwrap();
    redis.answers(SECOND).unwrap();
}
