//! The configuration of the nodes, and which of them store a lock.

use crate::engine::Key;
use crate::notices::fnv;
use crate::plant::planted;

use super::settings::Address;

/// The greatest number of nodes that store one lock.
const MOST_COPIES: usize = 5;

/// The version of the layout, which is part of the configuration.
const LAYOUT: u32 = 1;

/// The nodes of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Members {
    labels: Vec<String>,
}

impl Members {
    pub(super) fn new(addresses: &[Address]) -> Self {
        Members {
            labels: addresses.iter().map(|node| node.label.clone()).collect(),
        }
    }

    /// Returns the number of nodes that store one lock.
    pub(super) fn copies(&self) -> usize {
        self.labels.len().min(MOST_COPIES)
    }

    /// Returns the least number of nodes that two majorities share a node with.
    pub(super) fn majority(&self) -> usize {
        if planted("majority of n/2") {
            return self.copies() / 2;
        }
        self.copies() / 2 + 1
    }

    /// Returns the configuration in words.
    pub(super) fn words(&self) -> String {
        let copies = self.copies();
        format!("layout {LAYOUT}, {copies} of {}", self.labels.join(","))
    }

    /// Returns the hash of the configuration, which nodes store [QU7].
    pub(super) fn hash(&self) -> String {
        format!("{:016x}", mix(fnv(self.words().bytes())))
    }

    /// Returns the nodes that store a lock, in an order that depends on the key: the nodes with the
    /// greatest scores. So a node that is added or removed changes the nodes of few keys.
    pub(super) fn of(&self, key: Key<'_>) -> Vec<usize> {
        let score = |label: &String| {
            let bytes = label.bytes().chain([0]).chain(key.namespace.bytes());
            mix(fnv(bytes.chain([0]).chain(key.name.bytes())))
        };
        let mut scores: Vec<(u64, usize)> = self.labels.iter().map(score).zip(0..).collect();
        scores.sort_unstable_by(|a, b| b.cmp(a));
        scores.truncate(self.copies());
        scores.into_iter().map(|(_, node)| node).collect()
    }
}

/// The finaliser of MurmurHash3: each bit of the input affects each bit of the result.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: usize) -> Members {
        let labels = (0..count)
            .map(|node| format!("host{node}:6379/0"))
            .collect();
        Members { labels }
    }

    fn key(name: &str) -> Key<'_> {
        Key {
            namespace: "tests",
            name,
        }
    }

    #[test]
    fn two_majorities_of_one_name_share_a_node() {
        for count in 1..=9 {
            let members = members(count);
            assert!(2 * members.majority() > members.copies(), "{count}");
            assert_eq!(members.of(key("a")).len(), count.min(5));
        }
    }

    #[test]
    fn the_nodes_of_a_name_never_change_and_few_change_with_the_list() {
        // Processes of several releases must choose the same nodes.
        assert_eq!(members(7).of(key("a")), members(7).of(key("a")));
        assert_eq!(members(7).hash(), "c973476d819d0dd9");
        assert_ne!(members(7).hash(), members(8).hash());
        let (mut used, mut moved) = ([0; 8], 0);
        for number in 0..1000 {
            let name = format!("name {number}");
            let (before, after) = (members(7).of(key(&name)), members(8).of(key(&name)));
            after.iter().for_each(|node| used[*node] += 1);
            moved += before.iter().filter(|node| !after.contains(node)).count();
        }
        assert!(
            used.iter().all(|count| (525..725).contains(count)),
            "{used:?}"
        );
        // The new node has 5 of 8 shares, and each of its names left one node.
        assert!((525..725).contains(&moved), "{moved}");
    }
}
