//! The report: tables, plots, and conclusions that are computed from the figures.

use std::fmt::Write as _;

use crate::experiments::{Experiments, PLAIN, Run, SHARDED, Servers};
use crate::links::REGIONS;
use crate::plot::{Line, Plot, number};
use crate::setup::Costs;

/// A file of the report.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: String,
}

/// Renders the report and its plots.
///
/// # Errors
/// Returns an error if a plot cannot be drawn.
pub fn render(all: &Experiments, command: &str, seed: u64) -> Result<Vec<File>, String> {
    let mut files = vec![File {
        name: "REPORT.md",
        text: text(all, command, seed),
    }];
    for (name, plot) in plots(all) {
        let text = plot.draw()?;
        files.push(File { name, text });
    }
    Ok(files)
}

fn lines(runs: &[Run], servers: &[Servers], y: fn(&Run) -> f64) -> Vec<Line> {
    let line = |servers: &Servers| Line {
        title: servers.title.to_owned(),
        points: series(runs, servers).map(|run| (run.x, y(run))).collect(),
    };
    servers.iter().map(line).collect()
}

fn series<'a>(runs: &'a [Run], servers: &'a Servers) -> impl Iterator<Item = &'a Run> + Clone {
    runs.iter()
        .filter(move |run| run.servers.title == servers.title)
}

fn at<'a>(runs: &'a [Run], servers: &'a Servers, x: f64) -> Option<&'a Run> {
    series(runs, servers).find(|run| run.x == x)
}

fn plots(all: &Experiments) -> Vec<(&'static str, Plot<'static>)> {
    vec![
        (
            "rate.svg",
            Plot {
                title: "simulated: acquisitions a second, by clients",
                x: "clients, each with a name of its own",
                y: "acquisitions a second",
                lines: lines(&all.rates, &SHARDED, |run| run.outcome.rate()),
                is_linear: false,
            },
        ),
        (
            "latency.svg",
            Plot {
                title: "simulated: time to acquire, 99th percentile",
                x: "clients, each with a name of its own",
                y: "milliseconds",
                lines: lines(&all.rates, &SHARDED, |run| run.outcome.acquire_ms(0.99)),
                is_linear: false,
            },
        ),
        (
            "regions.svg",
            Plot {
                title: "simulated: time to acquire, median, by regions",
                x: "regions over which clients and servers are spread",
                y: "milliseconds",
                lines: lines(&all.regions, &PLAIN, |run| run.outcome.acquire_ms(0.5)),
                is_linear: true,
            },
        ),
        (
            "contention.svg",
            Plot {
                title: "simulated: messages an acquisition of one name",
                x: "clients that compete",
                y: "messages",
                lines: lines(&all.contention, &PLAIN, |run| run.outcome.messages_each()),
                is_linear: false,
            },
        ),
        (
            "takeover.svg",
            Plot {
                title: "simulated: from the crash of a holder to the next grant, median",
                x: "length of the lease in seconds",
                y: "seconds",
                lines: lines(&all.lengths, &PLAIN, |run| run.outcome.takeover_s(0.5)),
                is_linear: false,
            },
        ),
        (
            "renewals.svg",
            Plot {
                title: "simulated: messages for renewals, each lease and second",
                x: "length of the lease in seconds",
                y: "messages a second",
                lines: lines(&all.lengths, &PLAIN, |run| run.outcome.renewals_each()),
                is_linear: false,
            },
        ),
    ]
}

/// The acquisitions a second that the clients would make if each were granted at once.
fn offered(run: &Run) -> f64 {
    run.setup.clients as f64 / (run.setup.think + run.setup.hold)
}

/// Whether the servers keep up: no failure, and the 99th percentile at most ten times that of few
/// clients.
fn keeps_up(run: &Run, unloaded: f64) -> bool {
    let outcome = &run.outcome;
    outcome.failed == 0 && outcome.acquire_ms(0.99) <= 10.0 * unloaded
}

/// The greatest load at which the servers keep up, and the least at which they do not.
fn limits<'a>(all: &'a Experiments, servers: &'a Servers) -> (Option<&'a Run>, Option<&'a Run>) {
    let runs = series(&all.rates, servers);
    let unloaded = runs
        .clone()
        .next()
        .map_or(0.0, |run| run.outcome.acquire_ms(0.99));
    let best = runs.clone().filter(|run| keeps_up(run, unloaded)).last();
    let worst = runs.clone().find(|run| !keeps_up(run, unloaded));
    (best, worst)
}

fn text(all: &Experiments, command: &str, seed: u64) -> String {
    let mut out = String::new();
    let totals = Totals::of(all);
    let _ = writeln!(
        out,
        "# Simulated: leases of many clients, and of engines that are far apart\n\n\
         Written by `{command}`, with the seed {seed}; edit the generator, not this file.\n\n\
         **Every figure here is simulated.** The state machine of an acquisition is that of the \
         crate. Engines, links, clocks and failures are models, and their costs are listed at the \
         end. Compare the figures with each other: no real server has these absolute figures. \
         `lease/REPORT.md` has figures that were measured.\n\n\
         {} simulations, {} events, {} acquisitions.\n",
        totals.runs,
        number(totals.events as f64),
        number(totals.granted as f64),
    );
    conclusions(&mut out, all, &totals);
    rates(&mut out, all);
    regions(&mut out, all);
    contention(&mut out, all);
    lengths(&mut out, all);
    failures(&mut out, all);
    assumptions(&mut out);
    out
}

struct Totals {
    runs: usize,
    events: u64,
    granted: u64,
    regressions: u64,
    stale: u64,
    refused: u64,
    control: u64,
}

impl Totals {
    fn of(all: &Experiments) -> Self {
        let plain = [
            &all.rates,
            &all.sharding,
            &all.regions,
            &all.sizes,
            &all.contention,
            &all.lengths,
        ];
        let fenced: Vec<&Run> = plain
            .into_iter()
            .flatten()
            .chain(all.failures.iter().map(|(fenced, _)| fenced))
            .collect();
        let controls = || all.failures.iter().map(|(_, control)| control);
        let every = || fenced.iter().copied().chain(controls());
        Totals {
            runs: every().count(),
            events: every().map(|run| run.outcome.events).sum(),
            granted: every().map(|run| run.outcome.granted).sum(),
            regressions: every().map(|run| run.outcome.regressions).sum(),
            stale: fenced.iter().map(|run| run.outcome.stale).sum(),
            refused: fenced.iter().map(|run| run.outcome.refused).sum(),
            control: controls().map(|run| run.outcome.stale).sum(),
        }
    }
}

fn conclusions(out: &mut String, all: &Experiments, totals: &Totals) {
    let _ = writeln!(out, "## Conclusions\n\nAll of them are simulated.\n");
    for servers in &SHARDED {
        let (best, worst) = limits(all, servers);
        let Some(best) = best else { continue };
        let title = servers.title;
        let _ = write!(
            out,
            "- **{title}** keeps up with {} clients, {} acquisitions a second, at a 99th \
             percentile of {} ms.",
            number(best.x),
            number(best.outcome.rate()),
            number(best.outcome.acquire_ms(0.99)),
        );
        if let Some(worst) = worst {
            let offered = number(offered(worst));
            let p99 = number(worst.outcome.acquire_ms(0.99));
            let _ = write!(
                out,
                " With {} clients, which request {offered} a second, it grants {} a second; the \
                 99th percentile is {p99} ms, and {} acquisitions failed.",
                number(worst.x),
                number(worst.outcome.rate()),
                number(worst.outcome.failed as f64),
            );
        }
        let _ = writeln!(out);
    }
    let _ = writeln!(
        out,
        "- Beyond its limit, a server grants less than at the limit: an ask without an answer has an \
         unknown outcome, so its client releases by nonce again and again, and these requests add \
         to the load."
    );
    sharding(out, all);
    for servers in &PLAIN {
        if let (Some(near), Some(wide)) = (
            at(&all.regions, servers, 1.0),
            at(&all.regions, servers, 5.0),
        ) {
            let _ = writeln!(
                out,
                "- Distance: for {}, the median time to acquire is {} ms in one region and {} ms \
                 in five.",
                servers.title,
                number(near.outcome.acquire_ms(0.5)),
                number(wide.outcome.acquire_ms(0.5)),
            );
        }
    }
    for servers in &PLAIN {
        if let Some(run) = series(&all.contention, servers).last() {
            let _ = writeln!(
                out,
                "- Contention: with {} clients on one name, {} hands over {} times a second, with \
                 {} messages an acquisition; a waiter waits {} ms in the median and {} ms at the \
                 99th percentile, and the longest wait that was open at the end had lasted {} s.",
                number(run.x),
                servers.title,
                number(run.outcome.rate()),
                number(run.outcome.messages_each()),
                number(run.outcome.acquire_ms(0.5)),
                number(run.outcome.acquire_ms(0.99)),
                number(run.outcome.waiting),
            );
        }
    }
    lease_length(out, all);
    let _ = writeln!(
        out,
        "- The fence: {} stale writes passed it, and it refused {}. Without the fence, the resource \
         accepted {} stale writes under the same failures. Tokens that were not greater than an \
         earlier one: {}.\n",
        number(totals.stale as f64),
        number(totals.refused as f64),
        number(totals.control as f64),
        number(totals.regressions as f64),
    );
}

fn sharding(out: &mut String, all: &Experiments) {
    for (title, range) in [
        ("central servers", 0..3),
        ("consensus groups", 3..6),
        ("nodes of a quorum", 6..9),
    ] {
        let Some(runs) = all.sharding.get(range) else {
            continue;
        };
        let list = |of: &dyn Fn(&Run) -> String| {
            let texts: Vec<String> = runs.iter().map(of).collect();
            texts.join(", ")
        };
        let _ = writeln!(
            out,
            "- Sharding over {title} ({}), with a load in proportion: {} acquisitions a second, at a \
             99th percentile of {} ms; {} failed.",
            list(&|run| run.servers.title.to_owned()),
            list(&|run| number(run.outcome.rate())),
            list(&|run| number(run.outcome.acquire_ms(0.99))),
            list(&|run| number(run.outcome.failed as f64)),
        );
    }
    let _ = writeln!(
        out,
        "- Hash the name to choose its group: no request then concerns two groups, and a group that \
         is not available delays its own names only."
    );
    for (servers, unit) in [
        (&SHARDED[0], "central servers"),
        (&SHARDED[2], "consensus groups of 3"),
    ] {
        let (Some(best), _) = limits(all, servers) else {
            continue;
        };
        let each = best.outcome.rate();
        let needed = |rate: f64| number((rate / each).ceil());
        let _ = writeln!(
            out,
            "- For 10,000 acquisitions a second, {} {unit} are enough, and for 100,000, {}: each \
             keeps up with at least {}.",
            needed(10_000.0),
            needed(100_000.0),
            number(each),
        );
    }
}

fn lease_length(out: &mut String, all: &Experiments) {
    for servers in &PLAIN {
        let (Some(short), Some(long)) = (
            at(&all.lengths, servers, 2.0),
            at(&all.lengths, servers, 30.0),
        ) else {
            continue;
        };
        let _ = writeln!(
            out,
            "- The length of a lease, {}: with 2 s, the next holder follows a crash after {} s in \
             the median, each lease costs {} messages a second, and {} of 1,000 grants overlap with \
             a paused holder. With 30 s it is {} s, {} messages, and {} of 1,000.",
            servers.title,
            number(short.outcome.takeover_s(0.5)),
            number(short.outcome.renewals_each()),
            number(overlaps_each(short)),
            number(long.outcome.takeover_s(0.5)),
            number(long.outcome.renewals_each()),
            number(overlaps_each(long)),
        );
    }
}

/// Overlaps in 1,000 grants.
fn overlaps_each(run: &Run) -> f64 {
    let overlaps = run.outcome.overlaps_paused + run.outcome.overlaps;
    1000.0 * overlaps as f64 / run.outcome.granted.max(1) as f64
}

fn rates(out: &mut String, all: &Experiments) {
    let _ = writeln!(
        out,
        "## Simulated: which engine up to which rate\n\n\
         One region, no failures. Each client has a name of its own, holds it for 1 s in the mean, \
         and acquires it again after 9 s. A row is marked if the servers keep up: no acquisition \
         fails, and the 99th percentile is at most ten times that of ten clients.\n\n\
         ![acquisitions a second](rate.svg)\n\n![time to acquire](latency.svg)\n\n\
         | servers | clients | offered/s | granted/s | p50 ms | p99 ms | failed | messages each | \
         keeps up |\n|---|---|---|---|---|---|---|---|---|"
    );
    for servers in &SHARDED {
        let unloaded = series(&all.rates, servers)
            .next()
            .map_or(0.0, |run| run.outcome.acquire_ms(0.99));
        for run in series(&all.rates, servers) {
            let outcome = &run.outcome;
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                servers.title,
                number(run.x),
                number(offered(run)),
                number(outcome.rate()),
                number(outcome.acquire_ms(0.5)),
                number(outcome.acquire_ms(0.99)),
                number(outcome.failed as f64),
                number(outcome.messages_each()),
                if keeps_up(run, unloaded) { "yes" } else { "no" },
            );
        }
    }
    let _ = writeln!(out);
}

fn regions(out: &mut String, all: &Experiments) {
    let _ = writeln!(
        out,
        "## Simulated: regions and sizes\n\n\
         200 clients with names of their own. Clients and servers are spread over the first regions \
         of {}, in turn. A central server is in the first.\n\n![regions](regions.svg)\n\n\
         | servers | regions | p50 ms | p99 ms | messages each |\n|---|---|---|---|---|",
        REGIONS.join(", "),
    );
    let rows = all.regions.iter().chain(&all.sizes);
    for run in rows {
        let outcome = &run.outcome;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            run.servers.title,
            run.setup.regions,
            number(outcome.acquire_ms(0.5)),
            number(outcome.acquire_ms(0.99)),
            number(outcome.messages_each()),
        );
    }
    let _ = writeln!(out);
}

fn contention(out: &mut String, all: &Experiments) {
    let _ = writeln!(
        out,
        "## Simulated: one name\n\n\
         One region. Each client holds the name for 10 ms in the mean, and requests it again after \
         10 ms. The percentiles concern waits that ended within the measured 10 s; the longest wait \
         that was open at the end is listed beside them.\n\n![messages](contention.svg)\n\n\
         | servers | clients | hand-overs/s | p50 ms | p99 ms | longest open wait s | messages each |\n\
         |---|---|---|---|---|---|---|"
    );
    for run in &all.contention {
        let outcome = &run.outcome;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            run.servers.title,
            number(run.x),
            number(outcome.rate()),
            number(outcome.acquire_ms(0.5)),
            number(outcome.acquire_ms(0.99)),
            number(outcome.waiting),
            number(outcome.messages_each()),
        );
    }
    let _ = writeln!(out);
}

fn lengths(out: &mut String, all: &Experiments) {
    if let Some(run) = all.lengths.first() {
        let failures = run.setup.failures;
        let _ = writeln!(
            out,
            "## Simulated: the length of a lease\n\n\
             One region, {} clients on {} names, {} s. Each client crashes {} times an hour and is \
             paused {} times an hour, for {} s in the mean. A takeover is measured if another \
             client waits.\n\n![takeover](takeover.svg)\n\n![renewals](renewals.svg)\n\n\
             | servers | lease s | takeover p50 s | p99 s | of | renewal messages a second | lost | \
             overlaps with a paused holder | other overlaps | writes refused |\n\
             |---|---|---|---|---|---|---|---|---|---|",
            run.setup.clients,
            run.setup.names.unwrap_or(0),
            number(run.setup.length),
            number(failures.client_crashes),
            number(failures.pauses),
            number(failures.pause),
        );
    }
    for run in &all.lengths {
        let outcome = &run.outcome;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            run.servers.title,
            number(run.x),
            number(outcome.takeover_s(0.5)),
            number(outcome.takeover_s(0.99)),
            outcome.takeover.len(),
            number(outcome.renewals_each()),
            outcome.lost,
            outcome.overlaps_paused,
            outcome.overlaps,
            outcome.refused,
        );
    }
    let _ = writeln!(out);
}

fn failures(out: &mut String, all: &Experiments) {
    if let Some((run, _)) = all.failures.first() {
        let failures = run.setup.failures;
        let _ = writeln!(
            out,
            "## Simulated: all failures together\n\n\
             Three regions, {} clients on {} names, leases of {} s, {} s. In an hour, each client \
             crashes {} times, is paused {} times ({} s), and is cut off {} times ({} s); each \
             machine of a server crashes {} times ({} s, its data remain), and {} times two regions \
             are cut off from each other ({} s). The control has no fence and is otherwise the \
             same.\n\n\
             | servers | granted/s | failed | lost | takeover p50 s | p99 s | longest time without a \
             grant s | overlaps with a paused holder | other overlaps | writes | refused | stale \
             writes past the fence | stale writes without it |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|",
            run.setup.clients,
            run.setup.names.unwrap_or(0),
            number(run.setup.ttl),
            number(run.setup.length),
            number(failures.client_crashes),
            number(failures.pauses),
            number(failures.pause),
            number(failures.client_cuts),
            number(failures.cut),
            number(failures.server_crashes),
            number(failures.repair),
            number(failures.region_cuts),
            number(failures.cut),
        );
    }
    for (run, control) in &all.failures {
        let outcome = &run.outcome;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            run.servers.title,
            number(outcome.rate()),
            outcome.failed,
            outcome.lost,
            number(outcome.takeover_s(0.5)),
            number(outcome.takeover_s(0.99)),
            number(outcome.gap),
            outcome.overlaps_paused,
            outcome.overlaps,
            outcome.writes,
            outcome.refused,
            outcome.stale,
            control.outcome.stale,
        );
    }
    let _ = writeln!(out);
}

fn assumptions(out: &mut String) {
    let costs = Costs::default();
    let _ = writeln!(
        out,
        "## What is assumed\n\n\
         | | a request occupies the server for | and is durable after |\n|---|---|---|"
    );
    for (title, (service, sync)) in [
        ("central server", costs.central),
        ("leader of a consensus group", costs.consensus),
        ("node of a quorum", costs.quorum),
    ] {
        let _ = writeln!(
            out,
            "| {title} | {} us | {} us |",
            number(service),
            number(sync)
        );
    }
    let _ = writeln!(
        out,
        "\n\
         - The second column reproduces acquisitions that were measured on one machine. The first \
         is an assumption, so absolute rates are those of servers that need as long.\n\
         - A write of a consensus group is durable when a majority has it; a group without a leader \
         elects one within 1 to 1.5 s. Waiters are granted in their order, and a release notifies \
         the first. A central server or a node of a quorum notifies all waiters. Waiters of a \
         quorum ask after a random time of up to 20 ms.\n\
         - Times between regions are published averages, cited in `src/links.rs`; inside a region a \
         round trip takes 0.5 ms. Messages are lost only where links are cut.\n\
         - A server that is behind by more than one second discards requests.\n\
         - The delay of a client is constant, so the same clients win each race of waiters. Real \
         delays vary, and starve a waiter less.\n\
         - Clocks differ in rate by at most 100 in 1,000,000, and no clock is set. A paused process \
         had checked its lease and writes once when it continues.\n\
         - The data of a server survive its crash.\n\
         - Each client is a process of its own, so no renewals share a request."
    );
}
