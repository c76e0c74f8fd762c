//! A bounded queue of tasks, and the workers that do them.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use opentelemetry::trace::{FutureExt as _, Span as _, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The name of a task's span.
pub const TASK_SPAN: &str = "process_task";

/// Why a task failed, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TaskError(pub String);

/// Why there is no result of a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It ended with an error.
    #[error("{0}")]
    Failed(TaskError),
    /// It panicked, with this message.
    #[error("the task panicked: {0}")]
    Panicked(String),
    /// The pool went away before the task was done.
    #[error("the pool went away before the task was done")]
    Lost,
}

/// So many tasks wait already that no further one is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct QueueFull;

type Work = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>>;

/// Something to be done by a worker.
pub struct Task {
    /// Its number.
    pub id: u32,
    /// What kind of work it is, such as `thumbnail`.
    pub kind: String,
    work: Work,
}

impl Task {
    /// A task that runs `work` to its end.
    pub fn new<F>(id: u32, kind: &str, work: F) -> Self
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        Task {
            id,
            kind: kind.to_owned(),
            work: Box::pin(work),
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The result of a task, to be waited for. The task is done whether or not somebody waits.
#[derive(Debug)]
pub struct Handle(oneshot::Receiver<Result<(), Failure>>);

impl Handle {
    /// Waits until the task is done. Its span has ended by then.
    ///
    /// # Errors
    /// When the task failed, panicked, or was never done.
    pub async fn outcome(self) -> Result<(), Failure> {
        self.0.await.unwrap_or(Err(Failure::Lost))
    }
}

/// Workers behind a bounded queue. Tasks are taken up in the order in which they were submitted.
///
/// Each task leaves one span, named [`TASK_SPAN`]. Its parent is the span that was current where
/// the task was submitted; without one it is the root of a trace of its own. It begins when a
/// worker takes up the task, ends when the task is done, and has these attributes:
///
/// | attribute | type | |
/// |---|---|---|
/// | `task.id` | int | [`Task::id`] |
/// | `task.type` | string | [`Task::kind`] |
/// | `task.queue_wait_ms` | int | whole milliseconds, by Tokio's clock, from the submission to the moment at which a worker takes up the task |
///
/// A task that fails, panics or is rejected gives its span the status `Error`, with the message of
/// the error or of the panic as description: a [`TaskError`] or [`QueueFull`] word for word. The
/// span of a rejected task begins and ends at once, after a wait of 0.
///
/// While a task runs, the current context is the one of its submission, baggage included, with the
/// task's span as the current span.
#[derive(Debug)]
pub struct Pool {
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    tracer: SdkTracer,
}

/// A task with everything around it: its span, its context, the answer to whoever waits. Workers
/// only poll it.
type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    capacity: usize,
    /// A permit for each job; closed when no further ones come.
    waiting: Semaphore,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("waiting", &self.lock().len())
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Starts `workers` workers behind a queue in which `capacity` tasks can wait. To be called
    /// within a runtime.
    ///
    /// # Panics
    /// When `capacity` is zero.
    pub fn start(workers: usize, capacity: usize, tracer: SdkTracer) -> Self {
        assert!(capacity > 0, "a queue needs room for one task at least");
        let queue = Arc::new(Queue {
            jobs: Mutex::default(),
            capacity,
            waiting: Semaphore::new(0),
        });
        let workers = (0..workers)
            .map(|_| tokio::spawn(work(Arc::clone(&queue))))
            .collect();
        Pool {
            queue,
            workers,
            tracer,
        }
    }

    /// Puts a task into the queue.
    ///
    /// # Errors
    /// When the queue is full. The task is dropped then.
    pub fn submit(&self, task: Task) -> Result<Handle, QueueFull> {
        let mut jobs = self.queue.lock();
        let parent = Context::current();
        let span = self.tracer.span_builder(TASK_SPAN).with_attributes([
            KeyValue::new("task.id", i64::from(task.id)),
            KeyValue::new("task.type", task.kind),
        ]);
        if jobs.len() >= self.queue.capacity {
            drop(jobs);
            let mut span = span.start_with_context(&self.tracer, &parent);
            span.set_status(Status::error(QueueFull.to_string()));
            span.set_attribute(KeyValue::new("task.queue_wait_ms", 0));
            return Err(QueueFull);
        }
        let (tell, outcome) = oneshot::channel();
        let tracer = self.tracer.clone();
        let submitted = Instant::now();
        jobs.push_back(Box::pin(async move {
            let wait = submitted.elapsed().as_millis() as i64;
            let mut span = span.start_with_context(&tracer, &parent);
            span.set_attribute(KeyValue::new("task.queue_wait_ms", wait));
            let context = parent.with_span(span);
            let outcome = CatchPanic(task.work).with_context(context.clone()).await;
            match &outcome {
                Ok(()) => context.span().set_status(Status::Ok),
                Err(failure) => {
                    context.span().record_error(failure);
                    context
                        .span()
                        .set_status(Status::error(failure.to_string()));
                }
            }
            context.span().end();
            let _ = tell.send(outcome);
        }));
        self.queue.waiting.add_permits(1);
        Ok(Handle(outcome))
    }

    /// Takes no further tasks, and waits until those in the queue are done.
    pub async fn drain(self) {
        self.queue.waiting.close();
        for worker in self.workers {
            let _ = worker.await;
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.lock().clear();
    }
}

async fn work(queue: Arc<Queue>) {
    loop {
        let open = match queue.waiting.acquire().await {
            Ok(permit) => {
                permit.forget();
                true
            }
            Err(_) => false,
        };
        let job = queue.lock().pop_front();
        match job {
            Some(job) => job.await,
            None if open => {}
            None => return,
        }
    }
}

/// Turns a panic of the work into its outcome.
struct CatchPanic(Work);

impl Future for CatchPanic {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, waker: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let work = self.0.as_mut();
        match catch_unwind(AssertUnwindSafe(|| work.poll(waker))) {
            Ok(polled) => polled.map_err(Failure::Failed),
            Err(payload) => Poll::Ready(Err(Failure::Panicked(message_of(payload.as_ref())))),
        }
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a payload that is not text".to_owned()
    }
}
