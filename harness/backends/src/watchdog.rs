//! A small process that cleans up after this one, whatever ends it. Not the ordinary way to stop
//! a server: that is `Drop`, which also runs when a test panics.
//!
//! `Drop` does not run when a test is killed by signal 9, calls `exit`, or keeps its server in a
//! `static`. `PR_SET_PDEATHSIG` would not do: it exists on Linux only, and it is tied to the thread
//! that spawned the server, which in a test ends early. So a `/bin/sh` reads a pipe of which only
//! this process holds the other end. When the pipe closes, it stops the process groups that it was
//! told of, and removes the folder. It has a process group of its own, so what kills the group of
//! a test does not kill it.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal};

/// Waits are bounded: two seconds for a polite stop, two for a forced one. `kill -0` succeeds on a
/// zombie, so where nobody reaps orphans the bound is what ends the wait.
const SCRIPT: &str = r#"
PATH="${PATH:+$PATH:}/usr/bin:/bin"
trap '' HUP INT QUIT TERM TSTP
folder=$1
watched=
while read -r verb subject signal; do
  case $verb in
    watch) watched="$watched $subject:$signal" ;;
    forget)
      kept=
      for entry in $watched; do
        [ "${entry%%:*}" = "$subject" ] || kept="$kept $entry"
      done
      watched=$kept
      ;;
  esac
done
settle() {
  rounds=0
  while [ $rounds -lt 40 ]; do
    alive=
    for entry in $watched; do
      kill -0 -- "-${entry%%:*}" && alive=yes
    done
    [ -n "$alive" ] || return
    sleep 0.05
    rounds=$((rounds + 1))
  done
}
for entry in $watched; do
  kill -s "${entry##*:}" -- "-${entry%%:*}"
  kill -s CONT -- "-${entry%%:*}"
done
settle
for entry in $watched; do
  kill -s KILL -- "-${entry%%:*}"
done
settle
rm -rf -- "$folder"
"#;

#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    /// `None` once it has been told to finish.
    orders: Mutex<Option<ChildStdin>>,
}

impl Watchdog {
    /// Starts a watchdog over a folder that shall not outlive this process.
    pub(crate) fn over(folder: &Path) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "nightshift-watchdog"])
            .arg(folder)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let orders = shell.stdin.take();
        Ok(Self {
            shell,
            orders: Mutex::new(orders),
        })
    }

    /// From now on the process group `leader` ends with this process, by `signal` first.
    pub(crate) fn watch(&self, leader: Pid, signal: Signal) -> io::Result<()> {
        let name = match signal {
            Signal::QUIT => "QUIT",
            Signal::TERM => "TERM",
            _ => "KILL",
        };
        self.order(&format!("watch {} {name}", leader.as_raw_nonzero()))
    }

    /// The process group is gone; its number may soon be someone else's.
    pub(crate) fn forget(&self, leader: Pid) -> io::Result<()> {
        self.order(&format!("forget {}", leader.as_raw_nonzero()))
    }

    fn order(&self, line: &str) -> io::Result<()> {
        let mut orders = self.orders.lock().unwrap_or_else(|held| held.into_inner());
        match orders.as_mut() {
            Some(pipe) => pipe.write_all(format!("{line}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.orders.lock().unwrap_or_else(|held| held.into_inner()) = None;
        let _ = self.shell.wait();
    }
}
