//! From evidence to verdict: what the check recorded, how its process ended, what it printed.
//!
//! Only the record with the nonce, together with exit code 0, is a pass. Everything else is called
//! by the most specific name that the evidence supports.

use std::time::Duration;

use kit::protocol::{Nonce, Record};

use crate::Limits;
use crate::captured::{Captured, harmless};
use crate::last_words;
use crate::supervisor::ProcessEnd;
use crate::verdict::Verdict;

/// Texts longer than this, in bytes, are cut: a verdict is read by a person.
const LONGEST_TEXT: usize = 16 * 1024;

pub(crate) struct Evidence<'a> {
    /// The full path of the test, which is also the name of the thread that runs it.
    pub(crate) test: &'a str,
    pub(crate) records: &'a [Record],
    pub(crate) nonce: &'a Nonce,
    pub(crate) end: ProcessEnd,
    pub(crate) output: &'a Captured,
    pub(crate) limits: Limits,
}

impl Evidence<'_> {
    pub(crate) fn verdict(&self) -> Verdict {
        let passed = self
            .records
            .iter()
            .any(|record| matches!(record, Record::Passed(nonce) if nonce == self.nonce));
        if passed {
            return match self.end {
                ProcessEnd::Exited(0) => Verdict::Passed,
                end => Verdict::EndedBadly {
                    end,
                    message: last_words::abort_reason(self.last_output()),
                },
            };
        }
        // The last one, since the check speaks once and at its end; what the learner's code may
        // have written there came before.
        self.records
            .iter()
            .rev()
            .find_map(recorded)
            .unwrap_or_else(|| self.verdict_of_the_process())
    }

    fn verdict_of_the_process(&self) -> Verdict {
        let output = self.last_output();
        match self.end {
            ProcessEnd::OverTime => Verdict::TimedOut {
                after: self.limits.wall,
            },
            ProcessEnd::OverMemory => Verdict::OutOfMemory {
                limit: self.limits.memory,
                asked: None,
            },
            ProcessEnd::OverOutput => Verdict::Flooded {
                limit: self.limits.output,
            },
            ProcessEnd::SupervisorLost(signal) => Verdict::SupervisorLost { signal },
            ProcessEnd::Signaled(libc::SIGABRT) => {
                if let Some(asked) = last_words::failed_allocation(output) {
                    Verdict::OutOfMemory {
                        limit: self.limits.memory,
                        asked: Some(asked),
                    }
                } else if let Some(thread) = last_words::overflowed_stack(output) {
                    Verdict::StackOverflow {
                        thread: (thread != self.test && thread != "main").then(|| shown(&thread)),
                    }
                } else {
                    Verdict::Aborted {
                        message: last_words::abort_reason(output),
                    }
                }
            }
            ProcessEnd::Signaled(signal) => Verdict::Signaled { signal },
            ProcessEnd::Exited(0) if last_words::no_test_was_run(output) => Verdict::NoSuchCheck,
            // libtest's code for a failed test: the test panicked outside of the kit's `check`.
            ProcessEnd::Exited(101) => match last_words::last_panic(output) {
                Some(panic) => Verdict::Panicked {
                    message: panic.message,
                    location: Some(panic.location),
                },
                None => Verdict::ExitedEarly { code: 101 },
            },
            ProcessEnd::Exited(code) => Verdict::ExitedEarly { code },
        }
    }

    fn last_output(&self) -> &str {
        if self.output.dropped() > 0 {
            self.output.tail()
        } else {
            self.output.head()
        }
    }
}

/// The verdict that a record stands for on its own. A pass needs more than the record.
fn recorded(record: &Record) -> Option<Verdict> {
    Some(match record {
        Record::Step(_) | Record::Seed(_) | Record::Passed(_) => return None,
        Record::Failed(symptom) => Verdict::Failed {
            symptom: shown(symptom),
        },
        Record::Unanswered(key) => Verdict::Unanswered { key: shown(key) },
        Record::NotRun { reason, remedy } => Verdict::NotRun {
            reason: shown(reason),
            remedy: shown(remedy),
        },
        Record::Panicked { message, location } => Verdict::Panicked {
            message: shown(message),
            location: location.as_deref().map(shown),
        },
        Record::TimedOut { after_ms } => Verdict::TimedOut {
            after: Duration::from_millis(*after_ms),
        },
    })
}

/// A text of the check as it may be shown: harmless to a terminal, and not endless.
pub(crate) fn shown(text: &str) -> String {
    let mut text = harmless(text);
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push_str(" [...]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce() -> Nonce {
        Nonce::from_bytes([1; 16])
    }

    fn verdict(records: &[Record], end: ProcessEnd) -> Verdict {
        Evidence {
            test: "check::drains_the_queue",
            records,
            nonce: &nonce(),
            end,
            output: &Captured::default(),
            limits: Limits::default(),
        }
        .verdict()
    }

    #[test]
    fn a_pass_needs_the_nonce_and_exit_code_0() {
        let right = [Record::Passed(nonce())];
        let forged = [Record::Passed(Nonce::from_bytes([2; 16]))];
        assert_eq!(verdict(&right, ProcessEnd::Exited(0)), Verdict::Passed);
        for end in [
            ProcessEnd::Exited(1),
            ProcessEnd::Exited(101),
            ProcessEnd::Signaled(6),
            ProcessEnd::OverTime,
            ProcessEnd::OverMemory,
            ProcessEnd::OverOutput,
            ProcessEnd::SupervisorLost(None),
        ] {
            let verdict = verdict(&right, end);
            assert_eq!(verdict.kind(), "ended_badly", "{end:?} gave {verdict:?}");
        }
        assert_eq!(
            verdict(&forged, ProcessEnd::Exited(0)),
            Verdict::ExitedEarly { code: 0 }
        );
        assert_eq!(
            verdict(&[], ProcessEnd::Exited(0)),
            Verdict::ExitedEarly { code: 0 }
        );
    }

    #[test]
    fn what_the_check_said_last_explains_more_than_how_its_process_was_killed() {
        let records = [
            Record::NotRun {
                reason: "forged".to_owned(),
                remedy: String::new(),
            },
            Record::Failed("847 tasks are still queued".to_owned()),
        ];
        assert_eq!(
            verdict(&records, ProcessEnd::OverTime),
            Verdict::Failed {
                symptom: "847 tasks are still queued".to_owned()
            }
        );
    }

    #[test]
    fn a_symptom_cannot_command_the_terminal_and_has_an_end() {
        let records = [Record::Failed(format!("\u{1b}[2J{}", "é".repeat(100_000)))];
        let Verdict::Failed { symptom } = verdict(&records, ProcessEnd::Exited(101)) else {
            panic!("not a failure");
        };
        assert!(symptom.starts_with("\u{241b}[2Jé"));
        assert!(symptom.len() < LONGEST_TEXT + 10, "{}", symptom.len());
    }
}
