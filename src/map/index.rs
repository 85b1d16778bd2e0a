//! The index: from a key to its entry, through the chain of tables [V1].
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ptr::{NonNull, with_exposed_provenance};
use std::borrow::Borrow;
use std::collections::TryReserveError;

use super::entry::{Entry, First};
use super::shared::{Maintenance, Shared};
use super::slot::{Content, End, Word};
use super::table::{Shape, Slot, Table};
use crate::cell::{self, NodeRef, Version, VersionedCell};
use crate::reclaim::{self, CellPin, Local, Retired};
use crate::sync::tuning::{MAP_AHEAD, MAP_CHUNK};
use crate::sync::{AtomicPtr, Ordering};

/// The tables of a map, and the state that its threads share beside them.
pub(crate) struct Index<K: Send + Sync + 'static, V: Send + Sync + 'static> {
    root: AtomicPtr<Table>,
    pub(super) shared: Box<Shared>,
    /// It owns entries.
    entries: PhantomData<Entry<K, V>>,
    /// An insert stores through a shared reference.
    is_invariant: PhantomData<Invariant<(K, V)>>,
}

type Invariant<T> = fn(T) -> T;

/// Where a search has ended.
pub(crate) enum Search<'p, K, V: Send + Sync + 'static> {
    /// The entry, with the word of its head, which was not dead.
    Found(&'p Entry<K, V>, cell::Word),
    Absent(Vacancy<'p>),
}

/// Where an entry of the key would be installed.
#[derive(Clone, Copy)]
pub(crate) struct Vacancy<'p> {
    table: &'p Table,
    /// The first empty slot. `None`: the window is full, and there was no next table.
    slot: Option<&'p Slot>,
}

/// An empty slot.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p>(&'p Slot);

/// A new entry, and its first node, which another thread may have replaced since.
type Installed<'p, K, V> = (&'p Entry<K, V>, NodeRef<'p>);

/// An entry to be made.
pub(super) struct New<K, V> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) version: Version,
    pub(super) first: First<V>,
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> New<K, V> {
    #[inline]
    fn make(self, local: &Local) -> NonNull<Entry<K, V>> {
        Entry::make(local, self.key, self.hash, self.version, self.first)
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Index<K, V> {
    /// # Errors
    /// Returns an error if the allocator has no memory.
    pub(super) fn with_capacity(capacity: usize) -> Result<Self, TryReserveError> {
        let table = Table::new(Shape::for_entries(capacity))?;
        let table = reclaim::with(|local| local.allocate(table));
        Ok(Index {
            root: AtomicPtr::new(table.as_ptr()),
            shared: Box::new(Shared::new()),
            entries: PhantomData,
            is_invariant: PhantomData,
        })
    }

    /// The first table.
    #[inline(always)]
    pub(super) fn root<'p>(&'p self, _: &'p CellPin) -> &'p Table {
        // Acquire: the table is whole. Pairs with the Release in `copy_some` [V1].
        let root = self.root.load(Ordering::Acquire);
        // SAFETY: a table is retired once the root is another. It was loaded under the pin [V3].
        unsafe { &*root }
    }

    /// The table behind another one, if there is one.
    #[inline]
    pub(super) fn next<'p>(&'p self, table: &'p Table, _: &'p CellPin) -> Option<&'p Table> {
        // SAFETY: it is retired after `table` was, or not at all [V3].
        unsafe { table.next().as_ref() }
    }

    /// The entry at an address that was found in a slot.
    #[inline(always)]
    pub(super) fn entry<'p>(&'p self, address: usize, _: &'p CellPin) -> &'p Entry<K, V> {
        // SAFETY: loaded from a slot under the pin, with Acquire [V2] [V3].
        unsafe { &*with_exposed_provenance(address) }
    }

    /// Searches for a key: step 1. Most searches end in the first slots of their window.
    #[inline]
    pub(crate) fn search<'p, Q>(&'p self, hash: u64, key: &Q, pin: &'p CellPin) -> Search<'p, K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let table = self.root(pin);
        let home = table.home(hash);
        let words = home.each_ref().map(Slot::load);
        let mut from = 0;
        if let Some(address) = Word::entry_among(&words, hash) {
            if let Some(found) = self.matching(address, key, pin) {
                return found;
            }
        } else {
            match Word::end_among(&words) {
                End::Empty(n) => {
                    let slot = home.get(n);
                    return Search::Absent(Vacancy { table, slot });
                }
                End::Frozen => {}
                End::Open => from = 1,
            }
        }
        self.search_on(table, from, hash, key, pin)
    }

    /// Searches for a key to read it: step 2. Returns what `f` makes of the entry and of the node
    /// with the value. `None`: the key is absent.
    #[inline(always)]
    #[cfg_attr(debug_assertions, track_caller)]
    pub(super) fn read<'p, Q, R>(
        &'p self,
        hash: u64,
        key: &Q,
        pin: &'p CellPin,
        f: impl FnOnce(&'p Entry<K, V>, NodeRef<'p>) -> R,
    ) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let table = self.root(pin);
        let home = table.home(hash);
        let words = home.each_ref().map(Slot::load);
        let mut from = 0;
        if let Some(address) = Word::entry_among(&words, hash) {
            let entry = self.entry(address, pin);
            if entry.key().borrow() == key {
                let node = entry.node(entry.cell.head().load(), pin);
                // Settled, and not dead.
                if node.header().has_value_and_stamp() {
                    entry.cell.check_direct();
                    return Some(f(entry, node));
                }
            }
        } else {
            match Word::end_among(&words) {
                End::Empty(_) => return None,
                End::Frozen => {}
                End::Open => from = 1,
            }
        }
        let (entry, node) = self.read_slow(table, from, hash, key, pin)?;
        Some(f(entry, node))
    }

    /// As `read`, from a group of the window in the first table on.
    #[cold]
    #[inline(never)]
    #[cfg_attr(debug_assertions, track_caller)]
    fn read_slow<'p, Q>(
        &'p self,
        table: &'p Table,
        from: usize,
        hash: u64,
        key: &Q,
        pin: &'p CellPin,
    ) -> Option<(&'p Entry<K, V>, NodeRef<'p>)>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let Search::Found(entry, seen) = self.search_on(table, from, hash, key, pin) else {
            return None;
        };
        entry.cell.check_direct();
        let node = entry.node(seen, pin).settle();
        (!node.header().is_vacant()).then_some((entry, node))
    }

    /// As `search`, from a group of the window in the first table on.
    #[inline(never)]
    fn search_on<'p, Q>(
        &'p self,
        table: &'p Table,
        from: usize,
        hash: u64,
        key: &Q,
        pin: &'p CellPin,
    ) -> Search<'p, K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let (mut table, mut from) = (table, from);
        loop {
            let mut first_empty = None;
            for n in from..table.window_groups() {
                let group = table.group_in_window(hash, n);
                let words = group.each_ref().map(Slot::load);
                if Word::entry_among(&words, hash).is_some() {
                    let mut addresses = words.iter().filter_map(|word| word.entry_of(hash));
                    let found = addresses.find_map(|address| self.matching(address, key, pin));
                    if let Some(found) = found {
                        return found;
                    }
                }
                match Word::end_among(&words) {
                    End::Empty(n) => {
                        first_empty = group.get(n);
                        break;
                    }
                    End::Frozen => break,
                    End::Open => {}
                }
            }
            from = 0;
            let next = match first_empty {
                None => self.next(table, pin),
                Some(_) => None,
            };
            match next {
                Some(next) => table = next,
                None => {
                    let slot = first_empty;
                    return Search::Absent(Vacancy { table, slot });
                }
            }
        }
    }

    /// The entry at an address, if it is that of the key and is not dead.
    #[inline(always)]
    fn matching<'p, Q>(
        &'p self,
        address: usize,
        key: &Q,
        pin: &'p CellPin,
    ) -> Option<Search<'p, K, V>>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        let entry = self.entry(address, pin);
        if entry.key().borrow() != key {
            return None;
        }
        let seen = entry.cell.head().load();
        let is_dead = entry.node(seen, pin).header().is_dead();
        (!is_dead).then_some(Search::Found(entry, seen))
    }

    /// The place for an entry of a key that a search has not found. `None`: there was no empty
    /// slot, and the map has grown.
    #[inline]
    pub(super) fn place<'p>(
        &'p self,
        local: &Local,
        Vacancy { table, slot }: Vacancy<'p>,
        hash: u64,
    ) -> Option<Place<'p>> {
        if slot.is_none() {
            self.grow(local, table, Some(hash), 0);
        }
        slot.map(Place)
    }

    /// The greatest version that an earlier entry of a key may have had. The caller has searched
    /// for the key [V6].
    #[inline]
    pub(super) fn floor(&self, hash: u64) -> Version {
        self.shared.floor(hash).load()
    }

    /// Makes an entry and installs it. The caller counts it. `Err`: the slot has been used since;
    /// the key and the value are the caller's again.
    #[inline]
    pub(super) fn install<'p>(
        &'p self,
        local: &Local,
        pin: &'p CellPin,
        place: Place<'p>,
        new: New<K, V>,
    ) -> Result<Installed<'p, K, V>, (K, First<V>)> {
        let entry = new.make(local);
        self.install_entry(local, pin, place, entry)
    }

    /// As `install`, of an entry that the caller has locked [V12].
    pub(super) fn install_locked<'p>(
        &'p self,
        local: &Local,
        pin: &'p CellPin,
        place: Place<'p>,
        new: New<K, V>,
    ) -> Result<Installed<'p, K, V>, (K, First<V>)> {
        let entry = new.make(local);
        // SAFETY: it was made, and no other thread can reach it.
        let head = unsafe { entry.as_ref() }.cell.head();
        let seen = head.load();
        let is_locked = head.lock(seen, seen.node());
        debug_assert!(is_locked, "no other thread can reach it");
        self.install_entry(local, pin, place, entry)
    }

    #[inline]
    fn install_entry<'p>(
        &'p self,
        local: &Local,
        pin: &'p CellPin,
        Place(slot): Place<'p>,
        entry: NonNull<Entry<K, V>>,
    ) -> Result<Installed<'p, K, V>, (K, First<V>)> {
        let address = entry.as_ptr().expose_provenance();
        // SAFETY: it was made, and no other thread can reach it.
        let this = unsafe { entry.as_ref() };
        let first = this.cell.head().load();
        if !slot.fill(Word::entry(address, this.hash())) {
            // SAFETY: it was not published, so that it is the caller's alone.
            return Err(unsafe { Entry::unmake(entry, local) });
        }
        let entry = self.entry(address, pin);
        Ok((entry, entry.node(first, pin)))
    }

    /// Makes sure that there is a table after `table`: step 9. A window of the hash is full, or
    /// there must be room for `entries`.
    #[cold]
    pub(super) fn grow(&self, local: &Local, table: &Table, hash: Option<u64>, entries: usize) {
        let shape = self.shape_after(table, hash, entries);
        match Table::new(shape) {
            Ok(next) => self.append(local, table, next),
            Err(error) => panic!("a map cannot grow: {error}"),
        }
    }

    fn shape_after(&self, table: &Table, hash: Option<u64>, entries: usize) -> Shape {
        let entries = entries.max(self.shared.entries() + 1);
        match hash {
            Some(hash) => table.shape().after(entries, table.crowd(hash)),
            None => Shape::for_entries(entries),
        }
    }

    /// Appends a table, unless there is one.
    pub(super) fn append(&self, local: &Local, table: &Table, next: Table) {
        let next = local.allocate(next);
        if table.set_next(next).is_err() {
            // SAFETY: never published.
            unsafe { next.drop_in_place() };
            // SAFETY: from `allocate`, and dropped.
            unsafe { local.pool().free(next) };
        }
    }

    /// Copies some slots of the root to the next tables: step 10. `true`: some are left.
    pub(super) fn copy_some(
        &self,
        local: &Local,
        maintenance: &mut Maintenance,
        pin: &CellPin,
    ) -> bool {
        let root = self.root(pin);
        let Some(next) = self.next(root, pin) else {
            return false;
        };
        let from = maintenance.copied;
        for slot in (from..from + MAP_CHUNK).map_while(|i| root.slot(i)) {
            self.copy(local, slot, next, pin);
        }
        maintenance.copied += MAP_CHUNK;
        if root.slot(maintenance.copied).is_some() {
            return true;
        }
        // Release: the next table is whole [V1].
        self.root
            .store(core::ptr::from_ref(next).cast_mut(), Ordering::Release);
        maintenance.copied = 0;
        // SAFETY: the root is another, by this thread, which has locked the mutex of the map [V8].
        let root = unsafe { Retired::new(NonNull::from(root).cast(), Table::KIND) };
        local.retire(pin, root);
        !next.next().is_null()
    }

    /// Freezes a slot, or copies its entry to the next tables.
    fn copy(&self, local: &Local, slot: &Slot, next: &Table, pin: &CellPin) {
        loop {
            let word = slot.load();
            match word.content() {
                Content::Empty if !slot.fill(Word::FROZEN) => continue,
                Content::Empty | Content::Frozen | Content::Unlinked => return,
                Content::Entry(address) => {
                    let entry = self.entry(address, pin);
                    // Not dead: a dead entry is unlinked before the mutex of the map is unlocked
                    // [V8].
                    return self.put(local, word, entry.hash(), next, pin);
                }
            }
        }
    }

    /// Installs the word of an entry that is in an earlier table.
    fn put(&self, local: &Local, word: Word, hash: u64, next: &Table, pin: &CellPin) {
        let mut table = next;
        loop {
            let is_done = table.window(hash).any(|slot| match slot.load() {
                Word::EMPTY => slot.fill(word),
                // A copy that a panic has ended is repeated.
                seen => seen == word,
            });
            if is_done {
                return;
            }
            if table.next().is_null() {
                self.grow(local, table, Some(hash), 0);
            }
            table = self.next(table, pin).expect("it has grown");
        }
    }

    /// Replaces the tables by one for so many entries, and waits until all entries are copied.
    ///
    /// # Errors
    /// Returns an error if the allocator has no memory. The map is unchanged then.
    pub(super) fn resize(
        &self,
        wants: impl Fn(Shape) -> Option<Shape>,
    ) -> Result<(), TryReserveError> {
        reclaim::with(|local| {
            // The tables that earlier calls have replaced: a loop of them would keep all.
            local.collect_some();
            let mut maintenance = self.shared.maintenance().lock();
            let pin = local.pin();
            while self.copy_some(local, &mut maintenance, &pin) {}
            let root = self.root(&pin);
            let Some(shape) = wants(root.shape()) else {
                return Ok(());
            };
            let next = Table::new(shape)?;
            self.append(local, root, next);
            while self.copy_some(local, &mut maintenance, &pin) {}
            Ok(())
        })
    }

    /// Whether there are entries to be copied.
    #[inline]
    pub(super) fn is_growing(&self, pin: &CellPin) -> bool {
        !self.root(pin).next().is_null()
    }

    /// All tables, from the root on.
    pub(super) fn tables<'p>(&'p self, pin: &'p CellPin) -> impl Iterator<Item = &'p Table> {
        core::iter::successors(Some(self.root(pin)), move |table| self.next(table, pin))
    }

    /// The entries of keys with this hash.
    fn entries_of<'p>(
        &'p self,
        hash: u64,
        pin: &'p CellPin,
    ) -> impl Iterator<Item = &'p Entry<K, V>> {
        let slots = self.tables(pin).flat_map(move |table| table.window(hash));
        let entries = slots.filter_map(move |slot| slot.load().entry_of(hash));
        let entries = entries.map(|address| self.entry(address, pin));
        entries.filter(move |entry| entry.hash() == hash)
    }

    /// A key of this hash, if there is an entry.
    #[cfg(feature = "console")]
    pub(super) fn key_of<'p>(&'p self, hash: u64, pin: &'p CellPin) -> Option<&'p K> {
        self.entries_of(hash, pin).map(Entry::key).next()
    }

    /// An entry of a key with this hash that is locked.
    pub(super) fn locked_of<'p>(&'p self, hash: u64, pin: &'p CellPin) -> Option<&'p Entry<K, V>> {
        let is_locked = |entry: &&Entry<K, V>| entry.cell.head().load().is_locked();
        self.entries_of(hash, pin).find(is_locked)
    }

    /// The number of entries for which the newest table was made, and the bytes of all tables.
    pub(super) fn sizes(&self) -> (usize, usize) {
        reclaim::with(|local| {
            let pin = local.pin();
            let shapes = self.tables(&pin).map(Table::shape);
            shapes.fold((0, 0), |(_, bytes), shape| {
                (shape.entries(), bytes + shape.bytes())
            })
        })
    }

    /// Each entry that is in the map, once: step 11. Entries that are installed or buried at the
    /// same time may be missing.
    pub(super) fn scan<'p>(&'p self, pin: &'p CellPin) -> Scan<'p, K, V> {
        let root = self.root(pin);
        Scan {
            index: self,
            pin,
            begin: root,
            last: self.tables(pin).last().unwrap_or(root),
            table: root,
            line: 0,
            slots: [].iter(),
        }
    }
}

/// A walk over all entries. It ends once: an iterator over it is fused.
pub(super) struct Scan<'p, K: Send + Sync + 'static, V: Send + Sync + 'static> {
    index: &'p Index<K, V>,
    pin: &'p CellPin,
    /// The table in which the walk has begun.
    begin: &'p Table,
    /// The newest table at that time, in which the walk ends.
    last: &'p Table,
    table: &'p Table,
    /// The number of the next line of the table.
    line: usize,
    /// The rest of the line before it.
    slots: core::slice::Iter<'p, Slot>,
}

impl<'p, K: Send + Sync + 'static, V: Send + Sync + 'static> Scan<'p, K, V> {
    /// The next slot. The walk begins to load the entries of the lines ahead: their addresses are
    /// in no order, so the walk would wait for each.
    #[inline(always)]
    fn next_slot(&mut self) -> Option<&'p Slot> {
        loop {
            if let Some(slot) = self.slots.next() {
                return Some(slot);
            }
            match self.table.line(self.line) {
                Some(line) => self.slots = line.iter(),
                None => {
                    self.next_table()?;
                    continue;
                }
            }
            for slot in self.table.line(self.line + MAP_AHEAD).unwrap_or_default() {
                if let Content::Entry(address) = slot.load().content() {
                    prefetch(address);
                }
            }
            self.line += 1;
        }
    }

    /// Continues in the table after this one. `None`: the walk ends.
    #[cold]
    fn next_table(&mut self) -> Option<()> {
        if core::ptr::eq(self.table, self.last) {
            return None;
        }
        self.table = self.index.next(self.table, self.pin)?;
        self.line = 0;
        Some(())
    }

    /// Whether a table that the walk has left has the entry, so that this one is a copy [V9].
    #[cold]
    #[inline(never)]
    fn is_in_earlier(&self, entry: &Entry<K, V>) -> bool {
        let (hash, address) = entry.name();
        core::iter::successors(Some(self.begin), |table| self.index.next(table, self.pin))
            .take_while(|table| !core::ptr::eq(*table, self.table))
            .any(|table| table.slot_of(hash, address).is_some())
    }
}

impl<'p, K: Send + Sync + 'static, V: Send + Sync + 'static> Iterator for Scan<'p, K, V> {
    type Item = &'p Entry<K, V>;

    #[inline]
    fn next(&mut self) -> Option<&'p Entry<K, V>> {
        loop {
            if let Content::Entry(address) = self.next_slot()?.load().content() {
                let entry = self.index.entry(address, self.pin);
                // Another one was visited in an earlier table [V9].
                if core::ptr::eq(self.table, self.begin) || !self.is_in_earlier(entry) {
                    return Some(entry);
                }
            }
        }
    }
}

/// Begins to load the cache line at an address, without an effect that a program can observe.
#[inline(always)]
fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint. It accesses no memory as far as the language is concerned, and no address
        // makes it fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::without_provenance(address)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Index<K, V> {
    /// Frees the tables, and returns all entries, which belong to the caller. The index is not used
    /// again.
    pub(super) fn take_entries(&mut self) -> Vec<NonNull<Entry<K, V>>> {
        let mut entries = Vec::new();
        // Relaxed: the map is borrowed exclusively.
        let root = self.root.load(Ordering::Relaxed);
        let mut tables = Vec::new();
        let mut next = NonNull::new(root);
        while let Some(table) = next {
            tables.push(table);
            // SAFETY: a table of this map, which is borrowed exclusively.
            next = NonNull::new(unsafe { table.as_ref() }.next());
        }
        // Relaxed: as above.
        self.root.store(core::ptr::null_mut(), Ordering::Relaxed);
        let has_copies = tables.len() > 1;
        for table in tables {
            // SAFETY: as above.
            let this = unsafe { table.as_ref() };
            for slot in this.slots_from(0) {
                let Content::Entry(address) = slot.load().content() else {
                    continue;
                };
                let entry = with_exposed_provenance::<Entry<K, V>>(address).cast_mut();
                let entry = NonNull::new(entry).expect("an entry is not at null");
                entries.push(entry);
            }
            reclaim::with(|local| {
                // SAFETY: no thread can reach it.
                unsafe { table.drop_in_place() };
                // SAFETY: from `allocate`, and dropped.
                unsafe { local.pool().free(table) };
            });
        }
        if has_copies {
            // An entry is in several tables [V9].
            entries.sort_unstable();
            entries.dedup();
        }
        entries
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Drop for Index<K, V> {
    fn drop(&mut self) {
        // Relaxed: as above.
        if !self.root.load(Ordering::Relaxed).is_null() {
            drop(Entries::of(self));
        }
    }
}

/// The entries of a map that is being dropped.
pub(super) struct Entries<K: Send + Sync + 'static, V: Send + Sync + 'static>(
    Vec<NonNull<Entry<K, V>>>,
);

// SAFETY: it owns its entries.
unsafe impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Send for Entries<K, V> {}
// SAFETY: it lends nothing.
unsafe impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Sync for Entries<K, V> {}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Entries<K, V> {
    pub(super) fn of(index: &mut Index<K, V>) -> Self {
        Entries(index.take_entries())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The key and the cell of the next entry. The cell may be without a value.
    pub(super) fn next(&mut self, local: &Local) -> Option<(K, VersionedCell<V>)> {
        let entry = self.0.pop()?;
        // SAFETY: from `allocate`, and this value's alone.
        Some(unsafe { Entry::into_parts(entry, local) })
    }
}

impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Drop for Entries<K, V> {
    fn drop(&mut self) {
        /// If a destructor panics, the others run as the panic passes.
        struct Rest<'a, K: Send + Sync + 'static, V: Send + Sync + 'static> {
            entries: &'a mut Entries<K, V>,
            local: &'a Local,
        }

        impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Rest<'_, K, V> {
            fn release(&mut self) {
                while let Some((key, cell)) = self.entries.next(self.local) {
                    drop(key);
                    drop(cell);
                }
            }
        }

        impl<K: Send + Sync + 'static, V: Send + Sync + 'static> Drop for Rest<'_, K, V> {
            fn drop(&mut self) {
                self.release();
            }
        }

        let entries = self;
        reclaim::with(|local| Rest { entries, local }.release());
    }
}
