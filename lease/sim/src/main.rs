//! x
use latchwork_lease_sim::*;
fn main() {
    let bar = indicatif::ProgressBar::hidden();
    let t = std::time::Instant::now();
    let e = Experiments::run(if std::env::args().count() > 1 { Extent::Full } else { Extent::Small }, 1, &bar).unwrap();
    for (n, r) in [("rates", &e.rates), ("regions", &e.regions), ("sizes", &e.sizes), ("cont", &e.contention), ("len", &e.lengths), ("fail", &e.failures.iter().map(|f| f.0.clone()).collect()), ("control", &e.failures.iter().map(|f| f.1.clone()).collect())] {
        println!("{n}");
        for r in r {
            let o = &r.outcome;
            println!("{} {}: {:.0}/s p50 {:.2} p99 {:.2} ms, msgs {:.1}, failed {} lost {} overlaps {} {} regr {} writes {} stale {} refused {} gap {:.2} ren {:.3} take {} {:.2} {:.2} events {}", r.servers.title, r.x, o.rate(), o.acquire_ms(0.5), o.acquire_ms(0.99), o.messages_each(), o.failed, o.lost, o.overlaps, o.overlaps_paused, o.regressions, o.writes, o.stale, o.refused, o.gap, o.renewals_each(), o.takeover.len(), o.takeover_s(0.5), o.takeover_s(0.99), o.events);
        }
    }
    println!("{:?}", t.elapsed());
}
