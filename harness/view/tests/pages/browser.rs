//! The page in a real browser, at the width of a desk and of a phone, by day and by night: nothing
//! goes wrong, nothing is wider than the screen, and the keyboard reaches everything.
//!
//! Needs Chromium or Chrome; without one the tests say so and are not run, unless
//! NIGHTSHIFT_REQUIRE_BACKENDS=1 asks for everything. The browser is driven through its DevTools on
//! loopback. Pictures of every page are left in `target/tmp/view` for whoever wants to look.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

use crate::exhibits::{self, Exhibit};

/// How long the browser may take for one answer before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser, ended when dropped.
struct Browser {
    process: Child,
    socket: WebSocket<TcpStream>,
    /// Pages are written here.
    folder: TempDir,
    session: Option<String>,
    sent: u64,
    /// Exceptions, refusals and console errors since the page was opened.
    complaints: Vec<String>,
    loaded: bool,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The browser of this machine.
fn find() -> Option<PathBuf> {
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .chain([
            PathBuf::from("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"),
            PathBuf::from("/Applications/Chromium.app/Contents/MacOS/Chromium"),
        ]);
    on_path.into_iter().find(|path| path.is_file())
}

/// Starts the browser, or says why the test is not run.
fn browser() -> Option<Browser> {
    let Some(program) = find() else {
        let required = std::env::var_os("NIGHTSHIFT_REQUIRE_BACKENDS").is_some_and(|v| v == "1");
        assert!(
            !required,
            "NIGHTSHIFT_REQUIRE_BACKENDS=1, and there is no browser: install chromium"
        );
        // Past the capture of the test harness, which would hide it from the screen.
        use std::io::Write as _;
        let _ = writeln!(
            std::io::stderr(),
            "not run: there is no browser here; install chromium to test the page in one"
        );
        return None;
    };
    Some(Browser::start(&program))
}

impl Browser {
    fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut process = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--remote-debugging-port=0",
                "about:blank",
            ])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        // It says where it listens on its standard error, and goes on to say more.
        let words = process.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(words).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| {
                line.strip_prefix("DevTools listening on ws://")
                    .map(str::to_owned)
            })
            .expect("the browser says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        let host = address.split('/').next().unwrap_or_default();
        let stream = TcpStream::connect(host).expect("the browser listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a limit can be set");
        let (socket, _) = tungstenite::client(format!("ws://{address}"), stream)
            .expect("the browser takes the connection");
        let mut browser = Self {
            process,
            socket,
            folder,
            session: None,
            sent: 0,
            complaints: Vec::new(),
            loaded: false,
        };
        let target = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let target = target["targetId"].as_str().expect("a target").to_owned();
        let attached = browser.ask(
            "Target.attachToTarget",
            json!({ "targetId": target, "flatten": true }),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a command and waits for its answer.
    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.socket
            .send(Message::text(message.to_string()))
            .expect("the browser takes a command");
        loop {
            let answer = self.hear();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// The next message; what complains is noted.
    fn hear(&mut self) -> Value {
        let message = self.socket.read().expect("the browser answers in time");
        let Ok(text) = message.to_text() else {
            return Value::Null;
        };
        let heard: Value = serde_json::from_str(text).unwrap_or_default();
        let details = &heard["params"];
        match heard["method"].as_str() {
            Some("Runtime.exceptionThrown") => self
                .complaints
                .push(details["exceptionDetails"].to_string()),
            Some("Log.entryAdded") => self.complaints.push(details["entry"].to_string()),
            Some("Network.requestWillBeSent") => {
                let url = details["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with("file:") && !url.starts_with("data:") {
                    self.complaints.push(format!("asks for {url}"));
                }
            }
            Some("Page.loadEventFired") => self.loaded = true,
            _ => {}
        }
        heard
    }

    /// Shows a page on a screen of this width.
    fn open(&mut self, page: &str, width: u32, dark: bool) {
        let path = self.folder.path().join("page.html");
        std::fs::write(&path, page).expect("the page can be written");
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500 }),
        );
        let scheme = if dark { "dark" } else { "light" };
        self.ask(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
        // A busy machine gives a window its focus late, and without it nothing in the page has one.
        self.ask(
            "Emulation.setFocusEmulationEnabled",
            json!({ "enabled": true }),
        );
        self.complaints.clear();
        self.loaded = false;
        self.ask(
            "Page.navigate",
            json!({ "url": format!("file://{}", path.display()) }),
        );
        while !self.loaded {
            self.hear();
        }
    }

    /// The value of an expression in the page.
    #[track_caller]
    fn eval(&mut self, expression: &str) -> Value {
        let answer = self.ask(
            "Runtime.evaluate",
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }),
        );
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {}",
            answer["exceptionDetails"]
        );
        answer["result"]["value"].clone()
    }

    /// Presses a key as a person does.
    fn press(&mut self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            " " => " ",
            key if key.chars().count() == 1 => key,
            _ => "",
        };
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            " " => 32,
            "End" => 35,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.ask("Input.dispatchKeyEvent", event);
        }
    }

    fn write(&mut self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text }));
        // What is typed is filtered after a moment in a long log: until then the page has not
        // answered.
        self.eval("new Promise((done) => setTimeout(done, 0))");
    }

    /// Leaves a picture of the whole page for whoever wants to look.
    fn picture(&mut self, name: &str) {
        let size = self.ask("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        let height = size["height"].as_f64().unwrap_or(800.0).min(4_000.0);
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": height, "scale": 1 });
        let shot = self.ask(
            "Page.captureScreenshot",
            json!({ "captureBeyondViewport": true, "clip": clip }),
        );
        let bytes = BASE64_STANDARD
            .decode(shot["data"].as_str().unwrap_or_default())
            .expect("a picture in Base64");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("view");
        std::fs::create_dir_all(&folder).expect("a folder for pictures");
        std::fs::write(folder.join(format!("{name}.png")), bytes).expect("the picture is written");
    }

    #[track_caller]
    fn is_content(&self, name: &str) {
        assert!(self.complaints.is_empty(), "{name}: {:#?}", self.complaints);
    }
}

const LOOKS: [(&str, u32, bool); 4] = [
    ("desk-light", 1280, false),
    ("desk-dark", 1280, true),
    ("phone-light", 360, false),
    ("phone-dark", 360, true),
];

/// The elements that reach beyond the right edge and scroll within nothing.
const TOO_WIDE: &str = "
    [...document.querySelectorAll('body *')].filter((element) =>
        element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.scroll, .lane, svg, .skip'))
        .slice(0, 5).map((element) => element.outerHTML.slice(0, 160))";

fn look(browser: &mut Browser, exhibit: &Exhibit, looks: &[(&str, u32, bool)]) {
    let page = exhibit.page();
    for &(look, width, dark) in looks {
        let name = format!("{}-{look}", exhibit.name);
        browser.open(&page, width, dark);
        assert_eq!(browser.eval("innerWidth"), width, "{name}");
        assert_eq!(
            browser.eval("document.documentElement.scrollWidth <= innerWidth"),
            true,
            "{name} scrolls sideways"
        );
        let wide = browser.eval(TOO_WIDE);
        assert_eq!(wide, json!([]), "{name}: {wide:#}");
        browser.is_content(&name);
    }
}

/// Leaves pictures of a page in every look.
fn picture(browser: &mut Browser, exhibit: &Exhibit) {
    let page = exhibit.page();
    for (look, width, dark) in LOOKS {
        browser.open(&page, width, dark);
        browser.picture(&format!("{}-{look}", exhibit.name));
    }
}

#[test]
fn pages_fit_a_desk_and_a_phone_by_day_and_by_night() {
    let Some(mut browser) = browser() else { return };
    for exhibit in exhibits::kinds() {
        picture(&mut browser, &exhibit);
        look(&mut browser, &exhibit, &LOOKS);
    }
}

#[test]
fn the_dumps_of_every_lab_fit_a_phone() {
    let Some(mut browser) = browser() else { return };
    let phone = [LOOKS[2]];
    for exhibit in exhibits::fixtures() {
        look(&mut browser, &exhibit, &phone);
        browser.picture(&format!("{}-{}", exhibit.name, phone[0].0));
    }
}

#[test]
fn a_hostile_dump_runs_no_code() {
    let Some(mut browser) = browser() else { return };
    look(&mut browser, &exhibits::hostile(), &LOOKS);
    assert_eq!(browser.eval("document.title"), "hostile");
    // The log's lines are drawn by the page's script: opened, too, they stay text.
    browser.eval("for (const row of document.querySelectorAll('.log tbody tr')) row.click()");
    assert_eq!(browser.eval("document.images.length"), 0);
    assert_eq!(browser.eval("document.title"), "hostile");
    browser.is_content("hostile");
}

fn kind(name: &str) -> Exhibit {
    exhibits::kinds()
        .into_iter()
        .find(|exhibit| exhibit.name == name)
        .expect("an exhibit of ours")
}

#[test]
fn a_log_is_filtered_and_opened_by_keyboard() {
    let Some(mut browser) = browser() else { return };
    browser.open(&kind("kind-logs").page(), 1280, false);
    assert_eq!(
        browser.eval("document.querySelectorAll('.log tbody tr').length"),
        400
    );
    browser.press("/");
    assert_eq!(browser.eval("document.activeElement.type"), "search");
    let mut found = |query: &str| {
        browser.eval("document.activeElement.value = ''");
        browser.write(query);
        browser.eval("document.querySelectorAll('.log tbody tr').length")
    };
    assert_eq!(found("level=error"), 10);
    assert_eq!(
        found("http.status=503 user=bob"),
        found("level=error user=bob")
    );
    assert_eq!(found("level!=error"), 390);
    assert_eq!(found("\"pool exhausted\""), 10);
    assert_eq!(found("-served"), 10);
    assert_eq!(found("nowhere"), 0);
    browser.press("Escape");
    assert_eq!(
        browser.eval("document.querySelectorAll('.log tbody tr').length"),
        400
    );
    browser.eval("document.querySelector('.log tbody tr').focus()");
    browser.press("ArrowDown");
    browser.press("Enter");
    assert_eq!(browser.eval("document.activeElement.rowIndex"), 2);
    let opened = browser.eval("document.querySelector('.opened-row').textContent");
    let opened = opened.as_str().unwrap_or_default();
    browser.picture("kind-logs-opened");
    assert!(
        opened.contains("req-0001") && opened.contains("2025.48.1"),
        "{opened}"
    );
    browser.press("Escape");
    assert_eq!(
        browser.eval("document.querySelectorAll('.opened-row').length"),
        0
    );
    browser.eval("document.querySelector('.columns').open = true");
    browser.eval("document.querySelector('.columns input:not(:checked)').click()");
    assert_eq!(
        browser.eval("document.querySelectorAll('.log thead th').length"),
        browser.eval("document.querySelectorAll('.columns input:checked').length + 1")
    );
    browser.is_content("kind-logs");
}

#[test]
fn spans_are_walked_and_opened_by_keyboard() {
    let Some(mut browser) = browser() else { return };
    browser.open(&kind("kind-traces").page(), 1280, false);
    browser.eval("document.querySelector('.span > summary').focus()");
    let here = "document.activeElement.querySelector('.name').textContent";
    assert_eq!(browser.eval(here), "POST /checkout");
    browser.press("ArrowDown");
    browser.press("ArrowDown");
    assert_eq!(browser.eval(here), "check_inventory");
    browser.press("ArrowRight");
    assert_eq!(browser.eval(here), "SELECT stock");
    browser.press("ArrowLeft");
    browser.press("ArrowLeft");
    assert_eq!(browser.eval(here), "POST /checkout");
    browser.press("Enter");
    assert_eq!(browser.eval("document.querySelector('.span').open"), true);
    browser.picture("kind-traces-opened");
    browser.press("Escape");
    assert_eq!(browser.eval("document.querySelector('.span').open"), false);
    browser.press("End");
    assert_eq!(browser.eval(here), "lost its parent");
    browser.is_content("kind-traces");
}

#[test]
fn a_flame_graph_is_walked_zoomed_and_searched_by_keyboard() {
    let Some(mut browser) = browser() else { return };
    browser.open(&kind("kind-profile").page(), 1280, false);
    browser.eval("document.querySelector('.flame .canvas').focus()");
    let told = "document.querySelector('.flame .told').textContent";
    let shown =
        "[...document.querySelectorAll('.flame')][0].querySelectorAll('g g:not(.hidden)').length";
    assert_eq!(browser.eval(told), "all (1,335 samples, 100%)");
    let all = browser.eval(shown);
    for _ in 0..4 {
        browser.press("ArrowDown");
    }
    assert_eq!(browser.eval(told), "shop::checkout (750 samples, 56.18%)");
    browser.press("ArrowLeft");
    assert_eq!(browser.eval(told), "shop::cart (210 samples, 15.73%)");
    browser.press("Enter");
    assert!(
        browser.eval(shown).as_u64() < all.as_u64(),
        "zooming hides what is beside"
    );
    assert_eq!(
        browser.eval("document.querySelector('.flame .reset').hidden"),
        false
    );
    browser.press("Escape");
    assert_eq!(browser.eval(shown), all);
    browser.press("/");
    browser.write("serde_json");
    browser.picture("kind-profile-searched");
    assert_eq!(
        browser.eval("document.querySelector('.flame .matched').textContent"),
        "2 frames match, 22.5%"
    );
    browser.is_content("kind-profile");
}

#[test]
fn metrics_are_filtered_and_their_lines_are_hidden() {
    let Some(mut browser) = browser() else { return };
    let mut exhibit = exhibits::fixtures()
        .into_iter()
        .find(|exhibit| exhibit.name == "18-1-1-read-pool-metrics")
        .expect("the dump of the first lab");
    exhibit.dumps.extend(kind("kind-metrics").dumps);
    browser.open(&exhibit.page(), 1280, false);
    browser.press("/");
    browser.write("queue");
    let cards = "document.querySelectorAll('.card:not(.hidden)').length";
    let whole = "document.querySelectorAll('.card').length";
    assert!(browser.eval(cards).as_u64() < browser.eval(whole).as_u64());
    browser.press("Escape");
    assert_eq!(browser.eval(cards), browser.eval(whole));
    let lines = "document.querySelectorAll('.legend')[0].closest('figure').querySelectorAll('svg.wide polyline:not(.hidden)').length";
    let before = browser.eval(lines).as_u64();
    browser.eval("document.querySelector('.legend input').click()");
    assert!(browser.eval(lines).as_u64() < before, "a line is hidden");
    browser.is_content("metrics");
}

#[test]
fn tasks_are_grouped_by_what_the_reader_chooses() {
    let Some(mut browser) = browser() else { return };
    browser.open(&kind("kind-tasks").page(), 1280, false);
    let first = "[...document.querySelectorAll('.grouping')].find((one) => !one.hidden).querySelector('.group summary').textContent";
    let by_state = browser.eval(first);
    assert!(
        by_state
            .as_str()
            .is_some_and(|text| text.contains("60 semacquire")),
        "{by_state}"
    );
    browser.eval("document.querySelectorAll('.choice input')[1].focus()");
    browser.press(" ");
    let by_function = browser.eval(first);
    assert!(
        by_function
            .as_str()
            .is_some_and(|text| text.contains("60 sync.runtime_SemacquireMutex")),
        "{by_function}"
    );
    browser.eval("document.querySelectorAll('.grouping:not([hidden]) .stack')[0].open = true");
    browser.picture("kind-tasks-opened");
    browser.press("/");
    browser.write("workerpool");
    assert_eq!(
        browser.eval("[...document.querySelectorAll('.group:not(.hidden)')].filter((one) => one.checkVisibility()).length"),
        1
    );
    browser.is_content("kind-tasks");
}

#[test]
fn the_tab_key_reaches_every_control_with_a_visible_focus() {
    let Some(mut browser) = browser() else { return };
    for exhibit in exhibits::kinds() {
        browser.open(&exhibit.page(), 1280, false);
        let wanted = browser.eval(
            "window.wanted = new Set([...document.querySelectorAll('a[href], summary, input, button, [tabindex=\"0\"]')]
                .filter((one) => one.checkVisibility() && !(one.type === 'radio' && !one.checked))); wanted.size",
        );
        for _ in 0..wanted.as_u64().unwrap_or_default() + 2 {
            browser.press("Tab");
            let without = browser.eval(
                "(() => { const here = document.activeElement; wanted.delete(here);
                    const seen = here === document.body || getComputedStyle(here).outlineStyle !== 'none';
                    return seen ? null : here.outerHTML.slice(0, 120); })()",
            );
            assert_eq!(
                without,
                Value::Null,
                "{}: focus is not visible",
                exhibit.name
            );
        }
        let missed = browser.eval("[...wanted].map((one) => one.outerHTML.slice(0, 120))");
        assert_eq!(missed, json!([]), "{}: not reached by Tab", exhibit.name);
    }
}
