//! Evidence: what the learner points at must exist, and must prove the claim.
//!
//! A claim without evidence can be guessed, and evidence that does not discriminate proves
//! nothing: pointing at everything, or at what a healthy system shows as well, earns nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::symptom;

/// How many of a learner's wrong citations a message repeats.
const SHOWN: usize = 4;

/// The rules by which the evidence for one claim is judged.
///
/// ```
/// use kit::evidence::Evidence;
///
/// let verdict = Evidence::for_claim("the pool is saturated")
///     .exists(|item| ["queue_size", "workers_active", "build_info"].contains(&item))
///     .proves("the queue", &["queue_size"])
///     .proves("the workers", &["workers_active"])
///     .judge(&["queue_size".into(), "workers_active".into()]);
/// assert!(verdict.is_ok());
/// ```
#[must_use]
pub struct Evidence<'a> {
    claim: &'a str,
    exists: Box<dyn Fn(&str) -> bool + 'a>,
    healthy_too: Box<dyn Fn(&str) -> bool + 'a>,
    needed: Vec<(&'a str, BTreeSet<&'a str>)>,
    fitting: BTreeSet<&'a str>,
}

impl<'a> Evidence<'a> {
    /// Rules for the evidence of `claim`, which is for messages.
    pub fn for_claim(claim: &'a str) -> Self {
        Evidence {
            claim,
            exists: Box::new(|_| true),
            healthy_too: Box::new(|_| false),
            needed: Vec::new(),
            fitting: BTreeSet::new(),
        }
    }

    /// What is in the dump. Citing anything else is an error of its own.
    pub fn exists(mut self, exists: impl Fn(&str) -> bool + 'a) -> Self {
        self.exists = Box::new(exists);
        self
    }

    /// What a healthy system of the same kind shows as well, and which therefore proves nothing.
    pub fn healthy_too(mut self, healthy_too: impl Fn(&str) -> bool + 'a) -> Self {
        self.healthy_too = Box::new(healthy_too);
        self
    }

    /// One part of the proof: at least one of `any_of` has to be cited. `part` names it to the
    /// learner without naming the items.
    pub fn proves(mut self, part: &'a str, any_of: &[&'a str]) -> Self {
        self.needed.push((part, any_of.iter().copied().collect()));
        self
    }

    /// Further items that fit the claim: they are not needed, and do no harm.
    pub fn fits(mut self, items: &[&'a str]) -> Self {
        self.fitting.extend(items);
        self
    }

    /// Judges what was cited.
    ///
    /// # Errors
    /// With a sentence for the learner, which does not name the right items.
    pub fn judge(&self, cited: &[String]) -> Result<(), String> {
        let cited: BTreeSet<&str> = cited.iter().map(|item| item.trim()).collect();
        let pick = |keep: &dyn Fn(&str) -> bool| -> Vec<&str> {
            cited.iter().copied().filter(|item| keep(item)).collect()
        };

        let invented = pick(&|item| !(self.exists)(item));
        if !invented.is_empty() {
            return Err(format!(
                "the evidence that {} cites what is not in the dump: {}",
                self.claim,
                listed(&invented)
            ));
        }
        let idle = pick(&|item| !self.belongs(item) && (self.healthy_too)(item));
        if !idle.is_empty() {
            return Err(format!(
                "the evidence that {} cites what a healthy system shows as well: {}",
                self.claim,
                listed(&idle)
            ));
        }
        let stray = pick(&|item| !self.belongs(item));
        if !stray.is_empty() {
            return Err(format!(
                "the evidence that {} cites what does not bear on it: {}",
                self.claim,
                listed(&stray)
            ));
        }
        let open: Vec<&str> = self
            .needed
            .iter()
            .filter(|(_, any_of)| any_of.is_disjoint(&cited))
            .map(|(part, _)| *part)
            .collect();
        if !open.is_empty() {
            return Err(format!(
                "the evidence that {} is not complete: nothing cited speaks of {}",
                self.claim,
                open.join(", or of ")
            ));
        }
        Ok(())
    }

    /// Judges what was cited, for a checker.
    ///
    /// # Panics
    /// With the sentence of [`Evidence::judge`] as the check's symptom.
    pub fn demand(&self, cited: &[String]) {
        if let Err(sentence) = self.judge(cited) {
            symptom(sentence);
        }
    }

    fn belongs(&self, item: &str) -> bool {
        self.fitting.contains(item) || self.needed.iter().any(|(_, any_of)| any_of.contains(item))
    }
}

fn listed(items: &[&str]) -> String {
    let mut text = items
        .iter()
        .take(SHOWN)
        .map(|item| format!("`{item}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > SHOWN {
        let _ = write!(text, " and {} more", items.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: [&str; 5] = ["queue", "active", "total", "build_info", "uptime"];

    fn judge(cited: &[&str]) -> Result<(), String> {
        let cited: Vec<String> = cited.iter().map(|item| (*item).to_owned()).collect();
        Evidence::for_claim("the pool is saturated")
            .exists(|item| DUMP.contains(&item))
            .healthy_too(|item| ["build_info", "total"].contains(&item))
            .proves("the waiting tasks", &["queue"])
            .proves("the busy workers", &["active"])
            .fits(&["total"])
            .judge(&cited)
    }

    #[test]
    fn a_complete_proof_passes_with_or_without_what_merely_fits() {
        assert_eq!(judge(&["active", "queue"]), Ok(()));
        assert_eq!(judge(&["queue", "total", "active", "queue"]), Ok(()));
    }

    #[test]
    fn pointing_at_everything_proves_nothing() {
        let sentence = judge(&DUMP).unwrap_err();
        assert!(sentence.contains("healthy system shows as well: `build_info`"));
    }

    #[test]
    fn invented_stray_and_missing_evidence_are_told_apart() {
        for (cited, part) in [
            (&["queue", "active", "gpu"][..], "not in the dump: `gpu`"),
            (
                &["queue", "active", "uptime"],
                "does not bear on it: `uptime`",
            ),
            (&["queue"], "nothing cited speaks of the busy workers"),
        ] {
            let sentence = judge(cited).unwrap_err();
            assert!(sentence.contains(part), "{sentence}");
        }
    }
}
