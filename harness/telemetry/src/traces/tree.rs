//! The tree that the spans of a trace form.

use std::collections::HashMap;

use super::{Span, SpanId, Trace};

/// Who called whom in one trace. Children are sorted by start.
#[derive(Debug, Clone)]
pub struct Tree<'a> {
    spans: &'a [Span],
    by_id: HashMap<SpanId, usize>,
    children: Vec<Vec<usize>>,
    roots: Vec<usize>,
    orphans: Vec<usize>,
}

/// Why the spans of a trace form no tree.
///
/// Completes "could not build the tree: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Two spans with the same id.
    #[error("the spans `{first}` and `{second}` have the same id {id}")]
    Duplicate {
        /// The id.
        id: SpanId,
        /// The name of one.
        first: String,
        /// The name of the other.
        second: String,
    },
    /// Spans that are their own ancestors.
    #[error("the spans {} are each other's ancestors", ids(.0))]
    Cycle(Vec<SpanId>),
}

fn ids(ids: &[SpanId]) -> String {
    const SHOWN: usize = 8;
    let mut text = String::new();
    for (nth, id) in ids.iter().take(SHOWN).enumerate() {
        text.push_str(if nth == 0 { "" } else { ", " });
        text.push_str(&id.to_string());
    }
    if ids.len() > SHOWN {
        text.push_str(&format!(" and {} more", ids.len() - SHOWN));
    }
    text
}

impl<'a> Tree<'a> {
    pub(super) fn build(trace: &'a Trace) -> Result<Self, TreeError> {
        let spans = trace.spans.as_slice();
        let mut by_id = HashMap::with_capacity(spans.len());
        for (index, span) in spans.iter().enumerate() {
            if let Some(first) = by_id.insert(span.span_id, index) {
                return Err(TreeError::Duplicate {
                    id: span.span_id,
                    first: spans[first].name.clone(),
                    second: span.name.clone(),
                });
            }
        }
        let mut tree = Self {
            spans,
            by_id,
            children: vec![Vec::new(); spans.len()],
            roots: Vec::new(),
            orphans: Vec::new(),
        };
        for (index, span) in spans.iter().enumerate() {
            match span.parent.map(|id| tree.by_id.get(&id)) {
                None => tree.roots.push(index),
                Some(None) => tree.orphans.push(index),
                Some(Some(&parent)) => tree.children[parent].push(index),
            }
        }
        // Each span has one parent, so whatever no root or orphan leads to sits in or below a cycle.
        let reached = tree.walk().count();
        if reached < spans.len() {
            return Err(TreeError::Cycle(tree.find_cycle()));
        }
        Ok(tree)
    }

    /// The ids of one cycle, from its earliest span on. Called only if there is one.
    fn find_cycle(&self) -> Vec<SpanId> {
        let mut seen = vec![false; self.spans.len()];
        for (_, span) in self.walk() {
            if let Some(&index) = self.by_id.get(&span.span_id) {
                seen[index] = true;
            }
        }
        let parent =
            |index: usize| -> Option<usize> { self.by_id.get(&self.spans[index].parent?).copied() };
        let Some(start) = seen.iter().position(|seen| !seen) else {
            return Vec::new();
        };
        // As many steps up as there are spans end in the cycle, wherever they began.
        let within = (0..self.spans.len()).fold(start, |at, _| parent(at).unwrap_or(at));
        let mut cycle = vec![within];
        let mut at = parent(within);
        while let Some(next) = at.filter(|next| *next != within) {
            cycle.push(next);
            at = parent(next);
        }
        let first = cycle
            .iter()
            .enumerate()
            .min_by_key(|(_, index)| **index)
            .map_or(0, |(nth, _)| nth);
        cycle.rotate_left(first);
        cycle
            .into_iter()
            .map(|index| self.spans[index].span_id)
            .collect()
    }

    fn list<'t>(&'t self, indices: &'t [usize]) -> impl DoubleEndedIterator<Item = &'a Span> + 't {
        indices.iter().map(|&index| &self.spans[index])
    }

    /// The spans without a parent.
    pub fn roots(&self) -> impl Iterator<Item = &'a Span> {
        self.list(&self.roots)
    }

    /// The spans whose parent is not among the spans: it was lost, or is in another text.
    pub fn orphans(&self) -> impl Iterator<Item = &'a Span> {
        self.list(&self.orphans)
    }

    /// The spans that `id` caused directly.
    pub fn children(&self, id: SpanId) -> impl Iterator<Item = &'a Span> {
        let indices: &[usize] = match self.by_id.get(&id) {
            Some(&index) => &self.children[index],
            None => &[],
        };
        self.list(indices)
    }

    /// The span that caused `id`; `None` for roots, orphans and unknown ids.
    pub fn parent(&self, id: SpanId) -> Option<&'a Span> {
        let span = &self.spans[*self.by_id.get(&id)?];
        Some(&self.spans[*self.by_id.get(&span.parent?)?])
    }

    /// Every span with its depth, parents before children: roots (depth 0) with all below them, then
    /// orphans likewise.
    pub fn walk(&self) -> impl Iterator<Item = (usize, &'a Span)> {
        let tops = self.roots.iter().chain(&self.orphans);
        let mut open: Vec<(usize, usize)> = tops.rev().map(|&index| (0, index)).collect();
        std::iter::from_fn(move || {
            let (depth, index) = open.pop()?;
            let below = self.children[index].iter().rev();
            open.extend(below.map(|&child| (depth + 1, child)));
            Some((depth, &self.spans[index]))
        })
    }
}
