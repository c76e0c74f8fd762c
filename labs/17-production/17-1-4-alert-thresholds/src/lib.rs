//! The alerts of the booking service are in `rules.yml`; nothing of them is compiled.

/// The rule file, in the folder of this package.
pub const RULES: &str = "rules.yml";
