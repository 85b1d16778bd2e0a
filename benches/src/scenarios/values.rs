//! One value that some read and some replace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use crossbeam_utils::atomic::AtomicCell;
use latchwork::VersionedCell;

use super::{Axis, Contender, Load, Scenario, Setting, mixed, until};
use crate::cells::{ByKey, LeftRight, Pair, Read, Update, Value};

/// The part of operations that update.
type Updates = fn(Setting) -> f64;

/// A load in which each operation of a thread updates or reads. `reader` makes the reading side of
/// a thread.
fn shared<C: Update + 'static, R: Read<Pair>>(
    updates: Updates,
    make: impl Fn() -> C + 'static,
    reader: impl Fn(&'static C) -> R + Copy + Sync + 'static,
) -> impl Fn(Setting) -> Load + 'static {
    move |setting| {
        // For good: a few words, and readers that borrow it need not be carried about.
        let value: &'static CachePadded<C> = Box::leak(Box::new(CachePadded::new(make())));
        let updated = Arc::new(AtomicU64::new(0));
        let counted = updated.clone();
        let plans = setting.each(|seed| mixed(updates(setting), seed));
        Load::new(
            move |index, stop, times| {
                let (mut reader, mut own) = (reader(value), 0);
                let done = until(&plans[index], stop, times, |updates| {
                    if *updates {
                        value.update();
                        own += 1;
                    } else {
                        std::hint::black_box(reader.read());
                    }
                });
                updated.fetch_add(own, Ordering::Relaxed);
                done
            },
            move |_| {
                let expected = counted.load(Ordering::Relaxed);
                assert_eq!(reader(value).read(), [expected; 2], "an update is lost");
            },
        )
    }
}

fn contenders(updates: Updates) -> Vec<Contender> {
    let in_place = "stronger: changes in place; weaker: no versions, and readers wait for a writer";
    let turns = "weaker: one writer at a time, which waits for readers; two copies";
    vec![
        Contender::ours(
            "VersionedCell",
            shared(updates, || VersionedCell::new(Pair::FIRST), |cell| cell),
        ),
        Contender::ours("LockTable", shared(updates, ByKey::default, |value| value)),
        Contender::peer(
            "arc-swap",
            "weaker: no versions",
            shared(updates, || ArcSwap::from_pointee(Pair::FIRST), |cell| cell),
        ),
        Contender::peer(
            "left-right",
            turns,
            shared(updates, || LeftRight::new(Pair::FIRST), LeftRight::reader),
        ),
        Contender::peer(
            "parking_lot RwLock",
            in_place,
            shared(
                updates,
                || parking_lot::RwLock::new(Pair::FIRST),
                |lock| lock,
            ),
        ),
        Contender::peer(
            "std RwLock",
            in_place,
            shared(updates, || std::sync::RwLock::new(Pair::FIRST), |lock| lock),
        ),
        Contender::peer(
            "AtomicCell",
            "weaker: plain data, copied, behind a spin lock where it is more than a word; no versions",
            shared(updates, || AtomicCell::new(Pair::FIRST), |cell| cell),
        ),
    ]
}

pub(super) fn all() -> Vec<Scenario> {
    let question = |name, title, prose, axis, contenders| Scenario {
        name,
        set: "values",
        title,
        prose,
        axis,
        every: 16,
        contenders,
        pessimist: None,
    };
    vec![
        question(
            "readers",
            "How fast are reads of a value that is seldom replaced?",
            "All threads use one value of two words; one operation in a hundred replaces it by its successor, the others \
             copy it.",
            Axis::Threads,
            contenders(|_| 0.01),
        ),
        question(
            "writers",
            "Up to which part of writes is a versioned value faster than a lock?",
            "One value of two words and one thread for each core; from no updates at all to nothing else.",
            Axis::Value {
                label: "part of operations that update",
                values: &[0.0, 0.001, 0.01, 0.1, 0.5, 1.0],
                per_core: 1,
            },
            contenders(|setting| setting.value),
        ),
    ]
}
