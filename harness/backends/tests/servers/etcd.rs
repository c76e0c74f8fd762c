use std::thread;
use std::time::{Duration, Instant};

use backends::Etcd;

use crate::or_not_run;

/// `foo` and `bar` in base64, as the gateway takes and gives keys and values.
const PUT: &[u8] = br#"{"key":"Zm9v","value":"YmFy"}"#;
const RANGE: &[u8] = br#"{"key":"Zm9v"}"#;
const VALUE: &str = r#""value":"YmFy""#;

fn put(etcd: &Etcd) {
    let answer = etcd.post("/v3/kv/put", "application/json", PUT).unwrap();
    assert!(answer.is_success(), "{answer:?}\n{}", etcd.log());
}

fn range(etcd: &Etcd) -> String {
    etcd.post("/v3/kv/range", "application/json", RANGE)
        .unwrap_or_else(|error| panic!("{error}\n{}", etcd.log()))
        .body
}

/// A node that was away answers reads once it has caught up with the others.
fn assert_caught_up(etcd: &Etcd) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let body = range(etcd);
        if body.contains(VALUE) {
            return;
        }
        assert!(Instant::now() < deadline, "{body}\n{}", etcd.log());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_killed_etcd_comes_back_on_its_port_with_its_data() {
    let Some(etcd) = or_not_run(Etcd::start()) else {
        return;
    };
    put(&etcd);
    let (url, pid) = (etcd.url().to_owned(), etcd.pid());
    etcd.kill().unwrap();
    assert!(etcd.get("/health").is_err(), "a dead server answers");
    assert!(etcd.kill().is_err(), "a dead server was killed again");
    etcd.restart().unwrap();
    assert_eq!(etcd.url(), url);
    assert_ne!(etcd.pid(), pid);
    let body = range(&etcd);
    assert!(body.contains(VALUE), "{body}");
}

#[test]
fn a_cluster_elects_another_leader_when_its_leader_dies_or_pauses() {
    let Some(cluster) = or_not_run(Etcd::cluster(3)) else {
        return;
    };
    let patience = Duration::from_secs(20);
    let first = cluster.await_leader(patience).expect("no first leader");
    cluster.node(first).kill().unwrap();
    let second = cluster.await_leader(patience).expect("no second leader");
    assert_ne!(second, first);
    put(cluster.node(second));
    cluster.node(first).restart().unwrap();
    assert_caught_up(cluster.node(first));

    cluster.node(second).pause().unwrap();
    let third = cluster.await_leader(patience).expect("no third leader");
    assert_ne!(third, second);
    cluster.node(second).resume().unwrap();
    assert_caught_up(cluster.node(second));
}
