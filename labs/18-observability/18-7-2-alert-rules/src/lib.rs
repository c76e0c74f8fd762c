//! The alerts of two worker pools are in `rules.yml`, and who is told of them in
//! `alertmanager.yml`; nothing of them is compiled.

/// The rule file of Prometheus, in the folder of this package.
pub const RULES: &str = "rules.yml";

/// The configuration of Alertmanager, in the folder of this package.
pub const ROUTES: &str = "alertmanager.yml";
