//! Memory in use: for each key that is locked, and while threads replace values as fast as they
//! can.
//!
//! These are bytes that the allocator was asked for, not times, so criterion is not involved.

use std::env;
use std::thread;
use std::time::Duration;

use comfy_table::{Table, presets};
use latchwork_bench::heap::{CountingAllocator, peak};
use latchwork_bench::held::{of_peers, of_table};
use latchwork_bench::scenarios::{self, Setting};
use latchwork_bench::workload::distinct_keys;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn table(heading: &[&str], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(heading.to_vec());
    table.add_rows(rows);
    println!("{table}\n");
}

fn held() {
    let mut rows = Vec::new();
    for count in [1_000, 1_000_000] {
        let keys = distinct_keys(count, 21);
        let all = [of_table(&keys)].into_iter().chain(of_peers(&keys));
        rows.extend(all.map(|held| {
            let (count, heap) = (count.to_string(), format!("{:.1}", held.heap));
            vec![held.name.to_owned(), count, heap, held.guard.to_string()]
        }));
    }
    let heading = [
        "locks by key",
        "held",
        "heap bytes each",
        "bytes of the guard",
    ];
    table(&heading, rows);
}

/// The largest growth of the heap under load, and its growth after the load has ended and all
/// reclaimable values are freed.
fn garbage(name: &str, value: f64, span: Duration) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let scenario = scenarios::named(name);
    let mut rows = Vec::new();
    for contender in &scenario.contenders {
        for threads in [cores, 4 * cores] {
            let load = contender.build(Setting {
                threads,
                value,
                seed: 1,
            });
            let (rate, most, left) = peak(|| {
                // No times, which would need room.
                let rate = load.run(threads, span, u32::MAX).rate;
                latchwork::flush();
                rate
            });
            let kib = |bytes: i64| format!("{:.0}", bytes.max(0) as f64 / 1024.0);
            rows.push(vec![
                contender.name.to_owned(),
                threads.to_string(),
                format!("{:.2}", rate / 1e6),
                kib(most),
                kib(left),
            ]);
        }
    }
    println!("{}", scenario.title);
    let heading = [name, "threads", "millions a second", "most KiB", "KiB left"];
    table(&heading, rows);
}

fn main() {
    held();
    // As with criterion, to see that it runs.
    let span = match env::args().any(|argument| argument == "--test") {
        true => Duration::from_millis(10),
        false => Duration::from_secs(1),
    };
    garbage("writers", 1.0, span);
    garbage("swap-2", 2.0, span);
}
