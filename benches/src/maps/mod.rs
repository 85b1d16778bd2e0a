//! Maps from `u64` to `u64`: the versioned map, the maps that it is compared with, and the jobs.
//!
//! All of them hash alike: the hasher of one seed.

mod jobs;
mod subjects;

pub use jobs::{
    BATCH, ByKey, Locked, Sizes, Walk, batches, churn, dash_sets, each_insert, each_of_scan,
    exchange, filled, gets, gets_held, key, locked, locked_batches, locked_sets, misses,
    own_batches, random_gets_held, read_heavy, sizes_of_churn, updates, updates_beside,
};
pub use subjects::{Dash, Map, Ours, Papaya, Scc, hasher};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Rng;

    fn works<M: Map>() {
        const KEYS: usize = 1 << 6;
        let map: M = filled(KEYS, 2);
        let expected = (0..KEYS as u64).map(|number| number + 2).sum::<u64>();
        assert_eq!(map.sum(), expected);
        let mut walk = Walk::new(KEYS, 1);
        gets(&map, &mut walk, 100);
        gets_held(&map, &mut walk, 100);
        random_gets_held(&map, &mut Rng::new(1), KEYS as u64, 100);
        misses(&map, &mut walk, 100);
        updates(&map, &mut walk, 10);
        assert_eq!(map.sum(), expected + 10);
        let mut next = KEYS as u64;
        churn(&map, KEYS as u64, &mut next, 2 * KEYS as u64);
        let all = KEYS as u64..next;
        assert!(all.clone().all(|number| {
            let is_alive = number >= next - KEYS as u64;
            map.get(key(number)) == is_alive.then_some(number)
        }));
        assert!(each_insert::<M>(0, 100) > 0.0);
    }

    #[test]
    fn all_maps_do_the_same() {
        works::<Ours>();
        works::<Papaya>();
        works::<Dash>();
        works::<Scc>();
    }

    #[test]
    fn a_walk_has_each_number_once() {
        let mut walk = Walk::new(1 << 10, 7);
        let mut seen: Vec<_> = (0..1 << 10).map(|_| walk.step()).collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..1 << 10));
    }

    #[test]
    fn batches_and_churn_leave_what_they_should() {
        let map: Ours = filled(64, 0);
        batches(&map, 0, 64, 32);
        let total = (0..64).map(|number| Map::get(&map, key(number)).unwrap());
        assert_eq!(
            total.sum::<u64>(),
            (16..32).map(|value| 4 * value).sum::<u64>()
        );
        locked_batches(&locked(64), 64, 32);
        let sizes = sizes_of_churn(10_000, 64);
        assert_eq!(sizes.left, 0);
        assert!(sizes.entries >= 64 && sizes.entries < 5_000, "{sizes:?}");
    }
}
