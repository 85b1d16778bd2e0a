//! Links between latches: what is taken out of them stays for those who see it, and is dropped
//! once.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;

use latchwork::latch::{Link, Unlinked};

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>, u64);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Waits until that many are dropped.
fn dropped(drops: &AtomicUsize, n: usize) {
    while drops.load(Relaxed) < n {
        thread::yield_now();
        latchwork::flush();
    }
    assert_eq!(drops.load(Relaxed), n);
}

#[test]
fn a_pin_keeps_what_is_taken_out() {
    let drops = Arc::new(AtomicUsize::new(0));
    let link = Link::new(Unlinked::new(Counted(drops.clone(), 1)));
    let pin = latchwork::pin();
    let seen = link.get(&pin).unwrap();
    drop(link.swap(Some(Unlinked::new(Counted(drops.clone(), 2)))));
    latchwork::flush();
    assert_eq!((seen.1, drops.load(Relaxed)), (1, 0));
    assert_eq!(link.get(&pin).unwrap().1, 2);
    drop(pin);
    dropped(&drops, 1);
    drop(link);
    dropped(&drops, 2);
}

#[test]
fn nodes_are_dropped_once_each() {
    const ROUNDS: usize = if cfg!(debug_assertions) {
        2_000
    } else {
        20_000
    };
    let (made, drops) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let links: [Link<Counted>; 4] = Default::default();
    let start = Barrier::new(4);
    thread::scope(|s| {
        for n in 0..4_usize {
            let (links, made, drops, start) = (&links, &made, &drops, &start);
            s.spawn(move || {
                start.wait();
                for round in 0..ROUNDS {
                    let (from, to) = (&links[(n + round) % 4], &links[(n * round) % 4]);
                    match round % 4 {
                        0 => {
                            made.fetch_add(1, Relaxed);
                            let node = Counted(drops.clone(), round as u64 ^ 7);
                            drop(to.swap(Some(Unlinked::new(node))));
                        }
                        // From one link to another.
                        1 => drop(to.swap(from.swap(None))),
                        _ => {
                            let pin = latchwork::pin();
                            if let Some(node) = from.get(&pin) {
                                thread::yield_now();
                                assert_eq!((node.1 ^ 7) % 4, 0, "somebody else's memory");
                            }
                        }
                    }
                }
            });
        }
    });
    drop(links);
    dropped(&drops, made.into_inner());
}

#[test]
fn a_node_that_is_dropped_drops_what_hangs_in_it() {
    struct Tree(Counted, #[allow(dead_code)] [Link<Tree>; 2]);
    fn tree(depth: u32, drops: &Arc<AtomicUsize>) -> Unlinked<Tree> {
        let below = || (depth > 0).then(|| tree(depth - 1, drops)).into();
        Unlinked::new(Tree(Counted(drops.clone(), 0), [below(), below()]))
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let root = tree(5, &drops);
    assert_eq!(root.0.1, 0);
    drop(root);
    dropped(&drops, 63);
}
