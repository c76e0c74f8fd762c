use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use backends::{Alertmanager, Configuration, Prometheus};

use crate::every::{NO_JOBS, NO_RECEIVER};
use crate::{or_not_run, say_not_run};

/// Asks until the answer holds, and panics with the last one after 20 seconds.
fn eventually(server: &Prometheus, path: &str, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let body = server.get(path).unwrap().body;
        if body.contains(expected) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{path}: {body}\n{}",
            server.log()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// Takes requests, one after the other, and hands their text to `answer`.
fn listen(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            let mut request = String::new();
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                request.push_str(&String::from_utf8_lossy(&chunk[..length]));
                let whole = request.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("Content-Length: "))
                        .and_then(|length| length.parse().ok())
                        .unwrap_or(0);
                    body.len() >= length
                });
                if whole {
                    break;
                }
            }
            let body = answer(&request);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}

#[test]
fn a_metric_fires_a_rule_and_reaches_a_webhook() {
    let (told, alerts) = std::sync::mpsc::channel();
    let webhook = listen(move |request| {
        let _ = told.send(request.to_owned());
        String::new()
    });
    let target = listen(|_| "# TYPE queue_depth gauge\nqueue_depth 42\n".to_owned());
    let Some(alertmanager) = or_not_run(Alertmanager::start(format!(
        "route: {{receiver: hook, group_wait: 10ms, group_interval: 100ms}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://{webhook}/'}}]}}]\n"
    ))) else {
        return;
    };
    let configuration = Configuration::new(format!(
        "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n\
         rule_files: [rules/queue.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n\
         scrape_configs: [{{job_name: queue, static_configs: [{{targets: ['{target}']}}]}}]\n",
        alertmanager.address()
    ))
    .file(
        "rules/queue.yml",
        "groups: [{name: queue, rules: [{alert: QueueDeep, expr: queue_depth > 10}]}]\n",
    );
    let Some(prometheus) = or_not_run(Prometheus::start(configuration)) else {
        return;
    };
    if prometheus.pid().is_none() || alertmanager.pid().is_none() {
        say_not_run("a server keeps its own configuration");
        return;
    }
    let request = alerts
        .recv_timeout(Duration::from_secs(30))
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", prometheus.log(), alertmanager.log()));
    assert!(request.contains("QueueDeep"), "{request}");
    eventually(&prometheus, "/api/v1/query?query=queue_depth", "\"42\"");

    // Samples are kept over a restart; the target may be gone by then.
    prometheus.restart().unwrap();
    let past = "/api/v1/query?query=max_over_time(queue_depth[1h])";
    eventually(&prometheus, past, "\"42\"");
}

#[test]
fn a_reload_replaces_the_rules_and_a_wrong_one_says_why() {
    let Some(prometheus) = or_not_run(Prometheus::start(NO_JOBS)) else {
        return;
    };
    if prometheus.pid().is_none() {
        say_not_run(&format!("{} keeps its own rules", prometheus.url()));
        return;
    }
    let rules = "groups: [{name: added, rules: [{record: one, expr: vector(1)}]}]\n";
    let configuration = Configuration::new("rule_files: [rules.yml]\n").file("rules.yml", rules);
    prometheus.reload(configuration).unwrap();
    eventually(&prometheus, "/api/v1/rules", "\"added\"");
    let error = prometheus.reload("no_such_field: 1\n").unwrap_err();
    assert!(error.to_string().contains("no_such_field"), "{error}");
    eventually(&prometheus, "/api/v1/rules", "\"added\"");

    let error = match Prometheus::start("no_such_field: 1\n") {
        Err(error) => error,
        Ok(server) => panic!("{} took a wrong configuration", server.url()),
    };
    assert!(!error.is_missing(), "{error}");
    assert!(error.to_string().contains("no_such_field"), "{error}");
}

#[test]
fn alertmanager_takes_a_new_route_by_reload() {
    let Some(alertmanager) = or_not_run(Alertmanager::start(NO_RECEIVER)) else {
        return;
    };
    if alertmanager.pid().is_none() {
        say_not_run(&format!("{} keeps its own routes", alertmanager.url()));
        return;
    }
    alertmanager
        .reload(NO_RECEIVER.replace("nobody", "somebody"))
        .unwrap();
    let body = alertmanager.get("/api/v2/receivers").unwrap().body;
    assert!(body.contains("somebody"), "{body}");
    let error = alertmanager.reload("route: {}\n").unwrap_err();
    assert!(error.to_string().starts_with("reload"), "{error}");
}
