//! The tree of a query, with the place of every node.
//!
//! `promql-parser` builds a tree without places; [`plant`] walks that tree and the tokens side by
//! side. The tree tells what comes next, so no grammar is needed to follow it.

use promql_parser::label::MatchOp;
use promql_parser::parser as pp;
use regex::Regex;

use crate::diagnostics::{Diagnostic, Span};
use crate::dialect::Dialect;
use crate::functions::{self, Signature};
use crate::labels::{Labels, METRIC_NAME, Quoted};
use crate::token::{Kind as TokenKind, Token, Tokens};
use crate::value::ValueType;

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) span: Span,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Number(f64),
    Text(String),
    Paren(Box<Node>),
    Negate(Box<Node>),
    Selector(Selector),
    Range { selector: Selector, range_ms: i64 },
    Subquery(Subquery),
    Call(Call),
    Aggregate(Aggregate),
    Binary(Box<Binary>),
}

#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) place: Place,
}

/// When a selector or subquery looks, other than now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) offset_ms: i64,
    pub(crate) at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Start,
    End,
    Time(i64),
}

#[derive(Debug, Clone)]
pub(crate) struct Subquery {
    pub(crate) inner: Box<Node>,
    pub(crate) range_ms: i64,
    pub(crate) step_ms: Option<i64>,
    pub(crate) place: Place,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) signature: &'static Signature,
    pub(crate) arguments: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub(crate) operator: Aggregator,
    pub(crate) inner: Box<Node>,
    pub(crate) parameter: Option<Box<Node>>,
    pub(crate) grouping: Grouping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregator {
    Average,
    BottomK,
    Count,
    CountValues,
    Group,
    LimitK,
    LimitRatio,
    Max,
    Min,
    Quantile,
    StandardDeviation,
    Variance,
    Sum,
    TopK,
}

impl Aggregator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "avg" => Self::Average,
            "bottomk" => Self::BottomK,
            "count" => Self::Count,
            "count_values" => Self::CountValues,
            "group" => Self::Group,
            "limitk" => Self::LimitK,
            "limit_ratio" => Self::LimitRatio,
            "max" => Self::Max,
            "min" => Self::Min,
            "quantile" => Self::Quantile,
            "stddev" => Self::StandardDeviation,
            "stdvar" => Self::Variance,
            "sum" => Self::Sum,
            "topk" => Self::TopK,
            _ => return None,
        })
    }

    fn parameter(self) -> Option<ValueType> {
        match self {
            Self::BottomK | Self::TopK | Self::LimitK | Self::LimitRatio | Self::Quantile => {
                Some(ValueType::Scalar)
            }
            Self::CountValues => Some(ValueType::String),
            _ => None,
        }
    }
}

/// Which labels tell groups apart.
#[derive(Debug, Clone)]
pub(crate) enum Grouping {
    /// These alone.
    By(Vec<String>),
    /// All but these and the metric's name.
    Without(Vec<String>),
}

impl Grouping {
    pub(crate) fn key(&self, labels: &Labels) -> Labels {
        match self {
            Self::By(names) => labels.only(names),
            Self::Without(names) => labels.without(names).without(&[METRIC_NAME]),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub(crate) operator: Operator,
    pub(crate) operator_span: Span,
    pub(crate) left: Node,
    pub(crate) right: Node,
    pub(crate) returns_bool: bool,
    pub(crate) matching: Grouping,
    pub(crate) side: Side,
    pub(crate) fill_left: Option<f64>,
    pub(crate) fill_right: Option<f64>,
}

/// Which side of an operator may have several series for one of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    Neither,
    /// `group_left`, with the labels that come from the right.
    Left(Vec<String>),
    /// `group_right`, with the labels that come from the left.
    Right(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    And,
    Or,
    Unless,
}

impl Operator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "/" => Self::Divide,
            "%" => Self::Modulo,
            "^" => Self::Power,
            "atan2" => Self::Atan2,
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            ">" => Self::Greater,
            "<" => Self::Less,
            ">=" => Self::GreaterEqual,
            "<=" => Self::LessEqual,
            "and" => Self::And,
            "or" => Self::Or,
            "unless" => Self::Unless,
            _ => return None,
        })
    }

    pub(crate) fn is_comparison(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Greater
                | Self::Less
                | Self::GreaterEqual
                | Self::LessEqual
        )
    }

    pub(crate) fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// The value, and whether a comparison without `bool` keeps it.
    #[inline]
    pub(crate) fn apply(self, left: f64, right: f64) -> (f64, bool) {
        match self {
            Self::Add => (left + right, true),
            Self::Subtract => (left - right, true),
            Self::Multiply => (left * right, true),
            Self::Divide => (left / right, true),
            Self::Modulo => (left % right, true),
            Self::Power => (left.powf(right), true),
            Self::Atan2 => (left.atan2(right), true),
            Self::Equal => (left, left == right),
            Self::NotEqual => (left, left != right),
            Self::Greater => (left, left > right),
            Self::Less => (left, left < right),
            Self::GreaterEqual => (left, left >= right),
            Self::LessEqual => (left, left <= right),
            Self::And | Self::Or | Self::Unless => (left, false),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Matcher {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) test: Test,
}

#[derive(Debug, Clone)]
pub(crate) enum Test {
    Equal,
    NotEqual,
    Match(Regex),
    NotMatch(Regex),
}

impl Matcher {
    fn named(name: &str) -> Self {
        Self {
            name: METRIC_NAME.to_owned(),
            value: name.to_owned(),
            test: Test::Equal,
        }
    }

    pub(crate) fn accepts(&self, labels: &Labels) -> bool {
        let value = labels.value(&self.name);
        match &self.test {
            Test::Equal => value == self.value,
            Test::NotEqual => value != self.value,
            Test::Match(regex) => regex.is_match(value),
            Test::NotMatch(regex) => !regex.is_match(value),
        }
    }

    /// The only metric name that can pass, if there is only one.
    pub(crate) fn wanted_name(&self) -> Option<&str> {
        (self.name == METRIC_NAME && matches!(self.test, Test::Equal) && !self.value.is_empty())
            .then_some(self.value.as_str())
    }
}

/// A regular expression that must match a whole text, as Prometheus builds it.
pub(crate) fn anchored(pattern: &str, dialect: Dialect) -> Result<Regex, regex::Error> {
    let flags = match dialect {
        Dialect::V2 => "",
        Dialect::V3 => "s",
    };
    let build = |pattern: &str| Regex::new(&format!("^(?{flags}:{pattern})$"));
    // A brace that opens no repetition stands for itself in Go.
    build(pattern).or_else(|error| build(&escape_braces(pattern)).map_err(|_| error))
}

fn escape_braces(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        if c == '\\' {
            let width = tail.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..1 + width]);
            rest = &tail[width..];
            continue;
        }
        if c == '{' {
            let inside = tail.split('}').next().unwrap_or("");
            let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            if inside.len() == tail.len() || low.is_empty() || !digits(low) || !digits(high) {
                out.push('\\');
            }
        }
        out.push(c);
        rest = tail;
    }
    out
}

impl Node {
    pub(crate) fn value_type(&self) -> ValueType {
        match &self.kind {
            Kind::Number(_) => ValueType::Scalar,
            Kind::Text(_) => ValueType::String,
            Kind::Paren(inner) | Kind::Negate(inner) => inner.value_type(),
            Kind::Selector(_) | Kind::Aggregate(_) => ValueType::Vector,
            Kind::Range { .. } | Kind::Subquery(_) => ValueType::Matrix,
            Kind::Call(call) => call.signature.returns,
            Kind::Binary(binary) => {
                if binary.left.value_type() == ValueType::Scalar
                    && binary.right.value_type() == ValueType::Scalar
                {
                    ValueType::Scalar
                } else {
                    ValueType::Vector
                }
            }
        }
    }

    /// The node without parentheses around it.
    pub(crate) fn bare(&self) -> &Self {
        match &self.kind {
            Kind::Paren(inner) => inner.bare(),
            _ => self,
        }
    }

    /// The nodes right below, in the order of the text.
    pub(crate) fn children(&self) -> Vec<&Self> {
        match &self.kind {
            Kind::Number(_) | Kind::Text(_) | Kind::Selector(_) | Kind::Range { .. } => vec![],
            Kind::Paren(inner) | Kind::Negate(inner) => vec![inner],
            Kind::Subquery(subquery) => vec![&subquery.inner],
            Kind::Call(call) => call.arguments.iter().collect(),
            Kind::Aggregate(aggregate) => aggregate
                .parameter
                .iter()
                .map(|parameter| &**parameter)
                .chain([&*aggregate.inner])
                .collect(),
            Kind::Binary(binary) => vec![&binary.left, &binary.right],
        }
    }
}

/// Gives every node of a parsed query its place, and checks what the parser leaves unchecked.
pub(crate) fn plant(
    expr: pp::Expr,
    query: &str,
    tokens: &Tokens,
    dialect: Dialect,
) -> Result<Node, Diagnostic> {
    let mut planter = Planter {
        query,
        tokens,
        at: 0,
        dialect,
    };
    planter.node(expr)
}

struct Planter<'a> {
    query: &'a str,
    tokens: &'a Tokens,
    at: usize,
    dialect: Dialect,
}

fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Planter<'_> {
    fn peek(&self) -> Option<Token> {
        self.tokens.list.get(self.at).copied()
    }

    fn peek_is(&self, text: &str) -> bool {
        self.peek().is_some_and(|token| token.is(self.query, text))
    }

    fn next(&mut self) -> Span {
        let span = self
            .peek()
            .map_or(Span::new(self.query.len(), self.query.len()), |token| {
                token.span
            });
        self.at += 1;
        span
    }

    fn end(&self) -> usize {
        self.at
            .checked_sub(1)
            .and_then(|at| self.tokens.list.get(at))
            .map_or(self.query.len(), |token| token.span.end)
    }

    fn start(&self) -> usize {
        self.peek()
            .map_or(self.query.len(), |token| token.span.start)
    }

    fn since(&self, start: usize) -> Span {
        Span::new(start, self.end())
    }

    fn fail<T>(&self, span: Span, message: impl Into<String>) -> Result<T, Diagnostic> {
        Err(Diagnostic::new(self.query, span, message))
    }

    /// Skips from an opening sign to the one that closes it.
    fn skip_group(&mut self) {
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            self.at += 1;
            if ["(", "[", "{"]
                .iter()
                .any(|open| token.is(self.query, open))
            {
                depth += 1;
            } else if [")", "]", "}"]
                .iter()
                .any(|close| token.is(self.query, close))
            {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return;
                }
            }
        }
    }

    fn node(&mut self, expr: pp::Expr) -> Result<Node, Diagnostic> {
        // The parser drops unary plus.
        let start = self.start();
        while self.peek_is("+") {
            self.at += 1;
        }
        let kind = match expr {
            pp::Expr::NumberLiteral(number) => {
                while self.peek_is("-") || self.peek_is("+") {
                    self.at += 1;
                }
                self.next();
                Kind::Number(number.val)
            }
            pp::Expr::StringLiteral(text) => {
                let written = self.next().text(self.query);
                Kind::Text(raw_bytes(written).unwrap_or(text.val))
            }
            pp::Expr::Paren(paren) => {
                self.next();
                let inner = self.node(*paren.expr)?;
                self.next();
                Kind::Paren(Box::new(inner))
            }
            pp::Expr::Unary(unary) => {
                self.next();
                Kind::Negate(Box::new(self.node(*unary.expr)?))
            }
            pp::Expr::VectorSelector(selector) => Kind::Selector(self.selector(selector, None)?.0),
            pp::Expr::MatrixSelector(matrix) => {
                let range_ms = milliseconds(matrix.range);
                let (selector, _) = self.selector(matrix.vs, Some(()))?;
                Kind::Range { selector, range_ms }
            }
            pp::Expr::Subquery(subquery) => {
                let inner = Box::new(self.node(*subquery.expr)?);
                self.skip_group();
                let place = self.place(subquery.offset, subquery.at)?;
                Kind::Subquery(Subquery {
                    inner,
                    range_ms: milliseconds(subquery.range),
                    step_ms: subquery.step.map(milliseconds).filter(|step| *step > 0),
                    place,
                })
            }
            pp::Expr::Call(call) => self.call(call)?,
            pp::Expr::Aggregate(aggregate) => self.aggregate(aggregate)?,
            pp::Expr::Binary(binary) => self.binary(binary)?,
            pp::Expr::Extension(_) => {
                return self.fail(self.since(start), "this expression is not supported");
            }
        };
        Ok(Node {
            kind,
            span: self.since(start),
        })
    }

    fn selector(
        &mut self,
        selector: pp::VectorSelector,
        range: Option<()>,
    ) -> Result<(Selector, Span), Diagnostic> {
        let start = self.start();
        let mut matchers: Vec<Matcher> = selector.name.iter().map(|n| Matcher::named(n)).collect();
        if selector.name.is_some() {
            self.at += 1;
        }
        let braces = self.start();
        if self.peek_is("{") {
            self.skip_group();
        }
        let braces = self.since(braces);
        if !selector.matchers.or_matchers.is_empty() {
            return self.fail(braces, "`or` between matchers is not PromQL");
        }
        for matcher in selector.matchers.matchers {
            let regex = || {
                anchored(&matcher.value, self.dialect).map_err(|error| {
                    Diagnostic::new(
                        self.query,
                        braces,
                        format!("error parsing regexp: {}", regex_reason(&error)),
                    )
                })
            };
            let test = match matcher.op {
                MatchOp::Equal => Test::Equal,
                MatchOp::NotEqual => Test::NotEqual,
                MatchOp::Re(_) => Test::Match(regex()?),
                MatchOp::NotRe(_) => Test::NotMatch(regex()?),
            };
            matchers.push(Matcher {
                name: matcher.name,
                value: matcher.value,
                test,
            });
        }
        if range.is_some() {
            self.skip_group();
        }
        let place = self.place(selector.offset, selector.at)?;
        Ok((Selector { matchers, place }, self.since(start)))
    }

    fn place(
        &mut self,
        offset: Option<pp::Offset>,
        at: Option<pp::AtModifier>,
    ) -> Result<Place, Diagnostic> {
        let mut place = Place::default();
        for _ in 0..usize::from(offset.is_some()) + usize::from(at.is_some()) {
            let is_offset = self.peek_is("offset");
            self.next();
            let mut negative = false;
            while self.peek_is("-") || self.peek_is("+") {
                negative ^= self.peek_is("-");
                self.at += 1;
            }
            let value = self.peek().map(|token| token.kind);
            self.next();
            if is_offset {
                let ms = match value {
                    Some(TokenKind::Duration(ms)) => ms,
                    Some(TokenKind::Number(seconds)) => (seconds * 1e3).trunc() as i64,
                    _ => 0,
                };
                place.offset_ms = if negative { -ms } else { ms };
            } else if self.peek_is("(") {
                self.skip_group();
            }
        }
        place.at = match at {
            None => None,
            Some(pp::AtModifier::Start) => Some(At::Start),
            Some(pp::AtModifier::End) => Some(At::End),
            Some(pp::AtModifier::At(time)) => {
                let epoch = std::time::SystemTime::UNIX_EPOCH;
                let ms = match time.duration_since(epoch) {
                    Ok(after) => milliseconds(after),
                    Err(before) => -milliseconds(before.duration()),
                };
                // Beyond this, sums with offsets and ranges could overflow.
                if ms.abs() > i64::MAX / 8 {
                    return self.fail(
                        Span::new(self.end(), self.end()),
                        "timestamp out of bounds for @ modifier",
                    );
                }
                Some(At::Time(ms))
            }
        };
        Ok(place)
    }

    fn call(&mut self, call: pp::Call) -> Result<Kind, Diagnostic> {
        let name_span = self.next();
        let name = call.func.name;
        let Some(signature) = functions::find(name).filter(|held| held.is_in(self.dialect)) else {
            let failure = Diagnostic::new(
                self.query,
                name_span,
                format!("unknown function with name {}", Quoted(name)),
            );
            return Err(match name {
                "holt_winters" => failure.help(
                    "Prometheus 3 calls it double_exponential_smoothing; or choose dialect 2",
                ),
                "double_exponential_smoothing" => {
                    failure.help("Prometheus 2 calls it holt_winters; or choose dialect 3")
                }
                _ if functions::find(name).is_some() => {
                    failure.help("only Prometheus 3 has this function: choose dialect 3")
                }
                _ => failure.help("this evaluator knows floats and classic histograms only"),
            });
        };
        self.next();
        let mut arguments = Vec::with_capacity(call.args.len());
        for (nth, argument) in call.args.args.into_iter().enumerate() {
            if nth > 0 {
                self.next();
            }
            arguments.push(self.node(*argument)?);
        }
        self.next();
        self.check_arguments(signature, name_span, &arguments)?;
        Ok(Kind::Call(Call {
            signature,
            arguments,
        }))
    }

    fn check_arguments(
        &self,
        signature: &'static Signature,
        name: Span,
        arguments: &[Node],
    ) -> Result<(), Diagnostic> {
        let most = signature.arguments.len();
        let (least, most) = match signature.variadic {
            0 => (most, Some(most)),
            1.. => (
                most - 1,
                Some(most - 1 + signature.variadic.unsigned_abs() as usize),
            ),
            _ => (most - 1, None),
        };
        let got = arguments.len();
        let at = name.to(Span::new(self.end(), self.end()));
        let wrong = |bound: &str, wanted: usize| {
            self.fail(
                at,
                format!(
                    "expected {bound}{wanted} argument(s) in call to {}, got {got}",
                    Quoted(signature.name)
                ),
            )
        };
        if Some(least) == most && got != least {
            return wrong("", least);
        }
        if got < least {
            return wrong("at least ", least);
        }
        if let Some(most) = most.filter(|most| got > *most) {
            return wrong("at most ", most);
        }
        for (nth, argument) in arguments.iter().enumerate() {
            let wanted = signature.arguments[nth.min(signature.arguments.len() - 1)];
            let found = argument.value_type();
            if found != wanted {
                return Err(wrong_type(
                    self.query,
                    argument,
                    wanted,
                    &format!("call to function {}", Quoted(signature.name)),
                ));
            }
        }
        Ok(())
    }

    fn aggregate(&mut self, aggregate: pp::AggregateExpr) -> Result<Kind, Diagnostic> {
        let name = self.next();
        let operator = Aggregator::named(&aggregate.op.to_string());
        let Some(operator) = operator else {
            return self.fail(name, "this aggregation is not supported");
        };
        if self.dialect == Dialect::V2
            && matches!(operator, Aggregator::LimitK | Aggregator::LimitRatio)
        {
            return self.fail(
                name,
                format!(
                    "unknown function with name {}",
                    Quoted(name.text(self.query))
                ),
            );
        }
        let grouped_before = self.peek_is("by") || self.peek_is("without");
        if grouped_before {
            self.next();
            self.skip_group();
        }
        self.next();
        let mut parameter = None;
        if let Some(expr) = aggregate.param {
            parameter = Some(Box::new(self.node(*expr)?));
            self.next();
        }
        let inner = Box::new(self.node(*aggregate.expr)?);
        self.next();
        if !grouped_before && aggregate.modifier.is_some() {
            self.next();
            self.skip_group();
        }
        let context = "aggregation expression";
        if inner.value_type() != ValueType::Vector {
            return Err(wrong_type(self.query, &inner, ValueType::Vector, context));
        }
        if let (Some(node), Some(wanted)) = (&parameter, operator.parameter())
            && node.value_type() != wanted
        {
            let context = match operator {
                Aggregator::CountValues => "count_values aggregation",
                _ => "aggregation parameter",
            };
            return Err(wrong_type(self.query, node, wanted, context));
        }
        let grouping = match aggregate.modifier {
            None => Grouping::By(Vec::new()),
            Some(modifier) => grouping(modifier),
        };
        Ok(Kind::Aggregate(Aggregate {
            operator,
            inner,
            parameter,
            grouping,
        }))
    }

    fn binary(&mut self, binary: pp::BinaryExpr) -> Result<Kind, Diagnostic> {
        let left = self.node(*binary.lhs)?;
        let operator_span = self.next();
        let Some(operator) = Operator::named(&binary.op.to_string()) else {
            return self.fail(operator_span, "this operator is not supported");
        };
        if self.peek_is("bool") {
            self.next();
        }
        for word in [
            "on",
            "ignoring",
            "group_left",
            "group_right",
            "fill",
            "fill_left",
            "fill_right",
            "fill_left",
        ] {
            let is_modifier = match word {
                "on" | "ignoring" => binary
                    .modifier
                    .as_ref()
                    .is_some_and(|modifier| modifier.matching.is_some()),
                "group_left" | "group_right" => binary.modifier.as_ref().is_some_and(|modifier| {
                    matches!(
                        modifier.card,
                        pp::VectorMatchCardinality::ManyToOne(_)
                            | pp::VectorMatchCardinality::OneToMany(_)
                    )
                }),
                _ => binary.modifier.as_ref().is_some_and(|modifier| {
                    modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some()
                }),
            };
            if is_modifier && self.peek_is(word) {
                self.next();
                if self.peek_is("(") {
                    self.skip_group();
                }
            }
        }
        let right = self.node(*binary.rhs)?;
        let modifier = binary.modifier.unwrap_or_default();
        let matching = match modifier.matching {
            None => Grouping::Without(Vec::new()),
            Some(modifier) => grouping(modifier),
        };
        let side = match modifier.card {
            pp::VectorMatchCardinality::ManyToOne(labels) => Side::Left(labels.labels),
            pp::VectorMatchCardinality::OneToMany(labels) => Side::Right(labels.labels),
            _ => Side::Neither,
        };
        let node = Binary {
            operator,
            operator_span,
            left,
            right,
            returns_bool: modifier.return_bool,
            matching,
            side,
            fill_left: modifier.fill_values.lhs,
            fill_right: modifier.fill_values.rhs,
        };
        self.check_binary(&node)?;
        Ok(Kind::Binary(Box::new(node)))
    }

    fn check_binary(&self, node: &Binary) -> Result<(), Diagnostic> {
        if (node.fill_left.is_some() || node.fill_right.is_some()) && self.dialect == Dialect::V2 {
            return self.fail(node.operator_span, "unexpected fill modifier");
        }
        if node.operator.is_set() && (node.fill_left.is_some() || node.fill_right.is_some()) {
            return self.fail(
                node.operator_span,
                "filling in missing series not allowed for set operators",
            );
        }
        Ok(())
    }
}

/// The text of a literal that spells bytes (`\xff`, `\377`), where these are not all ASCII: they may
/// make up characters, and those that do not become U+FFFD. `None` for every other literal.
fn raw_bytes(literal: &str) -> Option<String> {
    let quote = literal.chars().next()?;
    if quote == '`' || !literal.contains('\\') {
        return None;
    }
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    let mut bytes: Vec<u8> = Vec::with_capacity(inner.len());
    let mut beyond_ascii = false;
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        if c != '\\' {
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
            rest = tail;
            continue;
        }
        let (length, value) = match tail.as_bytes().first()? {
            b'x' => (3, u32::from_str_radix(tail.get(1..3)?, 16).ok()?),
            b'u' => (5, u32::from_str_radix(tail.get(1..5)?, 16).ok()?),
            b'U' => (9, u32::from_str_radix(tail.get(1..9)?, 16).ok()?),
            b'0'..=b'7' => (3, u32::from_str_radix(tail.get(..3)?, 8).ok()?),
            b'a' => (1, 7),
            b'b' => (1, 8),
            b'f' => (1, 12),
            b'n' => (1, 10),
            b'r' => (1, 13),
            b't' => (1, 9),
            b'v' => (1, 11),
            byte => (1, u32::from(*byte)),
        };
        if matches!(tail.as_bytes().first()?, b'u' | b'U') {
            let c = char::from_u32(value)?;
            bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
        } else {
            bytes.push(u8::try_from(value).ok()?);
            beyond_ascii |= value > 0x7f;
        }
        rest = tail.get(length..)?;
    }
    beyond_ascii.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn grouping(modifier: pp::LabelModifier) -> Grouping {
    match modifier {
        pp::LabelModifier::Include(labels) => Grouping::By(labels.labels),
        pp::LabelModifier::Exclude(labels) => Grouping::Without(labels.labels),
    }
}

/// What is wrong with a regular expression, in one line.
pub(crate) fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines()
        .rev()
        .find_map(|line| line.strip_prefix("error: "))
        .unwrap_or(text.lines().last().unwrap_or("it does not parse"))
        .to_owned()
}

fn wrong_type(query: &str, node: &Node, wanted: ValueType, context: &str) -> Diagnostic {
    let found = node.value_type();
    let failure = Diagnostic::new(
        query,
        node.span,
        format!("expected type {wanted} in {context}, got {found}"),
    );
    match type_help(wanted, found, node.span.text(query)) {
        Some(help) => failure.help(help),
        None => failure,
    }
}

/// What to do about an expression of the wrong type.
pub(crate) fn type_help(wanted: ValueType, found: ValueType, text: &str) -> Option<String> {
    let text = if text.len() > 30 || text.contains('\n') {
        "…"
    } else {
        text
    };
    Some(match (wanted, found) {
        (ValueType::Matrix, ValueType::Vector)
            if text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_:{}=\"~!, ".contains(&b)) =>
        {
            format!("give the selector a window: {text}[5m]")
        }
        (ValueType::Matrix, ValueType::Vector) => {
            "only a selector has samples to look back on; a window over an expression is a \
             subquery: (…)[5m:1m]"
                .to_owned()
        }
        (ValueType::Vector, ValueType::Matrix) => {
            "turn the window into one value for each series first, as in rate(…[5m])".to_owned()
        }
        (ValueType::Vector, ValueType::Scalar) => format!("make a vector of it: vector({text})"),
        (ValueType::Scalar, ValueType::Vector) => format!("make a scalar of it: scalar({text})"),
        (ValueType::String, _) => "put it in quotes".to_owned(),
        _ => return None,
    })
}
