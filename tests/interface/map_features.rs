//! Features `serde` and `rayon` on a map.
#![cfg(any(feature = "serde", feature = "rayon"))]

use latchwork::VersionedMap;

/// As a map of the standard library is serialised.
#[cfg(feature = "serde")]
#[test]
fn a_map_is_a_map() {
    use std::collections::HashMap;

    let map: VersionedMap<String, u32> = VersionedMap::new();
    assert_eq!(serde_json::to_string(&map).unwrap(), "{}");
    map.insert("a".into(), 1);
    assert_eq!(serde_json::to_string(&map).unwrap(), r#"{"a":1}"#);
    for n in 0..100 {
        map.insert(n.to_string(), n);
    }
    map.remove("7");
    let text = serde_json::to_string(&map).unwrap();
    let plain: HashMap<String, u32> = serde_json::from_str(&text).unwrap();
    assert_eq!((plain.len(), plain["99"], plain.get("7")), (100, 99, None));
    let read: VersionedMap<String, u32> = serde_json::from_str(&text).unwrap();
    assert_eq!(read.len(), 100);
    assert!(plain.iter().all(|(key, n)| *read.get(key).unwrap() == *n));
    // The last value of a key counts.
    let twice: VersionedMap<String, u32> = serde_json::from_str(r#"{"a":1,"a":2}"#).unwrap();
    assert_eq!((twice.len(), *twice.get("a").unwrap()), (1, 2));
    for wrong in ["[]", "1", r#"{"a":-1}"#, r#"{"a":1"#] {
        assert!(
            serde_json::from_str::<VersionedMap<String, u32>>(wrong).is_err(),
            "{wrong}"
        );
    }
}

/// Both passes over the map are of one instant.
#[cfg(feature = "serde")]
#[test]
fn a_map_is_serialised_as_of_one_instant() {
    use std::sync::Arc;

    use serde::ser::{Serialize, Serializer};

    /// Writes another key when it is serialised.
    struct Writes(Arc<VersionedMap<u32, Writes>>, u32);

    impl Serialize for Writes {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let Writes(map, n) = self;
            map.insert(n + 100, Writes(map.clone(), n + 100));
            map.remove(&((n + 1) % 3));
            serializer.serialize_u32(*n)
        }
    }

    let map = Arc::new(VersionedMap::new());
    (0..3).for_each(|n| drop(map.insert(n, Writes(map.clone(), n))));
    let text = serde_json::to_string(&*map).unwrap();
    let read: VersionedMap<String, u32> = serde_json::from_str(&text).unwrap();
    assert_eq!((read.len(), map.len()), (3, 3));
    assert!(
        (0..3).all(|n| *read.get(&n.to_string()).unwrap() == n),
        "{text}"
    );
    map.clear();
}

#[cfg(feature = "rayon")]
#[test]
fn a_snapshot_is_walked_by_several_threads() {
    use latchwork::snapshot;
    use rayon::iter::{IndexedParallelIterator, ParallelIterator};

    let map: VersionedMap<u64, u64> = (0..10_000).map(|n| (n, n)).collect();
    let (sum, many) = snapshot(|view| {
        let pairs = view.par_iter(&map);
        map.clear();
        let many = pairs.len();
        (pairs.map(|(key, n)| key + n).sum::<u64>(), many)
    });
    assert_eq!((sum, many, map.len()), (10_000 * 9_999, 10_000, 0));
}
