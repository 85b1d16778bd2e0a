//! Latches in nodes: steps from one to the next, and links whose nodes are taken out under readers.

use std::sync::Arc;

use latchwork::latch::{Coupled, Coupling, Link, OptimisticLatch, Restart, Unlinked, traverse};
use latchwork::model::reclaim_in_model;
use latchwork_loom_tests::Model;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};
use loom::thread;

/// Nodes by number: `next` says which comes after, and nothing is ever freed.
struct Chain([OptimisticLatch<Place>; 3]);

struct Place {
    next: AtomicU64,
    number: AtomicU64,
}

impl Chain {
    /// 0, then 1; 2 is not in it.
    fn new() -> Arc<Self> {
        let place = |next, number| {
            OptimisticLatch::new(Place {
                next: AtomicU64::new(next),
                number: AtomicU64::new(number),
            })
        };
        Arc::new(Chain([place(1, 0), place(0, 1), place(0, 2)]))
    }

    fn next(&self, place: &Place) -> Option<&OptimisticLatch<Place>> {
        match place.next.load(Relaxed) {
            0 => None,
            n => Some(&self.0[n as usize]),
        }
    }

    /// Puts 2 in the place of 1, and uses 1 for something else.
    fn replace(&self, coupling: Coupling) -> Result<(), Restart> {
        let head = Coupled::begin(&self.0[0], coupling)?;
        let there = head.ahead(|place| self.next(place))?;
        let head = head.into_exclusive()?;
        let there = there.expect("one follows").into_exclusive()?;
        head.next.store(2, Relaxed);
        drop(head);
        there.number.store(99, Relaxed);
        Ok(())
    }

    /// What follows the head.
    fn second(&self, coupling: Coupling) -> Result<u64, Restart> {
        let mut at = Coupled::begin(&self.0[0], coupling)?;
        assert!(at.step(|place| self.next(place))?, "one follows");
        at.read(|place| place.number.load(Relaxed))
    }
}

/// What was found in a node is read while the node is where it was found.
#[test]
fn a_step_beside_one_who_replaces_the_node() {
    Model::new("an optimistic step beside one who uses the node for something else")
        .rules("[O7]")
        .preemptions(None)
        .outcomes(&["1", "2", "Changed"])
        .check(|| {
            let chain = Chain::new();
            let writer = thread::spawn({
                let chain = chain.clone();
                move || chain.replace(Coupling::Exclusive).unwrap()
            });
            let seen = chain.second(Coupling::Optimistic);
            writer.join().unwrap();
            seen.map_or_else(|why| format!("{why:?}"), |number| number.to_string())
        });
}

#[test]
fn traversals_hand_over_hand() {
    for (name, reader) in [
        ("shared", Coupling::Shared),
        ("exclusive", Coupling::Exclusive),
    ] {
        Model::new(format!("a {name} step beside one who replaces the node"))
            .rules("[O4] [O7]")
            .preemptions(Some(3))
            .outcomes(&["1", "2"])
            .check(move || {
                let chain = Chain::new();
                let writer = thread::spawn({
                    let chain = chain.clone();
                    move || chain.replace(Coupling::Exclusive).unwrap()
                });
                let seen = chain.second(reader).unwrap();
                writer.join().unwrap();
                seen
            });
    }
}

/// Both begin optimistically and end, whatever comes between them.
#[test]
fn a_traversal_ends() {
    Model::new("a traversal that reads beside one that writes")
        .rules("[O7] [O10]")
        .preemptions(Some(3))
        .outcomes(&["1", "2"])
        .check(|| {
            let chain = Chain::new();
            let writer = thread::spawn({
                let chain = chain.clone();
                move || traverse(Coupling::Exclusive, |coupling| chain.replace(coupling))
            });
            let seen = traverse(Coupling::Shared, |coupling| chain.second(coupling));
            writer.join().unwrap();
            seen
        });
}

/// A node whose destructor writes what readers read: at once, it is a race that loom reports.
struct Leaf(u64, UnsafeCell<bool>);

// SAFETY: loom checks the cell; that is what it is for.
unsafe impl Sync for Leaf {}

impl Leaf {
    fn new(number: u64) -> Unlinked<Self> {
        let leaf = Leaf(number, UnsafeCell::new(false));
        // Written here, so that loom sees who reads it without having seen this.
        // SAFETY: nobody else has it.
        leaf.1.with_mut(|alive| unsafe { *alive = true });
        Unlinked::new(leaf)
    }

    fn look(&self) -> u64 {
        // SAFETY: loom stops the model if the destructor runs at the same time.
        let alive = self.1.with(|alive| unsafe { *alive });
        assert!(alive, "dropped under a reader");
        self.0
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        // SAFETY: as in `look`.
        self.1.with_mut(|alive| unsafe { *alive = false });
    }
}

#[test]
fn a_reader_keeps_the_node_that_it_found() {
    Model::new("one reads a link, one takes its node out")
        .rules("[O8] [O9]")
        .preemptions(Some(1))
        .outcomes(&["1", "2"])
        .check(|| {
            reclaim_in_model();
            let link = Arc::new(Link::new(Leaf::new(1)));
            let writer = thread::spawn({
                let link = link.clone();
                move || {
                    drop(link.swap(Some(Leaf::new(2))));
                    latchwork::flush();
                }
            });
            let seen = {
                let pin = latchwork::pin();
                link.get(&pin).unwrap().look()
            };
            writer.join().unwrap();
            seen
        });
}

#[test]
fn a_node_is_whole_for_who_takes_it_out() {
    Model::new("one puts a node in, one takes it out")
        .rules("[O8]")
        .preemptions(None)
        .outcomes(&["None", "Some(1)"])
        .check(|| {
            let link = Arc::new(Link::empty());
            let maker = thread::spawn({
                let link = link.clone();
                move || drop(link.swap(Some(Leaf::new(1))))
            });
            let taken = link.swap(None).map(|leaf| leaf.look());
            maker.join().unwrap();
            format!("{taken:?}")
        });
}

/// The node hangs in one link, then in another, and is dropped by a third thread.
#[test]
fn a_node_moves_and_is_dropped_by_another() {
    Model::new("one reads a link, one moves its node, one takes it out there")
        .rules("[O8] [O9]")
        .preemptions(Some(1))
        .outcomes(&["None", "Some(1)"])
        .check(|| {
            reclaim_in_model();
            let links = Arc::new([Link::new(Leaf::new(1)), Link::empty()]);
            let mover = thread::spawn({
                let links = links.clone();
                move || drop(links[1].swap(links[0].swap(None)))
            });
            let taker = thread::spawn({
                let links = links.clone();
                move || {
                    if let Some(taken) = links[1].swap(None) {
                        taken.look();
                    }
                    latchwork::flush();
                }
            });
            let seen = {
                let pin = latchwork::pin();
                links[0].get(&pin).map(Leaf::look)
            };
            mover.join().unwrap();
            taker.join().unwrap();
            format!("{seen:?}")
        });
}
