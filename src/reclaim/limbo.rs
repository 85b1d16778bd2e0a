//! The retired objects of one slot that have left its buffer, oldest first.

use std::collections::VecDeque;

use super::kind::{Kind, Retired};
use super::retire_buffer::RetireBuffer;
use crate::sync::{recently, tuning::GARBAGE_BATCH};

/// A slot keeps the memory of a batch for so many objects.
const KEPT: usize = 4 * GARBAGE_BATCH;

/// Objects with the epoch at which they left the buffer.
#[derive(Debug)]
struct Batch {
    epoch: u64,
    /// When the first of them left the buffer, by [`recently`].
    since: u64,
    objects: VecDeque<Retired>,
}

/// The retired objects of one slot. Protected by the mutex of the slot.
#[derive(Debug, Default)]
pub(super) struct Limbo {
    /// Objects whose last share was dropped inside the running destructor of the owner, which
    /// destroys them afterwards unless another thread does [R10].
    queue: VecDeque<Retired>,
    /// Reclaimable objects with user code that could not run when they were found [R11].
    ready: VecDeque<Retired>,
    /// In ascending order of their epochs. None is empty.
    batches: VecDeque<Batch>,
    /// The memory of batches that are empty. Usually three batches exist: of the present epoch, and
    /// of the two before.
    spare: [VecDeque<Retired>; 3],
    /// How many objects of the buffer were ever popped.
    popped: u64,
    len: usize,
    bytes: usize,
    /// The number of objects that were popped when another thread first checked, and the time of
    /// that, by [`recently`].
    idle: (u64, u64),
}

/// Whether a release of the garbage of a slot includes the queue of its owner's destructor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    Included,
    Left,
}

/// The contents of a limbo, for statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) objects: usize,
    pub(super) bytes: usize,
}

impl Limbo {
    pub(super) fn size(&self) -> Size {
        Size {
            objects: self.len,
            bytes: self.bytes,
        }
    }

    /// Moves all objects of the buffer to the batch of `epoch`, if there are any, and returns how
    /// many there were. The epoch is determined once the number of objects is known [R2].
    ///
    /// # Safety
    /// The caller holds the mutex of the slot, to which both belong [R4].
    #[allow(unsafe_code)]
    pub(super) unsafe fn absorb(
        &mut self,
        buffer: &RetireBuffer,
        epoch: impl FnOnce() -> u64,
    ) -> usize {
        let len = buffer.len();
        let added = (len - self.popped) as usize;
        if added == 0 {
            return 0;
        }
        let epoch = epoch();
        // SAFETY: the mutex is the caller's, and so many were popped.
        let objects = unsafe { buffer.pop(self.popped, len) };
        self.popped = len;
        self.append(epoch, objects);
        added
    }

    /// Adds an object whose last share was dropped inside a destructor.
    pub(super) fn enqueue(&mut self, retired: Retired) {
        self.len += 1;
        self.bytes += retired.bytes();
        self.queue.push_back(retired);
    }

    /// Removes the first such object.
    pub(super) fn dequeue(&mut self) -> Option<Retired> {
        let retired = self.queue.pop_front()?;
        self.subtract(&retired);
        Some(retired)
    }

    /// The owner leaves the rest of its queue to later releases.
    pub(super) fn end_queue(&mut self) {
        self.ready.append(&mut self.queue);
    }

    /// Returns an object that was removed and not released. It is the next to be removed.
    pub(super) fn restore(&mut self, retired: Retired) {
        self.len += 1;
        self.bytes += retired.bytes();
        self.ready.push_front(retired);
    }

    fn subtract(&mut self, retired: &Retired) {
        self.len -= 1;
        self.bytes -= retired.bytes();
    }

    fn append(&mut self, epoch: u64, objects: impl IntoIterator<Item = Retired>) {
        if self.batches.back().is_none_or(|b| b.epoch != epoch) {
            let batch = self.new_batch(epoch);
            self.batches.push_back(batch);
        }
        self.extend_batch(self.batches.len() - 1, objects);
    }

    #[allow(
        clippy::manual_inspect,
        reason = "`inspect` hides the length of the iterator, which `extend` trusts"
    )]
    fn extend_batch(&mut self, i: usize, objects: impl IntoIterator<Item = Retired>) {
        let batch = &mut self.batches[i].objects;
        let (before, mut bytes) = (batch.len(), 0);
        batch.extend(objects.into_iter().map(|retired| {
            bytes += retired.bytes();
            retired
        }));
        self.len += batch.len() - before;
        self.bytes += bytes;
        if batch.is_empty() {
            self.batches.remove(i);
        }
    }

    /// How many objects are reclaimable if those of batches up to `epoch` are.
    pub(super) fn count_up_to(&self, epoch: u64) -> usize {
        let batches = self.batches.iter().take_while(|b| b.epoch <= epoch);
        let waited = batches.map(|b| b.objects.len()).sum::<usize>();
        waited + self.ready.len() + self.queue.len()
    }

    /// Removes an object that is reclaimable if those of batches up to `epoch` are.
    #[inline]
    pub(super) fn pop_up_to(&mut self, epoch: u64, queued: Queued) -> Option<Retired> {
        if queued == Queued::Included && !self.queue.is_empty() {
            return self.dequeue();
        }
        if let Some(retired) = self.ready.pop_front() {
            self.subtract(&retired);
            return Some(retired);
        }
        self.pop_waited(epoch)
    }

    /// Removes some objects that are reclaimable if those of batches up to `epoch` are: at most
    /// `n`. Calls `f` for each, and returns their size. It is 0 if none is left, or a plain object
    /// is next.
    #[inline]
    pub(super) fn pop_some(
        &mut self,
        n: usize,
        epoch: u64,
        queued: Queued,
        mut f: impl FnMut(Retired),
    ) -> Size {
        let mut size = Size::default();
        if n == 0 {
            return size;
        }
        let has_queue = queued == Queued::Included && !self.queue.is_empty();
        if has_queue || !self.ready.is_empty() {
            if let Some(retired) = self.pop_up_to(epoch, queued) {
                (size.objects, size.bytes) = (1, retired.bytes());
                f(retired);
            }
            return size;
        }
        let front = self.batches.front_mut().filter(|b| b.epoch <= epoch);
        let Some(front) = front else { return size };
        let (objects, _) = front.objects.as_slices();
        let some = &objects[..objects.len().min(n)];
        for retired in some.iter().take_while(|retired| !retired.is_plain()) {
            size.objects += 1;
            size.bytes += retired.bytes();
        }
        front.objects.drain(..size.objects).for_each(f);
        if front.objects.is_empty() {
            self.remove_front();
        }
        self.len -= size.objects;
        self.bytes -= size.bytes;
        size
    }

    /// Removes the oldest object of the batches, if its epoch is at most `epoch`.
    #[inline]
    fn pop_waited(&mut self, epoch: u64) -> Option<Retired> {
        let front = self.batches.front_mut()?;
        if front.epoch > epoch {
            return None;
        }
        let retired = front.objects.pop_front()?;
        if front.objects.is_empty() {
            self.remove_front();
        }
        self.subtract(&retired);
        Some(retired)
    }

    /// Sets aside the oldest objects, at most `n`, while their epoch is at most `epoch` and they
    /// run user code. Returns how many there were.
    pub(super) fn set_aside(&mut self, n: usize, epoch: u64) -> usize {
        for done in 0..n {
            let front = self.batches.front().filter(|b| b.epoch <= epoch);
            let object = front.and_then(|b| b.objects.front());
            if object.is_none_or(Retired::is_plain) {
                return done;
            }
            let Some(retired) = self.pop_waited(epoch) else {
                return done;
            };
            self.len += 1;
            self.bytes += retired.bytes();
            self.ready.push_back(retired);
        }
        n
    }

    /// Removes the first batch, which is empty.
    fn remove_front(&mut self) {
        if let Some(Batch { objects, .. }) = self.batches.pop_front() {
            // A long list is returned to the allocator after a burst.
            if objects.capacity() <= KEPT {
                let free = self.spare.iter_mut().find(|spare| spare.capacity() == 0);
                if let Some(free) = free {
                    *free = objects;
                }
            }
        }
    }

    fn new_batch(&mut self, epoch: u64) -> Batch {
        let kept = self.spare.iter_mut().find(|spare| spare.capacity() > 0);
        Batch {
            epoch,
            since: recently(),
            objects: kept.map(core::mem::take).unwrap_or_default(),
        }
    }

    /// Removes the oldest objects, in order and at most `n`, while their epoch is at most `epoch`
    /// and they run no user code. Calls `f` for each run of objects of one kind, and returns how
    /// many objects there were.
    #[inline]
    pub(super) fn drain_plain(
        &mut self,
        n: usize,
        epoch: u64,
        mut f: impl FnMut(&'static Kind, &[Retired]),
    ) -> usize {
        let mut drained = 0;
        while let Some(front) = self.batches.front_mut() {
            if front.epoch > epoch {
                break;
            }
            let (objects, _) = front.objects.as_slices();
            let mut rest = &objects[..objects.len().min(n - drained)];
            let (mut count, mut bytes) = (0, 0);
            while let Some(first) = rest.first().filter(|first| first.is_plain()) {
                let same = |retired: &&Retired| core::ptr::eq(retired.kind, first.kind);
                let (run, others) = rest.split_at(rest.iter().take_while(same).count());
                f(first.kind, run);
                count += run.len();
                bytes += run.len() * first.bytes();
                rest = others;
            }
            if count == 0 {
                break;
            }
            front.objects.drain(..count);
            if front.objects.is_empty() {
                self.remove_front();
            }
            self.len -= count;
            self.bytes -= bytes;
            drained += count;
        }
        drained
    }

    /// When the oldest object that is not reclaimable left its buffer, by [`recently`].
    pub(super) fn oldest_after(&self, epoch: u64) -> Option<u64> {
        let mut waiting = self.batches.iter().filter(|b| b.epoch > epoch);
        waiting.next().map(|b| b.since)
    }

    /// Whether the owner has retired nothing for `span`, between two calls of this function.
    pub(super) fn is_idle(&mut self, now: u64, span: u64) -> bool {
        let (popped, since) = self.idle;
        if popped != self.popped {
            self.idle = (self.popped, now);
            return false;
        }
        now.saturating_sub(since) >= span
    }
}

#[cfg(all(test, not(any(latchwork_loom, latchwork_shuttle))))]
mod tests {
    use core::ptr::NonNull;

    use super::super::kind::Destructor;
    use super::*;

    /// Objects in the order of their addresses, plain or not, of so many bytes.
    #[allow(unsafe_code)]
    fn objects<T: 'static>(range: core::ops::Range<usize>, plain: bool) -> Vec<Retired> {
        const fn kind<T>(destructor: Destructor) -> Kind {
            // SAFETY: they access no object.
            unsafe { Kind::of::<T>(|_| false, |_| (), destructor) }
        }
        let (none, of_user) =
            const { (&kind::<T>(Destructor::None), &kind::<T>(Destructor::OfUser)) };
        let kind = if plain { none } else { of_user };
        let one = |n: usize| Retired {
            object: NonNull::new(core::ptr::without_provenance_mut(n)).expect("not null"),
            kind,
        };
        range.map(one).collect()
    }

    fn addresses(limbo: &mut Limbo, up_to: u64) -> Vec<usize> {
        let next = || limbo.pop_up_to(up_to, Queued::Included);
        core::iter::from_fn(next)
            .map(|r| r.object.addr().get())
            .collect()
    }

    #[test]
    fn objects_leave_oldest_first_and_not_before_their_epoch() {
        let mut limbo = Limbo::default();
        for (epoch, range) in [(3, 10..20), (3, 20..25), (4, 25..30), (7, 30..31)] {
            limbo.append(epoch, objects::<u64>(range, true));
        }
        assert_eq!(limbo.count_up_to(2), 0);
        assert_eq!(limbo.count_up_to(3), 15);
        assert_eq!(limbo.count_up_to(6), 20);
        assert!(limbo.oldest_after(6).is_some() && limbo.oldest_after(7).is_none());
        assert_eq!(addresses(&mut limbo, 2), [0; 0]);
        assert_eq!(addresses(&mut limbo, 3), (10..25).collect::<Vec<_>>());
        objects::<u64>(1..3, false)
            .into_iter()
            .for_each(|r| limbo.enqueue(r));
        assert!(limbo.pop_up_to(3, Queued::Left).is_none());
        limbo.end_queue();
        objects::<u64>(3..4, false)
            .into_iter()
            .for_each(|r| limbo.enqueue(r));
        assert_eq!(limbo.count_up_to(4), 8);
        assert_eq!(addresses(&mut limbo, 4), [3, 1, 2, 25, 26, 27, 28, 29]);
        assert_eq!(addresses(&mut limbo, 7), [30]);
        assert_eq!(limbo.size(), Size::default());
    }

    #[test]
    fn a_limbo_knows_its_size() {
        let mut limbo = Limbo::default();
        limbo.append(1, objects::<u64>(1..4, true));
        limbo.append(2, objects::<[u64; 10]>(4..6, false));
        let size = |objects, bytes| Size { objects, bytes };
        assert_eq!(limbo.size(), size(5, 3 * 8 + 2 * 80));
        assert_eq!(limbo.drain_plain(2, 2, |_, _| ()), 2);
        assert_eq!(limbo.size(), size(3, 8 + 2 * 80));
        // Up to the first object with a destructor.
        assert_eq!(limbo.drain_plain(9, 2, |_, _| ()), 1);
        assert_eq!(limbo.drain_plain(9, 2, |_, _| ()), 0);
        assert_eq!(limbo.size(), size(2, 2 * 80));
        assert_eq!(addresses(&mut limbo, 2), [4, 5]);
        assert_eq!(limbo.size(), size(0, 0));
        limbo.append(3, objects::<u64>(1..1, true));
        assert!(limbo.batches.is_empty());
    }

    #[test]
    fn plain_objects_leave_in_order_and_not_before_their_epoch() {
        let mut limbo = Limbo::default();
        limbo.append(1, objects::<u64>(1..4, true));
        limbo.append(2, objects::<u64>(4..6, true));
        let mut seen = Vec::new();
        let mut drain = |n, epoch| {
            limbo.drain_plain(n, epoch, |_, some| {
                seen.extend(some.iter().map(|retired| retired.object.addr().get()));
            })
        };
        assert_eq!(
            [drain(9, 0), drain(2, 1), drain(9, 1), drain(9, 2)],
            [0, 2, 1, 2]
        );
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn objects_with_user_code_are_set_aside_when_they_are_due() {
        let mut limbo = Limbo::default();
        limbo.append(1, objects::<u64>(1..4, false));
        limbo.append(1, objects::<u64>(4..5, true));
        limbo.append(2, objects::<u64>(5..7, false));
        let size = limbo.size();
        assert_eq!([limbo.set_aside(9, 0), limbo.set_aside(2, 1)], [0, 2]);
        assert_eq!([limbo.set_aside(9, 1), limbo.set_aside(9, 1)], [1, 0]);
        assert_eq!((limbo.size(), limbo.count_up_to(0)), (size, 3));
        assert_eq!(limbo.drain_plain(9, 1, |_, _| ()), 1);
        assert_eq!([limbo.set_aside(9, 1), limbo.set_aside(9, 2)], [0, 2]);
        assert_eq!(addresses(&mut limbo, 0), [1, 2, 3, 5, 6]);
        assert_eq!(limbo.size(), Size::default());
    }

    #[test]
    fn objects_with_user_code_leave_together_and_in_order() {
        let mut limbo = Limbo::default();
        limbo.append(1, objects::<u64>(1..4, false));
        limbo.append(1, objects::<u64>(4..5, true));
        limbo.append(2, objects::<u64>(5..7, false));
        objects::<u64>(7..8, false)
            .into_iter()
            .for_each(|r| limbo.restore(r));
        let mut seen = Vec::new();
        let mut pop = |limbo: &mut Limbo, n, epoch| {
            let f = |retired: Retired| seen.push(retired.object.addr().get());
            limbo.pop_some(n, epoch, Queued::Left, f)
        };
        let size = |objects| Size {
            objects,
            bytes: 8 * objects,
        };
        assert_eq!(pop(&mut limbo, 0, 2), size(0));
        assert_eq!(
            [pop(&mut limbo, 9, 0), pop(&mut limbo, 9, 0)],
            [size(1), size(0)]
        );
        assert_eq!(
            [pop(&mut limbo, 2, 1), pop(&mut limbo, 9, 2)],
            [size(2), size(1)]
        );
        assert_eq!(pop(&mut limbo, 9, 2), size(0), "a plain one is next");
        assert_eq!(limbo.drain_plain(9, 2, |_, _| ()), 1);
        assert_eq!(
            [pop(&mut limbo, 9, 1), pop(&mut limbo, 9, 2)],
            [size(0), size(2)]
        );
        assert_eq!(seen, [7, 1, 2, 3, 5, 6]);
        assert_eq!(limbo.size(), Size::default());
    }

    #[test]
    fn a_limbo_keeps_the_memory_of_a_short_batch_only() {
        for (len, is_kept) in [(KEPT / 2, true), (KEPT + 1, false)] {
            let mut limbo = Limbo::default();
            limbo.append(1, objects::<u64>(1..len + 1, true));
            assert_eq!(addresses(&mut limbo, 1).len(), len);
            assert_eq!(limbo.spare[0].capacity() > 0, is_kept, "{len}");
            assert_eq!(limbo.batches.len(), 0);
        }
    }

    #[test]
    fn an_owner_is_idle_if_nothing_came_between_two_looks() {
        let mut limbo = Limbo {
            popped: 1,
            ..Limbo::default()
        };
        assert!(!limbo.is_idle(100, 10), "seen for the first time");
        assert!(!limbo.is_idle(109, 10));
        assert!(limbo.is_idle(110, 10));
        limbo.popped = 2;
        assert!(!limbo.is_idle(200, 10));
        assert!(limbo.is_idle(210, 10));
    }
}
