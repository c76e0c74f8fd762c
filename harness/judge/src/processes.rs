//! Which processes a check has started, what memory they hold, and how all of them are ended.
//!
//! Only direct children are ever killed by their id. Such an id cannot pass to a stranger, since
//! the parent that kills is also the one that reaps. Below them nothing is missed: the supervisor
//! is a subreaper on Linux, so whoever loses its parent becomes its direct child.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus};

/// How long the killed may take to die before the supervisor gives up on them.
const CLEANUP: Duration = Duration::from_secs(2);

/// The status of a child that has ended; the child stays a zombie, so that its id stays its own.
pub(crate) fn ended(child: Pid) -> Option<WaitIdStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(child), options)
        .ok()
        .flatten()
}

/// Kills the group of `leader`, a child that has not been reaped yet, and then every other
/// descendant of this process, and reaps them all.
pub(crate) fn end_all(leader: Pid) {
    // The leader may be a zombie already: then its id, and with it the group's, is still reserved.
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    let _ = rustix::process::kill_process(leader, Signal::KILL);
    let give_up = Instant::now() + CLEANUP;
    let mut pause = Duration::from_micros(50);
    loop {
        for child in own_children() {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) => pause = Duration::from_micros(50),
            Ok(None) => {
                // Killed, but not dead yet: the kernel still takes their memory down.
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(2));
            }
            Err(Errno::INTR) => {}
            // No child is left, and with that no descendant either.
            Err(_) => return,
        }
        if Instant::now() > give_up {
            return;
        }
    }
}

/// The largest resident memory of any one process that this one has reaped, in bytes.
pub(crate) fn largest_reaped() -> Option<u64> {
    // SAFETY: `rusage` is plain old data, for which all zeros is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `rusage` that lives through the call.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } != 0 {
        return None;
    }
    let unit = if cfg!(target_vendor = "apple") {
        1
    } else {
        1024
    };
    u64::try_from(usage.ru_maxrss).ok().map(|max| max * unit)
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{kill_bearers, own_children, tree_memory};

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{kill_bearers, own_children, tree_memory};

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use rustix::process::{Pid, PidfdFlags, Signal};

    /// A tree larger than this is measured in part: its size will be noticed otherwise.
    const MEASURED: usize = 4_096;

    pub(crate) fn own_children() -> Vec<Pid> {
        let own = rustix::process::getpid();
        children(own).unwrap_or_else(|| {
            all_processes()
                .filter(|&pid| parent(pid) == Some(own))
                .collect()
        })
    }

    /// Memory that the descendants of this process hold and that no file backs, in bytes: it is
    /// what only killing them gives back. `None` where `/proc` does not tell.
    pub(crate) fn tree_memory() -> Option<u64> {
        let mut pending = children(rustix::process::getpid())?;
        let mut measured = 0;
        let mut sum = 0;
        while let Some(pid) = pending.pop() {
            sum += unbacked_memory(pid).unwrap_or(0);
            measured += 1;
            if measured >= MEASURED {
                break;
            }
            pending.extend(children(pid).unwrap_or_default());
        }
        Some(sum)
    }

    /// Kills every process in whose environment `name` has the value `value`, wherever in the
    /// system it hangs: for when a check has ended the supervisor that was to do it.
    pub(crate) fn kill_bearers(name: &str, value: &OsStr) {
        let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
        let bears = |pid: Pid| {
            fs::read(proc(pid, "environ"))
                .is_ok_and(|environment| environment.split(|&byte| byte == 0).any(|e| e == entry))
        };
        // Some passes, since a process may fork while they are listed.
        for _ in 0..10 {
            let mut found = false;
            for pid in all_processes().filter(|&pid| bears(pid)) {
                // The handle is taken before the second look, so that the process that is killed
                // is the one that was looked at, even if its id has passed on in between.
                if let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty())
                    && bears(pid)
                {
                    found = true;
                    let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
                }
            }
            if !found {
                return;
            }
        }
    }

    /// The children of all threads of `pid`; `None` where the kernel keeps no such list.
    fn children(pid: Pid) -> Option<Vec<Pid>> {
        if !Path::new("/proc/thread-self/children").exists() {
            return None;
        }
        let mut children = Vec::new();
        for task in fs::read_dir(proc(pid, "task")).ok()?.flatten() {
            let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(list.split_ascii_whitespace().filter_map(pid_from));
        }
        Some(children)
    }

    fn parent(pid: Pid) -> Option<Pid> {
        let stat = fs::read_to_string(proc(pid, "stat")).ok()?;
        // The second field is the name in parentheses, which may itself hold blanks and brackets.
        let (_, after_name) = stat.rsplit_once(')')?;
        pid_from(after_name.split_ascii_whitespace().nth(1)?)
    }

    fn unbacked_memory(pid: Pid) -> Option<u64> {
        let status = fs::read_to_string(proc(pid, "status")).ok()?;
        let kib: u64 = status
            .lines()
            .filter_map(|line| {
                let (key, value) = line.split_once(':')?;
                matches!(key, "RssAnon" | "RssShmem" | "VmSwap")
                    .then(|| value.trim().trim_end_matches(" kB").parse::<u64>().ok())?
            })
            .sum();
        Some(kib * 1024)
    }

    fn all_processes() -> impl Iterator<Item = Pid> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| pid_from(entry.file_name().to_str()?))
    }

    fn pid_from(text: &str) -> Option<Pid> {
        Pid::from_raw(text.parse().ok()?)
    }

    fn proc(pid: Pid, file: &str) -> String {
        format!("/proc/{}/{file}", pid.as_raw_nonzero())
    }
}

/// Without `/proc` and without subreapers, the check's process group is what is known of it.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::ffi::OsStr;

    use rustix::process::Pid;

    pub(crate) fn own_children() -> Vec<Pid> {
        Vec::new()
    }

    pub(crate) fn tree_memory() -> Option<u64> {
        None
    }

    pub(crate) fn kill_bearers(_name: &str, _value: &OsStr) {}
}
