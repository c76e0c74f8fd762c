//! A program on a pseudo-terminal, as a person would sit before it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::deadline::{PATIENCE, wait_until};

pub struct Terminal {
    /// What the person types on and reads from.
    controller: File,
    /// The program's side, held open so that its mode can be looked at after the program's end.
    terminal: File,
    before: Termios,
    program: Child,
    said: Receiver<Vec<u8>>,
    seen: String,
    /// How much of `seen` has been waited for.
    read: usize,
}

impl Terminal {
    /// Starts `command` on a terminal of so many columns.
    pub fn open(mut command: Command, columns: u16) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&controller).expect("it is ours");
        unlockpt(&controller).expect("it can be opened");
        let path = ptsname(&controller, Vec::new()).expect("it has a name");
        let terminal = File::options()
            .read(true)
            .write(true)
            .open(path.to_str().expect("a path of digits"))
            .expect("it opens");
        let size = Winsize {
            ws_row: if columns == 0 { 0 } else { 24 },
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).expect("it has a size");
        let before = tcgetattr(&terminal).expect("it has a mode");
        let side = || terminal.try_clone().expect("one more descriptor");
        command.stdin(side()).stdout(side()).stderr(side());
        // SAFETY: system calls only.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let program = command.spawn().expect("it starts");
        let controller = File::from(controller);
        let mut reader = controller.try_clone().expect("one more descriptor");
        let (tell, said) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                if tell.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal {
            controller,
            terminal,
            before,
            program,
            said,
            seen: String::new(),
            read: 0,
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.controller
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Waits until the program says `text`, and gives what it said up to there.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen[self.read..].find(text) {
                let end = self.read + at + text.len();
                let said = self.seen[self.read..end].to_owned();
                self.read = end;
                return said;
            }
            match self
                .said
                .recv_timeout(give_up - Instant::now().min(give_up))
            {
                Ok(chunk) => self.seen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!(
                    "waited in vain for {text:?} after:\n{}\n--- and then:\n{}",
                    &self.seen[..self.read],
                    &self.seen[self.read..]
                ),
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.program), signal)
            .expect("the program is there");
    }

    /// Waits until keys come at once: from then on none is echoed.
    #[track_caller]
    pub fn expect_keys_at_once(&self) {
        wait_until("keys come at once", || {
            let mode = tcgetattr(&self.terminal).expect("it has a mode");
            !mode
                .local_modes
                .intersects(LocalModes::ICANON | LocalModes::ECHO)
        });
    }

    /// Waits for the end of the program, and gives what it had said that nobody had read.
    #[track_caller]
    pub fn expect_end(&mut self) -> (ExitStatus, String) {
        let mut ended = None;
        wait_until("the program ends", || {
            ended = self.program.try_wait().expect("it is ours");
            ended.is_some()
        });
        // A word of ours behind the program's last: once it is read, everything is.
        let last = "<the program has ended>";
        self.terminal
            .write_all(last.as_bytes())
            .expect("the terminal is there");
        let mut rest = self.expect(last);
        rest.truncate(rest.len() - last.len());
        (ended.expect("it has ended"), rest)
    }

    /// Everything that the program has said, as far as it was waited for.
    pub fn seen(&self) -> &str {
        &self.seen[..self.read]
    }

    /// Whether the terminal is as it was before the program.
    #[track_caller]
    pub fn assert_as_before(&self) {
        let now = tcgetattr(self.terminal.as_fd()).expect("it has a mode");
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
        assert_eq!(now.control_modes, self.before.control_modes);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.program.try_wait() {
            let _ = self.program.kill();
            let _ = self.program.wait();
        }
    }
}
