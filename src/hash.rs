//! Hashers: the default one, under names of this crate, and one that is exact for integers.
//!
//! The names are our own so that the version of foldhash is no part of the public API.

use core::any::TypeId;
use core::fmt;
use core::hash::{BuildHasher, Hasher};
use core::marker::PhantomData;

/// Builds the default hasher of a [`LockTable`](crate::LockTable), with a seed for each table.
///
/// It is fast and spreads well. The seed differs between processes, so an attacker cannot compute
/// colliding keys ahead of time.
///
/// It is no cryptographic hash. An attacker that can choose keys *and* measure which of them wait
/// for each other can find collisions. Where that matters, use [`std::hash::RandomState`] (SipHash)
/// with [`LockTable::with_hasher`](crate::LockTable::with_hasher).
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
    /// Returns a state with a new seed.
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
/// let mut hasher: latchwork::table::KeyHasher = latchwork::RandomState::new().build_hasher();
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

/// Hashes integer keys exactly: distinct integers have distinct hashes.
///
/// Consecutive integers spread over all 64 bits.
///
/// It is a bijection on 64-bit numbers. The identity of a key in a [`LockTable`](crate::LockTable)
/// is therefore the integer itself, and no two keys share a lock. [`key_of`](Self::key_of) returns
/// the integer of a [`KeyId`](crate::table::KeyId), for labels in reports. The type is its own
/// [`BuildHasher`].
///
/// # Which keys
/// A key must write exactly one integer of at most 64 bits to the hasher. These types do so: `u8`
/// to `u64`, `i8` to `i64`, `usize`, `isize`, `bool`, `char`, the `NonZero` types, references to
/// these, newtypes of these with a derived `Hash`, and enums without fields.
///
/// A signed integer is extended to 64 bits: `key_of(id) as i32` is the key of a table of `i32`.
/// Keys of different types with the same numerical value have the same hash.
///
/// # Panics
/// Panics in every build if a key writes anything else: strings and slices, 128-bit integers, and
/// keys that write two integers, such as tuples, `Option` and structs of two fields. A key that
/// writes nothing, such as `()`, also panics. The panic names the cause, and no key is locked.
///
/// # Limits
/// The hasher has no seed and is public, so a caller can choose keys that are close in the index of
/// a table. Such keys cost time in proportion to the logarithm of their number, and never their
/// identity. For a `HashMap` with untrusted keys, use [`RandomState`]: chains of equal low bits
/// have no such bound there.
///
/// *Source.* The finalizer of MurmurHash3 by Austin Appleby: each of its five steps has an inverse.
///
/// # Examples
/// ```
/// use latchwork::{LockTable, table::IntegerHasher};
///
/// let accounts = LockTable::<u64>::builder()
///     .hasher(IntegerHasher::new())
///     .key_labels(|id| format!("account {}", IntegerHasher::key_of(id)))
///     .build();
/// let guard = accounts.lock(&42);
/// assert_eq!(IntegerHasher::key_of(guard.key_id()), 42);
/// ```
/// ```should_panic
/// let names = latchwork::LockTable::<str, _>::with_hasher(latchwork::table::IntegerHasher::new());
/// let _ = names.lock("a"); // panics: a string is no integer
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntegerHasher(Option<u64>);

const MULTIPLIERS: [u64; 2] = [0xFF51_AFD7_ED55_8CCD, 0xC4CE_B9FE_1A85_EC53];
const INVERSES: [u64; 2] = [inverse(MULTIPLIERS[0]), inverse(MULTIPLIERS[1])];

/// Returns the number whose product with `odd` is 1, modulo 2⁶⁴.
///
/// This is Newton's iteration, which doubles the number of correct bits.
const fn inverse(odd: u64) -> u64 {
    // Correct in the low three bits: the square of an odd number is 1 modulo 8.
    let mut inverse = odd;
    let mut bits = 3;
    while bits < u64::BITS {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

/// Returns the number itself when it is applied twice, because a shift by 66 leaves no bits.
#[inline(always)]
const fn xor_shifted(n: u64) -> u64 {
    n ^ (n >> 33)
}

impl IntegerHasher {
    /// Makes a hasher.
    pub const fn new() -> Self {
        IntegerHasher(None)
    }

    /// Returns the hash of an integer.
    #[inline(always)]
    pub(crate) const fn mix(key: u64) -> u64 {
        let key = xor_shifted(key).wrapping_mul(MULTIPLIERS[0]);
        let key = xor_shifted(key).wrapping_mul(MULTIPLIERS[1]);
        xor_shifted(key)
    }

    /// Returns the integer that has this hash.
    pub(crate) const fn unmix(hash: u64) -> u64 {
        let hash = xor_shifted(hash).wrapping_mul(INVERSES[1]);
        let hash = xor_shifted(hash).wrapping_mul(INVERSES[0]);
        xor_shifted(hash)
    }

    #[inline(always)]
    fn put(&mut self, key: u64) {
        match self.0 {
            None => self.0 = Some(key),
            Some(_) => refuse_key("two integers"),
        }
    }
}

#[cold]
fn refuse_key(found: &str) -> ! {
    panic!(
        "`IntegerHasher` requires a key that writes one integer of at most 64 bits, but the key wrote \
         {found}; use `RandomState` for such keys"
    );
}

impl BuildHasher for IntegerHasher {
    type Hasher = IntegerHasher;

    #[inline(always)]
    fn build_hasher(&self) -> IntegerHasher {
        IntegerHasher::new()
    }
}

macro_rules! put_unsigned {
    ($($method:ident($ty:ty)),*) => {
        $(
            #[inline(always)]
            fn $method(&mut self, key: $ty) {
                self.put(key as u64);
            }
        )*
    };
}

macro_rules! put_signed {
    ($($method:ident($ty:ty)),*) => {
        $(
            #[inline(always)]
            fn $method(&mut self, key: $ty) {
                self.put(key as i64 as u64);
            }
        )*
    };
}

impl Hasher for IntegerHasher {
    put_unsigned! {
        write_u8(u8), write_u16(u16), write_u32(u32), write_u64(u64), write_usize(usize)
    }
    put_signed! {
        write_i8(i8), write_i16(i16), write_i32(i32), write_i64(i64), write_isize(isize)
    }

    fn write(&mut self, _: &[u8]) {
        refuse_key("bytes")
    }

    fn write_u128(&mut self, _: u128) {
        refuse_key("an integer of 128 bits")
    }

    fn write_i128(&mut self, _: i128) {
        refuse_key("an integer of 128 bits")
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        match self.0 {
            Some(key) => Self::mix(key),
            None => refuse_key("nothing"),
        }
    }
}

/// Whether each bit of a hash by `S` depends on all bits of the key. The default hasher and that of
/// the standard library have this property. Others may leave some bits equal.
#[inline(always)]
pub(crate) fn spreads_all_bits<S>() -> bool {
    is_type::<S, RandomState>() || is_type::<S, std::hash::RandomState>()
}

/// Whether `S` is the type `T`, which has no lifetimes.
#[inline(always)]
fn is_type<S, T: 'static>() -> bool {
    id_of::<S>() == TypeId::of::<T>()
}

/// Returns the identity of a type, in which all lifetimes count as `'static`.
#[inline(always)]
#[allow(unsafe_code)]
fn id_of<S>() -> TypeId {
    trait Identity {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }

    impl<S> Identity for PhantomData<S> {
        #[inline(always)]
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<S>()
        }
    }

    type Short<'s> = &'s (dyn Identity + 's);
    type Static<'s> = &'s (dyn Identity + 'static);

    let marker: Short<'_> = &PhantomData::<S>;
    // SAFETY: lifetimes have no effect on the code of a method. The marker has no size, so it
    // points nowhere that may end, and the method reads nothing.
    let marker = unsafe { core::mem::transmute::<Short<'_>, Static<'_>>(marker) };
    marker.id()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hasher of this name that is another type.
    mod other {
        pub(super) struct RandomState;
    }

    struct Borrowed<'a>(#[allow(dead_code)] &'a u8);

    fn spreads<'a>(_: &'a u8) -> bool {
        spreads_all_bits::<Borrowed<'a>>()
    }

    #[test]
    fn two_hashers_spread_all_bits() {
        assert!(spreads_all_bits::<RandomState>());
        assert!(spreads_all_bits::<std::hash::RandomState>());
        assert!(!spreads_all_bits::<IntegerHasher>());
        assert!(!spreads_all_bits::<&RandomState>());
        assert!(!spreads_all_bits::<other::RandomState>());
        // The state may borrow.
        assert!(!spreads(&0));
    }
}
