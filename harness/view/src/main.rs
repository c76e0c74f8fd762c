//! Writes the page of some dumps, opens it or serves it on loopback. For the runner, which knows
//! the labs; a person may use it too.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use telemetry::logs::Timestamp;
use tiny_http::{Header, Method, Response, Server};
use view::{Dump, Page};

/// The largest file that is read, in bytes: what the readers of the dumps take.
const MOST_BYTES: u64 = 64 << 20;

/// Draws dumps as one page that needs no network.
#[derive(Parser)]
#[command(name = "view", max_term_width = 80)]
struct Options {
    /// The page's title
    #[arg(long, default_value = "Dumps")]
    title: String,
    /// A line below the title
    #[arg(long, default_value = "")]
    about: String,
    /// Where to write the page
    #[arg(long, value_name = "FILE", required_unless_present = "serve")]
    output: Option<PathBuf>,
    /// Open the page in a browser, where there is a screen
    #[arg(long, requires = "output")]
    open: bool,
    /// Serve the page on this machine only, until Ctrl-C
    #[arg(long)]
    serve: bool,
    /// The moment at which a dashboard is shown: 2026-01-31T10:00:00Z or a Unix time;
    /// that of the last sample if left out
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<f64>,
    /// The dumps
    #[arg(required = true, value_name = "DUMP")]
    dumps: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let dumps: Vec<Dump> = options
        .dumps
        .iter()
        .map(|path| read(path))
        .collect::<Result<_>>()?;
    let page = Page {
        title: &options.title,
        about: &options.about,
        at: options.at,
        dashboards: &[],
        dumps: &dumps,
    };
    let page = page.draw();
    if let Some(path) = &options.output {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("could not make {}", folder.display()))?;
        }
        std::fs::write(path, &page)
            .with_context(|| format!("could not write {}", path.display()))?;
        println!("{}", path.display());
        if options.open {
            open(path);
        }
    }
    if options.serve {
        serve(&page)?;
    }
    Ok(())
}

/// A moment in seconds since the Unix epoch.
fn moment(text: &str) -> Result<f64, String> {
    match Timestamp::from_text(text) {
        Some(Timestamp::Unix(nanos)) => Ok(nanos as f64 / 1e9),
        _ => Err("expected a time such as 2026-01-31T10:00:00Z, or a Unix time".into()),
    }
}

fn read(path: &Path) -> Result<Dump> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("could not read {}", path.display()))?
        .len();
    if size > MOST_BYTES {
        bail!(
            "{} has {} MiB; at most {} can be drawn",
            path.display(),
            size >> 20,
            MOST_BYTES >> 20
        );
    }
    let bytes =
        std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(Dump {
        name: name.to_string_lossy().into_owned(),
        bytes,
    })
}

/// Opens the page where there is a screen. That this fails is no failure: the path was printed.
fn open(path: &Path) {
    if !has_screen() {
        eprintln!("note: no screen here; open the file in a browser, or use --serve");
        return;
    }
    let Ok(path) = path.canonicalize() else {
        return;
    };
    if let Err(error) = open::that_detached(&path) {
        eprintln!("note: could not open a browser ({error}); open the file yourself");
    }
}

/// Whether a window could appear: always on macOS and Windows, elsewhere by what a session sets.
fn has_screen() -> bool {
    cfg!(any(target_os = "macos", windows))
        || ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Serves the page to this machine until the process is ended.
fn serve(page: &str) -> Result<()> {
    let server = Server::http("127.0.0.1:0")
        .map_err(|error| anyhow::anyhow!("could not listen on 127.0.0.1: {error}"))?;
    let address = server
        .server_addr()
        .to_ip()
        .context("could not find out the port")?;
    println!("http://{address}/   (Ctrl-C ends it)");
    std::io::stdout()
        .flush()
        .context("could not print the address")?;
    let html = Header::from_bytes("Content-Type", "text/html; charset=utf-8")
        .map_err(|()| anyhow::anyhow!("could not make a header"))?;
    for request in server.incoming_requests() {
        // Another site that resolves its name to this machine must not read the page.
        let host = request
            .headers()
            .iter()
            .find(|header| header.field.equiv("Host"))
            .map(|header| header.value.as_str());
        let ours = host.is_some_and(|host| {
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            ["127.0.0.1", "localhost"].contains(&name)
        });
        let answered = match (ours, request.method(), request.url()) {
            (true, Method::Get | Method::Head, "/") => {
                request.respond(Response::from_string(page).with_header(html.clone()))
            }
            (false, _, _) => request.respond(Response::empty(421)),
            _ => request.respond(Response::empty(404)),
        };
        // A browser that went away is no concern of the next one.
        drop(answered);
    }
    Ok(())
}
