//! The functions of PromQL: their names, their types, and which dialect has them.

pub(crate) mod calendar;
pub(crate) mod histogram;
pub(crate) mod instant;
pub(crate) mod range;

use crate::dialect::Dialect;
use crate::value::ValueType;

/// A function, by what computes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Function {
    /// One number for each number of a vector.
    Map(fn(f64) -> f64),
    /// A part of the time that a number is taken for, in seconds since the epoch; now by default.
    Calendar(calendar::Part),
    /// One number for each stretch of a range vector.
    Range(range::RangeFunction),
    Absent,
    AbsentOverTime,
    Clamp,
    ClampMax,
    ClampMin,
    /// One of the times of the query: see [`QueryTime`].
    Context(QueryTime),
    MaxOf,
    MinOf,
    HistogramFraction,
    HistogramQuantile,
    /// Native histograms only: floats give nothing.
    NativeOnly,
    LabelJoin,
    LabelReplace,
    Pi,
    Round,
    Scalar,
    Sort {
        descending: bool,
    },
    SortByLabel {
        descending: bool,
    },
    Time,
    Timestamp,
    Vector,
}

/// What a query knows of itself, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueryTime {
    Start,
    End,
    /// From the start to the end.
    Range,
    /// From one step to the next; 0 for an instant query.
    Step,
}

/// What is known of a function before it runs.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) name: &'static str,
    pub(crate) function: Function,
    pub(crate) arguments: &'static [ValueType],
    /// How many of the last argument there may be besides the one: 0 for a fixed number, a negative
    /// number for any number; with 1 the last argument itself may be left out.
    pub(crate) variadic: i8,
    pub(crate) returns: ValueType,
    only: Option<Dialect>,
}

impl Signature {
    pub(crate) fn is_in(&self, dialect: Dialect) -> bool {
        self.only.is_none_or(|only| only == dialect)
    }
}

/// The function of this name, whichever dialect has it.
pub(crate) fn find(name: &str) -> Option<&'static Signature> {
    FUNCTIONS.iter().find(|held| held.name == name)
}

/// Every name of a dialect.
pub(crate) fn names(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    FUNCTIONS
        .iter()
        .filter(move |held| held.is_in(dialect))
        .map(|held| held.name)
}

const fn fixed(
    name: &'static str,
    function: Function,
    arguments: &'static [ValueType],
    returns: ValueType,
) -> Signature {
    Signature {
        name,
        function,
        arguments,
        variadic: 0,
        returns,
        only: None,
    }
}

const fn map(name: &'static str, function: fn(f64) -> f64) -> Signature {
    fixed(name, Function::Map(function), &[V], V)
}

const fn over_time(name: &'static str, function: range::RangeFunction) -> Signature {
    fixed(name, Function::Range(function), &[M], V)
}

const fn calendar(name: &'static str, part: calendar::Part) -> Signature {
    variadic(fixed(name, Function::Calendar(part), &[V], V), 1)
}

const fn variadic(signature: Signature, variadic: i8) -> Signature {
    Signature {
        variadic,
        ..signature
    }
}

const fn only(dialect: Dialect, signature: Signature) -> Signature {
    Signature {
        only: Some(dialect),
        ..signature
    }
}

const S: ValueType = ValueType::Scalar;
const V: ValueType = ValueType::Vector;
const M: ValueType = ValueType::Matrix;
const T: ValueType = ValueType::String;

use calendar::Part;
use range::RangeFunction as R;

/// Sorted by name, with the rule of `promql-parser` about optional arguments.
static FUNCTIONS: &[Signature] = &[
    map("abs", f64::abs),
    fixed("absent", Function::Absent, &[V], V),
    fixed("absent_over_time", Function::AbsentOverTime, &[M], V),
    map("acos", f64::acos),
    map("acosh", f64::acosh),
    map("asin", f64::asin),
    map("asinh", instant::asinh),
    map("atan", f64::atan),
    map("atanh", f64::atanh),
    over_time("avg_over_time", R::Average),
    map("ceil", f64::ceil),
    over_time("changes", R::Changes),
    fixed("clamp", Function::Clamp, &[V, S, S], V),
    fixed("clamp_max", Function::ClampMax, &[V, S], V),
    fixed("clamp_min", Function::ClampMin, &[V, S], V),
    map("cos", f64::cos),
    map("cosh", f64::cosh),
    over_time("count_over_time", R::Count),
    calendar("day_of_month", Part::DayOfMonth),
    calendar("day_of_week", Part::DayOfWeek),
    calendar("day_of_year", Part::DayOfYear),
    calendar("days_in_month", Part::DaysInMonth),
    map("deg", instant::degrees),
    over_time("delta", R::Delta),
    over_time("deriv", R::Derivative),
    only(
        Dialect::V3,
        fixed(
            "double_exponential_smoothing",
            Function::Range(R::Smoothing),
            &[M, S, S],
            V,
        ),
    ),
    only(
        Dialect::V3,
        fixed("end", Function::Context(QueryTime::End), &[], S),
    ),
    map("exp", f64::exp),
    only(Dialect::V3, over_time("first_over_time", R::First)),
    map("floor", f64::floor),
    only(
        Dialect::V3,
        fixed("histogram_avg", Function::NativeOnly, &[V], V),
    ),
    fixed("histogram_count", Function::NativeOnly, &[V], V),
    fixed(
        "histogram_fraction",
        Function::HistogramFraction,
        &[S, S, V],
        V,
    ),
    fixed(
        "histogram_quantile",
        Function::HistogramQuantile,
        &[S, V],
        V,
    ),
    only(
        Dialect::V3,
        fixed("histogram_stddev", Function::NativeOnly, &[V], V),
    ),
    only(
        Dialect::V3,
        fixed("histogram_stdvar", Function::NativeOnly, &[V], V),
    ),
    fixed("histogram_sum", Function::NativeOnly, &[V], V),
    only(
        Dialect::V2,
        fixed("holt_winters", Function::Range(R::Smoothing), &[M, S, S], V),
    ),
    calendar("hour", Part::Hour),
    over_time("idelta", R::InstantDelta),
    over_time("increase", R::Increase),
    over_time("irate", R::InstantRate),
    variadic(
        fixed("label_join", Function::LabelJoin, &[V, T, T, T], V),
        -1,
    ),
    fixed("label_replace", Function::LabelReplace, &[V, T, T, T, T], V),
    over_time("last_over_time", R::Last),
    map("ln", f64::ln),
    map("log10", f64::log10),
    map("log2", f64::log2),
    only(Dialect::V3, over_time("mad_over_time", R::MedianDeviation)),
    only(Dialect::V3, fixed("max_of", Function::MaxOf, &[S, S], S)),
    over_time("max_over_time", R::Max),
    only(Dialect::V3, fixed("min_of", Function::MinOf, &[S, S], S)),
    over_time("min_over_time", R::Min),
    calendar("minute", Part::Minute),
    calendar("month", Part::Month),
    fixed("pi", Function::Pi, &[], S),
    fixed(
        "predict_linear",
        Function::Range(R::PredictLinear),
        &[M, S],
        V,
    ),
    over_time("present_over_time", R::Present),
    fixed(
        "quantile_over_time",
        Function::Range(R::Quantile),
        &[S, M],
        V,
    ),
    map("rad", instant::radians),
    only(
        Dialect::V3,
        fixed("range", Function::Context(QueryTime::Range), &[], S),
    ),
    over_time("rate", R::Rate),
    over_time("resets", R::Resets),
    variadic(fixed("round", Function::Round, &[V, S], V), 1),
    fixed("scalar", Function::Scalar, &[V], S),
    map("sgn", instant::sign),
    map("sin", f64::sin),
    map("sinh", f64::sinh),
    fixed("sort", Function::Sort { descending: false }, &[V], V),
    only(
        Dialect::V3,
        variadic(
            fixed(
                "sort_by_label",
                Function::SortByLabel { descending: false },
                &[V, T],
                V,
            ),
            -1,
        ),
    ),
    only(
        Dialect::V3,
        variadic(
            fixed(
                "sort_by_label_desc",
                Function::SortByLabel { descending: true },
                &[V, T],
                V,
            ),
            -1,
        ),
    ),
    fixed("sort_desc", Function::Sort { descending: true }, &[V], V),
    map("sqrt", f64::sqrt),
    only(
        Dialect::V3,
        fixed("start", Function::Context(QueryTime::Start), &[], S),
    ),
    over_time("stddev_over_time", R::StandardDeviation),
    over_time("stdvar_over_time", R::Variance),
    only(
        Dialect::V3,
        fixed("step", Function::Context(QueryTime::Step), &[], S),
    ),
    over_time("sum_over_time", R::Sum),
    map("tan", f64::tan),
    map("tanh", f64::tanh),
    fixed("time", Function::Time, &[], S),
    fixed("timestamp", Function::Timestamp, &[V], V),
    only(
        Dialect::V3,
        over_time("ts_of_first_over_time", R::TimeOfFirst),
    ),
    only(
        Dialect::V3,
        over_time("ts_of_last_over_time", R::TimeOfLast),
    ),
    only(Dialect::V3, over_time("ts_of_max_over_time", R::TimeOfMax)),
    only(Dialect::V3, over_time("ts_of_min_over_time", R::TimeOfMin)),
    fixed("vector", Function::Vector, &[S], V),
    calendar("year", Part::Year),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn a_dialect_has_its_own_name_for_smoothing() {
        assert!(names(Dialect::V2).any(|name| name == "holt_winters"));
        assert!(names(Dialect::V3).all(|name| name != "holt_winters"));
    }
}
