//! A bounded queue of tasks, and the workers that do them.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use opentelemetry::trace::{Span as _, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc, oneshot};
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
    queue: mpsc::Sender<Job>,
    workers: Vec<JoinHandle<()>>,
    tracer: SdkTracer,
}

#[derive(Debug)]
struct Job {
    task: Task,
    /// That of the submitter: a worker has none of its own.
    context: Context,
    submitted: Instant,
    tell: oneshot::Sender<Result<(), Failure>>,
}

impl Pool {
    /// Starts `workers` workers behind a queue in which `capacity` tasks can wait. To be called
    /// within a runtime.
    ///
    /// # Panics
    /// When `capacity` is zero.
    pub fn start(workers: usize, capacity: usize, tracer: SdkTracer) -> Self {
        let (queue, jobs) = mpsc::channel(capacity);
        let jobs = Arc::new(Mutex::new(jobs));
        let workers = (0..workers)
            .map(|_| tokio::spawn(work(Arc::clone(&jobs), tracer.clone())))
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
        let (tell, outcome) = oneshot::channel();
        let job = Job {
            task,
            context: Context::current(),
            submitted: Instant::now(),
            tell,
        };
        match self.queue.try_send(job) {
            Ok(()) => Ok(Handle(outcome)),
            Err(TrySendError::Full(job) | TrySendError::Closed(job)) => {
                let mut span = start_span(&self.tracer, &job);
                span.set_status(Status::error(QueueFull.to_string()));
                Err(QueueFull)
            }
        }
    }

    /// Takes no further tasks, and waits until those in the queue are done.
    pub async fn drain(self) {
        drop(self.queue);
        for worker in self.workers {
            let _ = worker.await;
        }
    }
}

async fn work(jobs: Arc<Mutex<mpsc::Receiver<Job>>>, tracer: SdkTracer) {
    loop {
        let job = jobs.lock().await.recv().await;
        match job {
            Some(job) => run(job, &tracer).await,
            None => return,
        }
    }
}

async fn run(job: Job, tracer: &SdkTracer) {
    let context = job.context.with_span(start_span(tracer, &job));
    let current = context.clone();
    let mut work = job.task.work;
    // The guard belongs to a thread: it lives as long as one poll.
    let work = std::future::poll_fn(move |waker| {
        let _current = current.clone().attach();
        work.as_mut().poll(waker)
    });
    let outcome = match tokio::spawn(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            context.span().record_error(&error);
            context.span().set_status(Status::error(error.to_string()));
            Err(Failure::Failed(error))
        }
        Err(ended) if ended.is_panic() => {
            let message = message_of(ended.into_panic().as_ref());
            context.span().set_status(Status::error(message.clone()));
            Err(Failure::Panicked(message))
        }
        Err(_) => Err(Failure::Lost),
    };
    context.span().end();
    let _ = job.tell.send(outcome);
}

fn start_span(tracer: &SdkTracer, job: &Job) -> Span {
    let wait = job.submitted.elapsed().as_millis();
    let mut span = tracer.start_with_context(TASK_SPAN, &job.context);
    span.set_attribute(KeyValue::new("task.id", i64::from(job.task.id)));
    span.set_attribute(KeyValue::new("task.type", job.task.kind.clone()));
    let wait = i64::try_from(wait).unwrap_or(i64::MAX);
    span.set_attribute(KeyValue::new("task.queue_wait_ms", wait));
    span
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
