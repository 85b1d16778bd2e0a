//! Hashers whose collisions the tests choose, and hashers that misbehave.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};

/// Puts an integer key at a place of its choice in the 64 hash bits, so that keys meet where a test
/// wants them to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The key itself: exact, no collisions.
    Identity,
    /// The key above this many zero bits: all keys agree in the low bits, and meet in the same slot
    /// of the root and of the children below it until the index reaches the key.
    Above(u32),
    /// Every key has this hash.
    Constant(u64),
    /// The key's bit pairs far apart (bit pair `i` at bit `shift + step * i`): keys part at several
    /// depths rather than at one.
    Spread { shift: u32, step: u32 },
}

impl Place {
    /// The hash of `key`.
    #[must_use]
    pub fn hash(self, key: u64) -> u64 {
        match self {
            Self::Identity => key,
            Self::Above(bits) => key << bits,
            Self::Constant(hash) => hash,
            Self::Spread { shift, step } => (0..8)
                .filter(|i| shift + step * i < 63)
                .map(|i| ((key >> (2 * i)) & 3) << (shift + step * i))
                .fold(0, |hash, pair| hash | pair),
        }
    }
}

impl BuildHasher for Place {
    type Hasher = PlaceHasher;

    fn build_hasher(&self) -> PlaceHasher {
        PlaceHasher {
            place: *self,
            key: 0,
        }
    }
}

/// The hasher of [`Place`]; remembers the last integer written.
#[derive(Debug)]
pub struct PlaceHasher {
    place: Place,
    key: u64,
}

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.place.hash(self.key)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.key = self.key.wrapping_mul(31).wrapping_add(u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.key = key;
    }
}

/// Hashes like [`Place::Identity`], but panics at the key it names.
#[derive(Clone, Copy, Debug)]
pub struct PanicAt(pub u64);

impl BuildHasher for PanicAt {
    type Hasher = PanicHasher;

    fn build_hasher(&self) -> PanicHasher {
        PanicHasher { at: self.0, key: 0 }
    }
}

/// The hasher of [`PanicAt`].
#[derive(Debug)]
pub struct PanicHasher {
    at: u64,
    key: u64,
}

impl Hasher for PanicHasher {
    fn finish(&self) -> u64 {
        self.key
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, key: u64) {
        if key == self.at {
            // Not `panic!`: the hook would print a trace for a panic the test wants.
            std::panic::resume_unwind(Box::new("a hasher that panics"));
        }
        self.key = key;
    }
}

/// Hashes the same key differently every time: a broken hasher, which must break nothing else.
#[derive(Debug, Default)]
pub struct Fickle;

thread_local! {
    static FICKLE: Cell<u64> = const { Cell::new(0) };
}

impl BuildHasher for Fickle {
    type Hasher = PlaceHasher;

    fn build_hasher(&self) -> PlaceHasher {
        let draw = FICKLE.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        FICKLE.set(draw);
        PlaceHasher {
            place: Place::Constant(draw),
            key: 0,
        }
    }
}
