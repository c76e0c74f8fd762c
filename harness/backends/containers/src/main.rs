//! `start-containers SOCKET`: starts containers through testcontainers for whoever connects to the
//! socket, one for each connection, and removes each when its connection ends, however it ends.
//!
//! Prints `ready` once it listens. Ends, with all its containers, when its standard input does, so
//! that nothing outlives the runner. What is said on a connection: `order.rs`.
//!
//! Not for anything that a running container needs; for that, `backends` asks the engine itself.

#[path = "../../src/order.rs"]
mod order;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use testcontainers::core::ContainerPort;
use testcontainers::core::client::ClientError;
use testcontainers::runners::SyncRunner as _;
use testcontainers::{Container, GenericImage, ImageExt as _, TestcontainersError};

use order::{Answer, LogOrder, Network, Order};

fn main() -> ExitCode {
    let Some(socket) = std::env::args_os().nth(1) else {
        eprintln!("usage: start-containers SOCKET");
        return ExitCode::from(2);
    };
    let listener = match UnixListener::bind(&socket) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("could not listen on {}: {error}", socket.display());
            return ExitCode::FAILURE;
        }
    };
    println!("ready");
    let clients = Arc::new(Mutex::new(Clients::default()));
    let accepting = Arc::clone(&clients);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            accepting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .serve(stream);
        }
    });
    // Whoever started this program says nothing; its end is what is waited for.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    let _ = std::fs::remove_file(&socket);
    let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
    clients.end_all();
    ExitCode::SUCCESS
}

/// Those who hold a container.
#[derive(Default)]
struct Clients(Vec<(UnixStream, JoinHandle<()>)>);

impl Clients {
    fn serve(&mut self, stream: UnixStream) {
        self.0.retain(|(_, serving)| !serving.is_finished());
        let Ok(to_end_it) = stream.try_clone() else {
            return;
        };
        // A connection that breaks has ended, and that is all there is to know.
        let serving = thread::spawn(move || drop(serve(&stream)));
        self.0.push((to_end_it, serving));
    }

    /// Closes every connection and waits until its container is removed.
    fn end_all(&mut self) {
        for (stream, _) in &self.0 {
            let _ = stream.shutdown(Shutdown::Read);
        }
        for (_, serving) in self.0.drain(..) {
            let _ = serving.join();
        }
    }
}

fn serve(stream: &UnixStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let Some(order) = lines.next().transpose()? else {
        return Ok(());
    };
    let order: Order = serde_json::from_str(&order)?;
    let container = match start(order) {
        Ok(container) => container,
        Err(answer) => return tell(stream, &answer),
    };
    let id = container.id().to_owned();
    tell(stream, &Answer::Started { id })?;
    for line in lines {
        serde_json::from_str::<LogOrder>(&line?)?;
        let mut printed = container.stdout_to_vec().unwrap_or_default();
        printed.extend(container.stderr_to_vec().unwrap_or_default());
        tell(stream, &String::from_utf8_lossy(&printed))?;
    }
    drop(container);
    stream.shutdown(Shutdown::Both)
}

fn tell(mut stream: &UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn start(order: Order) -> Result<Container<GenericImage>, Answer> {
    let image = format!("{}:{}", order.image, order.tag);
    let mut request = GenericImage::new(order.image, order.tag)
        .with_cmd(order.command)
        .with_label("nightshift", order.label);
    request = match order.network {
        Network::Host => request.with_network("host"),
        Network::Published {
            port,
            inside,
            on_loopback,
        } => request
            .with_mapped_port(port, ContainerPort::Tcp(inside))
            .with_host_config_modifier(move |host| {
                // Docker publishes on every interface unless told otherwise.
                let bindings = host.port_bindings.iter_mut().flatten();
                for binding in bindings.flat_map(|(_, all)| all.iter_mut().flatten()) {
                    if on_loopback {
                        binding.host_ip = Some("127.0.0.1".to_owned());
                    }
                }
            }),
    };
    for (variable, value) in order.environment {
        request = request.with_env_var(variable, value);
    }
    for (path, contents) in order.files {
        request = request.with_copy_to(path, contents.into_bytes());
    }
    request.start().map_err(|error| match error {
        TestcontainersError::Client(ClientError::PullImage { err, .. }) => {
            Answer::Absent(format!("image {image} cannot be had: {err}"))
        }
        error => Answer::Broken(format!("{image}: {error}")),
    })
}
