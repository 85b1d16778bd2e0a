//! Looking at a table from outside, without taking part.
#![allow(unsafe_code)]

use core::mem::size_of;

use super::TableStats;
use super::index::{Child, Leaf, RawTable, Walk, child_ref, monitor_at};
use super::monitor::Monitor;
use crate::reclaim::Pin;
use crate::sync::{AtomicU64, Ordering};
use crate::word::{Kind, Mode, SlotWord, State};

/// What a slot holds that is not a child.
enum Found<'p> {
    Inline,
    Monitor(&'p Monitor),
    Child,
}

impl RawTable {
    /// Calls `f` with each word in use. A word that moves meanwhile may be seen twice or not at all.
    fn visit(&self, mut f: impl FnMut(Found<'_>)) {
        fn go(slots: &[AtomicU64], pin: &Pin, f: &mut impl FnMut(Found<'_>)) {
            for slot in slots {
                // Acquire: monitors and children are read through the word [S2].
                let word = SlotWord::from_bits(slot.load(Ordering::Acquire)).thawed();
                match word.kind() {
                    Kind::Empty => {}
                    Kind::Inline => f(Found::Inline),
                    // SAFETY: loaded under the pin [S5].
                    Kind::Monitor => f(Found::Monitor(unsafe { &*monitor_at(word).cast_const() })),
                    Kind::Child => {
                        f(Found::Child);
                        // SAFETY: loaded under the pin.
                        let child = unsafe { child_ref(word, pin) };
                        go(&child.slots, pin, f);
                    }
                }
            }
        }
        go(self.root(), &self.domain.pin(), &mut f);
    }

    pub(super) fn held(&self) -> usize {
        let mut held = 0;
        self.visit(|found| {
            held += usize::from(match found {
                Found::Inline => true,
                Found::Monitor(monitor) => monitor.peek().is_held(),
                Found::Child => false,
            });
        });
        held
    }

    pub(super) fn stats(&self) -> TableStats {
        let mut stats = TableStats {
            waits: self.statistics.waits.get(),
            inflations: self.statistics.inflations.get(),
            index_bytes: size_of_val(self.root()),
            monitors: 0,
        };
        self.visit(|found| match found {
            Found::Inline => {}
            Found::Monitor(_) => {
                stats.monitors += 1;
                stats.index_bytes += size_of::<Monitor>();
            }
            Found::Child => stats.index_bytes += size_of::<Child>(),
        });
        stats
    }

    pub(super) fn mode(&self, hash: u64) -> Option<Mode> {
        let mut walk = Walk::new(self, hash);
        match walk.leaf() {
            Leaf::Empty | Leaf::Other(_) => None,
            Leaf::Own(word) => Some(word.mode()),
            Leaf::Monitor(word) => {
                let monitor = walk.monitor(word);
                (monitor.hash() == hash)
                    .then(|| monitor.peek())
                    .and_then(State::mode)
            }
        }
    }
}
