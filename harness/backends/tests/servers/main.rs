//! Every server for real. A test whose server this machine lacks says so on the screen and passes,
//! unless `NIGHTSHIFT_REQUIRE_BACKENDS=1`.

use std::io::Write;
use std::thread;

use backends::Unavailable;

mod etcd;
mod every;
mod postgres;
mod processes;
mod prometheus;
mod redis;
mod sources;

/// The server, or `None` after saying why the test is not run.
fn or_not_run<T>(started: Result<T, Unavailable>) -> Option<T> {
    match started {
        Ok(server) => Some(server),
        Err(unavailable) if unavailable.required() => panic!("could not {unavailable}"),
        Err(unavailable) => {
            say_not_run(&format!("could not {unavailable}"));
            None
        }
    }
}

/// On the screen: the stream itself is not captured, unlike what `eprintln!` prints.
fn say_not_run(reason: &str) {
    let test = thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "not run: {test}: {reason}");
}
