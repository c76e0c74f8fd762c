//! etcd: one node, or a cluster whose nodes can be paused, killed and restarted one by one.
//!
//! Its disk writes are not synchronized (`--unsafe-no-fsync`): data survives a killed process, not
//! a crashed machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::{Failure, Process, Recipe, Site, retrying};
use crate::running::{Plan, Running, http_handle, server_handle, sources};
use crate::{Attempt, Backend, Source, Unavailable, configured, locate, probe};

/// Ten heartbeats make an election timeout, as in etcd's defaults, at half of their length.
const HEARTBEAT_MS: u32 = 50;
const ELECTION_MS: u32 = 500;
/// A node that answers, answers this at once, from memory.
const STATUS_PATIENCE: Duration = Duration::from_millis(500);

/// A running etcd. Stops on drop, unless the environment named it.
///
/// ```no_run
/// let etcd = backends::Etcd::start()?;
/// let prefix = format!("{}/locks/", etcd.namespace());
/// println!("{} {prefix}", etcd.url());
/// # Ok::<(), backends::Unavailable>(())
/// ```
#[derive(Debug)]
pub struct Etcd {
    running: Running,
}

server_handle!(Etcd);
http_handle!(Etcd);

impl Etcd {
    /// Gets a single etcd and waits until it is healthy. Heartbeat 50 ms, election timeout 500 ms,
    /// so the shortest lease it grants is one second.
    ///
    /// # Errors
    /// When no source has one, or when the one there is does not come up.
    pub fn start() -> Result<Self, Unavailable> {
        Self::start_with(&[])
    }

    /// The same with further flags, such as `--quota-backend-bytes=16777216`. They do not reach a
    /// server that the environment names.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(flags: &[&str]) -> Result<Self, Unavailable> {
        let flags = owned(flags);
        let binary = |program: &Path| {
            let mut members = start_members(program, 1, &flags)?;
            members
                .pop()
                .ok_or_else(|| Failure::Broken("it has no members".to_owned()))
        };
        let running = Running::resolve(&Plan {
            backend: Backend::Etcd,
            probe: probe::etcd,
            binary: &binary,
            container: container_layout(&flags),
        })?;
        Ok(Self { running })
    }

    /// Starts a cluster of this many nodes and waits until it has a leader.
    ///
    /// A cluster is there to be broken, so it always runs as private processes; an address in the
    /// environment or a container does not do.
    ///
    /// # Errors
    /// When this machine has no etcd binary, or the cluster does not come up.
    ///
    /// # Panics
    /// When `size` is not between 1 and 7.
    pub fn cluster(size: usize) -> Result<EtcdCluster, Unavailable> {
        assert!(
            (1..=7).contains(&size),
            "a cluster has 1 to 7 nodes, not {size}"
        );
        let attempt = |outcome: String| {
            let source = Source::Binary;
            vec![Attempt { source, outcome }]
        };
        let program = sources(Backend::Etcd)?
            .contains(&Source::Binary)
            .then(|| locate::binary(Backend::Etcd.binaries()))
            .flatten()
            .ok_or_else(|| {
                let outcome = "found no etcd; a cluster takes no other source";
                Unavailable::missing(Backend::Etcd, attempt(outcome.to_owned()))
            })?;
        let members = start_members(&program, size, &[]).map_err(|failure| {
            Unavailable::broken(Backend::Etcd, attempt(failure.into_message()))
        })?;
        let nodes = members
            .into_iter()
            .map(|member| Self {
                running: Running::of_process(Backend::Etcd, member, probe::etcd),
            })
            .collect();
        Ok(EtcdCluster { nodes })
    }

    /// The member's own number and the one of its leader, as it sees it. Zero is "no leader".
    fn status(&self) -> Option<(u64, u64)> {
        let request = Some(("application/json", b"{}".as_slice()));
        let path = "/v3/maintenance/status";
        let answer = probe::http(self.address(), "POST", path, request, STATUS_PATIENCE)
            .ok()
            .filter(crate::Answer::is_success)?;
        let own = quoted_number(&answer.body, "member_id")?;
        Some((own, quoted_number(&answer.body, "leader").unwrap_or(0)))
    }
}

/// The gateway writes 64-bit numbers as `"name":"123"`, and leaves out those that are zero.
fn quoted_number(json: &str, name: &str) -> Option<u64> {
    let (_, after) = json.split_once(&format!("\"{name}\":"))?;
    let after = after.trim_start().trim_start_matches('"');
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The nodes of a cluster. Stop on drop.
#[derive(Debug)]
pub struct EtcdCluster {
    nodes: Vec<Etcd>,
}

impl EtcdCluster {
    /// All nodes, running or not.
    #[must_use]
    pub fn nodes(&self) -> &[Etcd] {
        &self.nodes
    }

    /// One node.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Etcd {
        &self.nodes[index]
    }

    /// The URLs of all nodes, as a client takes them.
    #[must_use]
    pub fn urls(&self) -> Vec<&str> {
        self.nodes.iter().map(Etcd::url).collect()
    }

    /// A name that no other cluster has; see [`Etcd::namespace`].
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.nodes[0].namespace()
    }

    /// The index of the leader that a majority agrees on at this moment. Nodes that are killed or
    /// paused have no say; a paused one costs half a second.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let views: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> = self
                .nodes
                .iter()
                .map(|node| scope.spawn(move || node.status()))
                .collect();
            asked
                .into_iter()
                .map(|view| view.join().ok().flatten())
                .collect()
        });
        let leader_of = |candidate: u64| {
            views
                .iter()
                .flatten()
                .filter(|(_, leader)| *leader == candidate)
                .count()
        };
        views
            .iter()
            .position(|view| view.is_some_and(|(own, _)| leader_of(own) * 2 > self.nodes.len()))
    }

    /// Waits until a majority agrees on a leader, and returns its index; `None` after `patience`.
    #[must_use]
    pub fn await_leader(&self, patience: Duration) -> Option<usize> {
        let deadline = Instant::now() + patience;
        loop {
            match self.leader() {
                Some(leader) => return Some(leader),
                None if Instant::now() > deadline => return None,
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

fn owned(flags: &[&str]) -> Vec<OsString> {
    flags.iter().map(OsString::from).collect()
}

/// Old versions do not have every flag that makes tests fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fsync {
    Off,
    AsItIs,
}

fn start_members(program: &Path, size: usize, flags: &[OsString]) -> Result<Vec<Process>, Failure> {
    let start = |fsync| retrying(|| start_members_once(program, size, flags, fsync));
    match start(Fsync::Off) {
        Err(Failure::Broken(log))
            if log.contains("not defined") && log.contains("unsafe-no-fsync") =>
        {
            start(Fsync::AsItIs)
        }
        outcome => outcome,
    }
}

fn start_members_once(
    program: &Path,
    size: usize,
    flags: &[OsString],
    fsync: Fsync,
) -> Result<Vec<Process>, Failure> {
    let sites = (0..size)
        .map(|_| Site::new(Backend::Etcd, None))
        .collect::<Result<Vec<_>, _>>()?;
    let roster: Vec<String> = sites
        .iter()
        .enumerate()
        .map(|(index, site)| format!("node{index}=http://127.0.0.1:{}", site.ports().peer()))
        .collect();
    let roster = roster.join(",");
    let members = sites
        .into_iter()
        .enumerate()
        .map(|(index, site)| {
            let member = Member {
                program: program.to_owned(),
                name: format!("node{index}"),
                roster: roster.clone(),
                flags: flags.to_vec(),
                fsync,
            };
            Process::spawn(Box::new(member), site)
        })
        .collect::<Result<Vec<_>, _>>()?;
    for member in &members {
        member.await_ready()?;
    }
    Ok(members)
}

fn container_layout(flags: &[OsString]) -> crate::container::Layout {
    let flags: Vec<String> = flags
        .iter()
        .map(|flag| flag.to_string_lossy().into_owned())
        .collect();
    crate::container::Layout::new(move |listen| {
        let mut command = vec![
            "etcd".to_owned(),
            "--data-dir=/nightshift-data".to_owned(),
            format!("--listen-client-urls=http://{listen}"),
            // A lone member's address matters to clients that ask for it; none of ours does.
            format!("--advertise-client-urls=http://{listen}"),
            format!("--heartbeat-interval={HEARTBEAT_MS}"),
            format!("--election-timeout={ELECTION_MS}"),
            "--logger=zap".to_owned(),
        ];
        command.extend(flags.iter().cloned());
        command
    })
}

#[derive(Debug)]
struct Member {
    program: PathBuf,
    name: String,
    roster: String,
    flags: Vec<OsString>,
    fsync: Fsync,
}

impl Recipe for Member {
    fn program(&self) -> &Path {
        &self.program
    }

    fn arguments(&self, site: &Site) -> Vec<OsString> {
        let client = format!("http://{}", site.address());
        let peer = format!("http://127.0.0.1:{}", site.ports().peer());
        let mut arguments: Vec<OsString> = vec![
            format!("--name={}", self.name).into(),
            configured::flag("--data-dir", &site.data()),
            format!("--listen-client-urls={client}").into(),
            format!("--advertise-client-urls={client}").into(),
            format!("--listen-peer-urls={peer}").into(),
            format!("--initial-advertise-peer-urls={peer}").into(),
            format!("--initial-cluster={}", self.roster).into(),
            "--initial-cluster-state=new".into(),
            format!("--heartbeat-interval={HEARTBEAT_MS}").into(),
            format!("--election-timeout={ELECTION_MS}").into(),
            "--logger=zap".into(),
        ];
        if self.fsync == Fsync::Off {
            arguments.push("--unsafe-no-fsync".into());
        }
        arguments.extend(self.flags.iter().cloned());
        arguments
    }

    fn probe(&self, address: &str) -> Result<(), String> {
        probe::etcd(address, Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_s_numbers_are_read_and_a_missing_one_is_none() {
        let body = r#"{"header":{"member_id":"42","raft_term":"2"},"leader":"7"}"#;
        assert_eq!(quoted_number(body, "member_id"), Some(42));
        assert_eq!(quoted_number(body, "leader"), Some(7));
        assert_eq!(quoted_number(r#"{"header":{}}"#, "leader"), None);
    }
}
