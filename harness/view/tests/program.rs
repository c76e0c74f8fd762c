//! The program from outside: it writes a page, serves one on loopback, and says what it cannot do.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_view"));
    command.stdin(Stdio::null());
    command
}

#[track_caller]
fn run(command: &mut Command) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program starts");
    let said = [stdout, stderr].concat();
    let code = status.code().expect("it ends by itself");
    (code, String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_page_is_written_and_its_path_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("scrape.prom");
    std::fs::write(&dump, "queue_size 847\n").expect("a dump");
    let page = folder.path().join("new").join("page.html");
    // Without a screen there is nothing to open, and that is no failure.
    let (code, said) = run(program()
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .args(["--title", "A < B", "--output"])
        .arg(&page)
        .arg(&dump));
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.trim(), page.display().to_string());
    let text = std::fs::read_to_string(&page).expect("the page");
    assert!(text.contains("<title>A &lt; B</title>"), "{text}");
    assert!(text.contains("847"), "{text}");
}

#[test]
fn what_cannot_be_read_or_written_is_said_with_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.prom");
    let page = folder.path().join("page.html");
    let (code, said) = run(program().arg("--output").arg(&page).arg(&missing));
    assert_eq!(code, 2, "{said}");
    assert!(
        said.contains("could not read") && said.contains("missing.prom"),
        "{said}"
    );
    let dump = folder.path().join("scrape.prom");
    std::fs::write(&dump, "a 1\n").expect("a dump");
    let (code, said) = run(program()
        .arg("--output")
        .arg(dump.join("page.html"))
        .arg(&dump));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("could not make"), "{said}");
}

/// A server that is ended when dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_page_is_served_to_this_machine_under_its_own_name_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let dump = folder.path().join("scrape.prom");
    std::fs::write(&dump, "queue_size 847\n").expect("a dump");
    let mut child = program()
        .arg("--serve")
        .arg(&dump)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let words = child.stdout.take().expect("it is piped");
    let _serving = Serving(child);
    let mut line = String::new();
    BufReader::new(words)
        .read_line(&mut line)
        .expect("it prints its address");
    let address = line
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_else(|| panic!("no address: {line}"));
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let get = |path: &str, host: &str| {
        let mut stream = TcpStream::connect(address).expect("it listens");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    let page = get("/", address);
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("text/html; charset=utf-8") && page.contains("847"),
        "{page}"
    );
    assert!(get("/etc/passwd", address).starts_with("HTTP/1.1 404"));
    let foreign = get("/", "rebound.example.org");
    assert!(
        foreign.starts_with("HTTP/1.1 421") && !foreign.contains("847"),
        "{foreign}"
    );
}
