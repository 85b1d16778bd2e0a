//! Maps with numbers as keys, which shrink.

use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;

/// Hashes numbers. These are consecutive ids, or the hashes of keys, which may be the keys
/// themselves under a weak hasher. So each bit of a number affects the lower and the upper bits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, _: &[u8]) {
        unreachable!("numbers only")
    }

    #[inline(always)]
    fn write_u64(&mut self, n: u64) {
        // The multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4). Both halves of the product are
        // combined, as in wyhash (Wang Yi, 2019): a half alone omits the bits that differ at the
        // other end.
        let product = u128::from(n) * 0x9E37_79B9_7F4A_7C15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The number of entries for which memory is always kept.
pub(super) const KEPT: usize = 1 << 10;

pub(crate) type Numbers<V> = HashMap<u64, V, BuildHasherDefault<Spread>>;

/// Frees memory when most of it is empty. That moves the entries, and half of them must be removed
/// before it happens again.
pub(super) fn shrink<V>(all: &mut Numbers<V>) {
    all.shrink_to(KEPT.max(2 * all.len()));
}
