//! Histories of a register, and whether they are linearizable.
//!
//! A check records when each operation on one key was invoked and when it returned, and asks
//! whether some order of the operations explains what they saw: each takes effect at one moment
//! between its call and its return (Herlihy and Wing, "Linearizability: a correctness condition for
//! concurrent objects", 1990). Keys are independent of each other, so a store is judged one key at
//! a time.
//!
//! Not for compare-and-set, queues or transactions: the only actions are a read and a blind write.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

/// How many operations of a violating history are shown.
const SHOWN: usize = 14;

/// What an operation did, and for a read what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<V> {
    /// The register was set to this value, or may have been if the operation never returned.
    Write(V),
    /// The register was seen to hold this value.
    Read(V),
}

/// One operation on one register.
///
/// An operation that was refused, and certainly has had no effect, does not belong into a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<V> {
    /// Who called, for the message.
    pub client: String,
    /// When the call began, in the time of the scenario.
    pub invoked: Duration,
    /// When the call returned. `None` is an outcome that nobody knows: a write may take effect at
    /// any time after its call, or never; a read says nothing.
    pub returned: Option<Duration>,
    pub action: Action<V>,
}

impl<V> Operation<V> {
    /// Whether this operation was over before the other began. At equal times it was not: clocks
    /// have a resolution, and a doubt is the defendant's.
    fn precedes(&self, other: &Operation<V>) -> bool {
        self.returned
            .is_some_and(|returned| returned < other.invoked)
    }
}

/// Why a history is not linearizable: the shortest beginning of it that no order explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation<V> {
    /// The operations of that beginning, by the time of their calls. Those that return after its
    /// end stand here as if they had not returned.
    pub operations: Vec<Operation<V>>,
    /// The place in `operations` of the one whose return made it inexplicable.
    pub culprit: usize,
}

impl<V: fmt::Debug> fmt::Display for Violation<V> {
    /// A timeline, at most 14 operations of it: the last ones are those that matter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "   called  returned  by          what")?;
        // The culprit may have been called long before the operations that it contradicts.
        let mut from = self.operations.len().saturating_sub(SHOWN);
        if self.culprit < from {
            show(f, &self.operations[self.culprit], true)?;
            from += 1;
        }
        if from > 0 {
            writeln!(f, "      ...  ({} operations)", from)?;
        }
        for (index, operation) in self.operations.iter().enumerate().skip(from) {
            show(f, operation, index == self.culprit)?;
        }
        Ok(())
    }
}

fn show<V: fmt::Debug>(
    f: &mut fmt::Formatter<'_>,
    operation: &Operation<V>,
    culprit: bool,
) -> fmt::Result {
    let called = operation.invoked.as_secs_f64();
    let returned = operation.returned.map_or("-".to_owned(), |returned| {
        format!("{:.3}", returned.as_secs_f64())
    });
    let what = match &operation.action {
        Action::Write(value) => format!("write {value:?}"),
        Action::Read(value) => format!("read  {value:?}"),
    };
    let note = match (culprit, operation.returned) {
        (true, _) => "  <- no order explains this",
        (false, None) => "  (no answer by then)",
        (false, Some(_)) => "",
    };
    let client = &operation.client;
    writeln!(f, "{called:9.3} {returned:>9}  {client:<10}  {what}{note}")
}

/// Whether the operations on one register, which holds `initial` at first, are linearizable.
///
/// The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with
/// the memory that Lowe added to it ("Testing for linearizability", 2017). It takes exponential time
/// at worst, in the number of writes that run at the same time: keep a dozen clients a register.
/// Written values should differ from each other, or the check sees less.
///
/// # Errors
/// The shortest beginning of the history that cannot be explained.
pub fn linearizable<V: Clone + Eq + Hash>(
    initial: &V,
    history: &[Operation<V>],
) -> Result<(), Violation<V>> {
    if explains(initial, &beginning(history, Duration::MAX)) {
        return Ok(());
    }
    // Every beginning of a linearizable history is linearizable, so the shortest bad one can be
    // found by halving.
    let mut ends: Vec<Duration> = history.iter().filter_map(|op| op.returned).collect();
    ends.sort_unstable();
    let first_bad = ends.partition_point(|&end| explains(initial, &beginning(history, end)));
    let end = ends[first_bad.min(ends.len() - 1)];
    let operations = beginning(history, end);
    let culprit = operations
        .iter()
        .rposition(|op| op.returned == Some(end))
        .expect("some operation returned at this end");
    Err(Violation {
        operations,
        culprit,
    })
}

/// What was known of the history at `end`, by the time of the calls.
fn beginning<V: Clone>(history: &[Operation<V>], end: Duration) -> Vec<Operation<V>> {
    let mut known: Vec<Operation<V>> = history
        .iter()
        .filter(|op| op.invoked <= end)
        .cloned()
        .map(|mut op| {
            op.returned = op.returned.filter(|&returned| returned <= end);
            op
        })
        .filter(|op| op.returned.is_some() || matches!(op.action, Action::Write(_)))
        .collect();
    known.sort_by_key(|op| op.invoked);
    known
}

fn explains<V: Clone + Eq + Hash>(initial: &V, history: &[Operation<V>]) -> bool {
    // A write of unknown outcome that nobody has read need not have happened.
    let seen: HashSet<&V> = history
        .iter()
        .filter_map(|op| match &op.action {
            Action::Read(value) => Some(value),
            Action::Write(_) => None,
        })
        .collect();
    let operations: Vec<&Operation<V>> = history
        .iter()
        .filter(|op| match &op.action {
            Action::Write(value) => op.returned.is_some() || seen.contains(value),
            Action::Read(_) => true,
        })
        .collect();
    let mut search = Search {
        operations: &operations,
        unread: operations
            .iter()
            .map(|op| matches!(&op.action, Action::Write(value) if !seen.contains(value)))
            .collect(),
        done: vec![false; operations.len()],
        visited: HashSet::new(),
    };
    search.explained_from(initial)
}

struct Search<'a, V> {
    operations: &'a [&'a Operation<V>],
    unread: Vec<bool>,
    done: Vec<bool>,
    /// What has been tried in vain: the same operations done, with the same value at the end.
    visited: HashSet<(Vec<bool>, V)>,
}

impl<V: Clone + Eq + Hash> Search<'_, V> {
    /// Whether the operations that are not done can be ordered, when the register holds `value`.
    fn explained_from(&mut self, value: &V) -> bool {
        let mut read = Vec::new();
        // A read of the present value changes nothing: there is no better moment for it.
        while let Some(index) = self.candidates().into_iter().find(
            |&index| matches!(&self.operations[index].action, Action::Read(seen) if seen == value),
        ) {
            self.done[index] = true;
            read.push(index);
        }
        let explained = self.all_returned_are_done() || self.some_write_next(value);
        if !explained {
            for index in read {
                self.done[index] = false;
            }
        }
        explained
    }

    fn some_write_next(&mut self, value: &V) -> bool {
        if !self.visited.insert((self.done.clone(), value.clone())) {
            return false;
        }
        // A write that nobody reads may as well come right before another write: there is nothing
        // to choose.
        let mut passed = Vec::new();
        while let Some(index) = self
            .candidates()
            .into_iter()
            .find(|&index| self.unread[index])
        {
            self.done[index] = true;
            passed.push(index);
        }
        let explained = self.all_returned_are_done()
            || self.candidates().into_iter().any(|index| {
                let Action::Write(written) = &self.operations[index].action else {
                    return false;
                };
                self.done[index] = true;
                let explained = self.explained_from(written);
                self.done[index] = explained;
                explained
            });
        if !explained {
            for index in passed {
                self.done[index] = false;
            }
        }
        explained
    }

    /// The operations that may come next: none that is still to come was over before they began.
    fn candidates(&self) -> Vec<usize> {
        let open = |&index: &usize| !self.done[index];
        let earliest = (0..self.operations.len())
            .filter(open)
            .filter(|&index| self.operations[index].returned.is_some())
            .min_by_key(|&index| self.operations[index].returned);
        (0..self.operations.len())
            .filter(open)
            .filter(move |&index| {
                earliest.is_none_or(|earliest| {
                    !self.operations[earliest].precedes(self.operations[index])
                })
            })
            .collect()
    }

    fn all_returned_are_done(&self) -> bool {
        self.operations
            .iter()
            .zip(&self.done)
            .all(|(op, &done)| done || op.returned.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn op(client: &str, invoked: u64, returned: Option<u64>, action: Action<u8>) -> Operation<u8> {
        Operation {
            client: client.to_owned(),
            invoked: ms(invoked),
            returned: returned.map(ms),
            action,
        }
    }

    use Action::{Read, Write};

    #[test]
    fn a_stale_read_is_a_violation_and_the_timeline_ends_with_it() {
        let history = [
            op("a", 0, Some(10), Write(1)),
            op("a", 20, Some(30), Write(2)),
            op("b", 40, Some(41), Read(1)),
            op("b", 50, Some(51), Read(2)),
        ];
        let violation = linearizable(&0, &history).unwrap_err();
        assert_eq!(violation.operations, history[..3]);
        assert_eq!(violation.culprit, 2);
        assert_eq!(
            violation.to_string(),
            "   called  returned  by          what\n\
             \x20   0.000     0.010  a           write 1\n\
             \x20   0.020     0.030  a           write 2\n\
             \x20   0.040     0.041  b           read  1  <- no order explains this\n"
        );
    }

    #[test]
    fn a_read_during_a_write_may_see_either_value_but_not_the_old_one_after_the_new_one() {
        let write = op("a", 10, Some(100), Write(1));
        let old_then_new = [
            write.clone(),
            op("b", 20, Some(30), Read(0)),
            op("b", 40, Some(50), Read(1)),
        ];
        assert_eq!(linearizable(&0, &old_then_new), Ok(()));
        let new_then_old = [
            write,
            op("b", 20, Some(30), Read(1)),
            op("c", 40, Some(50), Read(0)),
        ];
        assert!(linearizable(&0, &new_then_old).is_err());
    }

    #[test]
    fn a_write_without_an_answer_may_happen_late_or_never_but_only_once() {
        let unknown = op("a", 10, None, Write(1));
        let late = [
            unknown.clone(),
            op("b", 500, Some(501), Read(0)),
            op("b", 900, Some(901), Read(1)),
        ];
        assert_eq!(linearizable(&0, &late), Ok(()));
        assert_eq!(linearizable(&0, &late[..2]), Ok(()));
        let twice = [
            unknown.clone(),
            op("b", 20, Some(30), Read(1)),
            op("b", 40, Some(50), Write(2)),
            op("b", 60, Some(70), Read(1)),
        ];
        assert!(linearizable(&0, &twice).is_err());
        let before_its_call = [op("b", 1, Some(5), Read(1)), unknown];
        assert!(linearizable(&0, &before_its_call).is_err());
    }

    #[test]
    fn operations_that_touch_in_time_count_as_concurrent() {
        let history = [
            op("a", 10, Some(20), Write(1)),
            op("b", 20, Some(21), Read(0)),
        ];
        assert_eq!(linearizable(&0, &history), Ok(()));
    }

    #[test]
    fn a_long_timeline_shows_the_culprit_and_the_last_operations() {
        let mut history: Vec<_> = (0..40)
            .map(|n| op("a", 10 * n, Some(10 * n + 1), Write(1)))
            .collect();
        history.push(op("slow", 5, Some(1_000), Read(9)));
        let text = linearizable(&0, &history).unwrap_err().to_string();
        assert!(text.contains("slow        read  9  <-"), "{text}");
        assert!(text.lines().count() <= SHOWN + 3, "{text}");
    }

    /// Every order, one after the other: slow and beyond doubt.
    fn explained_by_some_permutation(left: &[Operation<u8>], value: u8) -> bool {
        left.iter().all(|op| op.returned.is_none())
            || (0..left.len()).any(|index| {
                let mut rest = left.to_vec();
                let next = rest.remove(index);
                !rest.iter().any(|other| other.precedes(&next))
                    && match next.action {
                        Write(written) => explained_by_some_permutation(&rest, written),
                        Read(seen) => seen == value && explained_by_some_permutation(&rest, value),
                    }
            })
    }

    fn operations() -> impl Strategy<Value = Vec<Operation<u8>>> {
        let one = (0_u64..12, 0_u64..6, 0_u8..3, any::<bool>(), 0_u8..6).prop_map(
            |(invoked, took, value, write, answered)| {
                let returned = (!write || answered > 0).then_some(invoked + took);
                let action = if write { Write(value) } else { Read(value) };
                op("x", invoked, returned, action)
            },
        );
        proptest::collection::vec(one, 0..7)
    }

    proptest! {
        #[test]
        fn the_verdict_is_that_of_trying_every_order(history in operations()) {
            let expected = explained_by_some_permutation(&history, 0);
            let found = linearizable(&0, &history);
            prop_assert_eq!(found.is_ok(), expected);
            if let Err(violation) = found {
                // Before the culprit returned there was nothing to object to.
                let end = violation.operations[violation.culprit].returned;
                let mut before = violation.operations;
                before.retain(|op| op.returned != end || matches!(op.action, Write(_)));
                for op in &mut before {
                    op.returned = op.returned.filter(|&returned| Some(returned) < end);
                }
                prop_assert_eq!(linearizable(&0, &before), Ok(()));
            }
        }
    }
}
