//! Does the table grow with the keys it ever saw?

use std::time::Instant;

use latchwork::{LockTable, table::ExclusiveGuard};
use latchwork_bench::ratio::{Plan, Quartiles};
use latchwork_bench::workload::Rng;

use super::Question;
use crate::row::Row;

pub(super) const QUESTION: Question = Question {
    name: "ageing",
    title: "Many keys, few at a time",
    prose: "One thread locks random keys, no key twice, and holds the last 64 of them (1,000 of them for \
            information). The size of the index beyond that of an empty table must depend on the held locks, and not \
            on the number of keys that were locked before. It is sampled 64 times over the 64,000 keys before each \
            checkpoint. The bound is the 64 bytes for each held lock of the section above.",
    measure,
};

/// The number of samples before each checkpoint.
const SAMPLES: u64 = 64;
/// The number of keys between two samples.
const STRIDE: u64 = 1_000;
const BYTES_EACH: usize = 64;

fn measure(plan: Plan) -> Vec<Row> {
    // The full report has ten times the range of a quick one.
    let full = plan.rounds == Plan::FULL.rounds;
    let (last, last_of_many) = if full { (8, 7) } else { (7, 6) };
    let mut rows = Vec::new();
    for row in checkpoints::<64>(last) {
        rows.push(row.at_most((64 * BYTES_EACH) as f64));
    }
    rows.extend(checkpoints::<1000>(last_of_many));
    rows
}

/// One row for each power of ten from the fifth to `last`.
fn checkpoints<const HELD: usize>(last: u32) -> Vec<Row> {
    let table = LockTable::<u64>::new();
    let empty = table.stats().index_bytes;
    let mut guards: [Option<ExclusiveGuard<'_>>; HELD] = [const { None }; HELD];
    let mut rng = Rng::new(31);
    let mut seen = 0_u64;
    let mut step = |keys: u64| {
        for _ in 0..keys {
            let place = &mut guards[seen as usize % HELD];
            // Unlock first: no more than HELD are ever held.
            *place = None;
            *place = Some(table.lock(&rng.next()));
            seen += 1;
        }
        seen
    };
    let mut rows = Vec::new();
    for power in 5..=last {
        let checkpoint = 10_u64.pow(power);
        let before = step(0);
        step(checkpoint - before - SAMPLES * STRIDE);
        let start = Instant::now();
        let samples: Vec<_> = (0..SAMPLES)
            .map(|_| {
                step(STRIDE);
                (table.stats().index_bytes - empty) as f64
            })
            .collect();
        let each = start.elapsed().as_secs_f64() * 1e9 / (SAMPLES * STRIDE) as f64;
        let value = Quartiles::of(samples).expect("there are samples");
        let what = format!("index bytes with {HELD} held, after 10^{power} keys");
        let row = Row::bytes(&what, "an empty table", value);
        rows.push(row.with_context(format!("{each:.0} ns a key")));
    }
    rows
}
