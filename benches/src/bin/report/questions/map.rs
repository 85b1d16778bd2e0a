//! What does a map with versions cost beside maps without?

use std::time::Instant;

use latchwork_bench::heap;
use latchwork_bench::maps::{
    self, BATCH, ByKey, Dash, Map, Ours, Papaya, Scc, Walk, churn, each_insert, each_of_scan,
    filled, gets, gets_held, misses, random_gets_held, sizes_of_churn, updates,
};
use latchwork_bench::ratio::{Comparison, Contender, Plan, compare, timed};
use latchwork_bench::subjects::MAPS;
use latchwork_bench::transactions::{ACCOUNTS, Bank, Cells, pairs, transfers};
use latchwork_bench::workload::Rng;

use super::cells::crowd::{numbers_of, once_more};
use super::{Question, two_threads};
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "map",
    title: "Maps: versioned, and others",
    prose: "`VersionedMap<u64, u64>` beside maps without versions, locks of keys, transactions and snapshots; all use \
            one hasher with one seed. A row has one thread unless it names two. *Held pin*: all reads of a run are \
            under one `ReadPin`, or one guard of papaya; dashmap and scc lock at each read. The keys are read in an \
            order that a cache cannot predict: 2^14 of them fit into the cache, and 2^22 do not. Each key is read \
            once before any repeats, and a processor can learn the branches of 2^14 keys; those of *random* keys it \
            cannot. *Updated once*: the value of each key was replaced once. *Presized*: the map was made for the \
            keys. *Churn*: one of 2^14 keys is removed, and another one inserted. *Transfer*: as between the cells of \
            *Transactions and snapshots: one thread*. *Batch*: four conditional puts, and a mutex around a `HashMap` \
            whose values have versions. *Scan*: the sum of all values at one instant; the other maps sum values of \
            different instants. *Two threads*: rounds, processes and control are those of *Cells and transactions: \
            two threads against one*. Of 100 operations, 98 are reads, one is an insert and one a removal; or 10 are \
            reads, 40 inserts, 40 removals and 10 updates. Bytes are those that were requested from the allocator, \
            divided by the number of keys, without garbage.",
    measure,
};

/// The option that makes this program count what is the same in every run.
pub(crate) const COUNTS: &str = "--map-counts";

/// The option that makes this program measure the bytes of one map. Blocks of nodes that were left
/// by earlier maps would not be counted, so each map has a process of its own.
pub(crate) const BYTES: &str = "--map-bytes";

const SMALL: usize = 1 << 14;
const LARGE: usize = 1 << 22;
const PAPAYA: &str = "papaya";
const DASH: &str = "dashmap";
const SCC: &str = "scc";

/// The keys that are alive at a time while many are inserted and removed.
const ALIVE: u64 = 64;

/// An operation on one key.
#[derive(Clone, Copy)]
enum Op {
    GetHeld,
    RandomGetHeld,
    Get,
    Miss,
    Update,
    Churn,
}

/// The number of keys of a map, and how often each was updated.
type Size = (usize, usize);

fn contender<M: Map>(plan: Plan, (keys, updated): Size, op: Op) -> Contender<'static> {
    let map: M = filled(keys, updated);
    let mut walk = Walk::new(keys, 1);
    let mut rng = Rng::new(1);
    let mut next = keys as u64;
    timed(plan.span, move |times| match op {
        Op::GetHeld => gets_held(&map, &mut walk, times),
        Op::RandomGetHeld => random_gets_held(&map, &mut rng, keys as u64, times),
        Op::Get => gets(&map, &mut walk, times),
        Op::Miss => misses(&map, &mut walk, times),
        Op::Update => updates(&map, &mut walk, times),
        Op::Churn => churn(&map, keys as u64, &mut next, times),
    })
}

fn beside<M: Map>(plan: Plan, size: Size, op: Op) -> Comparison {
    compare(plan, || {
        (
            contender::<Ours>(plan, size, op),
            contender::<M>(plan, size, op),
        )
    })
}

/// A row for each other map, the first of which is papaya, with a target.
fn rows_of(plan: Plan, what: &str, size: Size, op: Op, bound: f64) -> [Row; 3] {
    let papaya = beside::<Papaya>(plan, size, op);
    let dash = beside::<Dash>(plan, size, op);
    let scc = beside::<Scc>(plan, size, op);
    [
        Row::time(what, PAPAYA, &papaya).at_most(bound),
        Row::time(what, DASH, &dash),
        Row::time(what, SCC, &scc),
    ]
}

/// As many fewer rounds as a map of many keys needs to be made in the same time.
fn shorter(plan: Plan) -> Plan {
    Plan {
        rebuilds: plan.rebuilds.min(2),
        ..plan
    }
}

fn reads(plan: Plan) -> Vec<Row> {
    let large = shorter(plan);
    let papaya = |plan, what: &str, size, op, bound| {
        Row::time(what, PAPAYA, &beside::<Papaya>(plan, size, op)).at_most(bound)
    };
    let (held, own) = (Op::GetHeld, Op::Get);
    let mut rows = Vec::new();
    let what = "`get_in`, held pin, 2^14 keys";
    rows.extend(rows_of(plan, what, (SMALL, 0), held, 1.0));
    let what = "`get_in`, held pin, 2^14 random keys";
    rows.push(papaya(plan, what, (SMALL, 0), Op::RandomGetHeld, 1.0));
    let what = "`get_in`, held pin, 2^14 random keys, updated once";
    rows.push(papaya(plan, what, (SMALL, 1), Op::RandomGetHeld, 1.2));
    let what = "`get_in`, held pin, 2^14 keys, updated once";
    rows.push(papaya(plan, what, (SMALL, 1), held, 1.2));
    let what = "`get_in`, held pin, 2^22 keys";
    rows.extend(rows_of(large, what, (LARGE, 0), held, 1.1));
    let what = "`get_in`, held pin, 2^22 keys, updated once";
    rows.push(papaya(large, what, (LARGE, 1), held, 1.35));
    let what = "`get_in`, held pin, 2^22 keys, updated twice";
    let twice = beside::<Papaya>(large, (LARGE, 2), held);
    rows.push(Row::time(what, PAPAYA, &twice));
    rows.push(papaya(plan, "`get`, 2^14 keys", (SMALL, 0), own, 1.0));
    rows.push(papaya(
        plan,
        "`get` of an absent key, 2^14 keys",
        (SMALL, 0),
        Op::Miss,
        0.95,
    ));
    rows
}

fn inserts_of<M: Map>(capacity: usize) -> Contender<'static> {
    Box::new(move || each_insert::<M>(capacity, SMALL))
}

fn writes(plan: Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for (capacity, what, bound) in [
        (SMALL, "`insert` of new keys, presized", 1.0),
        (0, "`insert` of new keys, growing", 1.2),
    ] {
        let papaya = compare(plan, || {
            (inserts_of::<Ours>(capacity), inserts_of::<Papaya>(capacity))
        });
        rows.push(Row::time(what, PAPAYA, &papaya).at_most(bound));
        let dash = compare(plan, || {
            (inserts_of::<Ours>(capacity), inserts_of::<Dash>(capacity))
        });
        rows.push(Row::time(what, DASH, &dash));
    }
    let what = "`update`, 2^14 keys";
    rows.extend(rows_of(plan, what, (SMALL, 1), Op::Update, 0.8));
    let what = "churn: `remove` and `insert`, 2^14 keys";
    rows.extend(rows_of(plan, what, (SMALL, 0), Op::Churn, 1.6));
    rows
}

fn transfer<B: Bank + 'static>(plan: Plan) -> Contender<'static> {
    let (bank, pairs) = (B::new(ACCOUNTS), pairs(ACCOUNTS, 1));
    timed(plan.span, move |times| transfers(&bank, &pairs, times))
}

fn several_keys(plan: Plan) -> Vec<Row> {
    let transfers = compare(plan, || (transfer::<ByKey>(plan), transfer::<Cells>(plan)));
    const KEYS: u64 = 1024;
    let batches = compare(plan, || {
        let map: Ours = filled(KEYS as usize, 0);
        let locked = maps::locked(KEYS);
        (
            timed(plan.span, move |times| maps::batches(&map, 0, KEYS, times)),
            timed(plan.span, move |times| {
                maps::locked_batches(&locked, KEYS, times);
            }),
        )
    });
    let sets = compare(plan, || {
        let (map, dash): (Ours, Dash) = (filled(SMALL, 1), filled(SMALL, 1));
        let [mut ours, mut theirs] = [Walk::new(SMALL, 1); 2];
        (
            timed(plan.span, move |times| {
                maps::locked_sets(&map, &mut ours, times);
            }),
            timed(plan.span, move |times| {
                maps::dash_sets(&dash, &mut theirs, times);
            }),
        )
    });
    let batch = format!("batch of {BATCH} conditional puts");
    vec![
        Row::time("transfer between two keys", "between two cells", &transfers)
            .against_itself()
            .at_most(1.6),
        Row::time(&batch, "`Mutex<HashMap>`", &batches).at_most(3.0),
        Row::time("`lock`, `set` and `commit`", "dashmap, `get_mut`", &sets).at_most(2.0),
    ]
}

fn scans(plan: Plan) -> Row {
    const KEYS: usize = 1_000_000;
    let plan = Plan {
        rounds: plan.rounds / 4,
        rebuilds: 1,
        ..plan
    };
    let result = compare(plan, || {
        let (ours, papaya): (Ours, Papaya) = (filled(KEYS, 0), filled(KEYS, 0));
        (
            Box::new(move || each_of_scan(&ours, KEYS)),
            Box::new(move || each_of_scan(&papaya, KEYS)),
        )
    });
    Row::time("scan of 1,000,000 keys", "papaya, `values`", &result).at_most(1.3)
}

/// The bytes for each key of a map whose keys were updated so many times.
fn bytes_of<M: Map>(capacity: usize, keys: usize, updated: usize) -> f64 {
    let (map, bytes) = heap::growth(|| {
        let map = M::with_capacity(capacity);
        (0..keys as u64).for_each(|number| map.insert(maps::key(number), number));
        latchwork::flush();
        for _ in 0..updated {
            (0..keys as u64).for_each(|number| map.update(maps::key(number)));
            latchwork::flush();
        }
        map
    });
    drop(map);
    bytes as f64 / keys as f64
}

/// Prints [`bytes_of`] a map of ours.
pub(crate) fn bytes_once(arguments: &[String]) -> Result<(), String> {
    let numbers = numbers_of(&arguments.join(" "))?;
    let [capacity, keys, updated] = numbers[..] else {
        return Err(format!("{BYTES} is for this program itself"));
    };
    println!(
        "{}",
        bytes_of::<Ours>(capacity as usize, keys as usize, updated as usize)
    );
    Ok(())
}

/// [`bytes_of`] a map of ours, in a process of its own.
fn bytes_in_a_process(capacity: usize, keys: usize, updated: usize) -> f64 {
    let printed = once_more(BYTES, &[capacity, keys, updated].map(|n| n.to_string()));
    match numbers_of(&printed).as_deref() {
        Ok(&[bytes]) => bytes,
        _ => panic!("a number is expected, not {printed}"),
    }
}

fn memory() -> Vec<Row> {
    const KEYS: usize = 1 << 20;
    let row = |what: &str, bytes: f64| Row::exact_bytes(what, bytes);
    let ours = |updated| bytes_in_a_process(KEYS, KEYS, updated);
    vec![
        row("a key that was never updated", ours(0)).at_most(90.0),
        row("a key that was updated once", ours(1)).at_most(155.0),
        row("a key that was updated twice", ours(2)).at_most(100.0),
        row("a key that was updated five times", ours(5)).at_most(100.0),
        row("a key of a map that has grown to 10^6 keys", {
            bytes_in_a_process(0, 1_000_000, 0)
        }),
        row("papaya: a key", bytes_of::<Papaya>(KEYS, KEYS, 0)),
        row("papaya: a key of a map that has grown to 10^6 keys", {
            bytes_of::<Papaya>(0, 1_000_000, 0)
        }),
        row("dashmap: a key", bytes_of::<Dash>(KEYS, KEYS, 0)),
        row("scc: a key", bytes_of::<Scc>(KEYS, KEYS, 0)),
    ]
}

/// The sizes of a map through which so many keys pass.
fn sizes(keys: u64) -> Vec<Row> {
    let sizes = sizes_of_churn(keys, ALIVE);
    let what = |of: &str| format!("{keys} keys, {ALIVE} alive at a time: {of}");
    let exact = |of: &str, number: usize| Row::exact(&what(of), number as f64, "");
    vec![
        Row::exact_bytes(&what("the index at its largest"), sizes.index_bytes as f64)
            .at_most(65_536.0),
        exact("the most entries", sizes.entries).at_most(4_096.0),
        exact("the most records of removed keys", sizes.removed).at_most(4_096.0),
        exact("entries after `flush`", sizes.left).at_most(0.0),
    ]
}

/// The slots that the largest single insert copies while a map of 2^22 keys grows.
fn largest_insert() -> Row {
    let map: Ours = filled(LARGE, 0);
    let (mut most, mut before) = (0, 0);
    let start = Instant::now();
    for number in LARGE as u64.. {
        Map::insert(&map, maps::key(number), number);
        let now = map.copied_slots();
        most = most.max(now.saturating_sub(before));
        // The copy has begun, and has ended: the count begins anew.
        if now < before {
            break;
        }
        before = now;
    }
    let context = format!(
        "the growth took {:.0} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    let what = "slots that the largest `insert` copies while 2^22 keys move";
    Row::exact(what, most as f64, "")
        .at_most(64.0)
        .with_context(context)
}

fn measure(plan: Plan) -> Vec<Row> {
    let is_full = plan.rounds == Plan::FULL.rounds;
    let mut rows = reads(plan);
    rows.extend(writes(plan));
    rows.extend(several_keys(plan));
    rows.push(scans(plan));
    rows.extend(two_threads::measure(plan, MAPS));
    rows.extend(counts(if is_full { 5_000_000 } else { 500_000 }));
    rows
}

/// The rows that are the same in every run. So many keys pass through one of the maps.
fn counts(keys: u64) -> Vec<Row> {
    let mut rows = memory();
    rows.extend(sizes(keys));
    rows.push(largest_insert());
    rows
}

/// Lets so many keys pass through a map, and prints the rows that are the same in every run.
pub(crate) fn counts_once(arguments: &[String]) -> Result<(), String> {
    let [keys] = arguments else {
        return Err(format!("{COUNTS} needs a number of keys"));
    };
    let keys: u64 = keys.parse().map_err(|error| format!("{keys}: {error}"))?;
    for row in counts(keys) {
        let number = row.value.map_or(f64::NAN, |value| value.median);
        println!("{}: {number}{}", row.what, row.unit);
    }
    Ok(())
}
