//! That something goes on while checks run and none of them ends.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Checks that end sooner than this need no sign of life.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the sign moves.
const TICK: Duration = Duration::from_millis(100);

/// A line below what is printed: how many checks have ended, and for how long they run. Only on a
/// terminal; gone when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    line: Arc<Line>,
    checks: usize,
    ended: usize,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Line {
    spinner: ProgressBar,
    drawn: Mutex<bool>,
}

impl Waiting {
    /// For the end of `checks`, which begin now.
    pub fn for_checks(checks: usize) -> Self {
        let style = ProgressStyle::with_template("  {spinner} {msg}, {elapsed}");
        let line = Arc::new(Line {
            spinner: ProgressBar::new_spinner().with_style(style.expect("a template of ours")),
            drawn: Mutex::new(false),
        });
        let mut waiting = Waiting {
            line,
            checks,
            ended: 0,
            ticker: None,
        };
        waiting.say();
        if console::user_attended_stderr() {
            waiting.ticker = Some(tick(Arc::clone(&waiting.line)));
        }
        waiting
    }

    /// Another check has ended, and `print` tells of it where the line is out of its way.
    pub fn one_ended(&mut self, print: impl FnOnce()) {
        self.ended += 1;
        self.say();
        let drawn = self
            .line
            .drawn
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *drawn {
            self.line.spinner.suspend(print);
        } else {
            print();
        }
    }

    fn say(&self) {
        let (ended, checks) = (self.ended, self.checks);
        self.line
            .spinner
            .set_message(format!("{ended} of {checks} checks have ended"));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((stop, ticker)) = self.ticker.take() {
            drop(stop);
            let _ = ticker.join();
            self.line.spinner.finish_and_clear();
        }
    }
}

fn tick(line: Arc<Line>) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = mpsc::channel();
    let ticker = thread::spawn(move || {
        let mut wait = PATIENCE;
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let mut drawn = line.drawn.lock().unwrap_or_else(PoisonError::into_inner);
            *drawn = true;
            line.spinner.tick();
            wait = TICK;
        }
    });
    (stop, ticker)
}
