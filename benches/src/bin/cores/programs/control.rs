//! Programs of which the result is known: they check the model itself.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::{Program, Question, Share, shared};
use crate::tracee::{nanos, ticks};

/// The instructions of an empty call, which are subtracted from those of all others.
pub(crate) const NOTHING: &str = "nothing";

pub(crate) static CONTROL: Question = Question {
    title: "Control",
    text: "Results that are known in advance. Words on lines of their own never move, and \
           neither do words that are only read. A word to which all cores add moves all the \
           time. The core that has it adds for the 180 cycles until the word has left, at some \
           30 cycles for each addition. So the word moves about once in six additions, with any \
           number of cores. Words of several cores on one line are no better. A core that reads \
           the time-stamp counter or the clock of the system reads a clock of its own, and no \
           two readings differ by much.",
    programs: &[
        Program {
            name: NOTHING,
            share: || Box::new(|_| Box::new(|| ())),
        },
        Program {
            name: "a word of each core, each on a line of its own",
            share: own_words,
        },
        Program {
            name: "a word of each core, eight on a line",
            share: crowded_words,
        },
        Program {
            name: "one word, read by all",
            share: || on_one_word(|word| word.load(Ordering::Relaxed)),
        },
        Program {
            name: "the time between two readings of a clock, added to one word if it is long",
            share: time,
        },
        Program {
            name: "one word, added to by all",
            share: || on_one_word(|word| word.fetch_add(1, Ordering::Relaxed)),
        },
    ],
};

fn own_words() -> Share {
    let words: &[CachePadded<AtomicU64>; 64] =
        shared(std::array::from_fn(|_| CachePadded::default()));
    Box::new(move |core| {
        let word = &words[core as usize];
        Box::new(move || {
            black_box(word.fetch_add(1, Ordering::Relaxed));
        })
    })
}

fn crowded_words() -> Share {
    let words: &CachePadded<[AtomicU64; 64]> =
        shared(CachePadded::new([const { AtomicU64::new(0) }; 64]));
    Box::new(move |core| {
        let word = &words[core as usize];
        Box::new(move || {
            black_box(word.fetch_add(1, Ordering::Relaxed));
        })
    })
}

fn on_one_word(operation: fn(&AtomicU64) -> u64) -> Share {
    let word: &CachePadded<AtomicU64> = shared(CachePadded::default());
    Box::new(move |_| {
        Box::new(move || {
            black_box(operation(word));
        })
    })
}

/// More ticks and nanoseconds than pass in a few instructions on a virtual core, and fewer than
/// pass in two steps of the tracer.
const LONG: u64 = 1_000;

fn time() -> Share {
    let word: &CachePadded<AtomicU64> = shared(CachePadded::default());
    Box::new(move |_| {
        Box::new(move || {
            for clock in [ticks, nanos] {
                let first = clock();
                let passed = clock().wrapping_sub(first);
                if passed > LONG {
                    word.fetch_add(passed, Ordering::Relaxed);
                }
            }
            // A run lasts for a virtual time, which passes in fewer steps in pauses.
            (0..32).for_each(|_| std::hint::spin_loop());
        })
    })
}
