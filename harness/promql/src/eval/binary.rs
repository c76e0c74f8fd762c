//! Binary operators: arithmetic, comparison, sets, and the matching of series.

use std::collections::HashMap;

use super::{ABSENT, Evaluator, Grid, Out, Result, Track, absent_values, is_absent};
use crate::diagnostics::Span;
use crate::labels::Labels;
use crate::tree::{Binary, Grouping, Operator, Side};

/// The tracks of both sides that match each other.
#[derive(Default)]
struct Match {
    left: Vec<usize>,
    right: Vec<usize>,
}

impl Evaluator<'_> {
    pub(super) fn binary(&self, binary: &Binary, span: Span, grid: Grid) -> Result<Out> {
        let left = self.eval(&binary.left, grid)?;
        let right = self.eval(&binary.right, grid)?;
        match (left, right) {
            (Out::Scalar(mut left), Out::Scalar(right)) => {
                for (left, right) in left.iter_mut().zip(right) {
                    let (value, keep) = binary.operator.apply(*left, right);
                    *left = if binary.operator.is_comparison() {
                        f64::from(u8::from(keep))
                    } else {
                        value
                    };
                }
                Ok(Out::Scalar(left))
            }
            (Out::Vector(tracks), Out::Scalar(scalar)) => {
                self.with_scalar(binary, tracks, &scalar, false, span, grid)
            }
            (Out::Scalar(scalar), Out::Vector(tracks)) => {
                self.with_scalar(binary, tracks, &scalar, true, span, grid)
            }
            (Out::Vector(left), Out::Vector(right)) => {
                let tracks = if binary.operator.is_set() {
                    self.set(binary, left, right, grid)?
                } else {
                    self.match_up(binary, left, right, span, grid)?
                };
                Ok(Out::Vector(self.merge(tracks, span)?))
            }
        }
    }

    fn with_scalar(
        &self,
        binary: &Binary,
        mut tracks: Vec<Track>,
        scalar: &[f64],
        scalar_first: bool,
        span: Span,
        grid: Grid,
    ) -> Result<Out> {
        self.spend(tracks.len() * grid.steps)?;
        let operator = binary.operator;
        for track in &mut tracks {
            for (held, &scalar) in track.values.iter_mut().zip(scalar) {
                if is_absent(*held) {
                    continue;
                }
                let (value, keep) = if scalar_first {
                    operator.apply(scalar, *held)
                } else {
                    operator.apply(*held, scalar)
                };
                *held = if binary.returns_bool {
                    f64::from(u8::from(keep))
                } else if !keep {
                    ABSENT
                } else if operator.is_comparison() {
                    // The value of the series passes, on whichever side it stands.
                    *held
                } else {
                    value
                };
            }
            if self.changes_meaning(operator) || binary.returns_bool {
                self.drop_name(track);
            }
        }
        Ok(Out::Vector(self.merge(tracks, span)?))
    }

    /// Whether the result is no longer what the metric's name says.
    fn changes_meaning(&self, operator: Operator) -> bool {
        match operator {
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo
            | Operator::Power => true,
            Operator::Atan2 => self.is_v3(),
            _ => false,
        }
    }

    /// Sorts the tracks of both sides by what they are matched on.
    fn matches(&self, matching: &Grouping, left: &[Track], right: &[Track]) -> Vec<Match> {
        let mut places: HashMap<Labels, usize> = HashMap::with_capacity(left.len());
        let mut matches: Vec<Match> = Vec::new();
        for (is_left, tracks) in [(true, left), (false, right)] {
            for (at, track) in tracks.iter().enumerate() {
                let place = *places
                    .entry(matching.key(&track.labels))
                    .or_insert_with(|| {
                        matches.push(Match::default());
                        matches.len() - 1
                    });
                if is_left {
                    matches[place].left.push(at);
                } else {
                    matches[place].right.push(at);
                }
            }
        }
        matches
    }

    fn set(
        &self,
        binary: &Binary,
        mut left: Vec<Track>,
        mut right: Vec<Track>,
        grid: Grid,
    ) -> Result<Vec<Track>> {
        self.spend((left.len() + right.len()) * grid.steps)?;
        let matches = self.matches(&binary.matching, &left, &right);
        let present = |tracks: &[Track], members: &[usize]| -> Vec<bool> {
            let mut present = vec![false; grid.steps];
            for &at in members {
                for (held, value) in present.iter_mut().zip(&tracks[at].values) {
                    *held |= !is_absent(*value);
                }
            }
            present
        };
        let keep = |tracks: &mut [Track], members: &[usize], keep: &[bool], wanted: bool| {
            for &at in members {
                for (held, keep) in tracks[at].values.iter_mut().zip(keep) {
                    if *keep != wanted {
                        *held = ABSENT;
                    }
                }
            }
        };
        for found in &matches {
            match binary.operator {
                Operator::Or => {
                    let taken = present(&left, &found.left);
                    keep(&mut right, &found.right, &taken, false);
                }
                operator => {
                    let there = present(&right, &found.right);
                    keep(&mut left, &found.left, &there, operator == Operator::And);
                }
            }
        }
        if binary.operator == Operator::Or {
            left.append(&mut right);
        }
        left.retain(|track| track.values.iter().any(|value| !is_absent(*value)));
        Ok(left)
    }

    fn match_up(
        &self,
        binary: &Binary,
        left: Vec<Track>,
        right: Vec<Track>,
        span: Span,
        grid: Grid,
    ) -> Result<Vec<Track>> {
        self.spend((left.len() + right.len()) * grid.steps)?;
        let fills = binary.fill_left.is_some() || binary.fill_right.is_some();
        let any = |tracks: &[Track]| -> Vec<bool> {
            let mut any = vec![false; grid.steps];
            for track in tracks {
                for (held, value) in any.iter_mut().zip(&track.values) {
                    *held |= !is_absent(*value);
                }
            }
            any
        };
        let (any_left, any_right) = (any(&left), any(&right));
        // Where one side is empty nothing can match, nor be ambiguous.
        let live: Vec<bool> = any_left
            .iter()
            .zip(&any_right)
            .map(|(left, right)| (*left && *right) || (fills && (*left || *right)))
            .collect();
        let matches = self.matches(&binary.matching, &left, &right);
        let swapped = matches!(binary.side, Side::Right(_));
        let (many_tracks, one_tracks) = if swapped {
            (&right, &left)
        } else {
            (&left, &right)
        };
        let (fill_many, fill_one) = if swapped {
            (binary.fill_right, binary.fill_left)
        } else {
            (binary.fill_left, binary.fill_right)
        };
        let mut join = Join {
            evaluator: self,
            binary,
            span,
            grid,
            swapped,
            many_tracks,
            one_tracks,
            fill_many,
            fill_one,
            out: Vec::new(),
        };
        for found in &matches {
            if swapped {
                join.group(&found.right, &found.left, &live)?;
            } else {
                join.group(&found.left, &found.right, &live)?;
            }
        }
        Ok(join.out)
    }
}

/// Joins the tracks of one side (many) with those of the other (one), match by match.
struct Join<'e, 'a> {
    evaluator: &'e Evaluator<'a>,
    binary: &'e Binary,
    span: Span,
    grid: Grid,
    /// The right side is the one with many.
    swapped: bool,
    many_tracks: &'e [Track],
    one_tracks: &'e [Track],
    fill_many: Option<f64>,
    fill_one: Option<f64>,
    out: Vec<Track>,
}

/// Where the results of a match are, and which of them have a value at the present step.
#[derive(Default)]
struct Places {
    /// By the two tracks that a result comes from; `None` where that side was filled in.
    by_origin: HashMap<(Option<usize>, Option<usize>), usize>,
    taken: Vec<usize>,
}

impl Join<'_, '_> {
    fn group(&mut self, many: &[usize], one: &[usize], live: &[bool]) -> Result<()> {
        if let ([many], [one]) = (many, one)
            && self.fill_many.is_none()
            && self.fill_one.is_none()
        {
            self.pair(*many, *one);
            return Ok(());
        }
        let mut places = Places::default();
        for step in (0..self.grid.steps).filter(|step| live[*step]) {
            places.taken.clear();
            let mut single: Option<usize> = None;
            for &at in one {
                if is_absent(self.one_tracks[at].values[step]) {
                    continue;
                }
                if let Some(other) = single {
                    return Err(self.duplicate(at, other));
                }
                single = Some(at);
            }
            let mut matched = false;
            for &at in many {
                if is_absent(self.many_tracks[at].values[step]) {
                    continue;
                }
                matched = true;
                if single.is_some() || self.fill_one.is_some() {
                    self.put(&mut places, Some(at), single, step)?;
                }
            }
            if !matched && single.is_some() && self.fill_many.is_some() {
                self.put(&mut places, None, single, step)?;
            }
        }
        Ok(())
    }

    /// Puts one value into the result track of its origins.
    fn put(
        &mut self,
        places: &mut Places,
        many: Option<usize>,
        one: Option<usize>,
        step: usize,
    ) -> Result<()> {
        let of = |tracks: &[Track], at: Option<usize>, fill: Option<f64>| match at {
            Some(at) => tracks[at].values[step],
            None => fill.unwrap_or(f64::NAN),
        };
        let value = self.value(
            of(self.many_tracks, many, self.fill_many),
            of(self.one_tracks, one, self.fill_one),
        );
        // Version 2 filters before it looks for ambiguity, version 3 after.
        if is_absent(value) && !self.evaluator.is_v3() {
            return Ok(());
        }
        let place = match places.by_origin.get(&(many, one)) {
            Some(&place) => place,
            None => {
                let labels =
                    |tracks: &[Track], at: Option<usize>| at.map(|at| tracks[at].labels.clone());
                // A side that was filled in has the labels that it would have been matched on.
                let key = |labels: &Labels| self.binary.matching.key(labels);
                let many_labels = labels(self.many_tracks, many);
                let one_labels = labels(self.one_tracks, one);
                let many_labels = many_labels
                    .clone()
                    .or_else(|| one_labels.as_ref().map(key))
                    .unwrap_or_default();
                let one_labels = one_labels.unwrap_or_else(|| key(&many_labels));
                let track = self.track(&many_labels, &one_labels);
                self.out.push(track);
                places.by_origin.insert((many, one), self.out.len() - 1);
                self.out.len() - 1
            }
        };
        if self.binary.side == Side::Neither {
            if !places.taken.is_empty() {
                return Err(self.ambiguous(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ));
            }
        } else if places
            .taken
            .iter()
            .any(|&other| self.out[other].labels == self.out[place].labels)
        {
            return Err(self.ambiguous(
                "multiple matches for labels: grouping labels must ensure unique matches",
            ));
        }
        places.taken.push(place);
        self.out[place].values[step] = value;
        Ok(())
    }

    /// One series with one series: nothing can be ambiguous.
    fn pair(&mut self, many: usize, one: usize) {
        let (many, one) = (&self.many_tracks[many], &self.one_tracks[one]);
        let mut track = self.track(&many.labels, &one.labels);
        for (step, held) in track.values.iter_mut().enumerate() {
            let (many, one) = (many.values[step], one.values[step]);
            if !is_absent(many) && !is_absent(one) {
                *held = self.value(many, one);
            }
        }
        self.out.push(track);
    }

    fn value(&self, many: f64, one: f64) -> f64 {
        let (left, right) = if self.swapped {
            (one, many)
        } else {
            (many, one)
        };
        let (value, keep) = self.binary.operator.apply(left, right);
        if self.binary.returns_bool {
            f64::from(u8::from(keep))
        } else if keep {
            value
        } else {
            ABSENT
        }
    }

    /// An empty track with the labels of a result.
    fn track(&self, many: &Labels, one: &Labels) -> Track {
        let mut labels = many.clone();
        if self.evaluator.changes_meaning(self.binary.operator) {
            labels = self.evaluator.nameless(&labels);
        }
        let included: &[String] = match &self.binary.side {
            Side::Neither => {
                labels = match &self.binary.matching {
                    Grouping::By(names) => labels.only(names),
                    Grouping::Without(names) => labels.without(names),
                };
                &[]
            }
            Side::Left(included) | Side::Right(included) => included,
        };
        for name in included {
            labels = labels.with(name, one.value(name));
        }
        let mut track = Track {
            labels,
            drop_name: false,
            values: absent_values(self.grid),
        };
        if self.binary.returns_bool {
            self.evaluator.drop_name(&mut track);
        }
        track
    }

    fn ambiguous(&self, message: &str) -> super::EvalError {
        self.evaluator.fail(self.span, message)
    }

    fn duplicate(&self, track: usize, other: usize) -> super::EvalError {
        let side = if self.swapped { "left" } else { "right" };
        let labels = &self.one_tracks[track].labels;
        self.ambiguous(&format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
            self.binary.matching.key(labels).braced(),
            labels.braced(),
            self.one_tracks[other].labels.braced()
        ))
    }
}
