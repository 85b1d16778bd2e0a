//! The contents of reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use latchwork::console::Console;
use latchwork::session::LockError;
use latchwork::table::IntegerHasher;
use latchwork::{LockTable, Mode, Transaction, VersionedCell, VersionedMap};

use crate::common::watchdog;
use crate::parsed;

type Table = LockTable<u64, IntegerHasher>;

fn table() -> Arc<Table> {
    let label = |id| format!("secret {}", IntegerHasher::key_of(id));
    let builder = LockTable::builder().hasher(IntegerHasher::new());
    Arc::new(builder.key_labels(label).build())
}

/// Calls `f` while a session named `private` waits for key 1, which a guard holds.
fn while_a_session_waits(table: &Table, f: impl FnOnce()) {
    let guard = table.lock(&1);
    thread::scope(|s| {
        s.spawn(|| {
            let mut session = table.session().named("private");
            session.lock(&1).expect("no cycle");
        });
        while table.stats().waiting == 0 {
            thread::yield_now();
        }
        f();
        drop(guard);
    });
}

#[test]
fn a_report_describes_holders_and_waiters() {
    let _watchdog = watchdog("a_report_describes_holders_and_waiters");
    let table = table();
    let console = Console::new().table("t", table.clone()).show_names();
    let _other = table.lock_shared(&2);
    while_a_session_waits(&table, || {
        let report = parsed(&console.json());
        assert_eq!(report["format"], 1);
        assert_eq!(report["process"], std::process::id());
        let t = &report["tables"][0];
        assert_eq!((&t["name"], &t["locked"]), (&"t".into(), &2.into()));
        assert_eq!((&t["contended"], &t["waiting"]), (&1.into(), &1.into()));
        let keys = t["keys"].as_array().expect("a list");
        assert_eq!(keys.len(), 1, "a key without a waiter is only counted");
        let key = &keys[0];
        assert_eq!(key["label"], "secret 1");
        assert_eq!(key["id"], table.key_id(&1).to_string());
        assert_eq!(
            (&key["mode"], &key["holders"]),
            (&"exclusive".into(), &1.into())
        );
        assert_eq!(key["waiters"][0]["owner"]["name"], "private");
        assert_eq!(key["waiters"][0]["owner"]["kind"], "session");
        assert_eq!(key["waiters"][0]["mode"], "exclusive");
    });
    let t = &parsed(&console.json())["tables"][0];
    assert_eq!((&t["contended"], &t["waits"]), (&0.into(), &1.into()));
    assert!(t["keys"].as_array().expect("a list").is_empty());
}

#[test]
fn names_are_hidden_unless_they_are_allowed() {
    let _watchdog = watchdog("names_are_hidden_unless_they_are_allowed");
    let table = table();
    let hidden = Console::new().table("t", table.clone());
    let shown = hidden.clone().show_names();
    end_in_a_deadlock(&table);
    while_a_session_waits(&table, || {
        for text in [hidden.json(), hidden.prometheus()] {
            assert!(
                !text.contains("secret") && !text.contains("private"),
                "{text}"
            );
        }
        let text = hidden.prometheus();
        assert!(!text.contains("latchwork_key_"), "a series for each key");
        assert!(shown.json().contains("secret 1") && shown.json().contains("private"));
        let text = shown.prometheus();
        assert!(text.contains("latchwork_key_waiting{table=\"t\",key=\"secret 1\",id="));
    });
}

/// Two readers of one key upgrade it.
fn end_in_a_deadlock(table: &Table) {
    let [mut one, mut two] = ["private one", "private two"].map(|name| table.session().named(name));
    one.lock_shared(&9).expect("free");
    two.lock_shared(&9).expect("shared");
    thread::scope(|s| {
        let first = s.spawn(|| matches!(upgrade(&mut one), Err(LockError::Deadlock(_))));
        let second = matches!(upgrade(&mut two), Err(LockError::Deadlock(_)));
        assert!(first.join().expect("no panic") != second, "one victim");
    });
}

fn upgrade(session: &mut latchwork::Session<'_, u64, IntegerHasher>) -> Result<(), LockError> {
    let result = session.lock(&9);
    session.release_all();
    result
}

#[test]
fn deadlocks_are_counted_beyond_the_history() {
    let _watchdog = watchdog("deadlocks_are_counted_beyond_the_history");
    let table = Arc::new(
        LockTable::builder()
            .hasher(IntegerHasher::new())
            .deadlock_history(1)
            .build(),
    );
    end_in_a_deadlock(&table);
    end_in_a_deadlock(&table);
    assert_eq!(table.stats().deadlocks, 2);
    let console = Console::new().table("t", table).show_names();
    let t = &parsed(&console.json())["tables"][0];
    assert_eq!(t["deadlocks"], 2);
    let recent = t["recent_deadlocks"].as_array().expect("a list");
    assert_eq!(recent.len(), 1);
    let parties = recent[0]["parties"].as_array().expect("a list");
    assert_eq!(parties.len(), 2);
    let victim = recent[0]["victim"].as_u64().expect("a place") as usize;
    let name = parties[victim]["owner"]["name"].as_str().expect("a name");
    assert!(name.starts_with("private "));
}

#[test]
fn the_busiest_key_has_its_waits_and_the_time_for_which_it_was_held() {
    const WAITS: u64 = 5;
    const HELD: Duration = Duration::from_millis(2);
    let _watchdog = watchdog("the_busiest_key_has_its_waits_and_the_time_for_which_it_was_held");
    let table = table();
    for _ in 0..WAITS {
        while_a_session_waits(&table, || thread::sleep(HELD));
    }
    // No waiter, so not counted.
    drop(table.lock(&3));
    let console = Console::new().table("t", table);
    let t = &parsed(&console.json())["tables"][0];
    let busiest = t["busiest"].as_array().expect("a list");
    assert_eq!(busiest.len(), 1);
    let number = |field: &str| busiest[0][field].as_u64().expect("a number");
    assert_eq!(number("waits"), WAITS);
    assert_eq!(number("inherited_waits"), 0);
    assert_eq!(number("releases"), WAITS);
    // Times are exact to within some microseconds, in either direction.
    let least = Duration::from_micros(1_900).as_nanos() as u64;
    assert!(number("longest_hold_ns") >= least);
    assert!(number("held_ns") >= WAITS * least);
    assert!(number("waited_ns") >= WAITS * least);
}

#[test]
fn a_wait_that_times_out_is_counted() {
    let table = table();
    let guard = table.lock(&1);
    assert!(table.try_lock_for(&1, Duration::from_millis(1)).is_none());
    drop(guard);
    let console = Console::new().table("t", table);
    let t = &parsed(&console.json())["tables"][0];
    assert_eq!(t["busiest"][0]["waits"], 1);
}

#[test]
fn the_time_of_a_hold_begins_with_its_first_waiter() {
    let _watchdog = watchdog("the_time_of_a_hold_begins_with_its_first_waiter");
    let table = table();
    let console = Console::new().table("t", table.clone());
    let guard = table.lock(&1);
    // Not part of the time, because no thread waits.
    thread::sleep(Duration::from_millis(500));
    thread::scope(|s| {
        s.spawn(|| drop(table.lock(&1)));
        while table.stats().waiting == 0 {
            thread::yield_now();
        }
        let key = &parsed(&console.json())["tables"][0]["keys"][0];
        let [held, waited] = [&key["held_ns"], &key["waiters"][0]["waited_ns"]];
        let [held, waited] = [held, waited].map(|time| time.as_u64().expect("a number"));
        // Both began when the waiter queued, and the clock is exact to within some microseconds.
        assert!(held.abs_diff(waited) < 100_000_000, "{held} {waited}");
        drop(guard);
    });
}

#[test]
fn a_report_names_at_most_64_keys_and_64_waiters() {
    use std::future::Future;
    use std::task::{Context, Waker};
    let table = table();
    let guards: Vec<_> = (0..70).map(|key| table.lock(&key)).collect();
    let mut cx = Context::from_waker(Waker::noop());
    let crowd = (0..100).map(|_| 7);
    let mut futures: Vec<_> = (0..70)
        .chain(crowd)
        .map(|key| Box::pin(table.lock_async(&key)))
        .collect();
    for future in &mut futures {
        assert!(future.as_mut().poll(&mut cx).is_pending());
    }
    let console = Console::new().table("t", table.clone());
    let report = parsed(&console.json());
    let t = &report["tables"][0];
    assert_eq!((&t["contended"], &t["waiting"]), (&70.into(), &170.into()));
    let keys = t["keys"].as_array().expect("a list");
    assert_eq!(keys.len(), 64);
    assert_eq!(keys[0]["id"], table.key_id(&7).to_string());
    assert_eq!(keys[0]["waiting"], 101);
    assert_eq!(keys[0]["waiters"].as_array().expect("a list").len(), 64);
    drop((futures, guards));
}

#[test]
fn a_label_that_panics_is_no_label() {
    let table: Arc<Table> = Arc::new(
        LockTable::builder()
            .hasher(IntegerHasher::new())
            .key_labels(|_| panic!("no label"))
            .build(),
    );
    let console = Console::new().table("t", table.clone()).show_names();
    while_a_session_waits(&table, || {
        let key = &parsed(&console.json())["tables"][0]["keys"][0];
        assert!(key["label"].is_null());
    });
}

#[test]
fn prometheus_has_the_numbers_of_the_json() {
    let table = table();
    let _guard = table.lock_all([(&1, Mode::Shared), (&2, Mode::Exclusive)]);
    let cell = VersionedCell::new(0);
    let add = Transaction::builder().label("add \"it\"");
    add.run(|tx| tx.update(&cell, |n| n + 1)).expect("no limit");
    let console = Console::new()
        .table("odd \"name\"\n", table.clone())
        .show_names();
    let text = console.prometheus();

    let mut types = BTreeMap::new();
    let mut series = BTreeSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(types.insert(name, kind).is_none(), "{name} has two types");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            family = name;
        } else if !line.starts_with('#') {
            let (of, value) = line.rsplit_once(' ').expect("a value");
            assert!(series.insert(of), "{of} has two samples");
            assert_eq!(
                of.split('{').next(),
                Some(family),
                "samples follow their type"
            );
            value.parse::<f64>().expect("a number");
        }
    }
    let sample = |of: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(of));
        line.unwrap_or_else(|| panic!("{of} in {text}")).trim()
    };
    let locked = "latchwork_table_locked_keys{table=\"odd \\\"name\\\"\\n\"}";
    assert_eq!(sample(locked), "2");
    let commits =
        "latchwork_label_transactions_total{label=\"add \\\"it\\\"\",outcome=\"committed\"}";
    assert_eq!(sample(commits), "1");
}

/// Both may be sent to another thread.
const _: fn() = || {
    fn both<T: Send + Sync>() {}
    both::<Console>();
    both::<latchwork::console::Server>();
};

/// A map, and a console that labels its keys.
fn map() -> (Arc<VersionedMap<String, u32>>, Console) {
    let map: Arc<VersionedMap<String, u32>> = Arc::default();
    let label = |key: &String| format!("private {key}");
    let console = Console::new().map_with_labels("m", map.clone(), label);
    (map, console)
}

#[test]
fn a_map_without_locks_reports_its_size() {
    let (map, console) = map();
    map.insert("a".to_owned(), 1);
    let m = &parsed(&console.json())["tables"][0];
    assert_eq!((&m["name"], &m["locked"]), (&"m".into(), &0.into()));
    assert_eq!(
        (&m["map"]["len"], &m["map"]["entries"]),
        (&1.into(), &1.into())
    );
    assert_eq!(m["index_bytes"], 0, "no lock has made a lock table");
    let text = console.prometheus();
    assert!(text.contains("latchwork_map_keys{table=\"m\"} 1\n"));
    let table = Console::new().table("t", table());
    assert!(parsed(&table.json())["tables"][0]["map"].is_null());
    assert!(!table.prometheus().contains("latchwork_map_keys{"));
}

#[test]
fn the_locks_of_a_map_are_reported() {
    let _watchdog = watchdog("the_locks_of_a_map_are_reported");
    let (map, console) = map();
    let shown = console.clone().show_names();
    map.insert("a".to_owned(), 1);
    // A key that the map does not have.
    let absent = map.lock("b");
    let mut holder = map.session().named("holder");
    holder.lock("a").expect("free");
    thread::scope(|s| {
        s.spawn(|| map.session().named("waiter").lock("a").map(drop));
        s.spawn(|| map.update("a", |n| n + 1));
        s.spawn(|| drop(map.lock("b")));
        let waiting = || parsed(&console.json())["tables"][0]["waiting"].as_u64();
        while waiting() != Some(3) {
            thread::yield_now();
        }
        let report = parsed(&shown.json());
        let m = &report["tables"][0];
        assert_eq!(
            (&m["locked"], &m["contended"]),
            (&2.into(), &2.into()),
            "{m}"
        );
        let keys = m["keys"].as_array().expect("a list");
        assert_eq!(keys[0]["label"], "private a", "it has the most waiters");
        assert_eq!(keys[1]["label"], "private b");
        let waiters = keys[0]["waiters"].as_array().expect("a list");
        let owners = waiters.iter().map(|of| &of["owner"]);
        let named: Vec<_> = owners.filter(|of| !of.is_null()).collect();
        assert_eq!((waiters.len(), named.len()), (2, 1), "one is a writer");
        assert_eq!(named[0]["name"], "waiter");
        for text in [console.json(), console.prometheus()] {
            assert!(!text.contains("private") && !text.contains("waiter\""));
        }
        let text = shown.prometheus();
        assert!(text.contains("latchwork_key_waiting{table=\"m\",key=\"private a\",id="));
        drop(holder);
        drop(absent);
    });
    let m = &parsed(&shown.json())["tables"][0];
    assert_eq!((&m["waits"], &m["waiting"]), (&3.into(), &0.into()));
    let busiest = m["busiest"].as_array().expect("a list");
    let sums = busiest.iter().map(|of| of["waits"].as_u64());
    assert_eq!(sums.sum::<Option<u64>>(), Some(3));
    assert_eq!(map.get("a").as_deref(), Some(&2));
}

/// Two sessions lock two keys of a map in opposite orders.
#[test]
fn deadlocks_of_a_map_are_reported() {
    let _watchdog = watchdog("deadlocks_of_a_map_are_reported");
    let (map, console) = map();
    let console = console.show_names();
    let both = Barrier::new(2);
    let cross = |name: &str, [first, second]: [&str; 2]| {
        let mut session = map.session().named(name);
        session.lock(first).expect("free");
        both.wait();
        matches!(session.lock(second).map(drop), Err(LockError::Deadlock(_)))
    };
    thread::scope(|s| {
        let other = s.spawn(|| cross("one", ["a", "b"]));
        assert!(cross("two", ["b", "a"]) != other.join().expect("no panic"));
    });
    // The entries of the keys may have been freed, but a lock makes them again.
    let _guards = map.lock_all(["a", "b"]);
    let m = &parsed(&console.json())["tables"][0];
    assert_eq!(m["deadlocks"], 1);
    let parties = m["recent_deadlocks"][0]["parties"].as_array();
    let parties = parties.expect("a list").iter();
    let wants: BTreeSet<_> = parties.map(|of| of["wants"]["label"].as_str()).collect();
    assert_eq!(
        wants,
        [Some("private a"), Some("private b")]
            .into_iter()
            .collect::<BTreeSet<_>>()
    );
}

#[test]
fn labels_of_a_map_may_panic_and_write_the_map() {
    let map: Arc<VersionedMap<u32, u32>> = Arc::default();
    let written = map.clone();
    let label = move |key: &u32| {
        written.update(&2, |n| n + 1);
        assert!(*key != 1, "no label");
        key.to_string()
    };
    let console = Console::new()
        .map_with_labels("m", map.clone(), label)
        .show_names();
    map.insert(2, 0);
    for (key, label) in [(1, serde_json::Value::Null), (3, "3".into())] {
        let guard = map.lock(&key);
        assert!(map.try_lock_for(&key, Duration::from_millis(1)).is_none());
        let mut future = Box::pin(map.lock_async(&key));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        let m = &parsed(&console.json())["tables"][0];
        assert_eq!(m["keys"][0]["label"], label);
        drop((future, guard));
    }
    assert!(*map.get(&2).expect("it was inserted") >= 2);
}
