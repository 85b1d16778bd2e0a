//! A bounded queue made of cells, and a consumer that takes from whichever of two queues has
//! something.
//!
//! What it teaches: transactions compose. `push` and `pop` wait by `retry` and know of nobody;
//! `or_else` makes one step of two of them: it tries the first, then the second, and if both would
//! have to wait, sleeps until either can go on. With locks and condition variables, two queues
//! would need a third thing that knows both.
//!
//! Run it with `cargo run --release --example bounded_queue`.

use std::thread;

use latchwork::{Abort, Tx, VersionedCell, atomically};

const CAPACITY: usize = 8;
const PRODUCERS: u64 = 2;
const CONSUMERS: usize = 2;
const LETTERS_EACH: u64 = 1_000;

/// A ring of places. What is pushed and what is popped do not meet in one cell unless they have to.
struct Queue<T: Send + Sync + 'static> {
    places: Vec<VersionedCell<Option<T>>>,
    /// How many were pushed, and how many popped, since the beginning.
    pushed: VersionedCell<usize>,
    popped: VersionedCell<usize>,
}

impl<T: Copy + Send + Sync + 'static> Queue<T> {
    fn new() -> Self {
        Self {
            places: (0..CAPACITY).map(|_| VersionedCell::new(None)).collect(),
            pushed: VersionedCell::new(0),
            popped: VersionedCell::new(0),
        }
    }

    /// Adds an item; waits while the queue is full.
    fn push<'t>(&'t self, tx: &mut Tx<'t, '_>, item: T) -> Result<(), Abort> {
        let pushed = *tx.read(&self.pushed)?;
        let place = &self.places[pushed % CAPACITY];
        // The place alone tells whether there is room, so that `popped` need not be read.
        if tx.read(place)?.is_some() {
            return tx.retry();
        }
        tx.set(place, Some(item))?;
        tx.set(&self.pushed, pushed + 1)
    }

    /// Takes the oldest item; waits while there is none.
    fn pop<'t>(&'t self, tx: &mut Tx<'t, '_>) -> Result<T, Abort> {
        let popped = *tx.read(&self.popped)?;
        let place = &self.places[popped % CAPACITY];
        let Some(item) = *tx.read(place)? else {
            return tx.retry();
        };
        tx.set(place, None)?;
        tx.set(&self.popped, popped + 1)?;
        Ok(item)
    }
}

/// What a consumer has seen.
#[derive(Default)]
struct Taken {
    letters: u64,
    urgent: u64,
    sum: u64,
}

fn main() {
    // A letter says what it is worth; an empty one tells a consumer that it may go home.
    let (urgent, normal) = (Queue::new(), Queue::<Option<u64>>::new());

    let taken = thread::scope(|s| {
        let consumers = [(); CONSUMERS].map(|()| {
            s.spawn(|| {
                let mut taken = Taken::default();
                loop {
                    let (letter, is_urgent) = atomically(|tx| {
                        tx.or_else(
                            |tx| Ok((urgent.pop(tx)?, true)),
                            |tx| Ok((normal.pop(tx)?, false)),
                        )
                    });
                    let Some(worth) = letter else { return taken };
                    taken.letters += 1;
                    taken.urgent += u64::from(is_urgent);
                    taken.sum += worth;
                }
            })
        });
        let producers = [&urgent, &normal].map(|queue| {
            [(); PRODUCERS as usize].map(|()| {
                s.spawn(|| {
                    for worth in 1..=LETTERS_EACH {
                        atomically(|tx| queue.push(tx, Some(worth)));
                    }
                })
            })
        });
        for producer in producers.into_iter().flatten() {
            producer.join().expect("no producer panics");
        }
        // Behind all letters of the normal queue, and read only while the urgent one is empty.
        for _ in 0..CONSUMERS {
            atomically(|tx| normal.push(tx, None));
        }
        consumers.map(|consumer| consumer.join().expect("no consumer panics"))
    });

    for (
        consumer,
        Taken {
            letters, urgent, ..
        },
    ) in (1..).zip(&taken)
    {
        println!("consumer {consumer} took {letters} letters, {urgent} of them urgent");
    }
    let sum = |of: fn(&Taken) -> u64| taken.iter().map(of).sum::<u64>();
    println!("{:>8} letters", sum(|t| t.letters));
    println!("{:>8} of them urgent", sum(|t| t.urgent));
    println!("{:>8} is what they are worth", sum(|t| t.sum));
    assert_eq!(
        sum(|t| t.letters),
        2 * PRODUCERS * LETTERS_EACH,
        "none is lost"
    );
    assert_eq!(sum(|t| t.urgent), PRODUCERS * LETTERS_EACH);
    let worth = LETTERS_EACH * (LETTERS_EACH + 1) / 2;
    assert_eq!(
        sum(|t| t.sum),
        2 * PRODUCERS * worth,
        "and none is taken twice"
    );
}
