//! The memory of a root that has grown returns to the system. One test, because it reads the
//! mappings of the whole process.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]

mod common;

use std::fs::read_to_string;

use common::hashers::Place;
use common::{Rng, assert_as_new};
use latchwork::LockTable;

/// The first address of each mapping, its flags, and its bytes in memory.
fn mappings() -> Vec<(String, String, usize)> {
    let mut address = String::new();
    let mut resident = 0;
    let mut found = Vec::new();
    for line in read_to_string("/proc/self/smaps").expect("smaps").lines() {
        match line.split_once(char::is_whitespace).unwrap_or((line, "")) {
            ("Rss:", size) => {
                let kib: usize = size.trim().trim_end_matches(" kB").parse().expect("kB");
                resident = 1024 * kib;
            }
            ("VmFlags:", flags) => found.push((address.clone(), format!("{flags} "), resident)),
            (first, _) => {
                if let Some((start, _)) = first.split_once('-') {
                    address = start.to_owned();
                }
            }
        }
    }
    found
}

#[test]
fn the_memory_of_a_root_returns_to_the_system() {
    let table = LockTable::<u64>::builder().hasher(Place::Identity);
    let table = table.expected_locks(1).build();
    let fresh = table.stats().index_bytes;
    let root = 8 << 18;
    for round in 0..3 {
        let mut rng = Rng::new(round);
        let keys: Vec<u64> = (0..150_000).map(|_| rng.draw()).collect();
        let guards: Vec<_> = keys.iter().map(|key| table.lock(key)).collect();
        assert!(table.stats().index_bytes >= root);
        // A root advises the system of huge pages while it is in use. A system without huge pages
        // does not record it.
        let mut in_use = mappings();
        in_use.retain(|(_, flags, resident)| flags.contains("hg ") && *resident >= root / 2);
        println!("in use: {in_use:?}");
        drop(guards);
        assert_as_new(&table, fresh);
        let after = mappings();
        for (address, ..) in in_use {
            let mapping = after.iter().find(|mapping| mapping.0 == address);
            let resident = mapping.expect("its addresses remain reserved").2;
            assert_eq!(resident, 0, "bytes remain in memory");
        }
    }
}
