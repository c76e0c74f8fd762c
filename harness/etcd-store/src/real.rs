//! A running etcd behind the trait, by way of etcd's own JSON gateway.
//!
//! The gateway and not gRPC, because a gRPC client of etcd wants `protoc` to be built, and a lab
//! must build on a machine that has Rust and nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backends::Etcd;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::{Committed, Compare, Entry, LeaseId, Op, Revision, Store, StoreError, Txn};

const PATIENCE: Duration = Duration::from_secs(1);

/// A client of a running etcd. All its keys live below the handle's namespace, so that checks may
/// share one server.
#[derive(Clone, Debug)]
pub struct RealEtcd {
    etcd: Arc<Etcd>,
    granted: Arc<Mutex<Vec<LeaseId>>>,
}

impl RealEtcd {
    /// A client of `etcd`, which lives as long as the last clone.
    pub fn new(etcd: Etcd) -> Self {
        RealEtcd {
            etcd: Arc::new(etcd),
            granted: Arc::default(),
        }
    }

    /// The leases that this client and its clones were granted and that still live.
    ///
    /// # Errors
    /// [`StoreError::NoReply`].
    pub async fn live_leases(&self) -> Result<Vec<LeaseId>, StoreError> {
        let granted = self
            .granted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut live = Vec::new();
        for lease in granted {
            let answer = self
                .call("/v3/lease/timetolive", json!({ "ID": lease.0.to_string() }))
                .await?;
            if answer
                .as_ref()
                .and_then(|body| number(body, "TTL"))
                .unwrap_or(0)
                > 0
            {
                live.push(lease);
            }
        }
        Ok(live)
    }

    /// One request. `None` when etcd answers that the lease is not there.
    async fn call(&self, path: &'static str, body: Value) -> Result<Option<Value>, StoreError> {
        let etcd = Arc::clone(&self.etcd);
        let asked = tokio::task::spawn_blocking(move || {
            etcd.post(path, "application/json", body.to_string().as_bytes())
        });
        let answer = tokio::time::timeout(PATIENCE, asked)
            .await
            .ok()
            .and_then(Result::ok)
            .and_then(Result::ok)
            .ok_or(StoreError::NoReply)?;
        if answer.body.contains("requested lease not found") {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(StoreError::NoReply);
        }
        serde_json::from_str(&answer.body)
            .map(Some)
            .map_err(|_| StoreError::NoReply)
    }

    fn encoded_key(&self, key: &str) -> String {
        BASE64_STANDARD.encode(format!("{}/{key}", self.etcd.namespace()))
    }

    fn compare(&self, compare: &Compare) -> Value {
        match compare {
            Compare::Absent { key } => json!({
                "key": self.encoded_key(key), "target": "CREATE", "result": "EQUAL",
                "createRevision": "0",
            }),
            Compare::CreatedAt { key, revision } => json!({
                "key": self.encoded_key(key), "target": "CREATE", "result": "EQUAL",
                "createRevision": revision.0.to_string(),
            }),
            Compare::Value { key, value } => json!({
                "key": self.encoded_key(key), "target": "VALUE", "result": "EQUAL",
                "value": BASE64_STANDARD.encode(value),
            }),
        }
    }

    fn op(&self, op: &Op) -> Value {
        match op {
            Op::Put { key, value, lease } => json!({ "requestPut": {
                "key": self.encoded_key(key),
                "value": BASE64_STANDARD.encode(value),
                "lease": lease.map_or(0, |lease| lease.0).to_string(),
            }}),
            Op::Delete { key } => {
                json!({ "requestDeleteRange": { "key": self.encoded_key(key) } })
            }
            Op::Get { key } => json!({ "requestRange": { "key": self.encoded_key(key) } }),
        }
    }

    fn entry(&self, found: &Value) -> Option<Entry> {
        let text = |name: &str| {
            let coded = found.get(name).and_then(Value::as_str).unwrap_or_default();
            String::from_utf8(BASE64_STANDARD.decode(coded).ok()?).ok()
        };
        let key = text("key")?;
        let prefix = format!("{}/", self.etcd.namespace());
        Some(Entry {
            key: key.strip_prefix(&prefix).unwrap_or(&key).to_owned(),
            value: text("value")?,
            create_revision: revision(found, "create_revision"),
            mod_revision: revision(found, "mod_revision"),
            version: revision(found, "version").0,
            lease: number(found, "lease").filter(|&id| id != 0).map(LeaseId),
        })
    }
}

impl Store for RealEtcd {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = whole_seconds(ttl);
        let answer = self
            .call("/v3/lease/grant", json!({ "TTL": seconds.to_string() }))
            .await?;
        let lease = answer
            .as_ref()
            .and_then(|body| number(body, "ID"))
            .map(LeaseId)
            .ok_or(StoreError::NoReply)?;
        self.granted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(lease);
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        let answer = self
            .call("/v3/lease/keepalive", json!({ "ID": lease.0.to_string() }))
            .await?;
        // A lease that is gone is answered with a TTL of zero, which the gateway leaves out.
        answer
            .as_ref()
            .and_then(|body| number(body.get("result")?, "TTL"))
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|&seconds| seconds > 0)
            .map(Duration::from_secs)
            .ok_or(StoreError::LeaseNotFound(lease))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call("/v3/lease/revoke", json!({ "ID": lease.0.to_string() }))
            .await?
            .map(|_| ())
            .ok_or(StoreError::LeaseNotFound(lease))
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, StoreError> {
        let ops = |ops: &[Op]| ops.iter().map(|op| self.op(op)).collect::<Vec<_>>();
        let body = json!({
            "compare": txn.when.iter().map(|c| self.compare(c)).collect::<Vec<_>>(),
            "success": ops(&txn.then),
            "failure": ops(&txn.otherwise),
        });
        let answer = match self.call("/v3/kv/txn", body).await? {
            Some(answer) => answer,
            None => return Err(StoreError::LeaseNotFound(first_lease(&txn))),
        };
        let responses = answer.get("responses").and_then(Value::as_array);
        Ok(Committed {
            succeeded: answer
                .get("succeeded")
                .and_then(Value::as_bool)
                .unwrap_or(false),
            revision: revision(&answer["header"], "revision"),
            found: responses
                .into_iter()
                .flatten()
                .filter_map(|response| response.get("response_range"))
                .map(|range| self.entry(range.get("kvs")?.get(0)?))
                .collect(),
        })
    }
}

fn first_lease(txn: &Txn) -> LeaseId {
    let mut ops = txn.then.iter().chain(&txn.otherwise);
    ops.find_map(|op| match op {
        Op::Put { lease, .. } => *lease,
        Op::Delete { .. } | Op::Get { .. } => None,
    })
    .unwrap_or(LeaseId(0))
}

/// etcd counts a lease's time in seconds.
fn whole_seconds(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
}

/// The gateway writes 64-bit numbers as texts, and leaves out those that are zero.
fn number(body: &Value, name: &str) -> Option<i64> {
    body.get(name)?.as_str()?.parse().ok()
}

fn revision(body: &Value, name: &str) -> Revision {
    let revision = number(body, name).and_then(|number| u64::try_from(number).ok());
    Revision(revision.unwrap_or(0))
}
