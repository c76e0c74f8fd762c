//! 18.4.2: the traces of a worker pool, in memory and at a collector.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::subject::export;
use super::subject::pool::{Failure, Handle, TASK_SPAN, Task, TaskError};
use super::subject::service::{REQUEST_SPAN, Request, Response, Service};
use kit::otlp::{Collector, Received};
use kit::seed::Seed;
use kit::time::{self, Gate};
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::trace::{
    FutureExt as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags,
    TraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

const SEEDS: [u64; 4] = [4, 18, 42, 77];
/// Longer than any scenario: whatever can still end has ended by then.
const LONG: Duration = Duration::from_secs(60);

// Trees.

#[test]
fn each_task_is_a_child_of_its_request() {
    kit::check(|| {
        kit::seed::each(&SEEDS, |seed| {
            let recorder = Recorder::default();
            let owners = time::paused(interleaved_requests(seed, recorder.clone()));
            let spans = recorder.ended();
            let requests: HashMap<SpanId, &Ended> =
                spans.iter().map(|span| (span.id(), span)).collect();
            for (task, request) in owners {
                let span = span_of_task(&spans, task);
                let parent = requests.get(&span.data.parent_span_id).filter(|parent| {
                    parent.trace() == span.trace() && parent.request() == Some(request)
                });
                if parent.is_none() {
                    let found = if span.data.parent_span_id == SpanId::INVALID {
                        "is a root without a parent".to_owned()
                    } else {
                        requests.get(&span.data.parent_span_id).map_or_else(
                            || "has a parent that is not among the spans".to_owned(),
                            |parent| format!("is a child of {}", parent.label()),
                        )
                    };
                    let concerned: Vec<Ended> = spans
                        .iter()
                        .filter(|other| {
                            other.trace() == span.trace() || other.request() == Some(request)
                        })
                        .cloned()
                        .collect();
                    kit::symptom(format!(
                        "request {request} submitted task {task}, whose span {found}:\n{}",
                        picture(&concerned)
                    ));
                }
            }
        });
    });
}

/// Requests that run at the same time, by the service and by code of others that uses its pool.
/// Gives which request submitted which task; a request's number is an attribute of its span's.
async fn interleaved_requests(seed: Seed, recorder: Recorder) -> BTreeMap<u32, i64> {
    let provider = recorder.provider();
    let tracer = provider.tracer("elsewhere");
    let service = Arc::new(Service::start(provider, 3, 200));
    let mut owners = BTreeMap::new();
    let mut running = tokio::task::JoinSet::new();
    let mut next_task = 1;
    for request in 0..8 {
        let chance = seed.derive(request);
        let begins = Duration::from_millis(below(chance, 0, 60));
        let tasks: Vec<(u32, Duration, Duration)> = (0..=below(chance, 1, 4))
            .map(|nth| {
                let task = next_task;
                next_task += 1;
                let pause = Duration::from_millis(below(chance, 10 + nth, 20));
                let work = Duration::from_millis(1 + below(chance, 20 + nth, 40));
                (task, pause, work)
            })
            .collect();
        let number = i64::try_from(request).expect("there are few");
        owners.extend(tasks.iter().map(|&(task, ..)| (task, number)));
        let service = Arc::clone(&service);
        if request % 2 == 0 {
            let parent = Context::new().with_value(RequestNumber(number));
            let tasks = tasks.into_iter().map(|(task, _, work)| busy(task, work));
            let request = Request {
                parent,
                tasks: tasks.collect(),
            };
            running.spawn(async move {
                sleep(begins).await;
                service.handle(request).await;
            });
        } else {
            let tracer = tracer.clone();
            running.spawn(async move {
                sleep(begins).await;
                let context = Context::new().with_value(RequestNumber(number));
                let span = tracer.start_with_context("elsewhere", &context);
                let context = context.with_span(span);
                let submit_all = async {
                    let mut handles = Vec::new();
                    for (task, pause, work) in tasks {
                        handles.push(submit(&service, busy(task, work)));
                        sleep(pause).await;
                    }
                    handles
                };
                for handle in submit_all.with_context(context.clone()).await {
                    let _ = handle.outcome().await;
                }
                context.span().end();
            });
        }
    }
    kit::step("eight requests are handled at the same time");
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    owners
}

#[test]
fn task_without_a_request_is_a_root() {
    kit::check(|| {
        let recorder = Recorder::default();
        time::paused(async {
            let provider = recorder.provider();
            let tracer = provider.tracer("start-up");
            let start_up = Context::new().with_span(tracer.start("start_up"));
            // The pool starts within a span, and its tasks are not that span's for all that.
            let service = {
                let _current = start_up.clone().attach();
                Service::start(provider, 2, 20)
            };
            start_up.span().end();
            kit::step("a request is handled");
            service
                .handle(request([busy(1, MS_10), busy(2, MS_10)]))
                .await;
            kit::step("a task is submitted without a request, after one with a request");
            let _ = submit(&service, busy(3, MS_10)).outcome().await;
        });
        let spans = recorder.ended();
        let span = span_of_task(&spans, 3);
        let others = spans.iter().filter(|other| other.id() != span.id());
        let shared = others.filter(|other| other.trace() == span.trace()).count();
        assert!(
            span.data.parent_span_id == SpanId::INVALID && shared == 0,
            "task 3 was submitted without a request, and its span is not alone in its trace:\n{}",
            picture(&spans)
        );
    });
}

#[test]
fn decision_and_trace_of_the_caller_are_followed() {
    kit::check(|| {
        let recorder = Recorder::default();
        let handled = time::paused(async {
            let service = Service::start(recorder.provider(), 2, 20);
            let mut handled = Vec::new();
            for (sampled, task) in [(true, 1), (false, 11)] {
                let caller = caller(u128::from(task), sampled);
                kit::step("a request of a caller with a trace of its own is handled");
                let request = Request {
                    parent: Context::new().with_remote_span_context(caller.clone()),
                    tasks: vec![busy(task, MS_10), failing(task + 1, "no such photo")],
                };
                handled.push((caller, service.handle(request).await));
            }
            handled
        });
        let spans = recorder.ended();
        let wanted = counts(1, 1, 0);
        for (_, found) in &handled {
            assert!(
                *found == wanted,
                "the response should be {wanted:?}: {found:?}"
            );
        }
        let (sampled, _) = &handled[0];
        let ours: Vec<_> = spans
            .iter()
            .filter(|span| span.trace() == sampled.trace_id())
            .collect();
        let below_the_caller = ours
            .iter()
            .filter(|span| span.data.parent_span_id == sampled.span_id())
            .count();
        assert!(
            ours.len() == 3 && below_the_caller == 1,
            "a caller samples its trace, so the request and its two tasks should be three spans of \
             that trace, one of them below the caller's span; {} are, {below_the_caller} of them \
             below it:\n{}",
            ours.len(),
            picture(&spans)
        );
        assert!(
            spans.len() == 3,
            "another caller has decided not to sample its trace, so nothing of that request should \
             be recorded; {} spans too many are:\n{}",
            spans.len() - 3,
            picture(&spans)
        );
    });
}

#[test]
fn work_runs_in_the_context_of_its_task() {
    kit::check(|| {
        let recorder = Recorder::default();
        let seen = time::paused(async {
            let provider = recorder.provider();
            let tracer = provider.tracer("work");
            let service = Arc::new(Service::start(provider, 2, 20));
            let seen = Arc::new(Mutex::new(BTreeMap::new()));
            let mut running = Vec::new();
            for (tenant, first) in [("ada", 1), ("grace", 11)] {
                let tasks = (first..first + 3).map(|id| {
                    let (tracer, seen) = (tracer.clone(), Arc::clone(&seen));
                    Task::new(id, "thumbnail", async move {
                        for step in ["decode", "scale"] {
                            let span = tracer
                                .span_builder(step)
                                .with_attributes([KeyValue::new("for", i64::from(id))]);
                            let span = span.start(&tracer);
                            sleep(Duration::from_millis(3 + u64::from(id % 3))).await;
                            drop(span);
                        }
                        let tenant = Context::map_current(|context| {
                            context.baggage().get("tenant").map(ToString::to_string)
                        });
                        lock(&seen).insert(id, tenant);
                        Ok(())
                    })
                });
                let parent = Context::new().with_baggage([KeyValue::new("tenant", tenant)]);
                let request = Request {
                    parent,
                    tasks: tasks.collect(),
                };
                let service = Arc::clone(&service);
                running.push(tokio::spawn(async move { service.handle(request).await }));
            }
            kit::step("two requests with baggage are handled at the same time");
            for request in running {
                let _ = request.await;
            }
            lock(&seen).clone()
        });
        let spans = recorder.ended();
        for id in [1, 2, 3, 11, 12, 13] {
            let task = span_of_task(&spans, id);
            let steps: Vec<_> = spans
                .iter()
                .filter(|span| span.int("for") == Some(i64::from(id)))
                .collect();
            assert!(
                steps.len() == 2
                    && steps
                        .iter()
                        .all(|step| step.data.parent_span_id == task.id()
                            && step.trace() == task.trace()),
                "the work of task {id} starts two spans of its own, `decode` and `scale`, which \
                 should be children of the task's span:\n{}",
                picture(&spans)
            );
            let tenant = if id < 10 { "ada" } else { "grace" };
            let found = seen.get(&id).cloned().flatten();
            assert!(
                found.as_deref() == Some(tenant),
                "task {id} was submitted with the baggage tenant={tenant}, and its work finds {}",
                found.map_or("no baggage".to_owned(), |found| format!("tenant={found}"))
            );
        }
    });
}

// Attributes.

#[test]
fn task_is_named_by_its_attributes() {
    kit::check(|| {
        let recorder = Recorder::default();
        let kinds = [(7, "thumbnail"), (8, "exif"), (4_000_000_000, "moderation")];
        time::paused(async {
            let service = Service::start(recorder.provider(), 2, 20);
            kit::step("a request with three tasks is handled");
            let tasks = kinds.map(|(id, kind)| Task::new(id, kind, async { Ok(()) }));
            service.handle(request(tasks)).await;
        });
        let spans = recorder.ended();
        for (id, kind) in kinds {
            let span = span_of_task(&spans, id);
            for (name, wanted) in [
                ("task.id", Value::I64(i64::from(id))),
                ("task.type", Value::from(kind)),
            ] {
                let mut found = span
                    .data
                    .attributes
                    .iter()
                    .filter(|a| a.key.as_str() == name);
                let value = found.next().map(|attribute| &attribute.value);
                assert!(
                    value == Some(&wanted) && found.next().is_none(),
                    "the span of task {id}, of the kind {kind}, should have {name} = {} once, and \
                     its attributes are: {}",
                    shown(&wanted),
                    attributes(span)
                );
            }
        }
    });
}

#[test]
fn queue_wait_runs_from_submission_to_a_worker() {
    kit::check(|| {
        kit::seed::each(&SEEDS, |seed| {
            let recorder = Recorder::default();
            let runs = time::paused(busy_hour(seed, recorder.clone()));
            let spans = recorder.ended();
            assert!(
                runs.values().any(|run| run.wait() > Duration::ZERO),
                "a scenario without waits proves nothing"
            );
            for (id, run) in runs {
                let span = span_of_task(&spans, id);
                let wanted = i64::try_from(run.wait().as_millis()).expect("waits are short");
                let found = span.int("task.queue_wait_ms");
                assert!(
                    found == Some(wanted),
                    "task {id} was submitted at {:?}, taken up by a worker at {:?} and done at \
                     {:?}, so its task.queue_wait_ms should be {wanted}; its attributes are: {}",
                    run.submitted,
                    run.began,
                    run.ended,
                    attributes(span)
                );
            }
        });
    });
}

#[test]
fn span_covers_the_run_and_not_the_wait() {
    kit::check(|| {
        kit::seed::each(&SEEDS, |seed| {
            let recorder = Recorder::default();
            let start = Mutex::new(None);
            let runs = time::paused(async {
                *lock(&start) = Some(Instant::now());
                busy_hour(seed, recorder.clone()).await
            });
            let start = lock(&start).expect("the scenario has run");
            let spans = recorder.ended();
            for (id, run) in runs {
                let span = span_of_task(&spans, id);
                let found = (
                    span.began.saturating_duration_since(start),
                    span.ended.saturating_duration_since(start),
                );
                assert!(
                    found == (run.began, run.ended),
                    "task {id} was submitted at {:?}, and ran from {:?} to {:?}; its span begins \
                     at {:?} and ends at {:?}",
                    run.submitted,
                    run.began,
                    run.ended,
                    found.0,
                    found.1
                );
            }
        });
    });
}

/// The times of a task, from the start of its scenario.
#[derive(Clone, Copy, Debug, Default)]
struct TaskRun {
    submitted: Duration,
    began: Duration,
    ended: Duration,
}

impl TaskRun {
    fn wait(&self) -> Duration {
        self.began - self.submitted
    }
}

/// Bursts of tasks for two workers, so that some wait and others do not.
async fn busy_hour(seed: Seed, recorder: Recorder) -> BTreeMap<u32, TaskRun> {
    let service = Service::start(recorder.provider(), 2, 200);
    let start = Instant::now();
    let runs = Arc::new(Mutex::new(BTreeMap::<u32, TaskRun>::new()));
    let mut handles = Vec::new();
    // Idle workers wait for work by now.
    time::settle().await;
    kit::step("bursts of tasks are submitted to two workers");
    for id in 1..=24 {
        let chance = seed.derive(u64::from(id));
        let work = Duration::from_millis(below(chance, 2, 120));
        let task_runs = Arc::clone(&runs);
        let task = Task::new(id, "thumbnail", async move {
            lock(&task_runs).entry(id).or_default().began = start.elapsed();
            sleep(work).await;
            lock(&task_runs).entry(id).or_default().ended = start.elapsed();
            Ok(())
        });
        // A task may have been made a while before it is submitted.
        if below(chance, 0, 3) == 0 {
            sleep(Duration::from_millis(below(chance, 1, 300))).await;
        }
        lock(&runs).entry(id).or_default().submitted = start.elapsed();
        handles.push(submit(&service, task));
    }
    kit::step("the tasks are waited for");
    for handle in handles {
        let _ = handle.outcome().await;
    }
    lock(&runs).clone()
}

// Errors.

#[test]
fn failed_task_has_the_status_and_message_of_its_error() {
    kit::check(|| {
        let recorder = Recorder::default();
        let message = "could not read \"IMG_0231.heic\": unexpected end of file";
        let response = time::paused(async {
            let service = Service::start(recorder.provider(), 2, 20);
            kit::step("a request is handled whose second task fails");
            let tasks = [busy(1, MS_10), failing(2, message), busy(3, MS_10)];
            service.handle(request(tasks)).await
        });
        let wanted = counts(2, 1, 0);
        assert!(
            response == wanted,
            "the response should be {wanted:?}: {response:?}"
        );
        let spans = recorder.ended();
        let failed = span_of_task(&spans, 2);
        assert!(
            failed.data.status == Status::error(message),
            "task 2 failed with the message {message:?}, and its span has the status {:?}",
            failed.data.status
        );
        for id in [1, 3] {
            let span = span_of_task(&spans, id);
            assert!(
                !matches!(span.data.status, Status::Error { .. }),
                "task {id} did not fail, and its span has the status {:?}",
                span.data.status
            );
        }
    });
}

#[test]
fn panicking_task_is_marked_and_its_worker_goes_on() {
    kit::check(|| {
        let recorder = Recorder::default();
        let outcomes = time::paused(async {
            let service = Service::start(recorder.provider(), 1, 20);
            let photo = 231;
            let handles = [
                submit(
                    &service,
                    Task::new(1, "thumbnail", async {
                        sleep(MS_10).await;
                        panic!("the image has no pixels")
                    }),
                ),
                submit(
                    &service,
                    Task::new(
                        2,
                        "exif",
                        async move { panic!("photo {photo} has no date") },
                    ),
                ),
                submit(&service, busy(3, MS_10)),
            ];
            kit::step("two tasks panic, and the only worker goes on to the third");
            let mut outcomes = Vec::new();
            for handle in handles {
                outcomes.push(handle.outcome().await);
            }
            outcomes
        });
        let spans = recorder.ended();
        for (id, message) in [(1, "the image has no pixels"), (2, "photo 231 has no date")] {
            let outcome = &outcomes[id as usize - 1];
            assert!(
                matches!(outcome, Err(Failure::Panicked(text)) if text.contains(message)),
                "task {id} panicked with {message:?}, and its outcome is {outcome:?}"
            );
            let status = &span_of_task(&spans, id).data.status;
            assert!(
                matches!(status, Status::Error { description } if description.contains(message)),
                "task {id} panicked with {message:?}, and its span has the status {status:?}"
            );
        }
        assert!(
            outcomes[2].is_ok(),
            "task 3 came after two tasks that panicked, and its outcome is {:?}",
            outcomes[2]
        );
        span_of_task(&spans, 3);
    });
}

#[test]
fn rejected_task_leaves_a_span_with_the_reason() {
    kit::check(|| {
        let recorder = Recorder::default();
        let (response, at, alone_at) = time::paused(async {
            let service = Arc::new(Service::start(recorder.provider(), 1, 2));
            let gate = Gate::closed();
            let work = gate.clone();
            let first = Task::new(1, "thumbnail", async move {
                work.pass().await;
                Ok(())
            });
            let _first = submit(&service, first);
            kit::step("the only worker takes up a task");
            gate.held(1).await;
            sleep(Duration::from_millis(40)).await;
            let at = Instant::now();
            let busy_service = Arc::clone(&service);
            let running = tokio::spawn(async move {
                let tasks = (2..=5).map(|id| busy(id, MS_10));
                busy_service.handle(request(tasks)).await
            });
            time::settle().await;
            kit::step("a task without a request is submitted to a full queue");
            let alone_at = Instant::now();
            let alone = service.pool().submit(busy(6, MS_10));
            assert!(
                alone.is_err(),
                "one task runs, two wait in a queue for two, and another one is taken"
            );
            gate.open();
            kit::step("a request with four tasks is handled, for two of which there is room");
            let response = match running.await {
                Ok(response) => response,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            (response, at, alone_at)
        });
        let wanted = counts(2, 0, 2);
        assert!(
            response == wanted,
            "the response should be {wanted:?}: {response:?}"
        );
        let spans = recorder.ended();
        let parent = span_named(&spans, REQUEST_SPAN);
        for id in [4, 5, 6] {
            let span = span_of_task(&spans, id);
            assert!(
                span.data.status == Status::error("the queue is full"),
                "task {id} was rejected since the queue was full, and its span has the status {:?}",
                span.data.status
            );
            let (wanted, whose, at) = match id {
                6 => (
                    SpanId::INVALID,
                    "a root: it was submitted without a request",
                    alone_at,
                ),
                _ => (parent.id(), "a child of its request's", at),
            };
            assert!(
                span.data.parent_span_id == wanted,
                "task {id} was rejected, and its span is not {whose}:\n{}",
                picture(&spans)
            );
            assert!(
                span.int("task.queue_wait_ms") == Some(0)
                    && span.text("task.type").as_deref() == Some("thumbnail"),
                "task {id}, a thumbnail, was rejected without a wait; the attributes of its span \
                 are: {}",
                attributes(span)
            );
            assert!(
                span.began == at && span.ended == at,
                "task {id} was rejected at once; its span begins {:?} later and lasts {:?}",
                span.began - at,
                span.ended - span.began
            );
        }
    });
}

// Requests.

#[test]
fn request_ends_after_its_tasks() {
    kit::check(|| {
        type Scenario = (&'static str, Response, fn() -> Vec<Task>);
        let scenarios: [Scenario; 6] = [
            ("three tasks succeed", counts(3, 0, 0), || {
                vec![busy(1, MS_10), busy(2, 3 * MS_10), busy(3, 2 * MS_10)]
            }),
            (
                "the first of three tasks fails at once",
                counts(2, 1, 0),
                || {
                    let late = 5 * MS_10;
                    vec![failing(1, "no such photo"), busy(2, late), busy(3, late)]
                },
            ),
            ("one of three tasks panics", counts(2, 1, 0), || {
                let panics = Task::new(2, "exif", async { panic!("no date") });
                vec![busy(1, 4 * MS_10), panics, busy(3, MS_10)]
            }),
            ("two of six tasks are rejected", counts(4, 0, 2), || {
                (1..=6).map(|id| busy(id, MS_10)).collect()
            }),
            (
                "one of three tasks leaves work of its own that takes longer",
                counts(3, 0, 0),
                || vec![busy(1, MS_10), leaving_work_behind(2), busy(3, MS_10)],
            ),
            ("it has no tasks", counts(0, 0, 0), Vec::new),
        ];
        for (what, wanted, tasks) in scenarios {
            let recorder = Recorder::default();
            let (response, at_return) = time::paused(async {
                let service = Service::start(recorder.provider(), 2, 4);
                kit::step(format!("a request is handled: {what}"));
                let response = service.handle(request(tasks())).await;
                let at_return = recorder.ended();
                sleep(LONG).await;
                (response, at_return)
            });
            assert!(
                response == wanted,
                "of a request {what}; the response should be {wanted:?}: {response:?}"
            );
            let spans = recorder.ended();
            let order = order_of_ends(&spans);
            let wanted = wanted.done + wanted.failed + wanted.rejected + 1;
            assert!(
                at_return.len() == wanted && order.last().is_some_and(|l| l == REQUEST_SPAN),
                "of a request {what}; its span should end last, and before the response is there. \
                 {} of {wanted} spans had ended with the response; the spans end in this order:\n  \
                 {}",
                at_return.len(),
                order.join("\n  ")
            );
            let kind = &span_named(&spans, REQUEST_SPAN).data.span_kind;
            assert!(
                *kind == SpanKind::Server,
                "the request's span should be of the kind Server, and is of the kind {kind:?}"
            );
        }
    });
}

#[test]
fn request_ends_last_on_several_threads() {
    kit::check(|| {
        // Each end of a task's span takes a while, unless the request's span ends meanwhile.
        let recorder = Recorder::lingering(Duration::from_millis(20));
        let runtime = threads(4);
        kit::step("a request with three tasks is handled on four threads");
        let (response, at_return) = runtime.block_on(async {
            let service = Service::start(recorder.provider(), 3, 20);
            let yielding = |id| {
                Task::new(id, "thumbnail", async {
                    tokio::task::yield_now().await;
                    Ok(())
                })
            };
            let handled = service.handle(request((1..=3).map(yielding)));
            ahead_of_whoever_wakes(handled, || recorder.ended()).await
        });
        let wanted = counts(3, 0, 0);
        assert!(
            response == wanted,
            "the response should be {wanted:?}: {response:?}"
        );
        runtime.shutdown_background();
        recorder.wait_for(4);
        let order = order_of_ends(&recorder.ended());
        assert!(
            order.len() == 4 && order.last().is_some_and(|last| last == REQUEST_SPAN),
            "four spans should end, the request's last; they end in this order:\n  {}",
            order.join("\n  ")
        );
        assert!(
            at_return.len() == 4,
            "of a request with three tasks the response was there before all four spans had ended; only \
             these had:\n  {}",
            order_of_ends(&at_return).join("\n  ")
        );
    });
}

/// Awaits `future` so that whoever wakes it gets no further until it has been polled, and looks at
/// what there is when it is ready, before that goes on. Whoever holds a lock meanwhile that the
/// future needs is waited for in vain, but not for long.
async fn ahead_of_whoever_wakes<F: Future, T>(future: F, look: impl Fn() -> T) -> (F::Output, T) {
    let polls = Arc::new(Polls::default());
    let mut future = pin!(future);
    poll_fn(|context| {
        let waker = Waker::from(Arc::new(HeldUp {
            polls: Arc::clone(&polls),
            waker: context.waker().clone(),
            poller: thread::current().id(),
        }));
        let polled = future
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker))
            .map(|output| (output, look()));
        *lock(&polls.count) += 1;
        polls.changed.notify_all();
        polled
    })
    .await
}

#[derive(Debug, Default)]
struct Polls {
    count: Mutex<u64>,
    changed: Condvar,
}

struct HeldUp {
    polls: Arc<Polls>,
    waker: Waker,
    /// Polls, and so cannot be waited for by itself.
    poller: ThreadId,
}

impl Wake for HeldUp {
    fn wake(self: Arc<Self>) {
        let count = lock(&self.polls.count);
        let before = *count;
        self.waker.wake_by_ref();
        if thread::current().id() != self.poller {
            let _ =
                self.polls
                    .changed
                    .wait_timeout_while(count, Duration::from_millis(250), |count| {
                        *count == before
                    });
        }
    }
}

#[test]
fn canceled_request_loses_no_span() {
    kit::check(|| {
        let recorder = Recorder::default();
        let (ran, spans) = time::paused(async {
            let service = Arc::new(Service::start(recorder.provider(), 1, 20));
            let ran = Arc::new(Mutex::new(0));
            let tasks = (1..=3).map(|id| {
                let ran = Arc::clone(&ran);
                Task::new(id, "thumbnail", async move {
                    sleep(MS_10).await;
                    *lock(&ran) += 1;
                    match id {
                        3 => Err(TaskError("no such photo".to_owned())),
                        _ => Ok(()),
                    }
                })
            });
            let request = request(tasks);
            let handled = Arc::clone(&service);
            let running = tokio::spawn(async move { handled.handle(request).await });
            sleep(Duration::from_millis(5)).await;
            kit::step("the request is canceled while its first task runs");
            running.abort();
            sleep(LONG).await;
            // The service goes on: what has not ended by now would end with it at best.
            let spans = recorder.ended();
            drop(service);
            (*lock(&ran), spans)
        });
        assert!(
            ran == 3,
            "{ran} of the 3 tasks of a canceled request were done"
        );
        let parent = span_named(&spans, REQUEST_SPAN);
        for id in 1..=3 {
            let span = span_of_task(&spans, id);
            assert!(
                span.data.parent_span_id == parent.id(),
                "task {id} belongs to a request that was canceled, and its span is not a child of \
                 that request's:\n{}",
                picture(&spans)
            );
        }
        let status = &span_of_task(&spans, 3).data.status;
        assert!(
            *status == Status::error("no such photo"),
            "task 3 of a canceled request failed with the message \"no such photo\", and its span \
             has the status {status:?}"
        );
    });
}

#[test]
fn tasks_run_side_by_side() {
    kit::check(|| {
        let recorder = Recorder::default();
        let took = time::paused(async {
            let service = Service::start(recorder.provider(), 8, 100);
            let start = Instant::now();
            kit::step("a request with 80 tasks of 100 ms is handled by 8 workers");
            let tasks = (1..=80).map(|id| busy(id, 10 * MS_10));
            service.handle(request(tasks)).await;
            start.elapsed()
        });
        assert!(
            took == Duration::from_secs(1),
            "8 workers need 1 s for 80 tasks of 100 ms each, and took {took:?}"
        );
    });
}

// The way out.

#[test]
fn shutdown_waits_for_queued_tasks_and_their_spans() {
    kit::check(|| {
        let recorder = Recorder::default();
        // By the clock of the system: a thread of the learner's may shut the provider down.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system refuses a runtime");
        let provider = recorder.provider();
        let (result, ran) = runtime.block_on(async {
            // Others hold the provider too: it does not go away with the service.
            let service = Service::start(provider.clone(), 2, 20);
            let ran = Arc::new(Mutex::new(0));
            let gate = Gate::closed();
            let mut handles = Vec::new();
            for id in 1..=5 {
                let (ran, gate) = (Arc::clone(&ran), gate.clone());
                handles.push(submit(
                    &service,
                    Task::new(id, "thumbnail", async move {
                        gate.pass().await;
                        *lock(&ran) += 1;
                        Ok(())
                    }),
                ));
            }
            kit::step("two workers take up tasks");
            gate.held(2).await;
            kit::step("the service is shut down while two tasks run and three wait");
            let shutdown = tokio::spawn(service.shutdown());
            // Whoever shuts the provider down too early has the time to do so.
            let early = recorder.clone();
            let _ = tokio::task::spawn_blocking(move || early.wait_for_shutdown()).await;
            gate.open();
            let result = match shutdown.await {
                Ok(result) => result,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            (result, *lock(&ran))
        });
        let spans = recorder.ended();
        let found = spans.iter().filter(|s| s.data.name == TASK_SPAN).count();
        assert!(
            ran == 5 && found == 5,
            "two tasks ran and three waited when the service was shut down; {ran} of the 5 were \
             done when that returned, and {found} of their spans were recorded"
        );
        assert!(result.is_ok(), "the shutdown ends with {result:?}");
        assert!(
            lock(&recorder.0.kept).shut_down,
            "the service was shut down, and the provider of its traces was not"
        );
        kit::step("a service is shut down whose spans cannot be sent in time");
        let result = runtime.block_on(async {
            let provider = SdkTracerProvider::builder()
                .with_span_processor(Unreachable)
                .build();
            Service::start(provider, 2, 20).shutdown().await
        });
        assert!(
            result.is_err(),
            "the last spans could not be sent in time, and the shutdown ends with {result:?}"
        );
    });
}

#[test]
fn every_span_reaches_the_collector() {
    kit::check(|| {
        let collector = Collector::start();
        let unsampled = caller(0xdead, false);
        let runtime = threads(2);
        kit::step("40 requests with 15 tasks each are handled, and the service is shut down");
        let result = runtime.block_on(async {
            // A base URL is written with a slash at its end as well as without.
            let service = service_to(&format!("{}/", collector.endpoint()), 8, 1_000);
            let mut running = tokio::task::JoinSet::new();
            for number in 0..40 {
                let service = Arc::clone(&service);
                let tasks = (number * 15 + 1..=number * 15 + 15).map(|id| {
                    Task::new(id, "thumbnail", async move {
                        tokio::task::yield_now().await;
                        match id % 10 {
                            0 => Err(TaskError(format!("photo {id} is empty"))),
                            _ => Ok(()),
                        }
                    })
                });
                let request = request(tasks);
                running.spawn(async move { service.handle(request).await });
            }
            let request = Request {
                parent: Context::new().with_remote_span_context(unsampled.clone()),
                tasks: vec![busy(9_999, Duration::ZERO)],
            };
            service.handle(request).await;
            while running.join_next().await.is_some() {}
            shut_down(service).await
        });
        let spans = collector.spans();
        assert!(
            spans.len() == 640 || spans.len() == 642,
            "40 requests with 15 tasks each make 640 spans; {} have arrived when the service has \
             been shut down, which ends with {result:?}. The collector was asked:\n{}",
            spans.len(),
            asked(&collector)
        );
        let strays = spans
            .iter()
            .filter(|got| got.span.trace_id == unsampled.trace_id().to_bytes())
            .count();
        assert!(
            strays == 0 && spans.len() == 640,
            "a caller has decided not to sample its trace, and {} spans of its request arrive",
            spans.len() - 640
        );
        assert!(
            result.is_ok(),
            "640 spans arrive, and the shutdown ends with {result:?}"
        );
        let requests: HashMap<&[u8], &Received> = spans
            .iter()
            .filter(|got| got.span.name == REQUEST_SPAN)
            .map(|got| (got.span.span_id.as_slice(), got))
            .collect();
        let mut ids: BTreeMap<i64, usize> = BTreeMap::new();
        for got in spans.iter().filter(|got| got.span.name == TASK_SPAN) {
            let id = got.int("task.id").unwrap_or(-1);
            let status = got.span.status.clone().unwrap_or_default();
            let parent = requests.get(got.span.parent_span_id.as_slice());
            let message = if id % 10 == 0 {
                format!("photo {id} is empty")
            } else {
                String::new()
            };
            // 2 is STATUS_CODE_ERROR of the protocol.
            let as_it_should_be = (status.code == 2) == (id % 10 == 0) && status.message == message;
            assert!(
                parent.is_some_and(|parent| parent.span.trace_id == got.span.trace_id)
                    && got.text("task.type") == Some("thumbnail")
                    && got.int("task.queue_wait_ms").is_some_and(|wait| wait >= 0)
                    && as_it_should_be,
                "a task's span arrives with {} request above it, the status {} and the attributes: \
                 {}",
                if parent.is_some() { "its" } else { "no" },
                got.status_shown(),
                got.attributes_shown()
            );
            *ids.entry(id).or_default() += 1;
        }
        assert!(
            ids.len() == 600 && ids.keys().eq((1..=600).collect::<Vec<i64>>().iter()),
            "600 tasks have {} different ids at the collector",
            ids.len()
        );
    });
}

#[test]
fn collector_learns_the_name_of_the_service() {
    kit::check(|| {
        let collector = Collector::start();
        kit::step("a request is handled, and the service is shut down");
        let result = threads(2).block_on(async {
            let service = service_to(&collector.endpoint(), 2, 20);
            service.handle(request([busy(1, Duration::ZERO)])).await;
            shut_down(service).await
        });
        let spans = collector.spans();
        assert!(
            !spans.is_empty(),
            "no span arrives, and the shutdown ends with {result:?}. The collector was asked:\n{}",
            asked(&collector)
        );
        for got in spans {
            assert!(
                got.service() == Some("photos-eu"),
                "the traces are those of the service photos-eu; at the collector the span {} comes \
                 from a process with the attributes: {}",
                got.span.name,
                got.resource_shown()
            );
        }
    });
}

#[test]
fn shutdown_leaves_the_runtime_to_others() {
    kit::check(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the system refuses a runtime");
        let backlog = Backlog::of_this_thread();
        let answering = backlog.clone();
        kit::step("the service is shut down on a runtime of one thread that others use too");
        let (result, stuck, sent) = runtime.block_on(async {
            let provider = SdkTracerProvider::builder()
                .with_span_processor(backlog.clone())
                .build();
            let service = Service::start(provider, 2, 20);
            service.handle(request([busy(1, Duration::ZERO)])).await;
            // What is sent is answered by another task of this thread.
            tokio::spawn(async move {
                answering.0.asked.notified().await;
                answering.answer();
            });
            let result = service.shutdown().await;
            let sending = lock(&backlog.0.sending);
            (result, sending.stuck, sending.sent)
        });
        // Whatever still sends by now has nobody who answers, and is not waited for.
        runtime.shutdown_background();
        assert!(
            !stuck,
            "while the service was shut down and its last spans were sent, another task on the \
             same thread had no turn; the shutdown ends with {result:?}"
        );
        assert!(
            sent == 2,
            "a request with one task makes two spans; {sent} have been sent when the service has \
             been shut down, which ends with {result:?}"
        );
    });
}

// What the checks are made of.

const MS_10: Duration = Duration::from_millis(10);
/// How long is waited for an answer where the thread that should give it is held by something that
/// cannot be seen from here. Nobody else waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The number of a request, which travels with its context so that its span can be told from others.
#[derive(Clone, Copy, Debug)]
struct RequestNumber(i64);

/// Keeps what ends, in the order in which it ends, with times by Tokio's clock.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Recording>);

#[derive(Debug, Default)]
struct Recording {
    kept: Mutex<Kept>,
    ended: Condvar,
    linger: Duration,
}

#[derive(Debug, Default)]
struct Kept {
    began: HashMap<SpanId, (Instant, Option<i64>)>,
    ended: Vec<Ended>,
    shut_down: bool,
}

#[derive(Clone, Debug)]
struct Ended {
    data: SpanData,
    request: Option<i64>,
    began: Instant,
    ended: Instant,
}

impl Recorder {
    fn lingering(linger: Duration) -> Self {
        Recorder(Arc::new(Recording {
            linger,
            ..Recording::default()
        }))
    }

    fn provider(&self) -> SdkTracerProvider {
        SdkTracerProvider::builder()
            .with_span_processor(self.clone())
            .build()
    }

    fn ended(&self) -> Vec<Ended> {
        lock(&self.0.kept).ended.clone()
    }

    /// Waits until so many spans have ended, or for a second.
    fn wait_for(&self, spans: usize) {
        let kept = lock(&self.0.kept);
        let enough = |kept: &mut Kept| kept.ended.len() < spans;
        let _ = self
            .0
            .ended
            .wait_timeout_while(kept, Duration::from_secs(1), enough);
    }

    /// Waits until the provider is shut down, or for a moment.
    fn wait_for_shutdown(&self) {
        let kept = lock(&self.0.kept);
        let running = |kept: &mut Kept| !kept.shut_down;
        let _ = self
            .0
            .ended
            .wait_timeout_while(kept, Duration::from_millis(50), running);
    }
}

impl SpanProcessor for Recorder {
    fn on_start(&self, span: &mut Span, context: &Context) {
        use opentelemetry::trace::Span as _;
        let request = context.get::<RequestNumber>().map(|number| number.0);
        lock(&self.0.kept)
            .began
            .insert(span.span_context().span_id(), (Instant::now(), request));
    }

    fn on_end(&self, data: SpanData) {
        let mut kept = lock(&self.0.kept);
        if !self.0.linger.is_zero() && data.name == TASK_SPAN {
            let before = |kept: &mut Kept| !kept.ended.iter().any(|e| e.data.name == REQUEST_SPAN);
            (kept, _) = self
                .0
                .ended
                .wait_timeout_while(kept, self.0.linger, before)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let ended = Instant::now();
        let id = data.span_context.span_id();
        let (began, request) = kept.began.get(&id).copied().unwrap_or((ended, None));
        kept.ended.push(Ended {
            data,
            request,
            began,
            ended,
        });
        self.0.ended.notify_all();
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        lock(&self.0.kept).shut_down = true;
        self.0.ended.notify_all();
        Ok(())
    }
}

/// Cannot send anything in time.
#[derive(Debug)]
struct Unreachable;

impl SpanProcessor for Unreachable {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {}

    fn force_flush(&self) -> OTelSdkResult {
        Err(OTelSdkError::Timeout(PATIENCE))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        Err(OTelSdkError::Timeout(timeout))
    }
}

/// Sends what has ended when it is flushed or shut down, and blocks until that is answered, as an
/// exporter does. The answer comes from a task of one thread: whoever blocks just that one gets none.
#[derive(Clone, Debug)]
struct Backlog(Arc<Queued>);

#[derive(Debug)]
struct Queued {
    thread: ThreadId,
    asked: Notify,
    sending: Mutex<Sending>,
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Sending {
    waiting: usize,
    sent: usize,
    answered: bool,
    stuck: bool,
}

impl Backlog {
    fn of_this_thread() -> Self {
        Backlog(Arc::new(Queued {
            thread: thread::current().id(),
            asked: Notify::new(),
            sending: Mutex::default(),
            answered: Condvar::new(),
        }))
    }

    fn answer(&self) {
        lock(&self.0.sending).answered = true;
        self.0.answered.notify_all();
    }

    fn send(&self) -> OTelSdkResult {
        let mut sending = lock(&self.0.sending);
        if sending.waiting > 0 && !sending.answered {
            if thread::current().id() == self.0.thread {
                sending.stuck = true;
            } else {
                self.0.asked.notify_one();
                (sending, _) = self
                    .0
                    .answered
                    .wait_timeout_while(sending, PATIENCE, |sending| !sending.answered)
                    .unwrap_or_else(PoisonError::into_inner);
                sending.stuck |= !sending.answered;
            }
        }
        sending.sent += std::mem::take(&mut sending.waiting);
        Ok(())
    }
}

impl SpanProcessor for Backlog {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, _: SpanData) {
        lock(&self.0.sending).waiting += 1;
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.send()
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        self.send()
    }
}

impl Ended {
    fn id(&self) -> SpanId {
        self.data.span_context.span_id()
    }

    fn trace(&self) -> TraceId {
        self.data.span_context.trace_id()
    }

    /// The number of the request, of a request's own span.
    fn request(&self) -> Option<i64> {
        self.request.filter(|_| self.data.name != TASK_SPAN)
    }

    fn value(&self, name: &str) -> Option<&Value> {
        let mut all = self.data.attributes.iter();
        all.find(|attribute| attribute.key.as_str() == name)
            .map(|attribute| &attribute.value)
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::I64(number) => Some(*number),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text.to_string()),
            _ => None,
        }
    }

    fn label(&self) -> String {
        let name = &self.data.name;
        match (self.request(), self.value("task.id")) {
            (Some(request), _) => format!("{name} (request {request})"),
            (None, Some(task)) => format!("{name} (task {task})"),
            (None, None) => name.to_string(),
        }
    }
}

/// The one span of a task, whichever type its `task.id` has.
fn span_of_task(spans: &[Ended], id: u32) -> &Ended {
    let wanted = id.to_string();
    let found: Vec<&Ended> = spans
        .iter()
        .filter(|span| span.data.name == TASK_SPAN)
        .filter(|span| {
            span.value("task.id")
                .is_some_and(|id| id.as_str() == wanted)
        })
        .collect();
    match found.as_slice() {
        [span] => span,
        many => kit::symptom(format!(
            "task {id} should leave one span named {TASK_SPAN} with its task.id, and {} were \
             recorded:\n{}",
            many.len(),
            picture(spans)
        )),
    }
}

fn span_named<'a>(spans: &'a [Ended], name: &str) -> &'a Ended {
    let found: Vec<&Ended> = spans.iter().filter(|span| span.data.name == name).collect();
    match found.as_slice() {
        [span] => span,
        many => kit::symptom(format!(
            "there should be one span named {name}, and {} were recorded:\n{}",
            many.len(),
            picture(spans)
        )),
    }
}

fn order_of_ends(spans: &[Ended]) -> Vec<String> {
    spans.iter().map(Ended::label).collect()
}

fn attributes(span: &Ended) -> String {
    let all = span.data.attributes.iter();
    all.map(|attribute| format!("{} = {}", attribute.key, shown(&attribute.value)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::I64(number) => format!("{number} (int)"),
        Value::F64(number) => format!("{number} (double)"),
        Value::Bool(truth) => format!("{truth} (bool)"),
        Value::String(text) => format!("\"{text}\" (string)"),
        other => format!("{other} (neither int, double, bool nor string)"),
    }
}

/// The trees of all traces, in the order in which their spans began; long ones are cut.
fn picture(spans: &[Ended]) -> String {
    const MOST_LINES: usize = 18;
    fn below(spans: &[&Ended], parent: &Ended, depth: usize, lines: &mut Vec<String>) {
        for span in spans {
            if span.data.parent_span_id == parent.id() && span.trace() == parent.trace() {
                lines.push(format!("  {}{}", "  ".repeat(depth), span.label()));
                below(spans, span, depth + 1, lines);
            }
        }
    }
    let mut sorted: Vec<&Ended> = spans.iter().collect();
    sorted.sort_by_key(|span| span.began);
    let mut lines = Vec::new();
    for span in &sorted {
        let has_parent = sorted
            .iter()
            .any(|other| other.id() == span.data.parent_span_id && other.trace() == span.trace());
        if !has_parent {
            let orphan = span.data.parent_span_id != SpanId::INVALID;
            let note = if orphan { ", parent elsewhere" } else { "" };
            lines.push(format!("  {}{note}", span.label()));
            below(&sorted, span, 1, &mut lines);
        }
    }
    if lines.is_empty() {
        return "  (no spans)".to_owned();
    }
    let hidden = lines.len().saturating_sub(MOST_LINES);
    lines.truncate(MOST_LINES);
    if hidden > 0 {
        lines.push(format!("  ... and {hidden} more"));
    }
    lines.join("\n")
}

fn asked(collector: &Collector) -> String {
    let answered = collector.answered();
    if answered.is_empty() {
        return "  nothing".to_owned();
    }
    let line =
        |a: &kit::otlp::Answered| format!("  {} -> {}, {} spans", a.request, a.status, a.spans);
    answered.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn busy(id: u32, time: Duration) -> Task {
    Task::new(id, "thumbnail", async move {
        if !time.is_zero() {
            sleep(time).await;
        }
        Ok(())
    })
}

/// Done at once, while something that it has spawned goes on in its context, as it should.
fn leaving_work_behind(id: u32) -> Task {
    Task::new(id, "thumbnail", async {
        tokio::spawn(sleep(LONG / 2).with_context(Context::current()));
        Ok(())
    })
}

fn failing(id: u32, message: &str) -> Task {
    let message = message.to_owned();
    Task::new(id, "exif", async move { Err(TaskError(message)) })
}

fn request(tasks: impl IntoIterator<Item = Task>) -> Request {
    Request {
        parent: Context::new(),
        tasks: tasks.into_iter().collect(),
    }
}

fn submit(service: &Service, task: Task) -> Handle {
    let id = task.id;
    service
        .pool()
        .submit(task)
        .unwrap_or_else(|_| kit::symptom(format!("task {id} was rejected by a queue with room")))
}

fn counts(done: usize, failed: usize, rejected: usize) -> Response {
    Response {
        done,
        failed,
        rejected,
    }
}

/// Another service's span, as its headers tell it.
fn caller(trace: u128, sampled: bool) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(sampled);
    let trace = TraceId::from(0x5b8e_fff7_9803_8103_0000_0000_0000_0000 + trace);
    let span = SpanId::from(0xeee1_9b7e_c3c1_b174);
    SpanContext::new(trace, span, flags, true, TraceState::default())
}

fn service_to(endpoint: &str, workers: usize, capacity: usize) -> Arc<Service> {
    let provider = export::provider(endpoint, "photos-eu")
        .unwrap_or_else(|error| kit::symptom(format!("there is no provider, but {error}")));
    Arc::new(Service::start(provider, workers, capacity))
}

async fn shut_down(service: Arc<Service>) -> OTelSdkResult {
    match Arc::into_inner(service) {
        Some(service) => service.shutdown().await,
        None => kit::symptom("all requests were handled, and something still holds the service"),
    }
}

fn threads(count: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(count)
        .enable_all()
        .build()
        .expect("the system refuses a runtime")
}

/// A number below `limit`, the `index`-th that a seed gives.
fn below(seed: Seed, index: u64, limit: u64) -> u64 {
    seed.derive(index).0 % limit
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
