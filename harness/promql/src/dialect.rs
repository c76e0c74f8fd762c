//! Which Prometheus is imitated where its versions differ.

use std::fmt;
use std::str::FromStr;

/// A version of the language.
///
/// | | [`V2`](Self::V2) (2.42) | [`V3`](Self::V3) (3.x) |
/// |---|---|---|
/// | range `[5m]`, subquery, look-back | both ends belong to it | left end does not |
/// | numbers and durations | never interchangeable | `5m` is 300, `[300]` is five minutes |
/// | `.` in a regular expression | not a line feed | any character |
/// | `sum`, `avg` | plain summation | compensated (Kahan, Neumaier) |
/// | `histogram_quantile` | forces buckets to grow | also ignores tiny differences; says so |
/// | `holt_winters` | has it | calls it `double_exponential_smoothing` |
/// | annotations | none | warnings and infos |
/// | bounds in exposition | as they are written | `le="1"` becomes `le="1.0"` |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// As Prometheus 2.42 evaluates.
    V2,
    /// As Prometheus 3 evaluates.
    #[default]
    V3,
}

impl Dialect {
    /// Whether the start of a window belongs to the window.
    pub(crate) fn closed_windows(self) -> bool {
        self == Self::V2
    }
}

/// Neither `2` nor `3`. Completes "could not choose a dialect: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a dialect: write 2 or 3")]
pub struct UnknownDialect(String);

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, UnknownDialect> {
        match text {
            "2" | "2.x" | "v2" => Ok(Self::V2),
            "3" | "3.x" | "v3" => Ok(Self::V3),
            _ => Err(UnknownDialect(text.to_owned())),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V2 => "2.x",
            Self::V3 => "3.x",
        })
    }
}
