//! What the code under test traces and logs, kept for a check to look at.
//!
//! Under `cargo test` several checks share a process, so whatever is captured has to be told apart
//! by where it happens:
//!
//! - [`during`] captures on this thread, for as long as the body runs. It is what a check wants
//!   nearly always: a runtime of one thread, as [`crate::time::paused`] builds it, runs all of its
//!   tasks on the thread that entered it, so `during(|| time::paused(async { .. }))` sees what
//!   spawned tasks trace as well.
//! - [`during_async`] is the same for a future, within a runtime of one thread.
//! - [`Capture::on_this_thread`] adds another thread to a capture: one that the check starts, or,
//!   by the runtime builder's `on_thread_start`, all workers of a runtime of several threads.
//! - [`everywhere`] also captures on threads that the learner's code starts by itself. They belong
//!   to no check that anyone could tell, so the process runs only one body under it at a time, and
//!   what other checks trace meanwhile *without a capture of their own* would be mixed in: where one
//!   check of a file uses it, let all that trace do so, or use [`during`].
//!
//! All levels are captured, and all targets: pick yours with [`Captured::of_target`], since Tokio
//! and its like trace too. Lines that a learner's own subscriber writes are for [`Lines`].
//!
//! Not a stand-in for OpenTelemetry: no trace ids, no sampling, no export.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event as TracingEvent, Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The value of a field, by the type with which it was recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    /// Whole numbers of all widths and signs.
    Int(i128),
    Float(f64),
    /// A text that was recorded as one: `user = "ada"`.
    Text(String),
    /// What was recorded by its `Display` or `Debug` form (`%x`, `?x`), or is an error.
    Formatted(String),
}

impl Value {
    /// The text, recorded as one or formatted.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Formatted(text) => Some(text),
            _ => None,
        }
    }

    /// The number, whole or not.
    pub fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "telemetry is far below 2^53")]
            Value::Int(whole) => Some(*whole as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(truth) => truth.fmt(f),
            Value::Int(whole) => whole.fmt(f),
            Value::Float(number) => number.fmt(f),
            Value::Text(text) | Value::Formatted(text) => text.fmt(f),
        }
    }
}

/// Fields by name.
pub type Fields = BTreeMap<String, Value>;

/// A span, as an index into [`Captured::spans`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanIndex(usize);

/// A point in the order in which everything within one capture happened; across threads, in which
/// it was noted down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(u64);

/// A span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub index: SpanIndex,
    pub name: String,
    pub target: String,
    pub level: Level,
    /// Those given at its creation and those recorded later.
    pub fields: Fields,
    /// The span around it, given or by context.
    pub parent: Option<SpanIndex>,
    pub follows_from: Vec<SpanIndex>,
    pub opened: Moment,
    /// `None` for a span that was still open when the capture was read.
    pub closed: Option<Moment>,
    /// How often it was entered: for an async block, once a poll.
    pub entered: usize,
    /// How often it was left; fewer than `entered` while it is held open.
    pub exited: usize,
}

impl Span {
    /// A field by its name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub at: Moment,
    pub target: String,
    pub level: Level,
    /// The text of the event; empty when it has none.
    pub message: String,
    /// Its own fields, without the message.
    pub fields: Fields,
    /// The spans around it, from the outermost to the innermost.
    pub spans: Vec<SpanIndex>,
    /// What the fields of these spans were at that time; the inner span wins.
    pub inherited: Fields,
}

impl Event {
    /// A field by its name: its own, or else one of the spans around it.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).or_else(|| self.inherited.get(name))
    }
}

/// What was captured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Captured {
    /// In the order in which they were opened.
    pub spans: Vec<Span>,
    /// In the order in which they happened.
    pub events: Vec<Event>,
    moments: u64,
}

impl Captured {
    /// The spans of one name.
    pub fn spans_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.name == name)
    }

    /// The events of one message.
    pub fn events_saying<'a>(&'a self, message: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events
            .iter()
            .filter(move |event| event.message == message)
    }

    /// The events that a crate or module emitted, by the start of their target.
    pub fn of_target<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Event> {
        self.events
            .iter()
            .filter(move |event| event.target.starts_with(prefix))
    }

    /// A span by its index.
    ///
    /// # Panics
    /// When the index is of another capture, and larger than any of this.
    pub fn span(&self, index: SpanIndex) -> &Span {
        &self.spans[index.0]
    }

    /// The span around `span`.
    pub fn parent(&self, span: &Span) -> Option<&Span> {
        span.parent.map(|parent| self.span(parent))
    }

    /// The spans directly within `span`, in the order in which they were opened.
    pub fn children<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = &'a Span> {
        self.spans
            .iter()
            .filter(move |child| child.parent == Some(span.index))
    }

    /// The names of the spans around an event, from the outermost to the innermost.
    pub fn path(&self, event: &Event) -> Vec<&str> {
        event
            .spans
            .iter()
            .map(|&index| self.span(index).name.as_str())
            .collect()
    }

    fn now(&mut self) -> Moment {
        self.moments += 1;
        Moment(self.moments)
    }
}

/// A capture that is going on. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Capture {
    store: Store,
    dispatch: Dispatch,
}

type Store = Arc<Mutex<Captured>>;

fn lock(store: &Mutex<Captured>) -> MutexGuard<'_, Captured> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Capture {
    /// A capture that sees nothing yet.
    pub fn new() -> Self {
        let store = Store::default();
        let layer = Recorder(Route::To(Arc::clone(&store)));
        Capture {
            store,
            dispatch: Dispatch::new(Registry::default().with(layer)),
        }
    }

    /// Captures on this thread until the guard is dropped.
    ///
    /// For the workers of a runtime, which live as long as it does, keep the guard for ever:
    /// `builder.on_thread_start(move || std::mem::forget(capture.on_this_thread()))`.
    #[must_use = "the capture ends when the guard is dropped"]
    pub fn on_this_thread(&self) -> DefaultGuard {
        tracing::dispatcher::set_default(&self.dispatch)
    }

    /// What was captured so far.
    pub fn read(&self) -> Captured {
        lock(&self.store).clone()
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self::new()
    }
}

/// Captures what the body traces on this thread. A subscriber that the body sets for a scope of its
/// own takes precedence there.
pub fn during<T>(body: impl FnOnce() -> T) -> (T, Captured) {
    let capture = Capture::new();
    let guard = capture.on_this_thread();
    let result = body();
    drop(guard);
    (result, capture.read())
}

/// Captures what a future traces, and the tasks that it spawns, within a runtime of one thread.
///
/// The capture is that of the thread from the first poll to the end, so all that runs on the thread
/// meanwhile is in it: await one at a time. On a runtime of several threads, tasks on other workers
/// are not seen; the returned future is not `Send`, so that it can at least not be spawned there.
pub async fn during_async<F: Future>(future: F) -> (F::Output, Captured) {
    let capture = Capture::new();
    let guard = capture.on_this_thread();
    let result = future.await;
    drop(guard);
    (result, capture.read())
}

/// Captures what any thread of the process traces that has no capture or subscriber of its own.
///
/// Bodies run one after another, whichever thread they are called on; a body must not call this
/// again. What a span of an earlier capture still does, such as closing late, belongs to that one.
///
/// # Panics
/// When the learner's code has installed a global subscriber: a library must leave that to `main`.
pub fn everywhere<T>(body: impl FnOnce() -> T) -> (T, Captured) {
    static TURN: Mutex<()> = Mutex::new(());
    static INSTALLED: OnceLock<bool> = OnceLock::new();

    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let installed = *INSTALLED.get_or_init(|| {
        let layer = Recorder(Route::ToActive);
        tracing::subscriber::set_global_default(Registry::default().with(layer)).is_ok()
    });
    assert!(
        installed,
        "could not capture: a global tracing subscriber is installed already; a library leaves \
         that to the program's main function"
    );
    let store = Store::default();
    let active = Active::set(Arc::clone(&store));
    let result = body();
    drop(active);
    let captured = lock(&store).clone();
    (result, captured)
}

/// The capture of the body that runs under [`everywhere`].
static ACTIVE: Mutex<Option<Store>> = Mutex::new(None);

/// Ends the capture also when the body panics.
struct Active;

impl Active {
    fn set(store: Store) -> Self {
        *ACTIVE.lock().unwrap_or_else(PoisonError::into_inner) = Some(store);
        Active
    }

    fn store() -> Option<Store> {
        ACTIVE
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        *ACTIVE.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

enum Route {
    To(Store),
    ToActive,
}

struct Recorder(Route);

/// Kept with each span by the registry: ids are used again once a span is closed, and a span stays
/// with the capture in which it was opened.
struct Recorded {
    store: Store,
    index: SpanIndex,
}

impl Recorder {
    fn store(&self) -> Option<Store> {
        match &self.0 {
            Route::To(store) => Some(Arc::clone(store)),
            Route::ToActive => Active::store(),
        }
    }

    fn on_span<S>(id: &Id, context: &Context<'_, S>, change: impl FnOnce(&mut Captured, SpanIndex))
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some((store, index)) = recorded(id, context) else {
            return;
        };
        change(&mut lock(&store), index);
    }
}

fn recorded<S>(id: &Id, context: &Context<'_, S>) -> Option<(Store, SpanIndex)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let span = context.span(id)?;
    let extensions = span.extensions();
    let recorded = extensions.get::<Recorded>()?;
    Some((Arc::clone(&recorded.store), recorded.index))
}

impl<S> Layer<S> for Recorder
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // Values are formatted by the learner's code, which may trace or panic: not under a lock.
        let mut collected = Collected::default();
        attributes.record(&mut collected);
        let span = context.span(id).expect("the registry has just opened it");
        let parent = span
            .parent()
            .and_then(|parent| recorded(&parent.id(), &context));
        let Some(store) = parent
            .as_ref()
            .map(|(store, _)| Arc::clone(store))
            .or_else(|| self.store())
        else {
            return;
        };
        let metadata = attributes.metadata();
        let index = {
            let mut captured = lock(&store);
            let index = SpanIndex(captured.spans.len());
            let opened = captured.now();
            captured.spans.push(Span {
                index,
                name: metadata.name().to_owned(),
                target: metadata.target().to_owned(),
                level: *metadata.level(),
                fields: collected.into_fields(),
                parent: parent.map(|(_, index)| index),
                follows_from: Vec::new(),
                opened,
                closed: None,
                entered: 0,
                exited: 0,
            });
            index
        };
        span.extensions_mut().insert(Recorded { store, index });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut collected = Collected::default();
        values.record(&mut collected);
        Self::on_span(id, &context, |captured, index| {
            captured.spans[index.0]
                .fields
                .extend(collected.into_fields());
        });
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let cause = recorded(follows, &context);
        let effect = recorded(id, &context);
        if let (Some((store, effect)), Some((others, cause))) = (effect, cause)
            && Arc::ptr_eq(&store, &others)
        {
            lock(&store).spans[effect.0].follows_from.push(cause);
        }
    }

    fn on_event(&self, event: &TracingEvent<'_>, context: Context<'_, S>) {
        let mut collected = Collected::default();
        event.record(&mut collected);
        let around: Vec<(Store, SpanIndex)> = context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
            .filter_map(|span| recorded(&span.id(), &context))
            .collect();
        let Some(store) = around
            .last()
            .map(|(store, _)| Arc::clone(store))
            .or_else(|| self.store())
        else {
            return;
        };
        let metadata = event.metadata();
        let mut captured = lock(&store);
        let spans: Vec<SpanIndex> = around
            .iter()
            .filter(|(other, _)| Arc::ptr_eq(other, &store))
            .map(|(_, index)| *index)
            .collect();
        let inherited = spans
            .iter()
            .flat_map(|&index| captured.span(index).fields.clone())
            .collect();
        let at = captured.now();
        captured.events.push(Event {
            at,
            target: metadata.target().to_owned(),
            level: *metadata.level(),
            message: collected.message,
            fields: collected.fields,
            spans,
            inherited,
        });
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Self::on_span(id, &context, |captured, index| {
            captured.spans[index.0].entered += 1;
        });
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Self::on_span(id, &context, |captured, index| {
            captured.spans[index.0].exited += 1;
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Self::on_span(&id, &context, |captured, index| {
            let now = captured.now();
            captured.spans[index.0].closed = Some(now);
        });
    }
}

#[derive(Default)]
struct Collected {
    message: String,
    fields: Fields,
}

impl Collected {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = value.to_string();
        } else {
            self.fields.insert(field.name().to_owned(), value);
        }
    }

    /// The fields of a span, for which `message` is a name like any other.
    fn into_fields(mut self) -> Fields {
        if !self.message.is_empty() {
            self.fields
                .insert("message".to_owned(), Value::Formatted(self.message));
        }
        self.fields
    }
}

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::Formatted(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(value.to_owned()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Value::Formatted(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Int(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Int(value.into()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, Value::Int(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        let value =
            i128::try_from(value).map_or_else(|_| Value::Formatted(value.to_string()), Value::Int);
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Float(value));
    }
}

/// The lines that a learner's own subscriber writes, in memory.
///
/// ```
/// use kit::capture::Lines;
///
/// let lines = Lines::default();
/// let subscriber = tracing_subscriber::fmt().json().with_writer(lines.clone()).finish();
/// tracing::subscriber::with_default(subscriber, || tracing::info!(user = "ada", "hello"));
/// let objects = lines.json().unwrap();
/// assert_eq!(objects[0]["fields"]["user"], "ada");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// All that was written so far; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// The lines as JSON values, one a line; empty lines are passed over.
    ///
    /// # Errors
    /// With the first line that is none, for the learner.
    pub fn json(&self) -> Result<Vec<serde_json::Value>, String> {
        self.text()
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                serde_json::from_str(line).map_err(|error| {
                    let start: String = line.chars().take(60).collect();
                    format!(
                        "line {} of the log is not JSON ({error}): {start}",
                        index + 1
                    )
                })
            })
            .collect()
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    use tracing::{debug, error, info, info_span, trace, warn};

    #[test]
    fn events_keep_level_message_typed_fields_and_the_fields_around_them() {
        let (result, captured) = during(|| {
            let request = info_span!("request", id = 7_u64, user = tracing::field::Empty);
            let _request = request.enter();
            request.record("user", "ada");
            let _query = info_span!("query", id = 8_u64, slow = true).entered();
            let error = std::io::Error::other("disk full");
            warn!(
                took = 0.25,
                code = -3_i64,
                what = %"shown",
                debug = ?Some(1),
                error = &error as &dyn std::error::Error,
                "could not store {}",
                "it"
            );
            "done"
        });
        assert_eq!(result, "done");
        let event = &captured.events[0];
        assert_eq!(event.level, Level::WARN);
        assert_eq!(event.message, "could not store it");
        assert!(event.target.starts_with("kit::capture"));
        assert_eq!(captured.path(event), ["request", "query"]);
        for (name, value) in [
            ("took", Value::Float(0.25)),
            ("code", Value::Int(-3)),
            ("what", Value::Formatted("shown".into())),
            ("debug", Value::Formatted("Some(1)".into())),
            ("error", Value::Formatted("disk full".into())),
            ("user", Value::Text("ada".into())),
            ("id", Value::Int(8)),
            ("slow", Value::Bool(true)),
        ] {
            assert_eq!(event.field(name), Some(&value), "{name}");
        }
        assert_eq!(event.fields.get("user"), None);
    }

    #[test]
    fn spans_keep_their_parents_causes_visits_and_order() {
        let ((), captured) = during(|| {
            let outer = info_span!("outer");
            let inner = info_span!(parent: &outer, "inner");
            let after = info_span!("after");
            after.follows_from(&inner);
            for _ in 0..3 {
                inner.in_scope(|| trace!("in"));
            }
            drop((outer, inner));
            std::mem::forget(after);
        });
        let names: Vec<&str> = captured.spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["outer", "inner", "after"]);
        let [outer, inner, after] = &captured.spans[..] else {
            panic!("three spans")
        };
        assert_eq!(captured.parent(inner), Some(outer));
        assert_eq!(captured.children(outer).count(), 1);
        assert_eq!((inner.entered, inner.exited), (3, 3));
        assert_eq!(after.follows_from, [inner.index]);
        assert_eq!(after.closed, None);
        // A parent stays open for as long as its children are.
        assert!(inner.closed.unwrap() < outer.closed.unwrap());
        assert!(outer.opened < inner.opened);
    }

    #[test]
    fn captures_on_several_threads_at_once_do_not_mix() {
        thread::scope(|scope| {
            for worker in 0..8_u64 {
                scope.spawn(move || {
                    let ((), captured) = during(|| {
                        for _ in 0..200 {
                            let _span = info_span!("work", worker).entered();
                            info!(worker, "step");
                        }
                    });
                    assert_eq!(captured.events.len(), 200);
                    assert_eq!(captured.spans.len(), 200);
                    let own = Some(&Value::Int(worker.into()));
                    assert!(
                        captured
                            .events
                            .iter()
                            .all(|event| event.field("worker") == own)
                    );
                    assert!(captured.spans.iter().all(|span| span.closed.is_some()));
                });
            }
        });
    }

    #[test]
    fn a_capture_within_another_ends_with_its_body() {
        let ((), outer) = during(|| {
            let ((), inner) = during(|| info!("inside"));
            assert_eq!(inner.events.len(), 1);
            info!("after");
        });
        let messages: Vec<&str> = outer.events.iter().map(|event| &*event.message).collect();
        assert_eq!(messages, ["after"]);
    }

    #[test]
    fn a_thread_is_added_to_a_capture_by_its_handle() {
        let capture = Capture::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = capture.on_this_thread();
                info!("seen");
            });
            scope.spawn(|| info!("not seen"));
        });
        let captured = capture.read();
        assert_eq!(captured.events.len(), 1);
        assert_eq!(captured.events_saying("seen").count(), 1);
    }

    #[test]
    fn everywhere_sees_threads_that_the_code_starts_and_keeps_captures_apart() {
        thread::scope(|scope| {
            for round in 0..4_u64 {
                scope.spawn(move || {
                    let ((), captured) = everywhere(|| {
                        thread::spawn(move || error!(target: "everywhere", round, "failed"))
                            .join()
                            .unwrap();
                        let ((), own) = during(|| debug!(target: "everywhere", "apart"));
                        assert_eq!(own.of_target("everywhere").count(), 1);
                    });
                    let seen: Vec<&Event> = captured.of_target("everywhere").collect();
                    assert_eq!(seen.len(), 1, "{seen:?}");
                    assert_eq!(seen[0].field("round"), Some(&Value::Int(round.into())));
                });
            }
        });
    }

    #[test]
    fn a_value_whose_formatting_traces_or_panics_does_no_harm() {
        struct Hostile;
        impl fmt::Debug for Hostile {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                info!("formatting");
                let _span = info_span!("formatting").entered();
                f.write_str("hostile")
            }
        }
        let ((), captured) = during(|| {
            let _span = info_span!("outer", value = ?Hostile).entered();
            info!(value = ?Hostile, "hello");
        });
        let hello = captured.events_saying("hello").next().expect("captured");
        assert_eq!(
            hello.field("value"),
            Some(&Value::Formatted("hostile".into()))
        );
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn spawned_tasks_of_a_runtime_of_one_thread_are_captured() {
        use tracing::Instrument as _;

        let body = || async {
            tokio::spawn(
                async {
                    tokio::task::yield_now().await;
                    info!("in a task");
                }
                .instrument(info_span!("task")),
            )
            .await
            .expect("the task ends");
        };
        let ((), by_thread) = during(|| crate::time::paused(body()));
        let ((), by_future) = crate::time::paused(during_async(body()));
        for captured in [by_thread, by_future] {
            let event = captured
                .events_saying("in a task")
                .next()
                .expect("captured");
            assert_eq!(captured.path(event), ["task"]);
            // Two polls, and one visit on drop.
            let task = captured.spans_named("task").next().expect("captured");
            assert_eq!((task.entered, task.exited), (3, 3));
        }
    }

    #[test]
    fn log_lines_are_read_as_json_and_a_bad_one_is_shown() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            info!(status = 503, path = "a\nb\"c", "served");
        });
        let objects = lines.json().unwrap();
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[0]["level"], "INFO");
        assert_eq!(objects[0]["fields"]["status"], 503);
        assert_eq!(objects[0]["fields"]["path"], "a\nb\"c");

        io::Write::write_all(&mut lines.clone(), b"plain text\n").unwrap();
        let error = lines.json().unwrap_err();
        assert!(
            error.starts_with("line 2 of the log is not JSON"),
            "{error}"
        );
        assert!(error.ends_with("plain text"), "{error}");
    }
}
