//! What a query answers.

use std::fmt;

use crate::annotations::Annotation;
use crate::labels::Labels;

/// The type of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number per step.
    Scalar,
    /// One sample per series and step.
    Vector,
    /// A stretch of samples per series.
    Matrix,
    /// A text.
    String,
}

/// The name that Prometheus's messages use: `instant vector`, `range vector`.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        })
    }
}

/// A value at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value.
    pub value: f64,
}

/// A series with one value.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The labels, the metric's name included where it was kept.
    pub labels: Labels,
    /// When the query was evaluated, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The value.
    pub value: f64,
}

/// A series with its values over time.
#[derive(Debug, Clone)]
pub struct Row {
    /// The labels, the metric's name included where it was kept.
    pub labels: Labels,
    /// In order of time; never empty.
    pub points: Vec<Point>,
}

/// The value of a query.
#[derive(Debug, Clone)]
pub enum Value {
    /// Of an instant query whose expression is a scalar.
    Scalar(Point),
    /// Of an instant query. In no order that means anything, unless the outermost expression sorts.
    Vector(Vec<Sample>),
    /// Of every range query, and of an instant query for a range vector. Sorted by labels.
    Matrix(Vec<Row>),
    /// Of an instant query whose expression is a string literal.
    String(String),
}

impl Value {
    /// The type of the value.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::Scalar(_) => ValueType::Scalar,
            Self::Vector(_) => ValueType::Vector,
            Self::Matrix(_) => ValueType::Matrix,
            Self::String(_) => ValueType::String,
        }
    }

    /// The samples of an instant vector; empty for every other type.
    pub fn samples(&self) -> &[Sample] {
        match self {
            Self::Vector(samples) => samples,
            _ => &[],
        }
    }

    /// The series of a range query; empty for every other type.
    pub fn rows(&self) -> &[Row] {
        match self {
            Self::Matrix(rows) => rows,
            _ => &[],
        }
    }

    /// The only number there is: of a scalar, or of an instant vector with one sample.
    pub fn single(&self) -> Option<f64> {
        match self {
            Self::Scalar(point) => Some(point.value),
            Self::Vector(samples) if samples.len() == 1 => Some(samples[0].value),
            _ => None,
        }
    }
}

/// A value with what Prometheus would say about it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// Warnings and infos, each once, in the order of the query (dialect 3 only).
    pub annotations: Vec<Annotation>,
}

/// A value as Prometheus's API writes it: `42`, `0.25`, `+Inf`, `NaN`, never an exponent.
#[derive(Debug, Clone, Copy)]
pub struct Decimal(pub f64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.pad("NaN"),
            f64::INFINITY => f.pad("+Inf"),
            f64::NEG_INFINITY => f.pad("-Inf"),
            value => f.pad(&value.to_string()),
        }
    }
}

/// A value as Prometheus's messages write it: like [`Decimal`], with an exponent where it is long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Short(pub f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if !self.0.is_finite() || size == 0.0 || (1e-4..1e21).contains(&size) {
            return Decimal(self.0).fmt(f);
        }
        let text = format!("{:e}", self.0);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        f.pad(&format!("{mantissa}e{sign}{digits:0>2}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_prometheus_prints_them() {
        for (value, decimal, short) in [
            (42.0, "42", "42"),
            (0.25, "0.25", "0.25"),
            (-0.0, "-0", "-0"),
            (1e21, "1000000000000000000000", "1e+21"),
            (1.5e-7, "0.00000015", "1.5e-07"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            assert_eq!(Decimal(value).to_string(), decimal);
            assert_eq!(Short(value).to_string(), short);
        }
    }
}
