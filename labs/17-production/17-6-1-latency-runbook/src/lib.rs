//! Where the runbook of the payment service is, and how one is written.
//!
//! [`FILE`] is TOML. A walk begins with the first `[[step]]`, at the moment at which the alert
//! fires, and ends at a `[[conclusion]]`.
//!
//! | of a step | |
//! |---|---|
//! | `id`, `question` | a name for branches, and words for people |
//! | `query` | PromQL, evaluated when the minutes of the step are over |
//! | or `logs`, `within` | fields that a line has to have, and a time such as `"5m"`: how many there are |
//! | `minutes` | a query takes 1 at least, logs 2, a `command` whose effect has to show 3 |
//! | `command` | run before the question is asked; optional |
//! | `is` | `"> 0.9"`: yes if it holds for any series of the answer; an empty answer is a no |
//! | `yes`, `no` | the id of a step or of a conclusion |
//!
//! | of a conclusion | |
//! |---|---|
//! | `id`, `cause` | the brief lists the causes |
//! | `component` | what is affected |
//! | `action` | the first command to run |
//!
//! In `component` and `action`, `{pool}` stands for the label `pool` of the series that said yes
//! most clearly, at the last step that said yes and whose series has such a label.

/// The runbook, in the folder of this package.
pub const FILE: &str = "runbook.toml";
