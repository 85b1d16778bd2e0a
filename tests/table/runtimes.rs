//! Ways to run tasks.
#![allow(unreachable_pub, reason = "shared by test binaries")]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake, Waker};

/// Work without an answer.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs tasks to their end.
pub type Runtime = fn(Vec<Task>);

/// What tasks run on.
pub const RUNTIMES: [(&str, Runtime); 4] = [
    ("tokio, many threads", |tasks| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        on_tokio(&builder.worker_threads(3).build().expect("threads"), tasks);
    }),
    ("tokio, one thread", |tasks| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        on_tokio(&builder.build().expect("no threads"), tasks);
    }),
    ("smol", |tasks| {
        let executor = smol::Executor::new();
        smol::block_on(executor.run(async {
            let tasks: Vec<_> = tasks.into_iter().map(|task| executor.spawn(task)).collect();
            for task in tasks {
                task.await;
            }
        }));
    }),
    ("by hand", by_hand),
];

fn on_tokio(runtime: &tokio::runtime::Runtime, tasks: Vec<Task>) {
    runtime.block_on(async {
        let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
}

/// An executor without anything that it could do without: it polls who was woken.
fn by_hand(tasks: Vec<Task>) {
    struct Turn {
        task: usize,
        queue: mpsc::Sender<usize>,
    }
    impl Wake for Turn {
        fn wake(self: Arc<Self>) {
            // Who is woken after the end is not polled.
            let _ = self.queue.send(self.task);
        }
    }

    let (queue, turns) = mpsc::channel();
    let mut left = tasks.len();
    let mut tasks: Vec<_> = tasks.into_iter().map(Some).collect();
    for task in 0..tasks.len() {
        queue.send(task).expect("the other end is here");
    }
    while left > 0 {
        let turn = turns.recv().expect("this end is here, too");
        let Some(task) = &mut tasks[turn] else {
            continue;
        };
        let waker = Waker::from(Arc::new(Turn {
            task: turn,
            queue: queue.clone(),
        }));
        if task
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            tasks[turn] = None;
            left -= 1;
        }
    }
}
