//! Two threads at once. There must be an order of all their calls that explains what each has
//! returned.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use latchwork::VersionedMap;

use crate::common::hashers::Place;
use crate::common::history::keys::KEYS;
use crate::common::work::maps::{Caller, KINDS, Map, Pick, judge};
use crate::input;

/// Most calls of one thread.
const MOST_CALLS: usize = 60;
/// Some waits end before the change, and some after.
const PATIENCE: Duration = Duration::from_micros(10);

/// Runs the calls at even places in one thread, and those at odd places in another. Returns the
/// number of calls, and how many of them were refused.
pub(crate) fn run(data: &[u8]) -> (usize, usize) {
    let mut bytes = arbitrary::Unstructured::new(data);
    let place = input::place(&mut bytes).unwrap_or(Place::Identity);
    let keys = 1 + usize::from(bytes.arbitrary::<u8>().unwrap_or(0)) % KEYS;
    let pick = |bytes: &[u8]| Pick {
        kind: bytes[0] % KINDS,
        keys: [
            usize::from(bytes[1]) % keys,
            usize::from(bytes[1] >> 3) % keys,
        ],
        lingers: bytes[1] & 64 != 0,
    };
    let picks: Vec<Pick> = bytes.take_rest().chunks_exact(2).map(pick).collect();
    let map: Map = VersionedMap::with_hasher(place);
    let start = Barrier::new(2);
    let logs = thread::scope(|scope| {
        let threads = [0, 1].map(|thread| {
            let (map, picks, start) = (&map, &picks, &start);
            scope.spawn(move || {
                let mut caller = Caller::new(map, thread, MOST_CALLS, PATIENCE);
                start.wait();
                let own = picks.iter().skip(thread).step_by(2).take(MOST_CALLS);
                own.for_each(|pick| caller.call(*pick));
                caller.into_log()
            })
        });
        threads
            .map(|thread| thread.join().expect("no call panics"))
            .into()
    });
    judge(logs)
}
