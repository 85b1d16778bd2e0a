//! Waits for a change of a key, present or absent.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::value::Map;
use super::{Ops, World, after};
use crate::common::tasks::Bell;

impl<'m> World<'m> {
    pub(super) fn wait(&mut self, kind: u8, key: u64, ops: &mut Ops<'_>, depth: usize) {
        let map: &'m Map = self.map;
        let name = self.key(key);
        let seen = self.version(key);
        if kind % 64 == 36 {
            let other = seen.map_or(Some(latchwork::cell::Version::new(7)), |v| {
                (kind >> 6 == 0).then(|| after(v, 1))
            });
            assert_eq!(map.wait_changed(&name, other), seen);
            assert_eq!(map.wait_changed_for(&name, seen, Duration::ZERO), None);
            return;
        }
        let mut changed = pin!(map.changed(&name, seen));
        let (bell, waker) = Bell::new();
        let poll = changed.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(poll, Poll::Pending);
        self.tally.pending += 1;
        let (before, vacant_before) = (self.writes(key), self.vacant_writes);
        self.some_more(kind, ops, depth);
        let is_written = self.writes(key) != before;
        let rings = bell.rings();
        // Absence has versions too.
        let is_spurious = self.vacant_writes != vacant_before && rings == 1;
        assert!(
            rings == u64::from(is_written) || is_spurious,
            "woken {rings} times"
        );
        let poll = changed.as_mut().poll(&mut Context::from_waker(&waker));
        let current = self.version(key);
        match current == seen {
            true => assert_eq!(poll, Poll::Pending),
            false => assert_eq!(poll, Poll::Ready(current)),
        }
    }
}
