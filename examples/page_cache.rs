//! A cache of pages that are slow to make, for tasks.
//!
//! A hit is `get`, which waits for no other task. A miss locks the key with
//! `lock_async`, checks again, and makes the page while it holds the lock, across an `.await`. So
//! each page is made once, and a task that is cancelled leaves no page and no lock. Readers of an
//! old page read on while a new one is made.
//!
//! Run it with `cargo run --release --example page_cache`.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use latchwork::VersionedMap;
use latchwork::cell::OwnedVersioned;

const PAGES: u32 = 8;
const TASKS: u32 = 200;

#[derive(Default)]
struct Cache {
    pages: VersionedMap<u32, String>,
    made: AtomicUsize,
    hits: AtomicUsize,
}

impl Cache {
    async fn page(&self, id: u32) -> OwnedVersioned<String> {
        loop {
            if let Some(page) = self.pages.get_owned(&id) {
                self.hits.fetch_add(1, Relaxed);
                return page;
            }
            let mut entry = self.pages.lock_async(&id).await;
            if entry.get().is_none() {
                entry.set(self.make(id).await);
                entry.commit();
            }
        }
    }

    /// As a query of a database would.
    async fn make(&self, id: u32) -> String {
        tokio::time::sleep(Duration::from_millis(2)).await;
        let number = self.made.fetch_add(1, Relaxed);
        format!("page {id}, made as number {number}")
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_time().build();
    runtime.expect("threads can be started").block_on(run());
}

async fn run() {
    let cache = Arc::new(Cache::default());

    // A request that is cancelled while it makes a page.
    let mut hasty = Box::pin(cache.page(0));
    let polled = poll_fn(|context| Poll::Ready(hasty.as_mut().poll(context))).await;
    assert!(polled.is_pending(), "a page takes milliseconds");
    drop(hasty);
    assert_eq!(cache.pages.len(), 0, "no page is half made");
    assert!(cache.pages.try_lock(&0).is_some(), "and no key is locked");
    let (made, hits) = (cache.made.load(Relaxed), cache.hits.load(Relaxed));

    let tasks = (0..TASKS).map(|n| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move { cache.page(n % PAGES).await.len() })
    });
    for task in tasks.collect::<Vec<_>>() {
        assert!(task.await.expect("no task panics") > 0);
    }
    let made = cache.made.load(Relaxed) - made;
    assert_eq!(made, PAGES as usize, "each page is made once");
    let hits = cache.hits.load(Relaxed) - hits;
    assert_eq!(hits, TASKS as usize);

    let before = cache.page(3).await;
    // A new page is made, and readers see the old one until it is committed.
    let mut entry = cache.pages.lock_async(&3).await;
    entry.set(cache.make(3).await);
    let during = cache.page(3).await;
    entry.commit();
    let after = cache.page(3).await;
    assert_eq!(before.version(), during.version());
    assert_eq!(after.version().get(), before.version().get() + 1);

    println!("{TASKS:>7} requests for {PAGES} pages");
    println!("{made:>7} pages were made");
    println!("{hits:>7} hits");
    println!(
        "page 3 went from version {} to {}",
        before.version(),
        after.version()
    );
}
