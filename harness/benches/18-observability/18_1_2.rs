//! 18.1.2: what instruments cost a pool, against the same pool without any.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use kit::paired::{self, Plan};
use prometheus::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use super::subject::pool::Pool;

/// Tasks in one call: enough that the call's own cost does not count.
const TASKS: u32 = 32;
const WORKERS: usize = 4;

pub fn main() {
    // One thread for both: what is compared is work, and not how threads happen to meet.
    let runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let bare = Bare::new(&runtime);
    let instrumented = {
        let _entered = runtime.enter();
        Pool::new(WORKERS, &Registry::new()).expect("an empty registry")
    };
    let done = Arc::new(Semaphore::new(0));

    let run_bare = || {
        runtime.block_on(async {
            for _ in 0..TASKS {
                bare.submit(task(Arc::clone(&done))).await;
            }
            done.acquire_many(TASKS)
                .await
                .expect("it stays open")
                .forget();
        });
    };
    let run_instrumented = || {
        runtime.block_on(async {
            for _ in 0..TASKS {
                let submitted = instrumented.submit(task(Arc::clone(&done))).await;
                submitted.expect("the pool is not shut down");
            }
            done.acquire_many(TASKS)
                .await
                .expect("it stays open")
                .forget();
        });
    };

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("32 tasks");
    group.sample_size(20);
    group.bench_function("bare", |bencher| bencher.iter(run_bare));
    group.bench_function("instrumented", |bencher| bencher.iter(run_instrumented));
    group.finish();
    criterion.final_summary();

    let comparison = Plan::default().pairs(600).run(run_bare, run_instrumented);
    paired::report("overhead", comparison);
}

/// A task of about 50 microseconds, twenty times shorter than a thumbnail takes.
async fn task<E>(done: Arc<Semaphore>) -> Result<(), E> {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in 0..40_000_u64 {
        hash = (hash ^ black_box(byte)).wrapping_mul(0x100_0000_01B3);
    }
    black_box(hash);
    done.add_permits(1);
    Ok(())
}

/// The pool without instruments, as the learner found it.
struct Bare {
    queue: async_channel::Sender<BareTask>,
}

type BareTask = std::pin::Pin<Box<dyn Future<Output = Result<(), ()>> + Send>>;

impl Bare {
    fn new(runtime: &Runtime) -> Self {
        let (queue, tasks) = async_channel::bounded::<BareTask>(WORKERS * 10);
        for _ in 0..WORKERS {
            let tasks = tasks.clone();
            runtime.spawn(async move {
                while let Ok(task) = tasks.recv().await {
                    let _ = tokio::spawn(task).await;
                }
            });
        }
        Bare { queue }
    }

    async fn submit(&self, task: impl Future<Output = Result<(), ()>> + Send + 'static) {
        self.queue
            .send(Box::pin(task))
            .await
            .expect("the pool is not shut down");
    }
}
