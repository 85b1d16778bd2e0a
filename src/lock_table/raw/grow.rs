//! The roots of a table, and the move of its keys from one root to the next.
//!
//! PROTOCOL.md has the steps and rules, under *Growth*. A table has one root in use. If many keys
//! collide in it, the keys move to a larger root, one group after another: the keys of a slot of
//! the smaller root are a group. Each operation that finds a group that has not moved moves it, so
//! no operation waits for another.
#![allow(unsafe_code)]

use std::sync::{Arc, OnceLock};

use super::child::{FAN, child_ref, lone_word, only_word, publish, retire};
use super::monitor::monitor_ref;
use super::root::{Header, LEVELS, Root, bits_above};
use super::slot::Slot;
use crate::reclaim::{Domain, Pin};
use crate::sync::tuning::{
    CROWDED_PER, GROW_AGAIN, GROW_LOOK_PER, GROW_LOOKS, GROW_PER, GROW_SAMPLE, GROW_WORDS,
    ROOTS_MOVE, SHRINK_DRIFT, SHRINK_IN_USE, SHRINK_LOOK_PER, SHRINK_LOOKS, SHRINK_OVER,
    SHRINK_SAMPLE, SLOTS_MOVED, SLOTS_MOVED_LATE,
};
use crate::sync::{AtomicPtr, AtomicU64, Counter, Ordering};
use crate::word::{Kind, Move, Phase, SlotWord};

/// The roots of a table.
#[derive(Debug)]
pub(super) struct Roots {
    /// The root that operations try first: a hint, which may be out of date.
    current: AtomicPtr<Header>,
    /// The root of each level, or null before the first move to it.
    levels: [AtomicPtr<Header>; LEVELS],
    phase: AtomicU64,
    /// The number of moves whose threads have all ended. It is made with the first move.
    settled: OnceLock<Arc<AtomicU64>>,
    /// The next group that an operation moves for others.
    cursor: Counter,
    /// The number of children of root slots, modulo 2⁶⁴. A thread may count that it has unlinked a
    /// child before another thread counts that it has linked the child, so the number may be
    /// negative. A child of a child does not count: a larger root does not remove it.
    children: Counter,
    /// The number of children that were linked in a crowded root since the last growth.
    crowded: Counter,
    /// The number of children that were unlinked from a root which may be sparse.
    unlinked: Counter,
    /// The number of larger roots that could not be allocated since the last one that could.
    refusals: Counter,
    growths: Counter,
    shrinks: Counter,
}

/// Settles a move, as an object that is retired at the end of the move: once no thread is pinned
/// that may have observed the move in progress.
struct Settles {
    settled: Arc<AtomicU64>,
    event: u64,
}

impl Drop for Settles {
    fn drop(&mut self) {
        // Release: the next move happens after all steps of this one. Pairs with the Acquire in
        // `begin` [G5].
        self.settled.store(self.event, Ordering::Release);
    }
}

/// Returns the word of the key in `frozen`, a word of a root slot, for each slot of its group.
fn spread(small: Root<'_>, hash: u64, word: SlotWord) -> impl Fn(usize) -> SlotWord {
    let own = small.child_index(hash, 0);
    move |index| if index == own { word } else { SlotWord::EMPTY }
}

impl Roots {
    /// Makes a root with so many index bits.
    pub(super) fn new(bits: u32) -> Self {
        let root = Root::first(bits).expect("memory for the root of a table");
        let root = root.as_ptr();
        Roots {
            current: AtomicPtr::new(root),
            levels: core::array::from_fn(|level| {
                AtomicPtr::new(if level == 0 {
                    root
                } else {
                    core::ptr::null_mut()
                })
            }),
            phase: AtomicU64::new(Phase::NEW.bits()),
            settled: OnceLock::new(),
            cursor: Counter::new(),
            children: Counter::new(),
            crowded: Counter::new(),
            unlinked: Counter::new(),
            refusals: Counter::new(),
            growths: Counter::new(),
            shrinks: Counter::new(),
        }
    }

    /// Returns the root to try first. It may be out of date: then its slot of a key is void or
    /// frozen, or has the word of the key nevertheless [G1].
    #[inline(always)]
    pub(super) fn current(&self) -> Root<'_> {
        // Acquire: the header was written before the root was stored here [G1].
        let header = self.current.load(Ordering::Acquire);
        // SAFETY: never null, and freed with the table alone [G1].
        unsafe { Root::from_ptr(header) }
    }

    fn phase(&self) -> Phase {
        // Acquire: the root of its level was allocated before [G4].
        Phase::from_bits(self.phase.load(Ordering::Acquire))
    }

    /// Returns the root of a level.
    fn level(&self, level: usize) -> Option<Root<'_>> {
        // Acquire: the header was written before the root was stored here [G1].
        let header = self.levels[level].load(Ordering::Acquire);
        // SAFETY: freed with the table alone [G1].
        (!header.is_null()).then(|| unsafe { Root::from_ptr(header) })
    }

    /// Returns the root of a level that a phase names.
    fn known(&self, level: usize) -> Root<'_> {
        self.level(level)
            .expect("a phase names allocated roots [G4]")
    }

    /// Returns the roots that may have words, that from which keys move first. The caller is
    /// pinned.
    pub(super) fn in_use(&self) -> impl Iterator<Item = Root<'_>> {
        let phase = self.phase();
        let source = phase.source_level();
        source
            .into_iter()
            .chain([phase.level()])
            .map(|level| self.known(level))
    }

    /// Returns the root at which a walk over all slots begins: that from which keys move, or the
    /// one in use. The caller is pinned.
    pub(super) fn source(&self) -> Root<'_> {
        let phase = self.phase();
        self.known(phase.source_level().unwrap_or(phase.level()))
    }

    /// Returns the root to which keys move or have moved. The caller is pinned.
    pub(super) fn target(&self) -> Root<'_> {
        self.known(self.phase().level())
    }

    /// Returns the smaller and the larger root of the move in progress.
    fn moving(&self, phase: Phase) -> Option<(Root<'_>, Root<'_>)> {
        let (source, target) = (phase.source_level()?, phase.level());
        let (small, large) = (source.min(target), source.max(target));
        Some((self.known(small), self.known(large)))
    }

    /// Returns the root with which the table was made.
    pub(super) fn first(&self) -> Root<'_> {
        self.known(0)
    }

    /// Returns the numbers of moves to larger and to smaller roots that have begun.
    pub(super) fn moves(&self) -> (u64, u64) {
        (self.growths.get(), self.shrinks.get())
    }

    /// Returns the number of index bits of the root of a level, if there is such a level.
    fn bits_of(&self, level: usize) -> Option<u32> {
        let first = self.first().len().ilog2();
        (0..level).try_fold(first, |bits, _| bits_above(bits))
    }

    /// Allocates the root of a level if there is none. Returns whether there is one.
    fn allocate(&self, level: usize) -> bool {
        if let Some(root) = self.level(level) {
            root.prepare();
            return true;
        }
        let Some(bits) = self.bits_of(level) else {
            return false;
        };
        let Some(root) = Root::void(bits) else {
            return false;
        };
        let null = core::ptr::null_mut();
        // Release: publishes the header and the void slots [G1].
        // Relaxed on failure: it is loaded again before it is used.
        let stored = self.levels[level].compare_exchange(
            null,
            root.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if stored.is_err() {
            // SAFETY: made above and never published.
            unsafe { root.free() };
        }
        true
    }

    /// Begins to move keys to the next root up or down, unless a move is in progress or a thread
    /// may still be in the last one [G5]. Returns whether it began.
    pub(super) fn begin(&self, direction: Move, _pin: &Pin) -> bool {
        let phase = self.phase();
        if phase.direction().is_some() {
            return false;
        }
        let settled = self.settled.get_or_init(Arc::default);
        // Acquire: all steps of the last move happen before this one. Pairs with the Release of
        // `Settles` [G5].
        if settled.load(Ordering::Acquire) != phase.event() {
            return false;
        }
        let Some(begun) = phase.begun(direction, LEVELS) else {
            return false;
        };
        if !self.allocate(begun.level()) {
            self.refusals.increment();
            return false;
        }
        if self.refusals.get() > 0 {
            self.refusals.set(0);
        }
        // Release: publishes the root, and what `settled` has acquired [G4] [G5].
        // Relaxed on failure: nothing is done then.
        let began = self.phase.compare_exchange(
            phase.bits(),
            begun.bits(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        if began.is_ok() {
            match direction {
                Move::Up => self.growths.increment(),
                Move::Down => self.shrinks.increment(),
            }
            self.crowded.set(0);
            self.refresh();
        }
        began.is_ok()
    }

    /// Stores the root of the phase for other operations to try first.
    fn refresh(&self) {
        let root = self.known(self.phase().level()).as_ptr();
        // Relaxed: it is only compared.
        if self.current.load(Ordering::Relaxed) != root {
            // Release: publishes the header [G1].
            self.current.store(root, Ordering::Release);
        }
    }

    /// Moves the group of `hash` if a move is in progress. The caller has found its slot in a root
    /// void or frozen, and looks at the current root next.
    #[cold]
    pub(super) fn help(&self, pin: &Pin, hash: u64) {
        let phase = self.phase();
        if let Some((small, _)) = self.moving(phase) {
            self.move_group(pin, phase, small.index(hash));
            self.move_some(pin, phase);
        }
        self.refresh();
    }

    /// Moves some groups of the move in progress.
    fn move_some(&self, pin: &Pin, phase: Phase) {
        let Some((small, _)) = self.moving(phase) else {
            return;
        };
        if ROOTS_MOVE {
            // The more groups have moved, the fewer operations find one that has not.
            let left = small.len().saturating_sub(phase.moved()).max(1);
            let times = (small.len() / left).min(SLOTS_MOVED_LATE);
            // Neighbours share cache lines.
            let groups = SLOTS_MOVED / small.fan() * times;
            let first = self.cursor.advance(groups as u64) as usize;
            for group in 0..groups {
                self.move_group(pin, phase, first.wrapping_add(group));
            }
        }
    }

    /// Moves a group, whose number is taken modulo the number of groups. The phase, with a move in
    /// progress, was loaded under the pin.
    fn move_group(&self, pin: &Pin, phase: Phase, group: usize) {
        let Some((small, large)) = self.moving(phase) else {
            return;
        };
        let group = group & (small.len() - 1);
        let moved = match phase.direction() {
            Some(Move::Up) => self.raise(pin, small, large, group),
            _ => self.lower(pin, small, large, group),
        };
        if moved {
            self.count(pin, small.len());
        }
    }

    /// Counts a group that has moved, and ends the move if it is the last of so many.
    fn count(&self, pin: &Pin, groups: usize) {
        // Acquire: the end follows all steps of all groups. Release: as do those of this one [G5].
        let before = self.phase.fetch_add(Phase::ONE_GROUP, Ordering::AcqRel);
        let before = Phase::from_bits(before);
        if before.moved() + 1 < groups {
            return;
        }
        // Release: a thread that observes the end observes all groups in their new root [G4]. No
        // other thread changes the phase between the last group and the end.
        self.phase.store(before.ended().bits(), Ordering::Release);
        let source = before.source_level().expect("a move is in progress");
        // SAFETY: step 20 or 23 has made each slot of each group void, and no step changes a void
        // slot of this root before the next move, which begins after this one has settled [G6].
        unsafe { self.known(source).clear() };
        let settles = Box::new(Settles {
            settled: self.settled.get_or_init(Arc::default).clone(),
            event: before.event(),
        });
        // SAFETY: made here, and never linked.
        unsafe { pin.retire(Box::into_raw(settles)) };
        pin.flush();
    }

    /// Moves the words of slot `group` of the smaller root to its slots of the larger one. Returns
    /// whether the caller must count the group.
    fn raise(&self, pin: &Pin, small: Root<'_>, large: Root<'_>, group: usize) -> bool {
        let source = small.at(group);
        // Step 18.
        let word = source.freeze();
        if word.is_void() {
            return false;
        }
        let install = |word: &dyn Fn(usize) -> SlotWord| {
            for index in 0..small.fan() {
                // On failure another thread has moved this word, maybe long ago [G3].
                let _ = large.at(group + index * small.len()).install(word(index));
            }
        };
        // Step 19.
        let mut below = 0;
        match word.kind() {
            Kind::Empty => install(&|_| SlotWord::EMPTY),
            Kind::Inline => install(&spread(small, word.hash_beside(0), word)),
            Kind::Monitor => {
                // SAFETY: its word was loaded under the pin, from a slot that is frozen.
                let monitor = unsafe { monitor_ref(word, pin) };
                install(&spread(small, monitor.hash(), word));
            }
            Kind::Child => {
                // SAFETY: loaded under the pin.
                let words = unsafe { child_ref(word, pin) }.freeze();
                below = children_in(&words);
                install(&|index| words[index]);
            }
        }
        // Step 20.
        let moved = source.vacate(word.frozen()).is_ok();
        if moved && word.kind() == Kind::Child {
            // Its children are children of the larger root.
            self.children.add(below.wrapping_sub(1));
            // SAFETY: its words are elsewhere, and this compare-and-swap has unlinked it, and no
            // other [S5].
            unsafe { retire(pin, word) };
        }
        moved
    }

    /// Moves the words of the slots of `group` of the larger root to its slot of the smaller one.
    /// Returns whether the caller must count the group.
    fn lower(&self, pin: &Pin, small: Root<'_>, large: Root<'_>, group: usize) -> bool {
        let target = small.at(group);
        if !target.load().is_void() {
            return false;
        }
        let fan = small.fan();
        let source = |index: usize| large.at(group + index * small.len());
        // Step 21.
        let mut frozen = [SlotWord::EMPTY; FAN];
        for (index, word) in frozen.iter_mut().enumerate().take(fan) {
            *word = source(index).freeze();
            if word.is_void() {
                // Moved: its slot of the smaller root has had a word before [G3].
                return false;
            }
        }
        // SAFETY: all loaded under the pin.
        let words = frozen.map(|word| unsafe { lone_word(pin, word) });
        // Step 22.
        let (moved, published) = match only_word(&words) {
            Some(word) => (target.install(word).is_ok(), 0),
            None => {
                let published = publish(|index| words[index], |child| target.install(child));
                (published, u64::from(published))
            }
        };
        // Step 23: before the group counts, because the next growth expects void slots [G5].
        if moved {
            let before = children_in(&frozen);
            self.children.add(published.wrapping_sub(before));
            for (index, (word, moved)) in frozen.iter().zip(words).enumerate().take(fan) {
                let _ = source(index).vacate(word.frozen());
                if *word != moved {
                    // SAFETY: this thread has installed its word instead, and no other thread has
                    // made its slot void [S5].
                    unsafe { retire(pin, *word) };
                }
            }
        }
        moved
    }

    /// Counts a child that was linked at a depth, where a child of the root has depth 0, and grows
    /// the root if it has too many words. Continues the move in progress.
    ///
    /// A child of a child also examines a crowded root: once all slots have children, no other
    /// child is linked.
    pub(super) fn child_added(&self, domain: &Domain, hash: u64, depth: u32) {
        if !ROOTS_MOVE {
            return;
        }
        let children = match depth {
            0 => self.children.next().wrapping_add(1),
            _ => self.children.get(),
        } as isize;
        if is_crowded(self.current(), children) {
            self.grow(&domain.pin(), hash, children);
        } else if self.phase().direction().is_some() {
            let pin = domain.pin();
            self.move_some(&pin, self.phase());
        }
    }

    /// Returns whether an operation that links a child in a crowded root examines the root. After a
    /// refusal, few do: each attempt is a system call, which locks the address space of the
    /// process.
    fn may_grow(&self, root: Root<'_>) -> bool {
        let least = match self.refusals.get() {
            0 => GROW_LOOKS,
            _ => GROW_AGAIN,
        };
        self.crowded.next() % least.max((root.len() / GROW_LOOK_PER) as u64) == 0
    }

    #[cold]
    fn grow(&self, pin: &Pin, hash: u64, children: isize) {
        let phase = self.phase();
        if phase.direction().is_some() {
            self.move_some(pin, phase);
            return;
        }
        let root = self.known(phase.level());
        if is_crowded(root, children) && self.may_grow(root) && is_worth_more(root, hash, pin) {
            self.begin(Move::Up, pin);
        }
    }

    /// Counts a child that was unlinked at a depth, as [`child_added`](Self::child_added) does, and
    /// shrinks the root if few of its slots are in use.
    pub(super) fn child_removed(&self, pin: &Pin, hash: u64, depth: u32) {
        if !ROOTS_MOVE {
            return;
        }
        if depth == 0 {
            self.children.add(1_u64.wrapping_neg());
        }
        let phase = self.phase();
        if phase != Phase::NEW {
            self.tend(pin, phase, hash);
        }
    }

    /// Continues the move in progress, or shrinks the root if few of its slots are in use.
    #[cold]
    fn tend(&self, pin: &Pin, phase: Phase, hash: u64) {
        if phase.direction().is_some() {
            self.move_some(pin, phase);
        } else if phase.level() > 0 {
            let root = self.known(phase.level());
            if self.may_shrink(root) && is_sparse(root, hash) && !self.begin(Move::Down, pin) {
                // A table that empties has few operations left that could settle the last move.
                pin.flush();
            }
        }
    }

    /// Returns whether an operation that unlinks a child examines the root. Each does where random
    /// keys would leave few slots in use. Where more children are left, some do: most of those may
    /// have one key.
    fn may_shrink(&self, root: Root<'_>) -> bool {
        let children = self.children.get() as isize;
        children * (SHRINK_OVER as isize) < root.len() as isize
            || self.unlinked.next() % SHRINK_LOOKS.max((root.len() / SHRINK_LOOK_PER) as u64) == 0
    }

    /// Declares the last move settled, for a model in which no other thread runs.
    #[cfg(latchwork_loom)]
    pub(super) fn settle(&self) {
        let settled = self.settled.get_or_init(Arc::default);
        // Release: as in `Settles`.
        settled.store(self.phase().event(), Ordering::Release);
    }

    /// Calls `f` with each slot that may have a word, and frees the roots.
    pub(super) fn free(&mut self, f: impl Fn(&Slot)) {
        let phase = self.phase();
        for level in 0..LEVELS {
            if let Some(root) = self.level(level) {
                let in_use = phase.level() == level || phase.source_level() == Some(level);
                if cfg!(any(latchwork_loom, debug_assertions)) && !in_use {
                    let mut slots = (0..root.len()).map(|index| root.at(index));
                    assert!(slots.all(|slot| slot.peek().is_void()), "a late move [G5]");
                }
                // The slots of other roots are void [G5]. To load them would bring their pages back.
                if in_use {
                    (0..root.len()).for_each(|index| f(root.at(index)));
                }
                // SAFETY: the table is borrowed mutably, and is dropped.
                unsafe { root.free() };
            }
        }
    }
}

/// Returns whether a root has many children.
#[inline]
fn is_crowded(root: Root<'_>, children: isize) -> bool {
    children * (CROWDED_PER as isize) > root.len() as isize
}

/// Returns so many slots of a root, beginning somewhere, which are spread over the root.
fn sample(root: Root<'_>, hash: u64, slots: usize) -> impl Iterator<Item = &Slot> {
    /// Odd, so that the places differ. Of 1,500 random numbers, that whose places are spread most
    /// evenly in the roots of all levels: no gap is more than 2.1 times the mean. A multiplier of
    /// hash functions would visit the slots of consecutive keys instead.
    const STRIDE: usize = 0xC23E_96D1;
    let first = root.index(hash);
    (1..=slots).map(move |step| root.at(first.wrapping_add(step.wrapping_mul(STRIDE))))
}

/// Returns the number of children among words.
fn children_in(words: &[SlotWord]) -> u64 {
    words
        .iter()
        .filter(|word| word.kind() == Kind::Child)
        .count() as u64
}

/// Returns whether the next larger root would have enough slots in use, by those of a sample. Each
/// of them has a held key, so the bytes of that root for each held key are bounded, whatever the
/// hashes are.
fn is_worth_more(root: Root<'_>, hash: u64, pin: &Pin) -> bool {
    let words = sample(root, hash, GROW_SAMPLE).map(|slot| {
        let word = slot.load().thawed();
        match word.kind() {
            Kind::Empty => 0,
            Kind::Inline | Kind::Monitor => 1,
            // SAFETY: loaded under the pin.
            Kind::Child => unsafe { child_ref(word, pin) }.in_use(),
        }
    });
    words.sum::<usize>() * GROW_PER >= GROW_SAMPLE * GROW_WORDS
}

/// Returns whether few slots of a root are in use, by those of a sample. It ends early where far
/// more are.
fn is_sparse(root: Root<'_>, hash: u64) -> bool {
    let mut in_use = 0;
    for (seen, slot) in sample(root, hash, SHRINK_SAMPLE).enumerate() {
        in_use += usize::from(slot.peek() != SlotWord::EMPTY);
        if in_use > SHRINK_IN_USE.min(SHRINK_DRIFT + seen / 8) {
            return false;
        }
    }
    true
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use super::super::child::child_of_dropped;
    use super::*;
    use crate::sync::tuning::{FAN_BITS, MAX_GROWN_BITS};
    use crate::word::Mode;

    /// A thread links a child, another thread unlinks the child and counts that, and then the first
    /// thread counts. The number was taken for a large one: a debug build panicked after the key
    /// was locked, and a release build grew the root.
    #[test]
    fn a_child_that_is_unlinked_before_it_is_counted_grows_no_root() {
        let domain = Domain::default();
        for early in 1..=2 {
            let mut roots = Roots::new(10);
            (0..early).for_each(|_| roots.child_removed(&domain.pin(), 0, 0));
            (0..early).for_each(|_| roots.child_added(&domain, 0, 0));
            assert_eq!((roots.children.get(), roots.moves()), (0, (0, 0)));
            roots.free(|_| ());
        }
    }

    /// Where the system had no memory for a larger root, each operation that linked a child
    /// requested it again by a system call.
    #[test]
    fn a_root_that_is_refused_is_not_requested_by_each_operation() {
        let domain = Domain::default();
        // There is no larger root than this one.
        let mut roots = Roots::new(MAX_GROWN_BITS - FAN_BITS + 1);
        roots.children.add(roots.first().len() as u64);
        // Each slot has the same child, all of whose slots are in use.
        let word = SlotWord::inline(0, Mode::Exclusive);
        let fill = |child| {
            let root = roots.first();
            (0..root.len()).try_for_each(|index| root.at(index).expand(SlotWord::EMPTY, child))
        };
        assert!(publish(|_| word, fill));
        let shared = roots.first().at(0).peek();
        let rounds = 3;
        (0..rounds * GROW_AGAIN).for_each(|_| roots.child_added(&domain, 0, 0));
        let refusals = roots.refusals.get();
        assert!((1..=1 + rounds).contains(&refusals), "{refusals}");
        assert_eq!(roots.moves(), (0, 0));
        // SAFETY: no other thread has the roots, and their words are not used again.
        drop(unsafe { child_of_dropped(shared) });
        roots.free(|_| ());
    }
}
