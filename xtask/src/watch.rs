//! `watch`: judges the lab at hand at every save, and takes single keys in between.
//!
//! The terminal is left in its usual mode but for two things: keys come at once and are not
//! echoed. What is shown is what the other verbs print, each run as a process of its own, so that
//! nothing a lab does reaches the keyboard. The mode is put back when `watch` ends in any way that
//! a process can notice.
//!
//! What is judged is decided by what the learner's files say, not by which of them an event names:
//! the folder of all labs is watched, so that a lab's folder may go and come back.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use console::style;
use notify::{RecursiveMode, Watcher as _};

use crate::catalog::{Catalog, Lab};
use crate::files::State;
use crate::progress::Progress;

/// How long files have to be at rest before they are judged: editors write in several steps.
const SETTLED: Duration = Duration::from_millis(60);
/// How often signals, and the end of a verb, are looked for.
const TICK: Duration = Duration::from_millis(40);

#[derive(clap::Args)]
pub struct Options {
    /// The lab: 18.1.1, its name or a part of it; the next open one if left out
    lab: Option<String>,
}

enum Event {
    Key(u8),
    /// Standard input has ended: there is no keyboard any more.
    NoKeys,
    Files,
}

pub fn watch(options: &Options) -> Result<ExitCode> {
    if !console::user_attended() || !terminal::is_one() {
        bail!("watch needs a terminal; `cargo xtask run` judges once");
    }
    let catalog = Catalog::load()?;
    let progress = Progress::load(&catalog.root)?;
    let mut lab = match &options.lab {
        Some(query) => catalog.find(query)?,
        None => crate::next::open_lab(&catalog, &progress)?,
    };
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGQUIT,
    ] {
        signal_hook::flag::register(signal, Arc::clone(&ended))
            .context("could not listen for signals")?;
    }
    let (tell, events) = mpsc::channel();
    let _mode = terminal::Mode::keys_at_once(std::io::stdin())?;
    read_keys(tell.clone());
    // Each lab in turn, until the learner has enough.
    loop {
        match Session::begin(&catalog, lab, tell.clone())?.run(&events, &ended)? {
            Next::Quit => return Ok(ExitCode::SUCCESS),
            Next::Lab => {
                let progress = Progress::load(&catalog.root)?;
                match after(&catalog, &progress, lab) {
                    Some(later) => lab = later,
                    None => println!("\n  Every other lab is done."),
                }
            }
        }
    }
}

/// The next open lab after this one, from the beginning again at the end.
fn after<'c>(catalog: &'c Catalog, progress: &Progress, lab: &Lab) -> Option<&'c Lab> {
    let at = catalog
        .labs
        .iter()
        .position(|other| other.id() == lab.id())?;
    let (before, rest) = catalog.labs.split_at(at);
    rest.iter()
        .skip(1)
        .chain(before)
        .find(|other| !progress.of(other.id()).done)
}

enum Next {
    Quit,
    Lab,
}

/// What runs at the moment, and what is to run after it.
struct Session<'c> {
    lab: &'c Lab,
    running: Option<Child>,
    waiting: VecDeque<Vec<String>>,
    /// The learner's files as they were when they were last judged.
    judged: Option<State>,
    changed_at: Option<Instant>,
    /// The next key answers the question whether to reset.
    asked_to_reset: bool,
    _watcher: notify::RecommendedWatcher,
}

impl<'c> Session<'c> {
    fn begin(catalog: &Catalog, lab: &'c Lab, tell: Sender<Event>) -> Result<Self> {
        let on_event = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event as well, and judging reads them all.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = tell.send(Event::Files);
            }
        };
        // A link could lead anywhere, and what it leads to is not judged.
        let config = notify::Config::default().with_follow_symlinks(false);
        let mut watcher = notify::RecommendedWatcher::new(on_event, config)
            .context("could not watch files; `cargo xtask run` judges once")?;
        let labs = catalog.root.join("labs");
        watcher
            .watch(&labs, RecursiveMode::Recursive)
            .with_context(|| {
                format!(
                    "could not watch {}; `cargo xtask run` judges once",
                    labs.display()
                )
            })?;
        let mut session = Session {
            lab,
            running: None,
            waiting: VecDeque::new(),
            judged: None,
            changed_at: None,
            asked_to_reset: false,
            _watcher: watcher,
        };
        session.judge();
        Ok(session)
    }

    fn run(mut self, events: &Receiver<Event>, ended: &AtomicBool) -> Result<Next> {
        loop {
            if ended.load(Ordering::Relaxed) {
                self.stop();
                return Ok(Next::Quit);
            }
            self.go_on()?;
            match events.recv_timeout(TICK) {
                Ok(Event::Key(key)) => {
                    if let Some(next) = self.press(key)? {
                        self.stop();
                        return Ok(next);
                    }
                }
                Ok(Event::NoKeys) | Err(RecvTimeoutError::Disconnected) => {
                    self.stop();
                    return Ok(Next::Quit);
                }
                Ok(Event::Files) => self.changed_at = Some(Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// What a key means. `Some` when this lab's session ends.
    fn press(&mut self, key: u8) -> Result<Option<Next>> {
        const CTRL_C: u8 = 3;
        const CTRL_D: u8 = 4;
        if std::mem::take(&mut self.asked_to_reset) && ![CTRL_C, CTRL_D].contains(&key) {
            println!("{}", char::from(key).escape_default());
            if key.eq_ignore_ascii_case(&b'y') {
                self.enqueue(&["reset", "--yes"]);
            } else {
                println!("  Nothing was changed.");
                if self.running.is_none() {
                    self.footer();
                }
            }
            return Ok(None);
        }
        match key.to_ascii_lowercase() {
            // These arrive as keys, since the mode says so.
            b'q' | CTRL_C | CTRL_D => {
                println!();
                return Ok(Some(Next::Quit));
            }
            b'n' => return Ok(Some(Next::Lab)),
            b'h' => self.enqueue(&["hint"]),
            b'l' => self.waiting.push_back(vec!["list".into()]),
            b'r' => self.ask_to_reset()?,
            b' ' | b'\r' | b'\n' => self.judge(),
            _ => {}
        }
        Ok(None)
    }

    /// Runs one verb after the other, and judges what has changed once it is at rest.
    fn go_on(&mut self) -> Result<()> {
        if let Some(child) = &mut self.running {
            if child
                .try_wait()
                .context("could not wait for a verb")?
                .is_none()
            {
                return Ok(());
            }
            self.running = None;
            if self.asked_to_reset {
                // What has just been said stands between the question and its answer.
                self.ask_to_reset()?;
            } else if self.waiting.is_empty() {
                self.footer();
            }
        }
        if self.changed_at.is_some_and(|at| at.elapsed() >= SETTLED) {
            self.changed_at = None;
            if self.judged != Some(State::of(self.lab)) {
                self.judge();
            }
        }
        if let Some(verb) = self.waiting.pop_front() {
            if verb[0] == "run" {
                self.judged = Some(State::of(self.lab));
                clear_screen()?;
            }
            println!();
            self.running = Some(spawn(&verb)?);
        }
        Ok(())
    }

    fn judge(&mut self) {
        let run = vec!["run".to_owned(), self.lab.id().to_string()];
        if !self.waiting.contains(&run) {
            self.waiting.push_back(run);
        }
    }

    fn ask_to_reset(&mut self) -> Result<()> {
        print!("\n  Put the start back? A copy of your files is kept. [y/N] ");
        std::io::stdout().flush().context("could not ask")?;
        self.asked_to_reset = true;
        Ok(())
    }

    fn enqueue(&mut self, verb: &[&str]) {
        let mut verb: Vec<String> = verb.iter().map(|word| (*word).to_owned()).collect();
        verb.insert(1, self.lab.id().to_string());
        self.waiting.push_back(verb);
    }

    fn footer(&self) {
        let key = |key: &str, rest: &str| format!("{}{rest}", style(key).bold().underlined());
        let watching = format!(
            "watching {}",
            self.lab.relative(&self.lab.dir().join("src"))
        );
        let keys = [
            key("h", "int"),
            key("l", "ist"),
            key("n", "ext"),
            key("r", "eset"),
            key("q", "uit"),
        ]
        .join("  ");
        println!("\n  {}\n  {keys}", style(watching).dim());
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // With the compiler that it may have started.
            #[cfg(unix)]
            let _ = rustix::process::kill_process_group(
                rustix::process::Pid::from_child(&child),
                rustix::process::Signal::TERM,
            );
            #[cfg(not(unix))]
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A verdict replaces the one before; what other verbs say stays beneath it.
fn clear_screen() -> Result<()> {
    if std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb") {
        return Ok(());
    }
    console::Term::stdout()
        .clear_screen()
        .context("could not clear the screen")
}

/// Runs another verb of this runner, with this terminal to write to and nothing to read from, in a
/// process group of its own.
fn spawn(verb: &[String]) -> Result<Child> {
    let runner = std::env::current_exe().context("could not find the runner itself")?;
    let mut command = Command::new(runner);
    if console::colors_enabled() {
        command.env("CLICOLOR_FORCE", "1");
    }
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
        .args(verb)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("could not run `{}`", verb.join(" ")))
}

/// Reads keys for as long as the process lives. What is typed while a lab is judged is read at
/// once and handled in its turn: no key is lost.
fn read_keys(tell: Sender<Event>) {
    thread::spawn(move || {
        let mut key = [0];
        loop {
            match std::io::stdin().read(&mut key) {
                Ok(1) => {
                    if tell.send(Event::Key(key[0])).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => {
                    let _ = tell.send(Event::NoKeys);
                    return;
                }
            }
        }
    });
}

#[cfg(unix)]
mod terminal {
    //! Keys at once and without echo; the rest of the terminal's mode stays.

    use std::os::fd::AsFd;

    use anyhow::{Context as _, Result};
    use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

    /// Whether standard input is a terminal.
    pub fn is_one() -> bool {
        isatty(std::io::stdin())
    }

    /// The mode of a terminal, until it is dropped.
    pub struct Mode<T: AsFd> {
        terminal: T,
        before: Termios,
    }

    impl<T: AsFd> Mode<T> {
        pub fn keys_at_once(terminal: T) -> Result<Self> {
            let before = tcgetattr(&terminal).context("could not read the terminal's mode")?;
            let mut now = before.clone();
            now.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            tcsetattr(&terminal, OptionalActions::Now, &now)
                .context("could not set the terminal's mode")?;
            Ok(Mode { terminal, before })
        }
    }

    impl<T: AsFd> Drop for Mode<T> {
        fn drop(&mut self) {
            let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
        }
    }

    #[cfg(test)]
    mod tests {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

        use super::*;

        #[test]
        fn a_panic_leaves_the_terminal_as_it_was() {
            let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
            grantpt(&controller).expect("it is ours");
            unlockpt(&controller).expect("it can be opened");
            let path = ptsname(&controller, Vec::new()).expect("it has a name");
            let terminal = std::fs::File::options()
                .read(true)
                .write(true)
                .open(path.to_str().expect("a path of digits"))
                .expect("it opens");
            let lines = || {
                tcgetattr(&terminal)
                    .expect("it has a mode")
                    .local_modes
                    .contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
            };
            assert!(lines());
            let panicked = std::panic::catch_unwind(|| {
                let _mode = Mode::keys_at_once(&terminal).expect("it is set");
                assert!(!lines());
                std::panic::resume_unwind(Box::new("a bug in watch"));
            });
            assert!(panicked.is_err());
            assert!(lines(), "the terminal is left without echo");
        }
    }
}

#[cfg(not(unix))]
mod terminal {
    //! Where there are no modes, a key is followed by Enter.

    use anyhow::Result;

    pub fn is_one() -> bool {
        true
    }

    pub struct Mode;

    impl Mode {
        pub fn keys_at_once(_terminal: std::io::Stdin) -> Result<Self> {
            Ok(Mode)
        }
    }
}
