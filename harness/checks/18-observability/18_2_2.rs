//! 18.2.2: one id for all that a request logs.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::get;
use kit::capture::Lines;
use kit::time;
use serde_json::Value;
use tower::{Layer as _, Service, ServiceExt as _};

use super::subject::checkout::app;
use super::subject::logging;
use super::subject::request_id::{LONGEST, RequestId, RequestIdLayer};

const HEADER: &str = "x-request-id";
/// What one checkout logs.
const LINES: [&str; 7] = [
    "audited",
    "cache asked",
    "cart loaded",
    "checkout answered",
    "checkout begins",
    "rates answered",
    "rates asked",
];
/// What is logged of a user who has no cart.
const LINES_OF_NOBODY: [&str; 6] = [
    "cache asked",
    "cart not found",
    "checkout answered",
    "checkout begins",
    "rates answered",
    "rates asked",
];
/// The slowest lookup of a checkout.
const SLOWEST: Duration = Duration::from_millis(25);
/// Longer than the slowest task of a checkout.
const LATE: Duration = Duration::from_secs(1);

#[test]
fn every_line_of_a_request_has_its_id() {
    kit::check(|| {
        let (log, ()) = on_one_thread(async {
            send(app(), checkout("ada", Some("req-7f3a"))).await;
            tokio::time::sleep(LATE).await;
        });
        let lines = lines(&log);
        expect_messages(&lines, "ada");
        let bare: Vec<&Value> = lines
            .iter()
            .filter(|line| line["request_id"] != "req-7f3a")
            .collect();
        assert!(
            bare.is_empty(),
            "GET /checkout/ada with the id req-7f3a logged {} lines, and {} of them do not carry \
             it:\n{}",
            lines.len(),
            bare.len(),
            shown(&bare)
        );
        let (log, ()) = on_one_thread(async {
            send(app(), checkout("nobody", Some("req-404"))).await;
            tokio::time::sleep(LATE).await;
        });
        let mut lines = self::lines(&log);
        lines.retain(|line| line["request_id"] == "req-404" && line["user"] == "nobody");
        let mut found: Vec<&str> = lines.iter().filter_map(|l| l["message"].as_str()).collect();
        found.sort_unstable();
        assert!(
            found == LINES_OF_NOBODY,
            "GET /checkout/nobody with the id req-404 should log {LINES_OF_NOBODY:?} under this \
             id, and logs {found:?}"
        );
    });
}

#[test]
fn answers_come_with_the_slowest_lookup() {
    kit::check(|| {
        on_one_thread(async {
            let began = tokio::time::Instant::now();
            kit::step("waiting for the answer to one checkout");
            let response = send(app(), checkout("ada", Some("fast-1"))).await;
            let took = began.elapsed();
            assert!(
                SLOWEST <= took && took < SLOWEST + Duration::from_millis(5),
                "the lookups of a checkout take 12, 3 and 25 ms, and run at the same time; the \
                 auditors take 250 ms, and are not waited for: the answer came after {took:?}"
            );
            let answer = body(response).await;
            assert!(
                answer == "ada pays for 4 items",
                "the answer used to be \"ada pays for 4 items\", and is {answer:?}"
            );
        });
    });
}

#[test]
fn tasks_that_outlive_the_answer_keep_the_id() {
    kit::check(|| {
        let (log, ()) = on_one_thread(async {
            let response = send(app(), checkout("grace", Some("late-1"))).await;
            kit::step("waiting for the line that the auditors need");
            drop(response);
            tokio::time::sleep(LATE).await;
        });
        let lines = lines(&log);
        let audited = lines.iter().find(|line| line["message"] == "audited");
        let audited = audited
            .unwrap_or_else(|| kit::symptom("a second after the answer, nothing was audited"));
        assert!(
            audited["request_id"] == "late-1",
            "250 ms after the answer to request late-1, the log says:\n{}",
            shown(&[audited])
        );
    });
}

#[test]
fn two_hundred_requests_do_not_mix() {
    kit::check(|| {
        let (log, ()) = on_one_thread(async {
            storm().await;
            tokio::time::sleep(LATE).await;
        });
        judge_storm(&lines(&log), "on one thread");
    });
}

#[test]
fn requests_on_several_threads_do_not_mix() {
    kit::check(|| {
        let lines_of_all = Lines::default();
        let dispatch = tracing::Dispatch::new(logging::json(lines_of_all.clone()));
        let for_workers = dispatch.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_time()
            .on_thread_start(move || {
                // A worker lives as long as its runtime does, and so does its subscriber.
                std::mem::forget(tracing::dispatcher::set_default(&for_workers));
            })
            .build()
            .expect("a runtime");
        kit::step("running 200 requests on four threads");
        let text = runtime.block_on(async {
            let storm = tokio::spawn(storm());
            storm
                .await
                .unwrap_or_else(|error| kit::symptom(format!("a request failed: {error}")));
            // The last line of a request comes from a task that nobody waits for. Where no task is
            // left, no line is to come; where one hangs, the judgment below says what is missing.
            let metrics = tokio::runtime::Handle::current().metrics();
            let all_ended = async {
                while metrics.num_alive_tasks() > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_secs(8), all_ended).await;
            lines_of_all.text()
        });
        judge_storm(&parsed(&text), "on four threads");
    });
}

#[test]
fn a_given_id_is_kept_and_echoed() {
    kit::check(|| {
        on_one_thread(async {
            for id in [
                "a",
                "7",
                "01HV6Z8Q4T",
                "web.checkout_7-f",
                &"x".repeat(LONGEST),
            ] {
                kit::step(format!("sending X-Request-ID: {id}"));
                let response = send(app(), checkout("ada", Some(id))).await;
                let echoed = ids(response.headers());
                assert!(
                    echoed == [id],
                    "the request came with X-Request-ID: {id}, and the answer has {echoed:?}"
                );
            }
        });
    });
}

#[test]
fn a_missing_id_is_made_and_differs_each_time() {
    kit::check(|| {
        let (log, made) = on_one_thread(async {
            let mut made = BTreeSet::new();
            for _ in 0..500 {
                let response = send(app(), checkout("ada", None)).await;
                let echoed = ids(response.headers());
                let [id] = echoed.as_slice() else {
                    kit::symptom(format!(
                        "the request came without an id, and the answer has {echoed:?}"
                    ))
                };
                assert!(
                    is_valid(id),
                    "the service made the id {id:?}, which it would refuse"
                );
                made.insert(id.clone());
            }
            tokio::time::sleep(LATE).await;
            made
        });
        assert!(
            made.len() == 500,
            "500 requests without an id got {} different ones",
            made.len()
        );
        let logged: BTreeSet<String> = lines(&log)
            .iter()
            .filter_map(|line| line["request_id"].as_str())
            .map(str::to_owned)
            .collect();
        assert!(
            logged == made,
            "500 answers carry 500 ids, and the log knows {} of them",
            logged.intersection(&made).count()
        );
    });
}

#[test]
fn hostile_ids_are_replaced() {
    kit::check(|| {
        let long = "a".repeat(LONGEST + 1);
        let longer = "a".repeat(8_000);
        let hostile: [(&str, &[u8]); 13] = [
            ("an empty id", b""),
            ("an id of 65 characters", long.as_bytes()),
            ("an id of 8,000 characters", longer.as_bytes()),
            ("an id with a space", b"id 1"),
            ("an id with a tab", b"id\t1"),
            ("an id between spaces", b" id-1 "),
            ("an id that closes a JSON string", b"x\",\"level\":\"ERROR"),
            ("an id with an escape sequence", b"\x80\x9b31m"),
            ("an id with a line break in disguise", b"id%0aERROR"),
            ("an id with a backslash", b"a\\nb"),
            ("an id of another alphabet", "идентификатор".as_bytes()),
            ("an id with a comma", b"a,b"),
            ("an id with markup", b"<script>"),
        ];
        for (what, bytes) in hostile {
            let value = HeaderValue::from_bytes(bytes).expect("it may stand in a header");
            kit::step(format!("sending {what}"));
            let (log, echoed) = on_one_thread(async {
                let mut request = checkout("ada", None);
                request.headers_mut().insert(HEADER, value.clone());
                let response = send(app(), request).await;
                assert!(
                    response.status() == StatusCode::OK,
                    "{what} makes the answer {}: the customer can do nothing about it",
                    response.status()
                );
                tokio::time::sleep(LATE).await;
                ids(response.headers())
            });
            judge_replaced(what, bytes, &echoed, &log);
        }
    });
}

#[test]
fn two_ids_are_as_good_as_none() {
    kit::check(|| {
        for (what, second) in [
            ("a request with two ids", "second"),
            ("a request with one id twice", "first"),
        ] {
            kit::step(format!("sending {what}"));
            let (log, echoed) = on_one_thread(async {
                let mut request = checkout("ada", Some("first"));
                request
                    .headers_mut()
                    .append(HEADER, HeaderValue::from_static(second));
                let response = send(app(), request).await;
                tokio::time::sleep(LATE).await;
                ids(response.headers())
            });
            judge_replaced(what, b"first", &echoed, &log);
            judge_replaced(what, second.as_bytes(), &echoed, &log);
        }
    });
}

#[test]
fn every_answer_carries_the_id_whatever_its_status() {
    kit::check(|| {
        on_one_thread(async {
            for (what, path, status) in [
                (
                    "a user without a cart",
                    "/checkout/nobody",
                    StatusCode::NOT_FOUND,
                ),
                ("an unknown path", "/nowhere", StatusCode::NOT_FOUND),
                (
                    "a handler that fails",
                    "/broken",
                    StatusCode::INTERNAL_SERVER_ERROR,
                ),
                (
                    "a handler that sets an id of its own",
                    "/upstream",
                    StatusCode::OK,
                ),
            ] {
                kit::step(format!("asking for {path}"));
                let service = if path.starts_with("/checkout") {
                    app()
                } else {
                    others()
                };
                let request = request(path, Some("req-42"));
                let response = send(service, request).await;
                assert!(response.status() == status, "{what}: {}", response.status());
                let echoed = ids(response.headers());
                assert!(
                    echoed == ["req-42"],
                    "{what}: the request came with X-Request-ID: req-42, and the answer {status} \
                     has {echoed:?}"
                );
            }
        });
    });
}

#[test]
fn handlers_see_the_id_that_is_logged() {
    kit::check(|| {
        on_one_thread(async {
            for (what, given) in [
                ("a valid id", Some("req-9")),
                ("no id", None),
                ("a hostile id", Some("a b")),
            ] {
                kit::step(format!("asking a handler what it sees of {what}"));
                let response = send(others(), request("/seen", given)).await;
                let echoed = ids(response.headers());
                let seen = body(response).await;
                let id = echoed.first().map_or("", String::as_str);
                assert!(
                    seen == format!("extension {id}, headers [\"{id}\"]"),
                    "with {what} the answer carries {echoed:?}, and the handler sees {seen}"
                );
            }
        });
    });
}

#[test]
fn one_filter_finds_a_request() {
    kit::check(|| {
        let (log, ()) = on_one_thread(async {
            let one = send(app(), checkout("ada", Some("needle")));
            let other = send(app(), checkout("grace", Some("needle-2")));
            // The same user in both: only the id can tell them apart.
            let third = send(app(), checkout("ada", Some("hay")));
            let (one, other, third) = (tokio::spawn(one), tokio::spawn(other), tokio::spawn(third));
            for task in [one, other, third] {
                task.await
                    .unwrap_or_else(|error| kit::symptom(format!("a request failed: {error}")));
            }
            tokio::time::sleep(LATE).await;
        });
        let all = lines(&log);
        let found: Vec<&Value> = all
            .iter()
            .filter(|line| line["request_id"] == "needle")
            .collect();
        let messages = messages(found.iter().copied());
        assert!(
            messages == LINES,
            "filtering for request_id = \"needle\" should give the {} lines of one checkout, and \
             gives {}:\n{}",
            LINES.len(),
            found.len(),
            shown(&found)
        );
    });
}

#[test]
fn readiness_is_asked_of_the_service_that_is_called() {
    kit::check(|| {
        on_one_thread(async {
            let mut service = RequestIdLayer.layer(Guarded { ready: false });
            for round in 1..=3 {
                kit::step(format!(
                    "calling a service that counts on poll_ready, round {round}"
                ));
                let service = service.ready().await.expect("it cannot fail");
                let response = service
                    .call(request("/", None))
                    .await
                    .expect("it cannot fail");
                assert!(
                    response.status() == StatusCode::OK,
                    "in round {round} the inner service was called without having been asked \
                     whether it is ready; a service with a limit would have let one too many in"
                );
            }
        });
    });
}

#[test]
fn what_is_logged_before_the_first_await_has_the_id() {
    kit::check(|| {
        let (log, ()) = on_one_thread(async {
            let mut service = RequestIdLayer.layer(Eager);
            let service = service.ready().await.expect("it cannot fail");
            let call = service.call(request("/", Some("eager-1")));
            call.await.expect("it cannot fail");
        });
        let lines = lines(&log);
        assert!(
            lines.len() == 1 && lines[0]["request_id"] == "eager-1",
            "an inner service that logs in `call` wrote, on behalf of request eager-1:\n{}",
            shown(&lines.iter().collect::<Vec<_>>())
        );
        let line = &lines[0];
        let kept = (
            &line["attempt"],
            &line["shift"],
            &line["share"],
            &line["warm"],
        );
        assert!(
            kept == (&2.into(), &(-3).into(), &0.5.into(), &true.into()) && line["step"] == "two",
            "an inner service logged attempt 2, shift -3, share 0.5 and warm true in a span whose \
             step was set to \"two\"; the line is:\n{}",
            shown(&[line])
        );
    });
}

/// Says 503 when it is called without having been asked whether it is ready. Its clones have not.
struct Guarded {
    ready: bool,
}

impl Clone for Guarded {
    fn clone(&self) -> Self {
        Guarded { ready: false }
    }
}

impl Service<Request<Body>> for Guarded {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        let was_ready = std::mem::replace(&mut self.ready, false);
        let status = if was_ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        ready(Ok(status.into_response()))
    }
}

/// Logs when it is called, before there is a future, in a span of its own.
#[derive(Clone)]
struct Eager;

impl Service<Request<Body>> for Eager {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<Body>) -> Self::Future {
        let span = tracing::info_span!("inner", step = tracing::field::Empty);
        span.record("step", "two");
        span.in_scope(|| {
            tracing::info!(
                attempt = 2_u64,
                shift = -3,
                share = 0.5,
                warm = true,
                "called"
            );
        });
        ready(Ok(StatusCode::OK.into_response()))
    }
}

/// Handlers of the checker's own behind the learner's layer.
fn others() -> Router {
    async fn seen(request: Request<Body>) -> String {
        let extension = request.extensions().get::<RequestId>();
        let extension = extension.map_or("missing", RequestId::as_str).to_owned();
        format!(
            "extension {extension}, headers {:?}",
            ids(request.headers())
        )
    }
    Router::new()
        .route(
            "/broken",
            get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
        )
        .route(
            "/upstream",
            get(|| async { [(HEADER, "an-id-of-the-upstream")] }),
        )
        .route("/seen", get(seen))
        .layer(RequestIdLayer)
}

/// Two hundred checkouts at the same time, each of a user and with an id of its own.
async fn storm() {
    let service = app();
    let requests: Vec<_> = (0..200)
        .map(|n| {
            let request = checkout(&format!("user{n}"), Some(&format!("storm-{n}")));
            tokio::spawn(send(service.clone(), request))
        })
        .collect();
    for request in requests {
        request
            .await
            .unwrap_or_else(|error| kit::symptom(format!("a request failed: {error}")));
    }
}

fn judge_storm(lines: &[Value], place: &str) {
    let mut by_id: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for line in lines {
        by_id
            .entry(line["request_id"].as_str().unwrap_or("none"))
            .or_default()
            .push(line);
    }
    for n in 0..200 {
        let (id, user) = (format!("storm-{n}"), format!("user{n}"));
        let found = by_id.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        let stray: Vec<&Value> = found
            .iter()
            .copied()
            .filter(|line| line["user"] != user.as_str())
            .collect();
        assert!(
            stray.is_empty(),
            "{place}, {id} is the request of {user}, and among its lines are:\n{}",
            shown(&stray)
        );
        assert!(
            messages(found.iter().copied()) == LINES,
            "{place}, 200 checkouts at once: {id} should have {} lines, and has {}; {}",
            LINES.len(),
            found.len(),
            match by_id.get("none") {
                Some(none) => format!(
                    "{} lines carry no id at all, such as:\n{}",
                    none.len(),
                    shown(none)
                ),
                None => format!("its own are:\n{}", shown(found)),
            }
        );
    }
}

fn judge_replaced(what: &str, bytes: &[u8], echoed: &[String], log: &Lines) {
    let shown_bytes = || {
        let text: String = String::from_utf8_lossy(bytes).chars().take(40).collect();
        format!("{text:?}")
    };
    let [id] = echoed else {
        kit::symptom(format!(
            "{what} ({}): the answer has {echoed:?}",
            shown_bytes()
        ))
    };
    assert!(
        is_valid(id) && id.as_bytes() != bytes.trim_ascii(),
        "{what} ({}) was taken over: the answer carries {id:?}",
        shown_bytes()
    );
    let lines = lines(log);
    let other = lines.iter().find(|line| line["request_id"] != id.as_str());
    assert!(
        other.is_none(),
        "{what} ({}): the answer carries {id}, and the log has:\n{}",
        shown_bytes(),
        shown(&other.into_iter().collect::<Vec<_>>())
    );
    // What cannot stand in a line as it is would stand there escaped; its text is what is looked
    // for, in the values of all fields.
    let text = String::from_utf8_lossy(bytes.trim_ascii());
    let holds = |line: &&Value| {
        let fields = line.as_object().into_iter().flatten();
        bytes.len() > 1
            && fields
                .filter_map(|(_, v)| v.as_str())
                .any(|v| v.contains(&*text))
    };
    let leaked = lines.iter().find(holds);
    assert!(
        leaked.is_none(),
        "{what} ({}) found its way into the log:\n{}",
        shown_bytes(),
        shown(&leaked.into_iter().collect::<Vec<_>>())
    );
}

/// What a body gives on a runtime of one thread in virtual time, and what it logs meanwhile.
fn on_one_thread<T>(body: impl Future<Output = T>) -> (Lines, T) {
    let log = Lines::default();
    let subscriber = logging::json(log.clone());
    let output = tracing::subscriber::with_default(subscriber, || time::paused(body));
    (log, output)
}

async fn send(service: Router, request: Request<Body>) -> Response<Body> {
    match service.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn checkout(user: &str, id: Option<&str>) -> Request<Body> {
    request(&format!("/checkout/{user}"), id)
}

fn request(path: &str, id: Option<&str>) -> Request<Body> {
    let mut request = Request::builder()
        .uri(path)
        .body(Body::empty())
        .expect("a valid path");
    if let Some(id) = id {
        let value = HeaderValue::from_str(id).expect("it may stand in a header");
        request.headers_mut().insert(HEADER, value);
    }
    request
}

async fn body(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 16)
        .await
        .expect("a small body");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ids(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(HEADER)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect()
}

fn is_valid(id: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !id.is_empty() && id.len() <= LONGEST && id.chars().all(harmless)
}

fn lines(log: &Lines) -> Vec<Value> {
    parsed(&log.text())
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| {
                kit::symptom(format!("a line is no JSON ({error}): {line}"))
            })
        })
        .collect()
}

fn messages<'v>(lines: impl Iterator<Item = &'v Value>) -> Vec<&'v str> {
    let mut messages: Vec<&str> = lines.filter_map(|line| line["message"].as_str()).collect();
    messages.retain(|message| LINES.contains(message));
    messages.sort_unstable();
    messages
}

/// A log without lines has no line without an id.
fn expect_messages(lines: &[Value], user: &str) {
    let found = messages(lines.iter().filter(|line| line["user"] == user));
    assert!(
        found == LINES,
        "a checkout logs {LINES:?}, and this one of {user} logged {found:?}"
    );
}

fn shown(lines: &[&Value]) -> String {
    let mut text: Vec<String> = lines
        .iter()
        .take(5)
        .map(|line| format!("  {line}"))
        .collect();
    if lines.len() > 5 {
        text.push(format!("  ({} more)", lines.len() - 5));
    }
    text.join("\n")
}
