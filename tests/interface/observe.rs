//! Features `metrics` and `tracing`: a wait is told to both, an uncontended lock to neither.
#![cfg(all(feature = "metrics", feature = "tracing"))]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use crate::common::tasks::poll;
use latchwork::{LockTable, session::Policy};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// How often each metric was told something.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<String, Arc<Count>>>>);

#[derive(Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    fn absolute(&self, _: u64) {
        unreachable!("counts go up by steps");
    }
}

impl HistogramFn for Count {
    fn record(&self, seconds: f64) {
        assert!(seconds >= 0.0);
        self.0.fetch_add(1, Relaxed);
    }
}

impl Told {
    fn slot(&self, name: &str) -> Arc<Count> {
        let mut all = self.0.lock().unwrap();
        all.entry(name.to_owned()).or_default().clone()
    }

    fn times(&self, name: &str) -> u64 {
        self.slot(name).0.load(Relaxed)
    }
}

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.slot(key.name()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.slot(key.name()))
    }
}

/// Counts spans by name.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<&'static str>>>);

impl tracing::Subscriber for Spans {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut all = self.0.lock().unwrap();
        all.push(span.metadata().name());
        tracing::span::Id::from_u64(all.len() as u64)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_wait_is_told_and_a_free_key_is_not() {
    let told = Told::default();
    metrics::set_global_recorder(told.clone()).expect("the only recorder of this process");
    let spans = Spans::default();
    tracing::subscriber::set_global_default(spans.clone()).expect("the only subscriber");

    let table: LockTable<u64> = LockTable::new();
    drop(table.lock(&1));
    drop(table.lock_all([
        (&1, latchwork::Mode::Exclusive),
        (&2, latchwork::Mode::Shared),
    ]));
    assert!(told.0.lock().unwrap().is_empty(), "nobody waited");
    assert!(spans.0.lock().unwrap().is_empty(), "nobody waited");

    let guard = table.lock(&1);
    assert!(table.try_lock_for(&1, Duration::from_micros(500)).is_none());
    assert_eq!(told.times("latchwork_lock_gave_up_total"), 1);
    assert_eq!(told.times("latchwork_lock_waits_total"), 0);

    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(table.lock(&1)));
        while table.stats().waiting == 0 {
            std::thread::yield_now();
        }
        drop(guard);
        waiter.join().unwrap();
    });
    assert_eq!(told.times("latchwork_lock_waits_total"), 1);
    assert_eq!(told.times("latchwork_lock_wait_seconds"), 1);
    assert_eq!(
        spans.0.lock().unwrap().as_slice(),
        ["latchwork.lock.wait"; 2]
    );

    // A session is told of as anybody is.
    let guard = table.lock(&1);
    let late = Policy::Timeout(Duration::ZERO);
    assert!(table.session().policy(late).lock(&1).is_err());
    drop(guard);
    assert_eq!(told.times("latchwork_lock_gave_up_total"), 2);
    assert_eq!(
        spans.0.lock().unwrap().as_slice(),
        ["latchwork.lock.wait"; 3]
    );

    let guard = table.lock(&1);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| table.session().lock(&1));
        while table.stats().waiting == 0 {
            std::thread::yield_now();
        }
        drop(guard);
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(told.times("latchwork_lock_waits_total"), 2);
    assert_eq!(told.times("latchwork_lock_wait_seconds"), 2);

    // The younger of two in a circle has its wait ended by the other: it has given up too.
    let (mut elder, mut younger) = (table.session(), table.session());
    elder.lock(&1).unwrap();
    younger.lock(&2).unwrap();
    let mut victim = younger.lock_async(&1);
    assert!(poll(&mut victim).is_pending());
    let mut waits = elder.lock_async(&2);
    assert!(poll(&mut waits).is_pending());
    assert!(matches!(poll(&mut victim), Poll::Ready(Err(_))));
    assert_eq!(told.times("latchwork_lock_gave_up_total"), 3);
}
