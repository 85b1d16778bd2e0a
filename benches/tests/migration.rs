//! The old code that the migration chapters of the documentation show compiles with the crates that
//! it names, and runs.
//!
//! The documentation cannot compile it: `latchwork` does not depend on these crates. So this file
//! contains each block again, and a test compares the two.

/// One function for each block, in the order of the chapters. The definitions that a block
/// presupposes are before it.
#[rustfmt::skip]
#[allow(unused_variables, clippy::let_underscore_future)]
mod old {
    pub(super) fn arc_swap_configuration() {
        use std::sync::Arc;
        use arc_swap::ArcSwap;

        struct Config { limit: u32 }

        let config = ArcSwap::from_pointee(Config { limit: 10 });
        let limit = config.load().limit;
        config.store(Arc::new(Config { limit: 20 }));
        config.rcu(|config| Config { limit: config.limit + 1 });
        let kept: Arc<Config> = config.load_full();
        assert_eq!((limit, kept.limit), (10, 21));
    }

    pub(super) fn arc_swap_compare_and_swap() {
        use std::sync::Arc;
        struct Config { limit: u32 }
        let config = arc_swap::ArcSwap::from_pointee(Config { limit: 10 });

        let current = config.load();
        let next = Arc::new(Config { limit: current.limit + 1 });
        let previous = config.compare_and_swap(&current, next);
        let swapped = Arc::ptr_eq(&current, &previous);
        assert!(swapped);
    }

    pub(super) fn dashmap_guard() {
        fn run_job(_: u64) {}

        use dashmap::DashMap;

        let jobs: DashMap<u64, u32> = DashMap::new();
        jobs.insert(7, 0);
        {
            let mut attempts = jobs.get_mut(&7).unwrap(); // locks the shard of key 7
            run_job(7); // slow: other keys of this shard wait
            *attempts += 1;
        }
        assert_eq!(*jobs.get(&7).unwrap(), 1);
    }

    pub(super) fn dashmap_values() {
        use dashmap::DashMap;

        let prices: DashMap<&str, u64> = DashMap::new();
        prices.insert("apple", 30);
        let price = *prices.get("apple").unwrap(); // locks the shard for readers
        prices.alter("apple", |_, price| price + 1);
        assert_eq!((price, *prices.get("apple").unwrap()), (30, 31));
    }

    /// It may deadlock, as its chapter states, so it is compiled and not run.
    #[allow(dead_code, unused_mut)]
    pub(super) fn dashmap_two_keys(accounts: dashmap::DashMap<&str, i64>) {
        let mut from = accounts.get_mut("a").unwrap();
        let mut to = accounts.get_mut("b").unwrap(); // deadlocks if both keys are in one shard
    }

    pub(super) fn stm_transfer() {
        use stm::{TVar, atomically, guard};

        let (from, to) = (TVar::new(100), TVar::new(0));
        atomically(|trans| {
            let balance = from.read(trans)?;
            guard(balance >= 30)?;
            from.write(trans, balance - 30)?;
            to.modify(trans, |balance| balance + 30)
        });
        assert_eq!(to.read_atomic(), 30);
    }

    pub(super) fn stm_alternatives() {
        use stm::{StmResult, TVar, Transaction, atomically, retry};
        struct Slot(TVar<Option<&'static str>>);
        impl Slot {
            fn take(&self, trans: &mut Transaction) -> StmResult<&'static str> {
                match self.0.replace(trans, None)? {
                    Some(job) => Ok(job),
                    None => retry(),
                }
            }
        }
        let (urgent, normal) = (Slot(TVar::new(None)), Slot(TVar::new(Some("clean up"))));

        let job = atomically(|trans| {
            trans.or(|trans| urgent.take(trans), |trans| normal.take(trans))
        });
        assert_eq!(job, "clean up");
    }

    pub(super) fn tokio_locks_by_key() {
        async fn send(_: &str) {}

        use std::collections::HashMap;
        use std::sync::{Arc, Mutex};

        #[derive(Default)]
        struct Uploads {
            locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
        }

        impl Uploads {
            async fn upload(&self, file: &str) {
                let lock = self.locks.lock().unwrap().entry(file.to_owned()).or_default().clone();
                let _guard = lock.lock().await;
                send(file).await;
                // The entry stays in the map. To remove it here races with other uploads.
            }
        }
        let uploads = Uploads::default();
        pollster::block_on(uploads.upload("report.txt"));
        assert_eq!(uploads.locks.lock().unwrap().len(), 1);
    }
}

const CHAPTERS: [&str; 4] = [
    include_str!("../../src/docs/how_to/from_arc_swap.rs"),
    include_str!("../../src/docs/how_to/from_dashmap.rs"),
    include_str!("../../src/docs/how_to/from_stm.rs"),
    include_str!("../../src/docs/how_to/from_tokio_mutexes.rs"),
];

/// Lines without their indentation, and without those that are empty.
fn lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The blocks of a chapter that the documentation does not compile.
fn blocks(chapter: &str) -> Vec<String> {
    let text: Vec<&str> = chapter
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect();
    let text = text.join("\n");
    let blocks = text.split("```rust,ignore\n").skip(1);
    blocks
        .map(|block| lines(block.split("```").next().expect("a first part")))
        .collect()
}

#[test]
fn each_block_of_old_code_stands_here() {
    let here = lines(include_str!("migration.rs"));
    let all: Vec<String> = CHAPTERS.iter().flat_map(|c| blocks(c)).collect();
    assert_eq!(all.len(), 8, "the blocks of the chapters");
    for block in all {
        assert!(
            here.contains(&block),
            "this block is not compiled here:\n{block}"
        );
    }
}

#[test]
fn the_old_code_runs() {
    old::arc_swap_configuration();
    old::arc_swap_compare_and_swap();
    old::dashmap_guard();
    old::dashmap_values();
    old::stm_transfer();
    old::stm_alternatives();
    old::tokio_locks_by_key();
}
