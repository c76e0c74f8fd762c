//! What the tests of the page draw: every dump of the repository, every variant, and dumps of each
//! kind that are large, sick or hostile. Included by the tests; no test itself.

use std::path::{Path, PathBuf};

use view::dashboard::{Body, Color, Dashboard, Line, Panel, Place, Threshold};
use view::units::{Quantity, Unit};
use view::{Dump, Page};

/// What a hostile dump tries to smuggle in.
pub const HOSTILE: &str = "\"'><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\"></title></svg></style>";

/// A page to look at.
pub struct Exhibit {
    pub name: String,
    pub dashboards: Vec<Dashboard>,
    pub dumps: Vec<Dump>,
}

impl Exhibit {
    fn of(name: &str, dumps: Vec<Dump>) -> Self {
        Self {
            name: name.to_owned(),
            dashboards: Vec::new(),
            dumps,
        }
    }

    pub fn page(&self) -> String {
        let page = Page {
            title: &self.name,
            about: "About it",
            at: None,
            dashboards: &self.dashboards,
            dumps: &self.dumps,
        };
        page.draw()
    }
}

fn dump(name: &str, text: impl Into<Vec<u8>>) -> Dump {
    Dump {
        name: name.to_owned(),
        bytes: text.into(),
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The dumps of every lab, each lab a page.
pub fn fixtures() -> Vec<Exhibit> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).expect("the fixtures can be listed");
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.expect("the fixtures can be listed"))
            // Cargo's configuration lies beside the chapters.
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| entry.path())
            .collect();
        paths.sort();
        paths
    };
    let mut exhibits = Vec::new();
    for chapter in folders(&workspace().join("fixtures")) {
        for lab in folders(&chapter) {
            let mut dumps = Vec::new();
            for path in folders(&lab).iter().filter(|path| path.is_file()) {
                let name = path.file_name().expect("a file has a name");
                let bytes = std::fs::read(path).expect("the fixture can be read");
                dumps.push(dump(&name.to_string_lossy(), bytes));
            }
            let name = lab.file_name().expect("a folder has a name");
            exhibits.push(Exhibit::of(&name.to_string_lossy(), dumps));
        }
    }
    exhibits
}

/// A few variants of every lab that has some.
pub fn variants() -> Vec<Exhibit> {
    let mut exhibits = Vec::new();
    for (lab, make) in incident::variants::LABS {
        for seed in 1..=3 {
            let files = make(seed).files.into_iter();
            let dumps = files.map(|(name, text)| dump(&name, text)).collect();
            exhibits.push(Exhibit::of(&format!("{lab}-seed-{seed}"), dumps));
        }
    }
    exhibits
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Counters that restart, gauges, a histogram and a summary, over an hour.
fn metrics_over_time() -> Dump {
    let mut text = String::new();
    let begin = 1_764_315_000;
    text.push_str("# TYPE jobs counter\n# HELP jobs Jobs that left the pool\n");
    for worker in 0..12 {
        let mut count = 0;
        for minute in 0..60 {
            count += 30 + (minute * (worker + 3)) % 17 * worker;
            if minute == 25 && worker == 2 {
                count = 4;
            }
            let at = begin + 60 * minute;
            text.push_str(&format!(
                "jobs_total{{worker=\"w{worker}\",status=\"ok\"}} {count} {at}\n"
            ));
        }
    }
    text.push_str(
        "# TYPE heap_bytes gauge\n# UNIT heap_bytes bytes\n# HELP heap_bytes Live heap\n",
    );
    for host in ["a", "b"] {
        for minute in 0..60 {
            if host == "b" && (20..30).contains(&minute) {
                continue;
            }
            let bytes = 40_000_000 + minute * 700_000 * if host == "a" { 3 } else { 1 };
            text.push_str(&format!(
                "heap_bytes{{host=\"{host}\"}} {bytes} {}\n",
                begin + 60 * minute
            ));
        }
    }
    text.push_str("# TYPE wait_seconds histogram\n# UNIT wait_seconds seconds\n# HELP wait_seconds Time in the queue\n");
    let mut counts = [0u64; 6];
    for minute in 0..60u64 {
        let slow = (30..40).contains(&minute);
        let shares = if slow {
            [5, 9, 20, 40, 30, 8]
        } else {
            [60, 30, 12, 3, 0, 0]
        };
        let mut sum = 0;
        for ((count, share), le) in counts
            .iter_mut()
            .zip(shares)
            .zip(["0.005", "0.05", "0.25", "1.0", "5.0", "+Inf"])
        {
            *count += share;
            sum += *count;
            let exemplar = match (le, minute) {
                ("5.0", 33) => " # {trace_id=\"5b8efff798038103\"} 3.2 1764316980.5",
                _ => "",
            };
            text.push_str(&format!(
                "wait_seconds_bucket{{le=\"{le}\"}} {sum} {}{exemplar}\n",
                begin + 60 * minute
            ));
        }
        text.push_str(&format!(
            "wait_seconds_count {sum} {}\n",
            begin + 60 * minute
        ));
        text.push_str(&format!("wait_seconds_sum {sum} {}\n", begin + 60 * minute));
    }
    text.push_str("# TYPE gc_seconds summary\n");
    for minute in 0..60u64 {
        let at = begin + 60 * minute;
        for (quantile, share) in [("0.5", 1), ("0.99", 9)] {
            let micros = 400 * share + minute * 17 * share;
            text.push_str(&format!(
                "gc_seconds{{quantile=\"{quantile}\"}} 0.00{micros:04} {at}\n"
            ));
        }
        text.push_str(&format!("gc_seconds_count {} {at}\n", 12 * minute));
        text.push_str(&format!("gc_seconds_sum {minute} {at}\n"));
    }
    text.push_str("# TYPE build info\n");
    text.push_str(&format!("build_info{{version=\"1.2.0\"}} 1 {begin}\n"));
    text.push_str("# TYPE process_start_time_seconds gauge\n");
    for (minute, start) in [(0, 1_764_300_000), (30, 1_764_316_500)] {
        let at = begin + 60 * minute;
        text.push_str(&format!("process_start_time_seconds {start} {at}\n"));
    }
    text.push_str("# EOF\n");
    dump("metrics.om", text)
}

/// Spans of three services, of which one fails, and a second trace.
fn spans(hostile: &str) -> Dump {
    let hostile = hostile.replace('\\', "\\\\").replace('"', "\\\"");
    let span = |trace: u32, id: u32, parent: u32, name: &str, start: u64, end: u64, more: &str| {
        let parent = match parent {
            0 => String::new(),
            parent => format!("{parent:016x}"),
        };
        format!(
            r#"{{"traceId":"{trace:032x}","spanId":"{id:016x}","parentSpanId":"{parent}","name":"{name}","kind":2,"startTimeUnixNano":"{}","endTimeUnixNano":"{}"{more}}}"#,
            1_764_315_000_000_000_000 + start * 1_000_000,
            1_764_315_000_000_000_000 + end * 1_000_000
        )
    };
    let service = |name: &str, spans: &[String]| {
        format!(
            r#"{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"{name}"}}}},{{"key":"host.name","value":{{"stringValue":"h{hostile}"}}}}]}},"scopeSpans":[{{"scope":{{"name":"shop","version":"1.2.0"}},"spans":[{}]}}]}}"#,
            spans.join(",")
        )
    };
    let failed = format!(
        r#","status":{{"code":2,"message":"deadline {hostile}"}},"attributes":[{{"key":"db.statement","value":{{"stringValue":"select {hostile}"}}}}],"events":[{{"timeUnixNano":"1764315000400000000","name":"retry {hostile}"}}]"#
    );
    let shop = service(
        "shop",
        &[
            span(1, 1, 0, "POST /checkout", 0, 850, ""),
            span(1, 2, 1, "validate_cart", 0, 12, ""),
            span(1, 3, 1, "check_inventory", 12, 332, ""),
            span(1, 4, 1, "process_payment", 332, 612, ""),
            span(2, 1, 0, "GET /cart", 900, 912, ""),
        ],
    );
    let stock = service(
        "inventory",
        &[
            span(1, 5, 3, "SELECT stock", 20, 300, ""),
            span(1, 8, 3, &format!("cache {hostile}"), 301, 320, ""),
        ],
    );
    let payments = service(
        "payments",
        &[
            span(1, 6, 4, "POST /charge", 340, 600, &failed),
            span(1, 7, 99, "lost its parent", 620, 640, ""),
        ],
    );
    dump(
        "trace.json",
        format!(r#"{{"resourceSpans":[{shop},{stock},{payments}]}}"#),
    )
}

/// A log of some hundred lines with levels and objects within objects.
fn log(hostile: &str) -> Dump {
    let mut text = String::new();
    for nth in 0..400 {
        let level = match nth % 40 {
            7 => "ERROR",
            3 | 9 => "WARN",
            n if n % 5 == 0 => "DEBUG",
            _ => "INFO",
        };
        let line = serde_json::json!({
            "time": format!("2025-11-28T08:{:02}:{:02}.{:03}Z", nth / 60, nth % 60, nth * 7 % 1000),
            "level": level,
            "msg": format!("request {} {hostile}", if level == "ERROR" { "failed: connection pool exhausted after waiting for five seconds" } else { "served" }),
            "request_id": format!("req-{nth:04}"),
            "http": { "status": if level == "ERROR" { 503 } else { 200 }, "route": "/checkout" },
            "duration_ms": nth * 13 % 240,
            "user": (["alice", "bob", "carol"][nth % 3]),
            "pod": format!("shop-{}", nth % 4),
            "region": "eu-1",
            "build": "2025.48.1",
        });
        text.push_str(&line.to_string());
        text.push('\n');
    }
    dump("app.jsonl", text)
}

fn stacks(hostile: &str) -> Dump {
    let hostile = hostile.replace([' ', ';'], "_");
    let mut text = String::new();
    for (stack, value) in [
        (
            "main;tokio::runtime::run;shop::serve;shop::checkout;serde_json::to_string;alloc::realloc",
            210,
        ),
        (
            "main;tokio::runtime::run;shop::serve;shop::checkout;std::sync::Mutex<T>::lock",
            540,
        ),
        (
            "main;tokio::runtime::run;shop::serve;shop::cart;hashbrown::find",
            120,
        ),
        (
            "main;tokio::runtime::run;shop::serve;shop::cart;serde_json::from_str",
            90,
        ),
        ("main;tokio::runtime::park", 310),
        ("main;shop::init;toml::parse", 25),
    ] {
        text.push_str(&format!("{stack} {value}\n"));
    }
    text.push_str(&format!("main;shop::serve_{hostile} 40\n"));
    dump("cpu.folded", text)
}

fn goroutines(hostile: &str) -> Dump {
    let hostile = hostile.replace(['(', ')', '\n'], "");
    let mut text = "goroutine 1 [running]:\nmain.main()\n\t/app/main.go:45 +0x1f\n\n".to_owned();
    for nth in 0..60 {
        let (method, line) = if nth % 3 == 0 {
            ("Set", 67)
        } else {
            ("Get", 45)
        };
        text.push_str(&format!(
            "goroutine {} [semacquire, {} minutes]:\n\
             sync.runtime_SemacquireMutex(0xc000145020, 0x0, 0x1)\n\t/go/src/runtime/sema.go:77 +0x26\n\
             sync.(*Mutex).Lock(0xc000145018)\n\t/go/src/sync/mutex.go:102 +0x2c\n\
             main.(*Cache).{method}(0xc000145000, {{0xc000212000, 0x1a}})\n\t/app/cache.go:{line} +0x45\n\
             main.handleRequest{hostile}(0xc00021e000)\n\t/app/handler.go:38 +0x9b\n\
             created by main.(*Server).run in goroutine 18\n\t/app/server.go:87 +0x65\n\n",
            34 + nth,
            312 - nth
        ));
    }
    for nth in 0..16 {
        text.push_str(&format!(
            "goroutine {} [chan receive]:\nmain.(*WorkerPool).worker(0xc00013200{nth:x})\n\t/app/pool.go:134 +0x51\n\n",
            200 + nth
        ));
    }
    text.push_str("[... 847 more goroutines in \"semacquire\" ...]\n");
    dump("goroutines.txt", text)
}

fn scrape(hostile: &str) -> Dump {
    let escaped = label(hostile);
    dump(
        "scrape.prom",
        format!(
            "# HELP pool_queue_size Tasks that wait {hostile}\n# TYPE pool_queue_size gauge\npool_queue_size{{pool=\"{escaped}\"}} 847\n\
             # HELP pool_task_seconds How long tasks ran\n# TYPE pool_task_seconds histogram\n\
             pool_task_seconds_bucket{{le=\"0.01\"}} 89234\npool_task_seconds_bucket{{le=\"0.1\"}} 138900\n\
             pool_task_seconds_bucket{{le=\"1.0\"}} 142600\npool_task_seconds_bucket{{le=\"+Inf\"}} 144322\n\
             pool_task_seconds_sum 8934.2\npool_task_seconds_count 144322\n"
        ),
    )
}

/// A dashboard as Grafana exports it, over [`metrics_over_time`].
fn grafana(hostile: &str) -> Dump {
    let panel = |kind: &str, title: &str, grid: [u32; 4], query: &str, unit: &str| {
        let [x, y, w, h] = grid;
        serde_json::json!({
            "type": kind, "title": format!("{title}{hostile}"),
            "gridPos": { "x": x, "y": y, "w": w, "h": h },
            "targets": [{ "refId": "A", "expr": query, "legendFormat": "{{host}}{{worker}}" }],
            "fieldConfig": { "defaults": { "unit": unit, "thresholds": {
                "mode": "absolute",
                "steps": [{ "color": "green", "value": null }, { "color": "red", "value": 9 }],
            } } },
        })
    };
    let panels = [
        serde_json::json!({ "type": "row", "title": "Users",
            "gridPos": { "x": 0, "y": 0, "w": 24, "h": 1 } }),
        panel(
            "stat",
            "Jobs",
            [0, 1, 8, 4],
            "sum(rate(jobs_total[5m]))",
            "reqps",
        ),
        panel("stat", "Heap", [8, 1, 8, 4], "max(heap_bytes)", "bytes"),
        panel(
            "stat",
            "Nobody measures this",
            [16, 1, 8, 4],
            "no_such_metric",
            "s",
        ),
        panel("timeseries", "Heap", [0, 5, 12, 8], "heap_bytes", "bytes"),
        panel(
            "table",
            "Workers",
            [12, 5, 12, 8],
            "topk(4, rate(jobs_total[5m]))",
            "reqps",
        ),
        panel("stat", "Broken", [0, 13, 8, 4], "rate(jobs_total", "reqps"),
    ];
    let dashboard = serde_json::json!({
        "title": format!("Worker pool {hostile}"), "schemaVersion": 39, "panels": panels,
    });
    dump("dashboard.json", dashboard.to_string())
}

fn dashboard(hostile: &str) -> Dashboard {
    let place = |x, y, width, height| Place {
        x,
        y,
        width,
        height,
    };
    let stat = |title: &str, x, text: &str, color| Panel {
        title: title.to_owned(),
        place: place(x, 0, 6, 4),
        body: Body::Stat {
            text: text.to_owned(),
            color,
        },
    };
    let points = |factor: f64| {
        (0..120)
            .map(|nth| {
                let at = 1_764_315_000.0 + f64::from(nth) * 15.0;
                (at, 0.2 + factor * (f64::from(nth) / 9.0).sin().abs())
            })
            .collect()
    };
    Dashboard {
        title: format!("Worker pool {hostile}"),
        at: 1_764_316_800.0,
        panels: vec![
            stat("Requests", 0, "1,204/s", Color::Blue),
            stat("Errors", 6, "0.3%", Color::Green),
            stat("Saturation", 12, "97%", Color::Orange),
            stat("Burn rate", 18, "14.4", Color::Red),
            Panel {
                title: format!("Latency {hostile}"),
                place: place(0, 4, 16, 8),
                body: Body::Series {
                    lines: vec![
                        Line {
                            name: "p50".into(),
                            points: points(0.1),
                            last: None,
                        },
                        Line {
                            name: format!("p99 {hostile}"),
                            points: points(0.9),
                            last: Some(("1.2 s".into(), Color::Red)),
                        },
                    ],
                    span: (1_764_315_000.0, 1_764_316_800.0),
                    quantity: Quantity {
                        unit: Unit::Seconds,
                        per_second: false,
                    },
                    thresholds: vec![Threshold {
                        from: 0.8,
                        color: Color::Red,
                    }],
                },
            },
            Panel {
                title: "Shards".into(),
                place: place(16, 4, 8, 8),
                body: Body::Table {
                    columns: vec!["shard".into(), "lag".into()],
                    rows: (0..5)
                        .map(|nth| {
                            let color = if nth == 3 { Color::Red } else { Color::Green };
                            vec![
                                (format!("shard-{nth}"), Color::Plain),
                                (format!("{} s", 2 + nth * nth * 11), color),
                            ]
                        })
                        .collect(),
                },
            },
            Panel {
                title: "Notes".into(),
                place: place(0, 12, 12, 3),
                body: Body::Text(format!("The pool has eight workers. {hostile}")),
            },
            Panel {
                title: "Cost".into(),
                place: place(12, 12, 12, 3),
                body: Body::Problem(format!("the query names no metric {hostile}")),
            },
        ],
    }
}

/// A page for each kind of dump, made for looking at.
pub fn kinds() -> Vec<Exhibit> {
    let mut board = Exhibit::of("kind-dashboard", Vec::new());
    board.dashboards.push(dashboard(""));
    vec![
        Exhibit::of("kind-metrics", vec![metrics_over_time()]),
        Exhibit::of("kind-scrape", vec![scrape("")]),
        Exhibit::of("kind-logs", vec![log("")]),
        Exhibit::of("kind-traces", vec![spans("")]),
        Exhibit::of("kind-profile", vec![stacks(""), pprof()]),
        Exhibit::of("kind-tasks", vec![goroutines("")]),
        Exhibit::of(
            "kind-text",
            vec![
                dump("rules.yaml", "groups:\n  - name: pool\n"),
                dump("broken.prom", "a 1\nb {\n"),
            ],
        ),
        board,
        Exhibit::of("kind-grafana", vec![grafana(""), metrics_over_time()]),
    ]
}

fn pprof() -> Dump {
    use telemetry::profiles::{Frame, Profile};
    let mut profile = Profile::new(&[("alloc_space", "bytes"), ("inuse_space", "bytes")]);
    for (stack, values) in [
        (
            &["main.main", "cache.Set", "bytes.Clone"][..],
            vec![52_000_000, 48_000_000],
        ),
        (
            &["main.main", "http.Serve", "json.Marshal"],
            vec![91_000_000, 1_200_000],
        ),
    ] {
        let frames = stack.iter().map(|name| Frame::new(name)).collect();
        profile.push(frames, values).expect("two values a stack");
    }
    dump("heap.pb.gz", profile.to_pprof_gz())
}

/// Every kind with markup in every place that a dump names something.
pub fn hostile() -> Exhibit {
    let names = |mut dump: Dump| {
        dump.name = format!("{HOSTILE}{}", dump.name);
        dump
    };
    let dumps = [
        scrape(HOSTILE),
        log(HOSTILE),
        spans(HOSTILE),
        stacks(HOSTILE),
        goroutines(HOSTILE),
        grafana(HOSTILE),
        dump("notes.md", HOSTILE),
        dump("broken.prom", format!("{HOSTILE} {{\n")),
    ];
    let mut exhibit = Exhibit::of("hostile", dumps.into_iter().map(names).collect());
    exhibit.dashboards.push(dashboard(HOSTILE));
    exhibit
}
