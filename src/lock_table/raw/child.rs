//! A child: the array of slots below a slot in which keys have collided.
//!
//! A child is removed by a fold: a thread freezes each of its slots, then replaces the child in its
//! parent by the remaining word.
#![allow(unsafe_code)]

use super::slot::{Moved, Slot};
use crate::reclaim::Pin;
use crate::sync::Canary;
use crate::sync::tuning::FAN_BITS;
use crate::word::{Kind, SlotWord};

pub(super) const FAN: usize = 1 << FAN_BITS;

/// Slots for the next index bits of all keys that collided in one slot.
#[derive(Debug)]
#[repr(align(8))]
pub(super) struct Child {
    slots: [Slot; FAN],
    canary: Canary,
}

/// The contents of a child, as far as a fold is concerned.
pub(super) enum Occupancy {
    Empty,
    /// One inline word, which may move up.
    Single,
    More,
}

impl Child {
    fn new(word: impl Fn(usize) -> SlotWord) -> Self {
        Child {
            slots: core::array::from_fn(|i| Slot::new(word(i))),
            canary: Canary::new(),
        }
    }

    pub(super) fn slots(&self) -> &[Slot; FAN] {
        &self.slots
    }

    /// Freezes all slots: from then on, none of them changes. Returns their words.
    pub(super) fn freeze(&self) -> [SlotWord; FAN] {
        core::array::from_fn(|i| self.slots[i].freeze())
    }

    /// Returns the number of slots that are in use, as a hint.
    pub(super) fn in_use(&self) -> usize {
        let words = self.slots.iter().map(|slot| slot.peek().thawed());
        words.filter(|word| *word != SlotWord::EMPTY).count()
    }

    /// Returns the contents of the child. The caller has a fence before the call [F3].
    #[inline]
    pub(super) fn occupancy(&self) -> Occupancy {
        let mut seen = Occupancy::Empty;
        for slot in &self.slots {
            // The fence before it gives what order it needs [F3].
            let word = slot.peek();
            if word == SlotWord::EMPTY {
                continue;
            }
            if word.kind() != Kind::Inline || matches!(seen, Occupancy::Single) {
                return Occupancy::More;
            }
            seen = Occupancy::Single;
        }
        seen
    }
}

fn child_at(word: SlotWord) -> *mut Child {
    debug_assert_eq!(word.kind(), Kind::Child);
    core::ptr::with_exposed_provenance_mut(word.address())
}

/// Returns the child that `word` points to.
///
/// # Safety
/// `word` was loaded from a slot of a table under `_pin`.
#[inline(always)]
pub(super) unsafe fn child_ref(word: SlotWord, _pin: &Pin) -> &Child {
    // SAFETY: linked when it was loaded and retired after it was unlinked, so alive under the pin
    // [S5].
    let child = unsafe { &*child_at(word) };
    child.canary.check();
    child
}

/// Returns the child that `word` points to, from a table that is dropped.
///
/// # Safety
/// `word` is in a slot of a table to which no other thread has access, and is not used again.
pub(super) unsafe fn child_of_dropped(word: SlotWord) -> Box<Child> {
    // SAFETY: linked, so not retired [S5], and no other thread has the table.
    unsafe { Box::from_raw(child_at(word)) }
}

/// Makes a child with the words that `content` returns, which `publish` links. Frees it if that
/// fails. Returns whether it is linked.
pub(super) fn publish(
    content: impl Fn(usize) -> SlotWord,
    publish: impl FnOnce(SlotWord) -> Moved,
) -> bool {
    let child = Box::into_raw(Box::new(Child::new(content)));
    let published = publish(SlotWord::child(child.expose_provenance())).is_ok();
    if !published {
        // SAFETY: made above and never published.
        drop(unsafe { Box::from_raw(child) });
    }
    published
}

/// Replaces `word`, another key's word in `slot`, by a child with the words that `content` returns.
/// Returns whether it did.
pub(super) fn expand(slot: &Slot, word: SlotWord, content: impl Fn(usize) -> SlotWord) -> bool {
    publish(content, |child| slot.expand(word, child))
}

/// Retires the child that `word` points to.
///
/// # Safety
/// `word` was loaded under `pin`, and the caller has unlinked the child.
pub(super) unsafe fn retire(pin: &Pin, word: SlotWord) {
    // SAFETY: unlinked by the caller and no other thread [S5].
    unsafe { pin.retire(child_at(word)) };
}

/// Returns the word that moves up instead of `word`: of a child in which one key is left, or none,
/// its frozen word. Of any other word, itself.
///
/// Another thread may lock a key in the child meanwhile. Then the child moves with frozen slots,
/// and the next operation in it folds it [F1].
///
/// # Safety
/// `word` was loaded under `pin`, from a slot that is frozen.
pub(super) unsafe fn lone_word(pin: &Pin, word: SlotWord) -> SlotWord {
    if word.kind() != Kind::Child {
        return word;
    }
    // SAFETY: the caller's contract.
    let child = unsafe { child_ref(word, pin) };
    // A hint: what is frozen decides.
    if matches!(child.occupancy(), Occupancy::More) {
        return word;
    }
    only_word(&child.freeze()).unwrap_or(word)
}

/// Returns the word that stands for the frozen words of a group of slots one level up: EMPTY if all
/// of them are, or the only other one. `None` if they need a child.
pub(super) fn only_word(words: &[SlotWord; FAN]) -> Option<SlotWord> {
    let mut left = words.iter().copied().filter(|w| *w != SlotWord::EMPTY);
    match (left.next(), left.next()) {
        (None, _) => Some(SlotWord::EMPTY),
        // A child means other index bits one level up.
        (Some(single), None) if single.kind() != Kind::Child => Some(single),
        _ => None,
    }
}

/// Replaces the child `word` in `parent` by nothing, by its one remaining word, or by a copy.
/// Returns whether there is one child fewer.
///
/// Any number of threads may do it at once: one of them succeeds.
///
/// # Safety
/// `word` was loaded from `parent` under `pin`.
pub(super) unsafe fn fold(pin: &Pin, parent: &Slot, word: SlotWord) -> bool {
    // SAFETY: the caller's contract.
    let child = unsafe { child_ref(word, pin) };
    // Step 16.
    let words = child.freeze();
    let (new, copy) = match only_word(&words) {
        Some(word) => (word, None),
        None => {
            let copy = Box::into_raw(Box::new(Child::new(|i| words[i])));
            (SlotWord::child(copy.expose_provenance()), Some(copy))
        }
    };
    let copied = copy.is_some();
    // On failure another thread has folded it, or has frozen the parent; the caller walks again.
    let won = parent.fold(word, new).is_ok();
    if won {
        // SAFETY: unlinked by this compare-and-swap and no other, because a word is not stored
        // again while a pin could mistake it for itself [S5].
        unsafe { pin.retire(child_at(word)) };
    } else if let Some(copy) = copy {
        // SAFETY: made above and never published.
        drop(unsafe { Box::from_raw(copy) });
    }
    won && !copied
}
