//! A pool of workers behind a bounded queue.

use std::future::Future;
use std::pin::Pin;

use async_channel::{Receiver, Sender, WeakReceiver};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How many tasks may wait for each worker.
const QUEUE_PER_WORKER: usize = 10;

/// Why a task did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not run the task: {0}")]
pub struct TaskError(pub String);

/// The pool takes no more tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not submit the task: the pool has been shut down")]
pub struct Closed;

type Task = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>>;

/// A fixed number of workers, each of which runs one task at a time.
///
/// It is seen through these metrics, registered when it is made:
///
/// | name | type | what it says |
/// |---|---|---|
/// | `worker_pool_queue_size` | gauge | tasks that are in the queue at this moment; one whose submitter still waits for room is not |
/// | `worker_pool_workers_active` | gauge | workers that are running a task at this moment |
/// | `worker_pool_workers_total` | gauge | workers that there are |
/// | `worker_pool_tasks_total` | counter | tasks that have ended, by `status`: `ok`, `error` or `panic`; all three are there from the start |
/// | `worker_pool_task_duration_seconds` | histogram | how long tasks ran, however they ended and without their time in the queue; bounds at 1, 5, 10, 25, 50, 100, 250, 500 and 1,000 ms |
///
/// Time is that of [`tokio::time::Instant`], so that tests own the clock.
#[derive(Debug)]
pub struct Pool {
    queue: Sender<Task>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `workers` workers on the current runtime. The queue has room for ten tasks for each.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    ///
    /// # Panics
    /// When `workers` is 0, or outside of a runtime.
    pub fn new(workers: usize, registry: &Registry) -> Result<Self, prometheus::Error> {
        assert!(workers > 0, "a pool has one worker at least");
        let (queue, tasks) = async_channel::bounded(workers * QUEUE_PER_WORKER);
        let metrics = Metrics::register(workers, &tasks, registry)?;
        let workers = (0..workers)
            .map(|_| tokio::spawn(work(tasks.clone(), metrics.clone())))
            .collect();
        Ok(Pool { queue, workers })
    }

    /// Puts a task into the queue; waits for room while it is full.
    ///
    /// # Errors
    /// When the pool has been shut down.
    pub async fn submit<F>(&self, task: F) -> Result<(), Closed>
    where
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        self.queue.send(Box::pin(task)).await.map_err(|_| Closed)
    }

    /// Takes no more tasks, and waits until those in the queue have run.
    pub async fn shutdown(self) {
        self.queue.close();
        for worker in self.workers {
            // A worker ends by itself; one that was canceled has nothing left to wait for.
            let _ = worker.await;
        }
    }
}

async fn work(tasks: Receiver<Task>, metrics: Metrics) {
    while let Ok(task) = tasks.recv().await {
        metrics.active.inc();
        let began = Instant::now();
        // A task of its own, so that a panic ends the task and not the worker.
        let outcome = tokio::spawn(task).await;
        metrics.duration.observe(began.elapsed().as_secs_f64());
        match outcome {
            Ok(Ok(())) => metrics.ok.inc(),
            Ok(Err(_)) => metrics.error.inc(),
            Err(_) => metrics.panic.inc(),
        }
        metrics.active.dec();
    }
}

/// What a worker touches while it works: atomics, and no map to look them up in.
#[derive(Clone)]
struct Metrics {
    active: IntGauge,
    duration: Histogram,
    ok: IntCounter,
    error: IntCounter,
    panic: IntCounter,
}

impl Metrics {
    fn register(
        workers: usize,
        tasks: &Receiver<Task>,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let total = IntGauge::new(
            "worker_pool_workers_total",
            "Workers that the pool is configured with",
        )?;
        total.set(workers as i64);
        let active = IntGauge::new(
            "worker_pool_workers_active",
            "Workers that are running a task",
        )?;
        let ended = IntCounterVec::new(
            Opts::new("worker_pool_tasks_total", "Tasks that have ended"),
            &["status"],
        )?;
        let duration = Histogram::with_opts(
            HistogramOpts::new("worker_pool_task_duration_seconds", "How long tasks ran")
                .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]),
        )?;
        let queue = QueueSize {
            tasks: tasks.downgrade(),
            gauge: IntGauge::new("worker_pool_queue_size", "Tasks that wait in the queue")?,
        };
        registry.register(Box::new(total))?;
        registry.register(Box::new(active.clone()))?;
        registry.register(Box::new(ended.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(queue))?;
        Ok(Metrics {
            active,
            duration,
            ok: ended.with_label_values(&["ok"]),
            error: ended.with_label_values(&["error"]),
            panic: ended.with_label_values(&["panic"]),
        })
    }
}

/// The length of the queue, read when it is scraped: a gauge that is moved at both ends of the
/// queue drifts with every submitter that is canceled in between, and this one cannot.
struct QueueSize {
    tasks: WeakReceiver<Task>,
    gauge: IntGauge,
}

impl Collector for QueueSize {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let waiting = self.tasks.upgrade().map_or(0, |tasks| tasks.len());
        self.gauge.set(waiting as i64);
        self.gauge.collect()
    }
}
