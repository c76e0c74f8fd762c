//! Replicas of a service, the network between them and the rest, and an etcd, in virtual time.
//!
//! Each replica is a process of its own: a runtime with its own paused clock, which the world
//! moves on a step at a time. So it can be killed (all its tasks are gone, whoever spawned them),
//! paused as by a garbage collector or a hypervisor (nothing of it runs while the world goes on,
//! and afterwards its clock has jumped), or cut off from etcd. Replicas meet only by messages,
//! each of which takes a step at least, and which are delivered in the order of time: a
//! conservative parallel simulation in the sense of Chandy and Misra ("Distributed simulation",
//! 1979), with the shortest latency as its lookahead.
//!
//! Not a model of etcd's cluster: its etcd is one that never fails, only the way to it does.

mod etcd;
mod network;
mod process;
mod timeline;

use std::any::Any;
use std::future::Future;
use std::panic;
use std::time::Duration;

use kit::seed::Seed;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use etcd::SimulatedEtcd;
pub use network::{Latency, Network};
pub use process::{Fault, Process};
pub use timeline::{Event, Timeline};

/// How far the world moves on at a time, and the shortest latency of a message.
pub const STEP: Duration = Duration::from_millis(50);

/// A number of replicas that share one etcd.
///
/// Dropping it kills the replicas.
pub struct World {
    now: Duration,
    network: Network,
    etcd: etcd::Etcd,
    timeline: Timeline,
    replicas: Vec<Replica>,
}

impl World {
    /// A world with `replica-1` to `replica-N`. The seed shapes the latencies.
    ///
    /// # Panics
    /// When the system refuses a runtime.
    pub fn new(replicas: usize, seed: Seed) -> Self {
        let timeline = Timeline::default();
        let network = Network::new(seed);
        let etcd = etcd::Etcd::new(timeline.clone());
        let replicas = (1..=replicas)
            .map(|number| Replica::new(format!("replica-{number}"), &network, &timeline))
            .collect();
        World {
            now: Duration::ZERO,
            network,
            etcd,
            timeline,
            replicas,
        }
    }

    /// Virtual time since the world was made.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What has happened so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The way from the replicas to etcd and whatever else they talk to.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The process of a replica, counted from 0.
    ///
    /// # Panics
    /// When there is no such replica.
    pub fn process(&self, replica: usize) -> Process {
        self.replicas[replica].process.clone()
    }

    /// A client of the world's etcd in a replica, counted from 0.
    ///
    /// # Panics
    /// When there is no such replica.
    pub fn etcd(&self, replica: usize) -> SimulatedEtcd {
        SimulatedEtcd::new(
            self.process(replica),
            self.network.clone(),
            self.etcd.clone(),
        )
    }

    /// How many leases live in etcd now.
    pub fn leases(&self) -> usize {
        self.etcd.leases(self.now)
    }

    /// The names of the keys in etcd now.
    pub fn keys(&self) -> Vec<String> {
        self.etcd.keys(self.now)
    }

    /// Ends every lease at once, as an operator or a restored backup may.
    pub fn revoke_all_leases(&self) {
        self.etcd.revoke_all(self.now);
    }

    /// Starts a task in a replica. Nothing of it runs before the world does.
    ///
    /// # Panics
    /// When there is no such replica.
    pub fn spawn(&mut self, replica: usize, task: impl Future<Output = ()> + Send + 'static) {
        let replica = &mut self.replicas[replica];
        if let Some(runtime) = &replica.runtime {
            replica.tasks.push(runtime.spawn(task));
        }
    }

    /// Kills a replica: everything of it ends at once, and what it has not sent yet is never sent.
    pub fn crash(&mut self, replica: usize) {
        self.replicas[replica].process.crash();
        self.bury();
    }

    /// Keeps a replica from running for a while.
    pub fn pause(&mut self, replica: usize, length: Duration) {
        self.replicas[replica].process.pause(length);
        self.begin_pauses();
    }

    /// Loses every message between a replica and etcd for a while.
    pub fn cut_off(&mut self, replica: usize, length: Duration) {
        self.replicas[replica]
            .process
            .cut_off_until(self.now + length);
        let name = self.replicas[replica].process.name().to_owned();
        self.timeline.note(
            self.now,
            name,
            format!("is cut off from etcd for {}", timeline::seconds(length)),
        );
    }

    /// Lets virtual time pass.
    ///
    /// # Panics
    /// As a task of a replica does.
    pub fn run_for(&mut self, length: Duration) {
        let end = self.now + length;
        self.run_until(end, |_| false);
    }

    /// Lets virtual time pass until the condition holds, which is asked after each step, or the
    /// given time is reached. Returns whether it holds.
    ///
    /// # Panics
    /// As a task of a replica does.
    pub fn run_until(&mut self, end: Duration, mut condition: impl FnMut(&World) -> bool) -> bool {
        loop {
            if condition(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            let idle = self.replicas.iter().all(Replica::is_idle) && self.network.is_empty();
            if idle {
                self.now = end;
                self.etcd.expire(end);
            } else {
                self.step();
            }
        }
    }

    fn step(&mut self) {
        let until = self.now + STEP;
        self.network.set_now(self.now);
        for replica in &mut self.replicas {
            replica.run(self.now, until);
        }
        self.now = until;
        while let Some((at, message)) = self.network.next_before(until) {
            self.etcd.expire(at);
            message(at);
        }
        self.etcd.expire(until);
        self.network.set_now(until);
        self.bury();
        self.begin_pauses();
    }

    /// A process that a fault has killed meanwhile loses its runtime, from outside of it.
    fn bury(&mut self) {
        for replica in &mut self.replicas {
            if replica.process.has_crashed()
                && let Some(runtime) = replica.runtime.take()
            {
                runtime.shutdown_background();
                let name = replica.process.name().to_owned();
                self.timeline.note(self.now, name, "CRASHES");
            }
        }
    }

    fn begin_pauses(&mut self) {
        for replica in &mut self.replicas {
            let Some(length) = replica.process.take_pause() else {
                continue;
            };
            let until = self.now + length;
            if replica.runtime.is_some() && replica.paused_until < until {
                replica.paused_until = until;
                let name = replica.process.name().to_owned();
                let what = format!("IS PAUSED for {}", timeline::seconds(length));
                self.timeline.note(self.now, name, what);
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for replica in &mut self.replicas {
            replica.process.crash();
            if let Some(runtime) = replica.runtime.take() {
                runtime.shutdown_background();
            }
        }
    }
}

struct Replica {
    process: Process,
    runtime: Option<Runtime>,
    /// The runtime's clock when the world's stood at zero.
    origin: Instant,
    paused_until: Duration,
    tasks: Vec<JoinHandle<()>>,
}

impl Replica {
    fn new(name: String, network: &Network, timeline: &Timeline) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("the system refuses a runtime");
        let origin = runtime.block_on(async { Instant::now() });
        Replica {
            process: Process::new(name, origin, network.clone(), timeline.clone()),
            runtime: Some(runtime),
            origin,
            paused_until: Duration::ZERO,
            tasks: Vec::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.runtime
            .as_ref()
            .is_none_or(|runtime| runtime.metrics().num_alive_tasks() == 0)
    }

    fn run(&mut self, now: Duration, until: Duration) {
        if self.paused_until > now || self.is_idle() {
            return;
        }
        let Some(runtime) = &self.runtime else {
            return;
        };
        let origin = self.origin;
        let payload = runtime.block_on(async {
            // After a pause or an idle time, the clock jumps and whatever was due is due at once.
            let behind = (origin + now).saturating_duration_since(Instant::now());
            if !behind.is_zero() {
                tokio::time::advance(behind).await;
            }
            tokio::time::sleep_until(origin + until).await;
            first_panic(&mut self.tasks).await
        });
        if let Some(payload) = payload {
            panic::resume_unwind(payload);
        }
    }
}

async fn first_panic(tasks: &mut Vec<JoinHandle<()>>) -> Option<Box<dyn Any + Send>> {
    let mut index = 0;
    while index < tasks.len() {
        if tasks[index].is_finished() {
            let ended = tasks.swap_remove(index).await;
            if let Some(payload) = ended.err().and_then(|error| error.try_into_panic().ok()) {
                return Some(payload);
            }
        } else {
            index += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Compare, Op, Store as _, StoreError, Txn};

    const TTL: Duration = Duration::from_secs(10);

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// Runs a client of one replica to its end and returns what it found.
    fn alone<F, T>(task: impl FnOnce(SimulatedEtcd) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let mut world = World::new(1, Seed(1));
        let found = Arc::new(Mutex::new(None));
        let (slot, future) = (Arc::clone(&found), task(world.etcd(0)));
        world.spawn(0, async move {
            let output = future.await;
            *slot.lock().unwrap() = Some(output);
        });
        world.run_until(seconds(300), |_| found.lock().unwrap().is_some());
        found.lock().unwrap().take().expect("it did not end")
    }

    #[test]
    fn a_key_goes_with_its_lease_and_not_before() {
        alone(|etcd| async move {
            let lease = etcd.grant(TTL).await.unwrap();
            etcd.put("k", "v", Some(lease)).await.unwrap();
            tokio::time::sleep(seconds(9)).await;
            assert!(etcd.get("k").await.unwrap().is_some());
            assert_eq!(etcd.keep_alive(lease).await, Ok(TTL));
            tokio::time::sleep(seconds(9)).await;
            assert!(etcd.get("k").await.unwrap().is_some());
            tokio::time::sleep(seconds(2)).await;
            assert_eq!(etcd.get("k").await.unwrap(), None);
            assert_eq!(
                etcd.keep_alive(lease).await,
                Err(StoreError::LeaseNotFound(lease))
            );
            assert_eq!(
                etcd.put("k", "v", Some(lease)).await,
                Err(StoreError::LeaseNotFound(lease))
            );
        });
    }

    #[test]
    fn a_put_without_a_lease_detaches_the_key() {
        alone(|etcd| async move {
            let lease = etcd.grant(TTL).await.unwrap();
            etcd.put("k", "v", Some(lease)).await.unwrap();
            etcd.put("k", "w", None).await.unwrap();
            etcd.revoke(lease).await.unwrap();
            let entry = etcd.get("k").await.unwrap().unwrap();
            assert_eq!(
                (entry.value.as_str(), entry.version, entry.lease),
                ("w", 2, None)
            );
            assert!(entry.create_revision < entry.mod_revision);
        });
    }

    #[test]
    fn a_transaction_runs_one_branch_and_reads_its_own_writes() {
        alone(|etcd| async move {
            let key = || "k".to_owned();
            let txn = Txn {
                when: vec![Compare::Absent { key: key() }],
                then: vec![
                    Op::Put {
                        key: key(),
                        value: "1".to_owned(),
                        lease: None,
                    },
                    Op::Get { key: key() },
                ],
                otherwise: vec![Op::Delete { key: key() }, Op::Get { key: key() }],
            };
            let first = etcd.commit(txn.clone()).await.unwrap();
            assert!(first.succeeded);
            let made = first.found[0].as_ref().unwrap();
            assert_eq!(made.create_revision, first.revision);
            let second = etcd.commit(txn).await.unwrap();
            assert!(!second.succeeded && second.revision > first.revision);
            assert_eq!(second.found, [None]);
        });
    }

    #[test]
    fn a_paused_replica_s_clock_jumps_and_its_late_reply_still_counts() {
        let mut world = World::new(1, Seed(1));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (etcd, process, log) = (world.etcd(0), world.process(0), Arc::clone(&seen));
        world.spawn(0, async move {
            process.pause(seconds(30));
            let reply = etcd.grant(TTL).await;
            log.lock().unwrap().push((process.now(), reply.is_ok()));
        });
        world.run_for(seconds(60));
        let seen = seen.lock().unwrap();
        assert!(matches!(seen.as_slice(), [(at, true)] if *at >= seconds(30) && *at < seconds(31)));
        assert_eq!(world.leases(), 0, "granted, and run out during the pause");
    }

    #[test]
    fn a_lost_reply_is_applied_and_a_lost_request_is_not() {
        for (fault, applied) in [(Fault::LoseReply, 1), (Fault::LoseRequest, 0)] {
            let mut world = World::new(1, Seed(1));
            world.process(0).fault_at_call(1, fault);
            let (etcd, replies) = (world.etcd(0), Arc::new(Mutex::new(Vec::new())));
            let log = Arc::clone(&replies);
            world.spawn(0, async move {
                let reply = etcd.grant(TTL).await;
                log.lock().unwrap().push(reply);
            });
            world.run_for(seconds(2));
            assert_eq!(
                *replies.lock().unwrap(),
                [Err(StoreError::NoReply)],
                "{fault:?}"
            );
            assert_eq!(world.leases(), applied, "{fault:?}");
        }
    }

    #[test]
    fn a_crash_takes_every_task_of_the_replica_with_it() {
        let mut world = World::new(2, Seed(1));
        world.process(0).fault_at_call(3, Fault::CrashAfter);
        let etcd = world.etcd(0);
        world.spawn(0, async move {
            tokio::spawn(async move {
                let lease = etcd.grant(TTL).await.unwrap();
                loop {
                    let _ = etcd.keep_alive(lease).await;
                    tokio::time::sleep(seconds(3)).await;
                }
            });
        });
        world.run_for(seconds(8));
        assert_eq!(world.leases(), 1);
        world.run_for(seconds(10));
        assert_eq!(world.leases(), 0, "{}", world.timeline().last(20));
        assert_eq!(world.process(0).calls(), 3);
    }

    #[test]
    fn the_same_seed_gives_the_same_timeline() {
        let run = |seed| {
            let mut world = World::new(3, Seed(seed));
            for replica in 0..3 {
                let etcd = world.etcd(replica);
                world.spawn(replica, async move {
                    for _ in 0..5 {
                        let _ = etcd.put("k", "v", None).await;
                    }
                });
            }
            world.run_for(seconds(30));
            world.timeline().last(100)
        };
        assert_eq!(run(4), run(4));
        assert_ne!(run(4), run(5));
    }
}
