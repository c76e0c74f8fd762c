//! Starts one server and holds it until its input ends: `hold-server etcd`.
//!
//! Prints `name value` lines that say where the server is. Then takes `pause`, `resume`, `kill`
//! and `restart`, one a line, and answers each with `ok` or `could not …`. The server ends with
//! this program, however it ends; `exit` ends it without tidying up first.

use std::fmt::Display;
use std::io::{self, BufRead};
use std::path::PathBuf;
use std::process::ExitCode;

use backends::{
    Alertmanager, Backend, ControlError, Etcd, Postgres, Prometheus, Redis, Source, Unavailable,
};

const NO_JOBS: &str = "scrape_configs: []\n";
const NO_RECEIVER: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

struct Control<'a> {
    url: &'a str,
    source: Source,
    namespace: &'a str,
    pid: Option<u32>,
    data: Option<PathBuf>,
    act: &'a dyn Fn(&str) -> Option<Result<(), ControlError>>,
}

macro_rules! hold {
    ($server:expr) => {{
        let server = $server?;
        converse(&Control {
            url: server.url(),
            source: server.source(),
            namespace: server.namespace(),
            pid: server.pid(),
            data: server.data_dir(),
            act: &|verb| match verb {
                "pause" => Some(server.pause()),
                "resume" => Some(server.resume()),
                "kill" => Some(server.kill()),
                "restart" => Some(server.restart()),
                _ => None,
            },
        });
    }};
}

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let Some(backend) = Backend::ALL
        .into_iter()
        .find(|backend| backend.slug() == wanted)
    else {
        let names = Backend::ALL.map(Backend::slug).join(", ");
        eprintln!("could not hold {wanted:?}: name one of {names}");
        return ExitCode::from(2);
    };
    match hold(backend) {
        Ok(()) => ExitCode::SUCCESS,
        Err(unavailable) => {
            eprintln!("could not {unavailable}");
            ExitCode::FAILURE
        }
    }
}

fn hold(backend: Backend) -> Result<(), Unavailable> {
    match backend {
        Backend::Etcd => hold!(Etcd::start()),
        Backend::Redis => hold!(Redis::start()),
        Backend::Postgres => hold!(Postgres::start()),
        Backend::Prometheus => hold!(Prometheus::start(NO_JOBS)),
        Backend::Alertmanager => hold!(Alertmanager::start(NO_RECEIVER)),
    }
    Ok(())
}

fn converse(control: &Control<'_>) {
    let say = |name: &str, value: &dyn Display| println!("{name} {value}");
    say("url", &control.url);
    say("source", &control.source);
    say("namespace", &control.namespace);
    if let Some(pid) = control.pid {
        say("pid", &pid);
    }
    if let Some(data) = &control.data {
        say("data", &data.display());
    }
    println!("ready");
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        match line.trim() {
            "" => {}
            "exit" => std::process::exit(0),
            verb => match (control.act)(verb) {
                Some(Ok(())) => println!("ok"),
                Some(Err(error)) => println!("could not {error}"),
                None => println!("could not {verb}: it takes pause, resume, kill, restart, exit"),
            },
        }
    }
}
