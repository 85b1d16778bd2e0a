//! `lease bench`: the latency of acquisitions, and hand-overs between clients.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use latchwork_lease::Leases;
use serde_json::{Value, json};

use crate::args::Bench;
use crate::exit::{Failure, UNREACHABLE};
use crate::view::{print_json, printed};
use crate::{acquire_failure, connect, table};

/// Long enough that no lease of a measurement ends by itself.
const TTL: Duration = Duration::from_secs(10);

/// The result of one measurement.
struct Measured {
    what: String,
    elapsed: Duration,
    microseconds: Histogram<u64>,
    /// Requests that the engine did not serve in time.
    failed: u64,
}

pub(crate) fn bench(url: &str, args: &Bench) -> Result<u8, Failure> {
    let clients = args.clients as usize;
    // Names of their own: a measurement affects no lease of another program.
    let prefix = format!("lease-bench/{}", std::process::id());
    let progress = progress(args);
    progress.set_message("one client");
    let alone = measure(url, &format!("{prefix}/alone"), 1, args.duration)?;
    progress.inc(1);
    progress.set_message(format!("{clients} clients"));
    let together = measure(url, &format!("{prefix}/together"), clients, args.duration)?;
    progress.finish_and_clear();
    let all = [
        Measured {
            what: "acquire + release, one client".to_owned(),
            ..alone
        },
        Measured {
            what: format!("hand-over, {clients} clients on one lease"),
            ..together
        },
    ];
    if args.json.json {
        return print_json(&all.iter().map(to_json).collect());
    }
    let titles = [
        "WHAT",
        " PER SECOND",
        " P50 MS",
        " P90 MS",
        " P99 MS",
        " P99.9 MS",
        " MAX MS",
        " FAILED",
    ];
    printed(table::print(
        &titles,
        &all.iter().map(row).collect::<Vec<_>>(),
    ))
}

fn progress(args: &Bench) -> ProgressBar {
    // Hidden where the error output is no terminal.
    let bar = ProgressBar::new(2);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    if args.json.json {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    bar
}

/// Lets clients, each with a connection of its own, acquire and release one lease in turn.
///
/// The latency of one client is that of acquisition and release; of several, the wait of each.
fn measure(url: &str, name: &str, clients: usize, long: Duration) -> Result<Measured, Failure> {
    let leases = (0..clients)
        .map(|_| connect(url))
        .collect::<Result<Vec<Leases>, _>>()?;
    let start = Barrier::new(clients);
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    let results = thread::scope(|scope| {
        let threads: Vec<_> = leases
            .iter()
            .map(|leases| scope.spawn(|| client(leases, name, &start, &stop, long)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Failure::own("a client panicked")))
            })
            .collect::<Vec<_>>()
    });
    let mut measured = Measured {
        what: String::new(),
        elapsed: started.elapsed(),
        microseconds: histogram(),
        failed: 0,
    };
    for result in results {
        let (of_client, failed) = result?;
        measured.failed += failed;
        let added = measured.microseconds.add(of_client);
        added.map_err(|error| Failure::own(format!("cannot add the results: {error}")))?;
    }
    Ok(measured)
}

fn client(
    leases: &Leases,
    name: &str,
    start: &Barrier,
    stop: &AtomicBool,
    long: Duration,
) -> Result<(Histogram<u64>, u64), Failure> {
    let mut histogram = histogram();
    let mut failed = 0;
    start.wait();
    let end = Instant::now() + long;
    // Relaxed: the flag stands for itself.
    while Instant::now() < end && !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let result = leases
            .acquire(name, TTL)
            .map_err(|error| acquire_failure(&error));
        let result = result.and_then(|lease| {
            lease
                .release()
                .map_err(|error| Failure::new(UNREACHABLE, error))
        });
        match result {
            Ok(_) => histogram.saturating_record(asked.elapsed().as_micros() as u64),
            // A busy engine is a result. One that serves no request at all is an error.
            Err(failure) if failure.code == UNREACHABLE && Instant::now() < end => failed += 1,
            Err(failure) if failure.code == UNREACHABLE && !histogram.is_empty() => failed += 1,
            Err(failure) => {
                // Relaxed: the flag stands for itself.
                stop.store(true, Ordering::Relaxed);
                return Err(failure);
            }
        }
    }
    Ok((histogram, failed))
}

/// Three digits of up to an hour in microseconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000, 3).expect("the bounds are valid")
}

fn per_second(measured: &Measured) -> f64 {
    measured.microseconds.len() as f64 / measured.elapsed.as_secs_f64()
}

fn row(measured: &Measured) -> Vec<String> {
    let at = |quantile| {
        let microseconds = measured.microseconds.value_at_quantile(quantile);
        format!("{:.2}", microseconds as f64 / 1000.0)
    };
    vec![
        measured.what.clone(),
        format!("{:.0}", per_second(measured)),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
        measured.failed.to_string(),
    ]
}

fn to_json(measured: &Measured) -> Value {
    let at = |quantile| measured.microseconds.value_at_quantile(quantile) as f64 / 1000.0;
    json!({
        "what": measured.what,
        "failed": measured.failed,
        "count": measured.microseconds.len(),
        "seconds": measured.elapsed.as_secs_f64(),
        "per_second": per_second(measured),
        "milliseconds": {
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0),
        },
    })
}
