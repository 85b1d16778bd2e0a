//! The default hasher, behind names of our own so that its version is not part of our API.

use core::fmt;
use core::hash::{BuildHasher, Hasher};

/// Builds the default hasher of a [`LockTable`](crate::LockTable), seeded for each table.
///
/// It is fast and spreads well, and its seed differs between processes, so that one cannot work
/// out colliding keys ahead. It is no cryptographic hash: someone who can choose keys *and*
/// measure which of them wait for each other can learn collisions. Where that matters, use
/// [`std::hash::RandomState`] (SipHash) with
/// [`LockTable::with_hasher`](crate::LockTable::with_hasher).
///
/// Source: foldhash, quality variant, by Orson Peters.
///
/// # Examples
/// ```
/// use std::hash::BuildHasher;
/// let state = latchwork::RandomState::new();
/// assert_eq!(state.hash_one("a"), state.hash_one("a"));
/// ```
#[derive(Clone, Default)]
pub struct RandomState(foldhash::quality::RandomState);

impl RandomState {
    /// Returns a state with a seed of its own.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for RandomState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RandomState").finish_non_exhaustive()
    }
}

impl BuildHasher for RandomState {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0.build_hasher())
    }
}

/// The hasher that [`RandomState`] builds.
///
/// # Examples
/// ```
/// use std::hash::{BuildHasher, Hasher};
/// let mut hasher: latchwork::KeyHasher = latchwork::RandomState::new().build_hasher();
/// hasher.write_u64(7);
/// let _ = hasher.finish();
/// ```
#[derive(Clone)]
pub struct KeyHasher(foldhash::quality::FoldHasher<'static>);

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHasher").finish_non_exhaustive()
    }
}

macro_rules! forward {
    ($($method:ident($ty:ty)),*) => {
        $(
            #[inline(always)]
            fn $method(&mut self, value: $ty) {
                self.0.$method(value);
            }
        )*
    };
}

impl Hasher for KeyHasher {
    forward! {
        write(&[u8]), write_u8(u8), write_u16(u16), write_u32(u32), write_u64(u64),
        write_u128(u128), write_usize(usize), write_i8(i8), write_i16(i16), write_i32(i32),
        write_i64(i64), write_i128(i128), write_isize(isize)
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}
