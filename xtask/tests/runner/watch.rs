//! `watch` on a pseudo-terminal.

use std::fs;

use rustix::process::Signal;

use crate::deadline::wait_until;
use crate::terminal::Terminal;
use crate::workspace::{LAB, OTHER, RIGHT, START, Workspace};

const SOURCE: &str = "labs/18-observability/18-9-1-tiny-queue/src/lib.rs";
/// The end of the line that says that `watch` waits.
const FOOTER: &str = "uit";

/// `watch` of the tiny lab, on a terminal of so many columns; builds are counted.
fn watching(workspace: &Workspace, columns: u16) -> Terminal {
    let mut command = workspace.xtask(&["watch", "18.9.1"]);
    command.env("NO_COLOR", "1");
    workspace.count_builds(&mut command);
    Terminal::open(command, columns)
}

/// The same, after the first verdict.
fn watched(workspace: &Workspace) -> Terminal {
    let mut terminal = watching(workspace, 80);
    terminal.expect("10 of 100 points");
    terminal.expect(FOOTER);
    assert_eq!(workspace.builds(), 1);
    terminal
}

/// Asks for the list some times, which takes longer than files need to come to rest: what was to
/// be judged has begun to be judged before the last one.
fn let_time_pass(terminal: &mut Terminal) {
    for _ in 0..5 {
        terminal.press("l");
        terminal.expect("2 labs");
        terminal.expect(FOOTER);
    }
}

#[track_caller]
fn quit(mut terminal: Terminal) -> String {
    terminal.press("q");
    let (status, _) = terminal.expect_end();
    assert!(status.success(), "{status}");
    terminal.assert_as_before();
    let said = terminal.seen().to_owned();
    for trace in ["panicked at", "stack backtrace", "a bug in the runner"] {
        assert!(!said.contains(trace), "{said}");
    }
    said
}

#[test]
fn keys_pressed_during_a_build_are_answered_in_their_turn() {
    let workspace = Workspace::new("watch-keys-during-a-build");
    workspace.close_gate();
    let mut terminal = watching(&workspace, 80);
    let build = workspace.build_at_gate();
    terminal.expect_keys_at_once();
    terminal.press("lhl");
    build.open();
    terminal.expect("10 of 100 points");
    terminal.expect("2 labs");
    terminal.expect("Compare it with what was submitted.");
    terminal.expect("2 labs");
    terminal.expect(FOOTER);
    assert_eq!(
        workspace.builds(),
        2,
        "one for the verdict, one for the hint"
    );
    quit(terminal);
}

#[test]
fn each_key_does_what_it_says() {
    let workspace = Workspace::new("watch-keys");
    let mut terminal = watched(&workspace);
    terminal.press("h");
    terminal.expect("Compare it with what was submitted.");
    terminal.expect(FOOTER);
    terminal.press("l");
    terminal.expect("The queue that does not");
    terminal.expect(FOOTER);
    // Any other key does nothing.
    terminal.press("x\u{1b}[A?");
    terminal.press("r");
    terminal.expect("[y/N]");
    terminal.press("n");
    terminal.expect("Nothing was changed.");
    terminal.expect(FOOTER);
    terminal.press(" ");
    terminal.expect("10 of 100 points");
    terminal.expect(FOOTER);
    terminal.press("n");
    terminal.expect("18.9.2 The queue that does not");
    terminal.expect("10 of 10 points");
    terminal.expect(FOOTER);
    quit(terminal);
}

#[test]
fn a_reset_puts_the_start_back_and_judges_it_once() {
    let workspace = Workspace::new("watch-reset");
    workspace.write(SOURCE, RIGHT);
    let mut terminal = watching(&workspace, 80);
    terminal.expect("70 of 100 points");
    terminal.expect(FOOTER);
    terminal.press("r");
    terminal.expect("[y/N]");
    terminal.press("y");
    terminal.expect("The start is back.");
    terminal.expect("10 of 100 points");
    terminal.expect(FOOTER);
    assert_eq!(
        fs::read_to_string(workspace.path(SOURCE)).expect("there"),
        START
    );
    let_time_pass(&mut terminal);
    assert_eq!(workspace.builds(), 2);
    quit(terminal);
}

#[test]
fn a_question_is_asked_again_beneath_a_verdict_that_came_in_between() {
    let workspace = Workspace::new("watch-question");
    workspace.close_gate();
    let mut terminal = watching(&workspace, 80);
    let build = workspace.build_at_gate();
    terminal.press("r");
    terminal.expect("[y/N]");
    build.open();
    terminal.expect("10 of 100 points");
    terminal.expect("[y/N]");
    terminal.press("\u{3}");
    let (status, rest) = terminal.expect_end();
    assert!(
        status.success(),
        "Ctrl-C is no answer but the end: {status} {rest}"
    );
    terminal.assert_as_before();
}

#[test]
fn a_save_is_judged_once_however_often_the_editor_writes() {
    let workspace = Workspace::new("watch-saves");
    let mut terminal = watched(&workspace);
    workspace.save(SOURCE, RIGHT);
    terminal.expect("70 of 100 points");
    terminal.expect(FOOTER);
    assert_eq!(workspace.builds(), 2);
    for n in 0..20 {
        workspace.save(SOURCE, &format!("{START}\n// {n}\n"));
    }
    terminal.expect("10 of 100 points");
    terminal.expect(FOOTER);
    let_time_pass(&mut terminal);
    assert_eq!(workspace.builds(), 3, "twenty writes in a row are one save");
    // A save that changes nothing, and an editor's own hidden files.
    workspace.save(SOURCE, &format!("{START}\n// 19\n"));
    workspace.write(&format!("{LAB}/src/.lib.rs.swp"), "editing");
    let_time_pass(&mut terminal);
    assert_eq!(workspace.builds(), 3, "nothing has changed");
    quit(terminal);
}

#[test]
fn saves_during_a_build_are_judged_once_after_it() {
    let workspace = Workspace::new("watch-saves-during-a-build");
    workspace.close_gate();
    let mut terminal = watching(&workspace, 80);
    let build = workspace.build_at_gate();
    for n in 0..5 {
        workspace.save(SOURCE, &format!("{RIGHT}\n// {n}\n"));
    }
    build.open();
    terminal.expect("70 of 100 points");
    terminal.expect("70 of 100 points");
    terminal.expect(FOOTER);
    let_time_pass(&mut terminal);
    assert_eq!(workspace.builds(), 2);
    quit(terminal);
}

#[test]
fn a_save_in_another_lab_is_not_judged() {
    let workspace = Workspace::new("watch-other-lab");
    let mut terminal = watched(&workspace);
    workspace.save(&format!("{OTHER}/src/lib.rs"), START);
    let_time_pass(&mut terminal);
    assert_eq!(workspace.builds(), 1);
    workspace.save(SOURCE, RIGHT);
    terminal.expect("70 of 100 points");
    quit(terminal);
}

#[test]
fn files_and_folders_may_go_and_come_back() {
    let workspace = Workspace::new("watch-deleted");
    let mut terminal = watched(&workspace);
    fs::remove_file(workspace.path(SOURCE)).expect("removed");
    terminal.expect("It does not compile");
    terminal.expect(FOOTER);
    workspace.save(SOURCE, START);
    terminal.expect("10 of 100 points");
    terminal.expect(FOOTER);
    let aside = workspace.path("aside");
    fs::rename(workspace.path(LAB), &aside).expect("moved");
    terminal.expect("there is no lab `18.9.1`");
    terminal.expect(FOOTER);
    terminal.press("h");
    terminal.expect("there is no lab `18.9.1`");
    terminal.expect(FOOTER);
    fs::rename(&aside, workspace.path(LAB)).expect("moved");
    terminal.expect("10 of 100 points");
    terminal.expect(FOOTER);
    workspace.save(SOURCE, RIGHT);
    terminal.expect("70 of 100 points");
    quit(terminal);
}

#[test]
fn a_file_that_is_no_text_is_judged_and_the_compiler_says_so() {
    let workspace = Workspace::new("watch-no-text");
    let mut terminal = watched(&workspace);
    workspace.write(SOURCE, b"// \xff\xfe\n");
    terminal.expect("It does not compile");
    terminal.expect(FOOTER);
    quit(terminal);
}

#[test]
fn a_loop_of_links_in_src_is_no_trouble() {
    let workspace = Workspace::new("watch-link-loop");
    let link = workspace.path(&format!("{LAB}/src/again"));
    std::os::unix::fs::symlink("..", &link).expect("linked");
    let mut terminal = watching(&workspace, 80);
    terminal.expect("10 of 100 points");
    terminal.expect(FOOTER);
    workspace.save(SOURCE, RIGHT);
    terminal.expect("70 of 100 points");
    terminal.expect(FOOTER);
    quit(terminal);
}

#[test]
fn every_way_to_end_it_leaves_the_terminal_as_it_was() {
    let workspace = Workspace::new("watch-ends");
    let end = |terminal: &mut Terminal| {
        let (status, said) = terminal.expect_end();
        assert!(status.success(), "{status}: {said}");
        terminal.assert_as_before();
    };
    for key in ["q", "Q", "\u{3}", "\u{4}"] {
        let mut terminal = watched_again(&workspace);
        terminal.press(key);
        end(&mut terminal);
    }
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let terminal = &mut watched_again(&workspace);
        terminal.signal(signal);
        end(terminal);
    }
}

fn watched_again(workspace: &Workspace) -> Terminal {
    let mut terminal = watching(workspace, 80);
    terminal.expect(FOOTER);
    terminal
}

#[test]
fn a_build_under_way_is_ended_with_it() {
    let workspace = Workspace::new("watch-ends-during-a-build");
    for by_key in [true, false] {
        workspace.close_gate();
        let mut terminal = watching(&workspace, 80);
        let build = workspace.build_at_gate();
        terminal.expect_keys_at_once();
        if by_key {
            terminal.press("q");
        } else {
            terminal.signal(Signal::TERM);
        }
        let (status, said) = terminal.expect_end();
        assert!(status.success(), "{status}: {said}");
        terminal.assert_as_before();
        drop(build);
        wait_until("nobody waits at the gate", || {
            workspace.try_gate().is_none()
        });
        fs::remove_file(workspace.path("gate")).expect("removed");
    }
}

#[test]
fn any_width_and_any_terminal_will_do() {
    let workspace = Workspace::new("watch-widths");
    for columns in [0, 1, 20, 500] {
        let mut terminal = watching(&workspace, columns);
        terminal.expect("10 of 100 points");
        terminal.expect(FOOTER);
        terminal.press("hl");
        terminal.expect("2 labs");
        terminal.expect(FOOTER);
        quit(terminal);
    }
    let mut dumb = workspace.xtask(&["watch", "18.9.1"]);
    dumb.env("TERM", "dumb");
    let mut terminal = Terminal::open(dumb, 80);
    terminal.expect("10 of 100 points");
    terminal.expect(FOOTER);
    let said = quit(terminal);
    assert!(
        !said.contains('\u{1b}'),
        "TERM=dumb understands no escape sequences: {said:?}"
    );
}
