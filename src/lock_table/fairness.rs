//! The order in which waiters acquire a key.

/// Determines which thread acquires a key that is released while others wait for it.
///
/// # Examples
/// ```
/// use latchwork::{Fairness, LockTable};
/// let table = LockTable::<u64>::builder().fairness(Fairness::Fifo).build();
/// # let _ = table.lock(&1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fairness {
    /// The first thread that tries acquires the key: a running thread may acquire a free key ahead
    /// of parked waiters. At most 64 acquisitions bypass the oldest waiter; then the key is handed
    /// to it.
    ///
    /// With more threads than cores, the throughput is tens of times that of `Fifo`, because a
    /// running thread never waits for a parked one to wake (report, `contended`; bench `fairness`).
    #[default]
    Eventual,
    /// The longest-waiting waiter acquires the key: a key with waiters is never free, but is handed
    /// to the head of the queue. If the head is a reader, all readers that directly follow it also
    /// acquire the key.
    Fifo,
}
