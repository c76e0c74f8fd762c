//! What is shown while something takes long.

use rustix::process::Signal;

use crate::terminal::Terminal;
use crate::workspace::{LAB, Workspace};

#[test]
fn run_tells_how_many_checks_have_ended_while_some_do_not() {
    let workspace = Workspace::new("patience-run");
    workspace.write(
        &format!("{LAB}/src/lib.rs"),
        "//! A queue.\n\npub fn waiting(_submitted: u32, _begun: u32) -> u32 {\n    loop {\n        \
         std::hint::spin_loop();\n    }\n}\n",
    );
    let mut terminal = Terminal::open(workspace.xtask(&["run", "18.9.1"]), 80);
    // Two of five do not ask how many wait.
    terminal.expect("2 of 5 checks have ended");
    terminal.signal(Signal::INT);
    terminal.expect_end();
}

#[test]
fn run_says_nothing_of_that_where_the_checks_end_at_once() {
    let workspace = Workspace::new("patience-quick");
    let mut terminal = Terminal::open(workspace.xtask(&["run", "18.9.1"]), 80);
    terminal.expect("10 of 100 points");
    let (_, rest) = terminal.expect_end();
    let said = format!("{}{rest}", terminal.seen());
    assert!(!said.contains("have ended"), "{said}");
}
