//! What the machine's table of processes says, so that tests need not believe the crate.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use backends::Unavailable;
use rustix::process::Pid;

use crate::say_not_run;

/// A process that has not ended; a zombie has.
#[derive(Debug, Clone)]
struct Row {
    pid: u32,
    parent: u32,
    command: String,
}

fn table() -> Vec<Row> {
    let output = Command::new("ps")
        .args(["-A", "-ww", "-o", "pid=,ppid=,stat=,args="])
        .output()
        .expect("ps does not run");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let pid = fields.next()?.parse().ok()?;
            let parent = fields.next()?.parse().ok()?;
            let state = fields.next()?;
            (!state.starts_with('Z')).then(|| Row {
                pid,
                parent,
                command: fields.collect::<Vec<_>>().join(" "),
            })
        })
        .collect()
}

/// A server with everything that must be gone after it.
#[derive(Debug)]
pub struct Trace {
    pids: BTreeSet<u32>,
    folder: PathBuf,
}

impl Trace {
    /// Of a server with this process and this data folder, and of its children.
    pub fn of(pid: u32, data: &Path) -> Self {
        let table = table();
        let mut pids = BTreeSet::from([pid]);
        loop {
            let before = pids.len();
            let children: Vec<_> = table
                .iter()
                .filter(|row| pids.contains(&row.parent))
                .map(|row| row.pid)
                .collect();
            pids.extend(children);
            if pids.len() == before {
                break;
            }
        }
        let folder = data.parent().expect("data has a parent").to_owned();
        assert!(folder.exists(), "{folder:?} is not there to begin with");
        Self { pids, folder }
    }

    /// Processes and folders that are still there.
    fn leftovers(&self) -> Vec<String> {
        let folder = self.folder.to_string_lossy();
        let mut left: Vec<_> = table()
            .into_iter()
            .filter(|row| self.pids.contains(&row.pid) || row.command.contains(&*folder))
            .map(|row| format!("{} {}", row.pid, row.command))
            .collect();
        if self.folder.exists() {
            left.push(folder.into_owned());
        }
        left
    }

    pub fn assert_gone(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "still there: {left:#?}");
    }

    pub fn assert_gone_within(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.leftovers().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        self.assert_gone();
    }

    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.pids.iter().copied()
    }
}

/// The program that holds a server, in a process of its own.
pub struct Holder {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    facts: Vec<(String, String)>,
}

impl Holder {
    /// `Err` with what the program printed, if it does not get a server.
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("hold-server does not start");
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut facts = Vec::new();
        loop {
            let mut line = String::new();
            output.read_line(&mut line).expect("hold-server is mute");
            match line.trim_end().split_once(' ') {
                Some((name, value)) => facts.push((name.to_owned(), value.to_owned())),
                None if line.trim_end() == "ready" => break,
                None => {
                    let output = child.wait_with_output().expect("hold-server runs on");
                    return Err(String::from_utf8_lossy(&output.stderr).into_owned());
                }
            }
        }
        Ok(Self {
            child,
            input,
            output,
            facts,
        })
    }

    /// The same, or `None` after saying why the test is not run.
    pub fn or_not_run(command: &mut Command) -> Option<Self> {
        match Self::start(command) {
            Ok(holder) => Some(holder),
            Err(message)
                if message.starts_with("could not find")
                    && !Unavailable::required_by_environment() =>
            {
                say_not_run(&message);
                None
            }
            Err(message) => panic!("{message}"),
        }
    }

    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn trace(&self) -> Trace {
        let pid = self.fact("pid").expect("not a process of ours");
        let data = self.fact("data").expect("no folder of ours");
        Trace::of(pid.parse().expect("a number"), Path::new(data))
    }

    pub fn say(&mut self, verb: &str) -> String {
        let input = self.input.as_mut().expect("still open");
        writeln!(input, "{verb}").expect("hold-server has gone");
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .expect("hold-server is mute");
        line.trim_end().to_owned()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Signal 9, so that nothing in the program gets to tidy up.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("cannot wait for hold-server");
    }

    /// The end of its input.
    pub fn close(mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("cannot wait for hold-server");
        assert!(status.success(), "{status}");
    }
}

pub fn hold_server(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hold-server"));
    command.arg(name);
    command
}
