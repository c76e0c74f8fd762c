//! That something goes on while checks run and none of them ends.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Checks that end sooner than this need no sign of life.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the sign moves.
const TICK: Duration = Duration::from_millis(100);

/// A line below what is printed: how many checks have ended, and for how long they run. Only on a
/// terminal; gone when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    line: ProgressBar,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Waiting {
    /// For the end of `checks`, which begin now.
    pub fn for_checks(checks: usize) -> Self {
        let style =
            ProgressStyle::with_template("  {spinner} {pos} of {len} checks have ended, {elapsed}");
        // Every change of a bar draws it: until then it has nowhere to be drawn.
        let nowhere = ProgressDrawTarget::hidden();
        let line = ProgressBar::with_draw_target(Some(checks as u64), nowhere)
            .with_style(style.expect("a template of ours"));
        let ticker = tick(line.clone());
        Waiting {
            line,
            ticker: Some(ticker),
        }
    }

    /// Another check has ended, and `print` tells of it where the line is out of its way.
    pub fn one_ended(&self, print: impl FnOnce()) {
        self.line.suspend(print);
        self.line.inc(1);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((stop, ticker)) = self.ticker.take() {
            drop(stop);
            let _ = ticker.join();
        }
        self.line.finish_and_clear();
    }
}

fn tick(line: ProgressBar) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = mpsc::channel();
    let ticker = thread::spawn(move || {
        if stopped.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        line.set_draw_target(ProgressDrawTarget::stderr());
        while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            line.tick();
        }
    });
    (stop, ticker)
}
