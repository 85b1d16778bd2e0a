//! A hasher that is exact for integers, and panics at any other key.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hash};
use std::num::NonZeroU32;

use crate::common::tasks::panic_message;
use latchwork::{LockTable, table::IntegerHasher};
use proptest::prelude::*;

fn hash(key: impl Hash) -> u64 {
    IntegerHasher::new().hash_one(key)
}

/// The integer that a table of `K` finds again.
fn found_again<K: Hash>(key: K) -> u64 {
    let table = LockTable::<K, IntegerHasher>::default();
    IntegerHasher::key_of(table.key_id(&key))
}

proptest! {
    #[test]
    fn every_integer_is_found_again(key: u64, other: u64) {
        prop_assert_eq!(found_again(key), key);
        prop_assert_eq!(found_again(key as u32), u64::from(key as u32));
        prop_assert_eq!(found_again(key as u16), u64::from(key as u16));
        prop_assert_eq!(found_again(key as u8), u64::from(key as u8));
        prop_assert_eq!(found_again(key as usize) as usize, key as usize);
        prop_assert_eq!(found_again(key as i64) as i64, key as i64);
        prop_assert_eq!(found_again(key as i32) as i32, key as i32);
        prop_assert_eq!(found_again(key as i16) as i16, key as i16);
        prop_assert_eq!(found_again(key as i8) as i8, key as i8);
        prop_assert_eq!(found_again(key as isize) as isize, key as isize);
        prop_assert_eq!(hash(key) == hash(other), key == other);
    }
}

#[test]
fn the_ends_of_the_integers_are_found_again() {
    for key in [0, 1, u64::MAX, 1 << 63, u64::MAX >> 1, 1 << 32, 1 << 33] {
        assert_eq!(found_again(key), key);
    }
    assert_eq!(found_again(i64::MIN) as i64, i64::MIN);
    // The finalizer of MurmurHash3, as published.
    assert_eq!(hash(1_u64), 0xB456_BCFC_34C2_CB2C);
}

#[test]
fn a_key_that_writes_one_integer_is_exact() {
    #[derive(Hash)]
    struct Account(u32);
    #[derive(Hash)]
    enum Colour {
        Red,
        Green,
    }
    assert_eq!(found_again(Account(7)), 7);
    let seven: &u64 = &7;
    assert_eq!(found_again(seven), 7);
    assert_eq!(found_again('ß'), u64::from('ß'));
    assert_eq!((found_again(false), found_again(true)), (0, 1));
    assert_eq!(found_again(NonZeroU32::MAX), u64::from(u32::MAX));
    assert_eq!(
        (found_again(Colour::Red), found_again(Colour::Green)),
        (0, 1)
    );
    assert_eq!(found_again((9_u8,)), 9);
    let default = BuildHasherDefault::<IntegerHasher>::default();
    assert_eq!(default.hash_one(7_u64), hash(7_u64));
}

#[test]
fn any_other_key_panics_and_locks_nothing() {
    let bad: [(&dyn Fn() -> u64, &str); 9] = [
        (&|| hash("a"), "bytes"),
        (&|| hash(""), "bytes"),
        (&|| hash([1_u64, 2]), "bytes"),
        (&|| hash(Vec::<u8>::new()), "bytes"),
        (&|| hash((1_u32, 2_u32)), "two integers"),
        (&|| hash(Some(1_u64)), "two integers"),
        (&|| hash(1_u128), "an integer of 128 bits"),
        (&|| hash(-1_i128), "an integer of 128 bits"),
        (&|| hash(()), "nothing"),
    ];
    for (f, found) in bad {
        let message = panic_message(f);
        assert!(
            message.contains(&format!("the key wrote {found};")),
            "{message}"
        );
    }
    let table = LockTable::<str, IntegerHasher>::default();
    panic_message(|| table.lock("a"));
    assert_eq!(table.locked_count(), 0);
}

#[test]
fn keys_in_steps_spread_over_the_low_bits() {
    for step in [1, 2, 1 << 12, 1 << 32, 1 << 51, 1_000_003] {
        let slots: HashSet<u64> = (0..4096_u64)
            .map(|n| hash(n.wrapping_mul(step)) % 4096)
            .collect();
        // A random function fills 2,589 of them.
        assert!(
            slots.len() > 2300,
            "{} slots with keys {step} apart",
            slots.len()
        );
    }
}

#[test]
fn an_inspected_key_is_the_integer() {
    let table = LockTable::<i32, IntegerHasher>::default();
    let guards = [-1, 0, 42].map(|key| table.lock(&key));
    let mut keys: Vec<i32> = table
        .inspect()
        .iter()
        .map(|lock| IntegerHasher::key_of(lock.key_id) as i32)
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, [-1, 0, 42]);
    drop(guards);
}
