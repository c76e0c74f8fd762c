//! The container path, for real. A test whose engine or image is missing says so on the screen and
//! passes, unless `NIGHTSHIFT_REQUIRE_BACKENDS=1`.
//!
//! A local binary would be preferred, and something has to start the containers, so set
//! `NIGHTSHIFT_BACKEND_SOURCES=container` and `NIGHTSHIFT_CONTAINERS`, as `.ci/container-proof`
//! does; without the former these tests say that they did not run.

use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use backends::{
    Alertmanager, Backend, Configuration, Etcd, Prometheus, Redis, Source, Tool, Unavailable,
    discover,
};

const SECOND: Duration = Duration::from_secs(1);

fn say_not_run(reason: &str) {
    let test = thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "not run: {test}: {reason}");
}

/// Whether this run is about containers at all, and has an image for the server.
fn wanted(backend: Backend) -> bool {
    let only_containers =
        std::env::var(backends::SOURCES_VARIABLE).is_ok_and(|sources| sources == "container");
    let image = std::env::var(backend.image_variable()).is_ok();
    if !only_containers {
        say_not_run("NIGHTSHIFT_BACKEND_SOURCES=container is not set");
    } else if !image {
        let variable = backend.image_variable();
        say_not_run(&format!(
            "{variable} is not set, and nothing shall be pulled"
        ));
    }
    only_containers && image
}

fn or_not_run<T>(started: Result<T, Unavailable>) -> Option<T> {
    match started {
        Ok(server) => Some(server),
        Err(unavailable) if unavailable.required() => panic!("could not {unavailable}"),
        Err(unavailable) => {
            say_not_run(&format!("could not {unavailable}"));
            None
        }
    }
}

/// Containers that carry the label of this server, running or not.
fn containers(backend: Backend) -> Vec<String> {
    let docker = Tool::DockerClient.locate().expect("docker is not there");
    let output = Command::new(docker)
        .args(["ps", "--all", "--quiet", "--no-trunc", "--filter"])
        .arg(format!("label=nightshift={}", backend.slug()))
        .output()
        .expect("docker does not run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn redis_is_paused_killed_and_restarted_on_its_port_and_removed_even_after_signal_9() {
    if !wanted(Backend::Redis) {
        return;
    }
    let before = containers(Backend::Redis);
    let Some(redis) = or_not_run(Redis::start_durable()) else {
        return;
    };
    assert_eq!(redis.source(), Source::Container);
    assert_eq!(redis.data_dir(), None);
    assert!(redis.address().starts_with("127.0.0.1:"), "{redis:?}");
    assert_eq!(redis.command(&["SET", "foo", "bar"]).unwrap(), "+OK");

    redis.pause().unwrap();
    assert!(redis.answers(Duration::from_millis(300)).is_err());
    redis.resume().unwrap();
    redis.resume().unwrap();
    redis.answers(5 * SECOND).unwrap();

    redis.kill().unwrap();
    assert!(redis.answers(Duration::from_millis(300)).is_err());
    redis.restart().unwrap();
    assert_eq!(redis.command(&["GET", "foo"]).unwrap(), "$3");
    assert!(!redis.log().is_empty());
    assert_eq!(containers(Backend::Redis).len(), before.len() + 1);
    drop(redis);
    assert_eq!(containers(Backend::Redis), before);

    let mut holder = Command::new(env!("CARGO_BIN_EXE_hold-server"))
        .arg("redis")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = holder.stdout.take().unwrap();
    let ready = std::io::BufRead::lines(std::io::BufReader::new(output))
        .map_while(Result::ok)
        .any(|line| line == "ready");
    assert!(ready);
    assert_eq!(containers(Backend::Redis).len(), before.len() + 1);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let deadline = Instant::now() + 20 * SECOND;
    while containers(Backend::Redis) != before && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(containers(Backend::Redis), before);
}

#[test]
fn two_etcds_answer_at_once_and_share_nothing() {
    if !wanted(Backend::Etcd) {
        return;
    }
    let Some(first) = or_not_run(Etcd::start()) else {
        return;
    };
    let second = Etcd::start().unwrap_or_else(|error| panic!("could not {error}"));
    assert_eq!(first.source(), Source::Container);
    assert_ne!(first.address(), second.address());
    let put = br#"{"key":"Zm9v","value":"YmFy"}"#;
    let range = br#"{"key":"Zm9v"}"#;
    let kind = "application/json";
    assert!(first.post("/v3/kv/put", kind, put).unwrap().is_success());
    let value = r#""value":"YmFy""#;
    let body = first.post("/v3/kv/range", kind, range).unwrap().body;
    assert!(body.contains(value), "{body}");
    let body = second.post("/v3/kv/range", kind, range).unwrap().body;
    assert!(!body.contains(value), "{body}");
}

#[test]
fn prometheus_and_alertmanager_take_files_and_reach_the_loopback_interface() {
    if !wanted(Backend::Prometheus) || !wanted(Backend::Alertmanager) {
        return;
    }
    if !cfg!(target_os = "linux") {
        say_not_run("only an engine on Linux shares its host's loopback interface");
        return;
    }
    let nobody = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
    let Some(alertmanager) = or_not_run(Alertmanager::start(nobody)) else {
        return;
    };
    let configuration = Configuration::new(format!(
        "global: {{scrape_interval: 200ms}}\n\
         scrape_configs: [{{job_name: it, static_configs: [{{targets: ['{}']}}]}}]\n",
        alertmanager.address()
    ));
    let Some(prometheus) = or_not_run(Prometheus::start(configuration)) else {
        return;
    };
    assert_eq!(prometheus.source(), Source::Container);
    let deadline = Instant::now() + 20 * SECOND;
    loop {
        let body = prometheus.get("/api/v1/query?query=up").unwrap().body;
        if body.contains("\"1\"") {
            break;
        }
        assert!(Instant::now() < deadline, "{body}\n{}", prometheus.log());
        thread::sleep(Duration::from_millis(50));
    }
    let rules = "groups: [{name: added, rules: [{record: one, expr: vector(1)}]}]\n";
    prometheus
        .reload(Configuration::new("rule_files: [rules.yml]\n").file("rules.yml", rules))
        .unwrap();
    let body = prometheus.get("/api/v1/rules").unwrap().body;
    assert!(body.contains("\"added\""), "{body}");
    let error = prometheus.reload("no_such_field: 1\n").unwrap_err();
    assert!(error.to_string().contains("no_such_field"), "{error}");
}

#[test]
fn a_wrong_configuration_is_shown_in_the_server_s_own_words() {
    if !wanted(Backend::Prometheus) {
        return;
    }
    match Prometheus::start("no_such_field: 1\n") {
        Ok(server) => panic!("{} took a wrong configuration", server.url()),
        Err(error) if error.is_missing() => {
            or_not_run::<Prometheus>(Err(error));
        }
        Err(error) => assert!(error.to_string().contains("no_such_field"), "{error}"),
    }
}

#[test]
fn a_running_engine_is_discovered_with_its_version() {
    if !wanted(Backend::Redis) {
        return;
    }
    let engine = discover()
        .into_iter()
        .find(|line| line.tool == Tool::DockerEngine)
        .and_then(|line| line.found);
    assert!(engine.is_some_and(|engine| engine.version.is_some()));
}
