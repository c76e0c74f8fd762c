//! The closed loop of labs in which a dump is read and its cause then repaired: the vitals of the
//! system before and after the repair, under the same load.
//!
//! A symptom that is gone is half of the proof. The other half is that it was not bought with
//! something else: shedding all load cures any latency. So each [`Goal`] has to be reached, and
//! every other vital has to stay within its slack.
//!
//! Not for timing on a wall clock: vitals come from a simulation or from virtual time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::symptom;

/// By what share of its baseline a vital may get worse where no [`Goal`] says otherwise.
pub const DEFAULT_SLACK: f64 = 0.1;

/// Columns of the name of a vital in a message; longer names are cut short.
const NAME_WIDTH: usize = 34;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    Lower,
    Higher,
}

/// What was measured of a system over one run. Names carry their unit, as those of metrics do:
/// `p99_seconds`, `throughput_per_second`.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Vitals(BTreeMap<String, (Better, f64)>);

impl Vitals {
    /// No vitals yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a latency, an error ratio, a queue length, a number of bytes.
    pub fn lower_is_better(mut self, name: impl Into<String>, value: f64) -> Self {
        self.0.insert(name.into(), (Better::Lower, value));
        self
    }

    /// Adds a throughput, a hit ratio, a number of completed tasks.
    pub fn higher_is_better(mut self, name: impl Into<String>, value: f64) -> Self {
        self.0.insert(name.into(), (Better::Higher, value));
        self
    }
}

/// What the repair has to do to one vital.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    vital: String,
    rule: Rule,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    AtMost(f64),
    AtLeast(f64),
    Improved(f64),
    NearReference(f64),
    Slack(f64),
}

impl Goal {
    /// The symptom is gone when the vital is at most `bound`, in its own unit.
    pub fn at_most(vital: impl Into<String>, bound: f64) -> Self {
        Self::new(vital, Rule::AtMost(bound))
    }

    /// The symptom is gone when the vital is at least `bound`, in its own unit.
    pub fn at_least(vital: impl Into<String>, bound: f64) -> Self {
        Self::new(vital, Rule::AtLeast(bound))
    }

    /// The symptom is gone when the vital is better by `factor` than it was: 10 is a tenth of a
    /// latency, or ten times a throughput.
    ///
    /// # Panics
    /// When `factor` is not above 1.
    pub fn improved(vital: impl Into<String>, factor: f64) -> Self {
        assert!(
            factor > 1.0,
            "an improvement by a factor of {factor} is none"
        );
        Self::new(vital, Rule::Improved(factor))
    }

    /// The symptom is gone when the vital is worse than that of the reference by at most `slack`,
    /// a share of it: 0.2 is 20 %.
    ///
    /// # Panics
    /// When `slack` is negative or not a number.
    pub fn near_reference(vital: impl Into<String>, slack: f64) -> Self {
        Self::new(vital, Rule::NearReference(checked(slack)))
    }

    /// No symptom: the vital may get worse by `slack`, a share of its baseline, rather than by
    /// [`DEFAULT_SLACK`].
    ///
    /// # Panics
    /// When `slack` is negative or not a number.
    pub fn no_worse(vital: impl Into<String>, slack: f64) -> Self {
        Self::new(vital, Rule::Slack(checked(slack)))
    }

    fn new(vital: impl Into<String>, rule: Rule) -> Self {
        Goal {
            vital: vital.into(),
            rule,
        }
    }
}

fn checked(slack: f64) -> f64 {
    assert!(slack >= 0.0, "a slack of {slack} is none");
    slack
}

/// Judges a repair by the vitals of the sick and of the repaired system.
///
/// The baseline of a vital that is no goal is that of the `reference` (a healthy system under the
/// same load) where there is one, else that of the sick system: what a sick system lacks, such as
/// throughput, a repair may otherwise go on lacking.
///
/// # Errors
/// With a table of the vitals that are not as they should be, for the learner. Also when a vital is
/// missing on one side, is not finite or changes its direction, when a goal names none of them, or
/// was reached before the repair and so proves nothing: then the checker, or what it measures, is
/// broken.
pub fn judge(
    sick: &Vitals,
    repaired: &Vitals,
    reference: Option<&Vitals>,
    goals: &[Goal],
) -> Result<(), String> {
    let mut sides = vec![("before the repair", sick), ("after the repair", repaired)];
    sides.extend(reference.map(|reference| ("in the reference", reference)));
    same_and_finite(&sides)?;
    for (index, goal) in goals.iter().enumerate() {
        if !sick.0.contains_key(&goal.vital) {
            return Err(format!(
                "a goal speaks of `{}`, which is not measured",
                goal.vital
            ));
        }
        if goals[..index].iter().any(|other| other.vital == goal.vital) {
            return Err(format!("two goals speak of `{}`", goal.vital));
        }
    }

    let mut remaining = Vec::new();
    let mut worsened = Vec::new();
    for (name, &(better, before)) in &sick.0 {
        let after = repaired.0[name].1;
        let rule = goals
            .iter()
            .find(|goal| goal.vital == *name)
            .map_or(Rule::Slack(DEFAULT_SLACK), |goal| goal.rule);
        let healthy = reference.map(|reference| reference.0[name].1);
        let bound = match rule {
            Rule::AtMost(bound) => Bound::AtMost(bound),
            Rule::AtLeast(bound) => Bound::AtLeast(bound),
            Rule::Improved(factor) => match better {
                Better::Lower => Bound::AtMost(before / factor),
                Better::Higher => Bound::AtLeast(before * factor),
            },
            Rule::NearReference(slack) => Bound::worse(
                better,
                healthy.ok_or_else(|| {
                    format!("a goal compares `{name}` with a reference, and there is none")
                })?,
                slack,
            ),
            Rule::Slack(slack) => Bound::worse(better, healthy.unwrap_or(before), slack),
        };
        let is_symptom = !matches!(rule, Rule::Slack(_));
        if is_symptom && bound.admits(before) {
            return Err(format!(
                "`{name}` was {} before the repair already, which is within {}: the system was \
                 not sick, and nothing is proved",
                number(before),
                bound.text()
            ));
        }
        if !bound.admits(after) {
            let row = (name.as_str(), before, after, bound);
            if is_symptom {
                remaining.push(row);
            } else {
                worsened.push(row);
            }
        }
    }
    if remaining.is_empty() && worsened.is_empty() {
        return Ok(());
    }
    let opening = match (remaining.is_empty(), worsened.is_empty()) {
        (false, true) => "the symptom is still there:",
        (false, false) => "the symptom is still there, and something else got worse:",
        _ => "the symptom is gone, but something else got worse:",
    };
    remaining.extend(worsened);
    Err(format!("{opening}\n{}", table(&remaining)))
}

/// As [`judge`], for a checker.
///
/// # Panics
/// With the error as the check's symptom.
pub fn demand(sick: &Vitals, repaired: &Vitals, reference: Option<&Vitals>, goals: &[Goal]) {
    if let Err(sentence) = judge(sick, repaired, reference, goals) {
        symptom(sentence);
    }
}

fn same_and_finite(sides: &[(&str, &Vitals)]) -> Result<(), String> {
    for (place, vitals) in sides {
        for (name, (better, value)) in &vitals.0 {
            if !value.is_finite() {
                return Err(format!("`{name}` is {value} {place}: nothing was measured"));
            }
            for (other_place, other) in sides {
                match other.0.get(name) {
                    None => {
                        return Err(format!(
                            "`{name}` was measured {place}, and is missing {other_place}"
                        ));
                    }
                    Some((direction, _)) if direction != better => {
                        return Err(format!(
                            "`{name}` is better lower on one side and better higher on the other"
                        ));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn worse(better: Better, baseline: f64, slack: f64) -> Self {
        let margin = baseline.abs() * slack;
        match better {
            Better::Lower => Bound::AtMost(baseline + margin),
            Better::Higher => Bound::AtLeast(baseline - margin),
        }
    }

    fn admits(self, value: f64) -> bool {
        // The last digits of a product of decimals must not decide.
        match self {
            Bound::AtMost(bound) => value <= bound + bound.abs() * 1e-12,
            Bound::AtLeast(bound) => value >= bound - bound.abs() * 1e-12,
        }
    }

    fn text(self) -> String {
        match self {
            Bound::AtMost(bound) => format!("<= {}", number(bound)),
            Bound::AtLeast(bound) => format!(">= {}", number(bound)),
        }
    }
}

fn table(rows: &[(&str, f64, f64, Bound)]) -> String {
    let name_width = rows
        .iter()
        .map(|(name, ..)| name.chars().count())
        .max()
        .unwrap_or(0)
        .clamp("vital".len(), NAME_WIDTH);
    let mut text = format!(
        "  {:<name_width$} {:>11} {:>11} {:>14}",
        "vital", "before", "after", "allowed"
    );
    for (name, before, after, bound) in rows {
        let _ = write!(
            text,
            "\n  {:<name_width$} {:>11} {:>11} {:>14}",
            cut(name),
            number(*before),
            number(*after),
            bound.text()
        );
    }
    text
}

fn cut(name: &str) -> String {
    if name.chars().count() <= NAME_WIDTH {
        return name.to_owned();
    }
    let kept: String = name.chars().take(NAME_WIDTH - 3).collect();
    format!("{kept}...")
}

/// A number in at most eleven columns.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value.fract() == 0.0 && magnitude < 1e9 {
        format!("{value}")
    } else if (1e-3..1e6).contains(&magnitude) {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals(p99: f64, throughput: f64, memory: f64) -> Vitals {
        Vitals::new()
            .lower_is_better("p99_seconds", p99)
            .higher_is_better("throughput_per_second", throughput)
            .lower_is_better("memory_bytes", memory)
    }

    fn sick() -> Vitals {
        vitals(4.2, 100.0, 1e8)
    }

    #[test]
    fn a_repair_that_costs_nothing_passes_each_form_of_goal() {
        let repaired = vitals(0.3, 105.0, 1.05e8);
        let healthy = vitals(0.25, 110.0, 1e8);
        for goal in [
            Goal::at_most("p99_seconds", 0.5),
            Goal::improved("p99_seconds", 10.0),
            Goal::near_reference("p99_seconds", 0.2),
        ] {
            assert_eq!(
                judge(
                    &sick(),
                    &repaired,
                    Some(&healthy),
                    std::slice::from_ref(&goal)
                ),
                Ok(()),
                "{goal:?}"
            );
        }
        assert_eq!(
            judge(
                &sick(),
                &vitals(4.0, 300.0, 1e8),
                None,
                &[Goal::at_least("throughput_per_second", 250.0)]
            ),
            Ok(())
        );
    }

    #[test]
    fn a_symptom_that_is_still_there_is_shown_with_its_bound() {
        let sentence = judge(
            &sick(),
            &vitals(1.5, 100.0, 1e8),
            None,
            &[Goal::at_most("p99_seconds", 0.5)],
        )
        .unwrap_err();
        assert_eq!(
            sentence,
            "the symptom is still there:\n  \
             vital            before       after        allowed\n  \
             p99_seconds         4.2         1.5         <= 0.5"
        );
    }

    #[test]
    fn shedding_all_load_is_no_repair() {
        let goals = [Goal::at_most("p99_seconds", 0.5)];
        let shed = vitals(0.001, 2.0, 1e7);
        let sentence = judge(&sick(), &shed, None, &goals).unwrap_err();
        assert!(
            sentence.starts_with("the symptom is gone, but something else got worse:"),
            "{sentence}"
        );
        assert!(sentence.contains("throughput_per_second"), "{sentence}");
        assert!(sentence.contains(">= 90"), "{sentence}");
        assert!(!sentence.contains("memory_bytes"), "{sentence}");
    }

    #[test]
    fn a_reference_stands_in_for_what_the_sick_system_lacked() {
        let goals = [Goal::at_most("p99_seconds", 0.5)];
        let repaired = vitals(0.3, 100.0, 1e8);
        let healthy = vitals(0.25, 1_000.0, 1e8);
        assert_eq!(judge(&sick(), &repaired, None, &goals), Ok(()));
        let sentence = judge(&sick(), &repaired, Some(&healthy), &goals).unwrap_err();
        assert!(sentence.contains(">= 900"), "{sentence}");
    }

    #[test]
    fn a_stated_slack_replaces_the_default_and_is_inclusive() {
        let goals = [
            Goal::at_most("p99_seconds", 0.5),
            Goal::no_worse("memory_bytes", 0.5),
        ];
        assert_eq!(
            judge(&sick(), &vitals(0.3, 90.0, 1.5e8), None, &goals),
            Ok(())
        );
        assert!(judge(&sick(), &vitals(0.3, 89.9, 1.5e8), None, &goals).is_err());
        assert!(judge(&sick(), &vitals(0.3, 90.0, 1.51e8), None, &goals).is_err());
    }

    #[test]
    fn a_goal_that_was_reached_before_the_repair_proves_nothing() {
        let sentence = judge(
            &sick(),
            &vitals(0.3, 100.0, 1e8),
            None,
            &[Goal::at_most("p99_seconds", 5.0)],
        )
        .unwrap_err();
        assert!(
            sentence.contains("was 4.2 before the repair already"),
            "{sentence}"
        );
    }

    #[test]
    fn what_is_missing_not_finite_or_contradictory_is_an_error() {
        let goals = [Goal::at_most("p99_seconds", 0.5)];
        let repaired = vitals(0.3, 100.0, 1e8);
        let few = Vitals::new().lower_is_better("p99_seconds", 0.3);
        let turned = repaired
            .clone()
            .lower_is_better("throughput_per_second", 1.0);
        for (after, goals, part) in [
            (
                few.clone(),
                &goals[..],
                "`memory_bytes` was measured before the repair, and is missing after",
            ),
            (
                vitals(f64::NAN, 1.0, 1.0),
                &goals[..],
                "`p99_seconds` is NaN after the repair",
            ),
            (turned, &goals[..], "better higher on the other"),
            (
                repaired.clone(),
                &[Goal::at_most("p999_seconds", 1.0)][..],
                "`p999_seconds`, which is not measured",
            ),
            (
                repaired.clone(),
                &[Goal::near_reference("p99_seconds", 0.1)][..],
                "there is none",
            ),
            (
                repaired.clone(),
                &[goals[0].clone(), goals[0].clone()][..],
                "two goals speak of `p99_seconds`",
            ),
        ] {
            let sentence = judge(&sick(), &after, None, goals).unwrap_err();
            assert!(sentence.contains(part), "{sentence}");
        }
        assert!(judge(&sick(), &repaired, Some(&few), &goals).is_err());
    }

    #[test]
    fn the_table_stays_below_80_columns_whatever_the_names_and_numbers() {
        let name = "a_name_that_is_far_longer_than_any_that_a_metric_should_have_seconds";
        let before = Vitals::new().lower_is_better(name, -1.234_567_89e-100);
        let after = Vitals::new().lower_is_better(name, 123_456_789.123_456);
        let sentence = judge(&before, &after, None, &[]).unwrap_err();
        for line in sentence.lines() {
            assert!(line.chars().count() < 80, "{line}");
        }
    }
}
