//! The five servers as names: what each is called by people, package managers and the environment.

use std::fmt;

/// A server that checks can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Backend {
    /// etcd, with its v3 interface.
    Etcd,
    /// Redis, or a server that speaks its protocol.
    Redis,
    /// PostgreSQL.
    Postgres,
    /// Prometheus.
    Prometheus,
    /// Alertmanager.
    Alertmanager,
}

impl Backend {
    /// All of them, in the order in which they are listed for people.
    pub const ALL: [Self; 5] = [
        Self::Etcd,
        Self::Redis,
        Self::Postgres,
        Self::Prometheus,
        Self::Alertmanager,
    ];

    /// The name as its makers write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::Prometheus => "Prometheus",
            Self::Alertmanager => "Alertmanager",
        }
    }

    /// The name in folders and containers: lower-case letters only.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Prometheus => "prometheus",
            Self::Alertmanager => "alertmanager",
        }
    }

    /// The environment variable that holds the address of a server to use instead of a new one.
    #[must_use]
    pub fn address_variable(self) -> &'static str {
        match self {
            Self::Etcd => "NIGHTSHIFT_ETCD_URL",
            Self::Redis => "NIGHTSHIFT_REDIS_URL",
            Self::Postgres => "NIGHTSHIFT_POSTGRES_URL",
            Self::Prometheus => "NIGHTSHIFT_PROMETHEUS_URL",
            Self::Alertmanager => "NIGHTSHIFT_ALERTMANAGER_URL",
        }
    }

    /// The environment variable that replaces [`default_image`](Self::default_image).
    #[must_use]
    pub fn image_variable(self) -> &'static str {
        match self {
            Self::Etcd => "NIGHTSHIFT_ETCD_IMAGE",
            Self::Redis => "NIGHTSHIFT_REDIS_IMAGE",
            Self::Postgres => "NIGHTSHIFT_POSTGRES_IMAGE",
            Self::Prometheus => "NIGHTSHIFT_PROMETHEUS_IMAGE",
            Self::Alertmanager => "NIGHTSHIFT_ALERTMANAGER_IMAGE",
        }
    }

    /// The public container image that is used when the environment names none.
    #[must_use]
    pub fn default_image(self) -> &'static str {
        match self {
            Self::Etcd => "quay.io/coreos/etcd:v3.5.21",
            Self::Redis => "redis:7",
            Self::Postgres => "postgres:15",
            Self::Prometheus => "prom/prometheus:v2.53.4",
            Self::Alertmanager => "prom/alertmanager:v0.27.0",
        }
    }

    /// The package of Debian and its derivatives.
    #[must_use]
    pub fn debian_package(self) -> &'static str {
        match self {
            Self::Etcd => "etcd-server",
            Self::Redis => "redis-server",
            Self::Postgres => "postgresql",
            Self::Prometheus => "prometheus",
            Self::Alertmanager => "prometheus-alertmanager",
        }
    }

    /// The formula of Homebrew.
    #[must_use]
    pub fn brew_formula(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Redis => "redis",
            Self::Postgres => "postgresql@17",
            Self::Prometheus => "prometheus",
            Self::Alertmanager => "alertmanager",
        }
    }

    /// What its binary is called, the usual name first.
    pub(crate) fn binaries(self) -> &'static [&'static str] {
        match self {
            Self::Etcd => &["etcd"],
            Self::Redis => &["redis-server", "valkey-server"],
            Self::Postgres => &["postgres"],
            Self::Prometheus => &["prometheus"],
            Self::Alertmanager => &["alertmanager", "prometheus-alertmanager"],
        }
    }

    /// The port of addresses that name none.
    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Etcd => 2379,
            Self::Redis => 6379,
            Self::Postgres => 5432,
            Self::Prometheus => 9090,
            Self::Alertmanager => 9093,
        }
    }

    /// The URL of a server of ours at `host:port`.
    pub(crate) fn url(self, address: &str) -> String {
        match self {
            Self::Etcd | Self::Prometheus | Self::Alertmanager => format!("http://{address}"),
            Self::Redis => format!("redis://{address}/"),
            Self::Postgres => format!("postgres://postgres@{address}/postgres"),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
