//! What holds for each of the five servers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use backends::{Alertmanager, Etcd, Postgres, Prometheus, Redis, Unavailable};

use crate::processes::{Holder, Trace, hold_server};
use crate::{or_not_run, say_not_run};

pub const NO_JOBS: &str = "scrape_configs: []\n";
pub const NO_RECEIVER: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";
/// After a killed test: two polite seconds, two forced ones, and a loaded machine.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

macro_rules! every {
    ($name:ident, $server:ty, $start:expr) => {
        mod $name {
            use super::*;

            fn start() -> Option<$server> {
                let started: Result<$server, Unavailable> = $start;
                or_not_run(started).filter(|server| {
                    let ours = server.pid().is_some();
                    if !ours {
                        say_not_run(&format!("{} is not a process of ours", server.url()));
                    }
                    ours
                })
            }

            fn trace(server: &$server) -> Trace {
                Trace::of(server.pid().unwrap(), &server.data_dir().unwrap())
            }

            #[test]
            fn two_at_once_share_nothing() {
                let Some(first) = start() else { return };
                let Some(second) = start() else { return };
                assert_ne!(first.address(), second.address());
                assert_ne!(first.data_dir(), second.data_dir());
                assert_ne!(first.namespace(), second.namespace());
                drop(first);
                second.answers(5 * SECOND).unwrap();
            }

            #[test]
            fn a_panic_leaves_nothing_behind() {
                let mut seen = None;
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    let Some(server) = start() else { return };
                    seen = Some(trace(&server));
                    panic!("on purpose");
                }));
                if let Some(trace) = seen {
                    assert!(ended.is_err());
                    trace.assert_gone();
                }
            }

            #[test]
            fn a_test_killed_by_signal_9_leaves_nothing_behind() {
                let Some(holder) = Holder::or_not_run(&mut hold_server(stringify!($name))) else {
                    return;
                };
                let trace = holder.trace();
                holder.kill();
                trace.assert_gone_within(GONE_WITHIN);
            }

            #[test]
            fn answers_unless_paused_and_leaves_nothing_behind() {
                let Some(server) = start() else { return };
                server.answers(5 * SECOND).unwrap();
                server.pause().unwrap();
                let mute = server.answers(Duration::from_millis(300));
                assert!(mute.is_err(), "a paused server answers");
                server.resume().unwrap();
                server.answers(5 * SECOND).unwrap();
                // Paused once more, since that is the harder one to stop.
                server.pause().unwrap();
                let trace = trace(&server);
                drop(server);
                trace.assert_gone();
            }
        }
    };
}

every!(etcd, Etcd, Etcd::start());
every!(redis, Redis, Redis::start());
every!(postgres, Postgres, Postgres::start());
every!(prometheus, Prometheus, Prometheus::start(NO_JOBS));
every!(alertmanager, Alertmanager, Alertmanager::start(NO_RECEIVER));
