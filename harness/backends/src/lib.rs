//! Real servers for checks: etcd, Redis, PostgreSQL, Prometheus, Alertmanager.
//!
//! Each server is taken from the first source that has it:
//!
//! 1. an address in the environment, such as `NIGHTSHIFT_ETCD_URL`;
//! 2. a binary of this machine, run as a private process on a free loopback port, with its data in
//!    a temporary folder;
//! 3. a container, under the runner, which starts the program that starts them (`containers/`)
//!    where a check needs it; `DOCKER_HOST` is respected, and `NIGHTSHIFT_ETCD_IMAGE` and its like
//!    replace the images.
//!
//! `NIGHTSHIFT_BACKEND_SOURCES` narrows them (`address`, `binary`, `container`, separated by
//! commas). Where no source has the server, [`Unavailable`] says what was tried and what to
//! install; [`Unavailable::required`] tells a failure from a reason not to run a check.
//!
//! Handles are for plain test threads: every call blocks and ends within a bound. A server of ours
//! ends with its handle, with a panic, and also when the process is killed or exits with the
//! handle in a `static`.
//!
//! Not for servers that a lab shall keep between runs, and not a client library: what talks to a
//! server in a lab is a client that one would use at work.

mod alertmanager;
mod backend;
mod configuration;
mod configured;
mod container;
mod discover;
mod engine;
mod etcd;
mod locate;
mod order;
mod ports;
mod postgres;
mod probe;
mod process;
mod prometheus;
mod redis;
mod running;
mod unavailable;
mod watchdog;

pub use alertmanager::Alertmanager;
pub use backend::Backend;
pub use configuration::Configuration;
pub use container::CONTAINERS_VARIABLE;
pub use discover::{Discovery, Found, Place, Tool, discover, only_from_a_container};
pub use etcd::{Etcd, EtcdCluster};
pub use postgres::Postgres;
pub use probe::Answer;
pub use prometheus::Prometheus;
pub use redis::Redis;
pub use running::ControlError;
pub use unavailable::{Attempt, REQUIRE_VARIABLE, SOURCES_VARIABLE, Source, Unavailable};
