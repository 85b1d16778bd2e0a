//! Ends the waits of other threads for the keys of a table, as the detector of deadlocks demands.

use super::monitor::{Cancelled, Wish};
use super::place::{Notices, Seat};
use super::table::RawTable;
use crate::deadlock::{EndWaits, Waiting};
use crate::park::Wakeup;

/// Ends waits of a table, and collects the threads and tasks to notify.
pub(crate) struct Ends<'a> {
    table: &'a RawTable,
    notices: &'a mut Notices,
}

impl RawTable {
    pub(crate) fn ends<'a>(&'a self, notices: &'a mut Notices) -> Ends<'a> {
        Ends {
            table: self,
            notices,
        }
    }
}

impl EndWaits<Seat> for Ends<'_> {
    fn kill(&mut self, waiting: Waiting<'_, Seat>) -> bool {
        let (table, seat) = (self.table, waiting.place());
        // Pinned before the waiter leaves, because then nothing else keeps the monitor alive [M2].
        let pin = table.trie.pin();
        let monitor = Seat::monitor_of(&waiting, &pin);
        let mut wakeup = Wakeup::default();
        match monitor.cancel(&seat.waiter, Wish::Other, &mut wakeup) {
            Cancelled::Granted => false,
            Cancelled::Left(left) => {
                // It wakes no waiter: notifications follow when no mutex is held.
                table.settle(seat.hash, seat.word(), left, pin, &mut Wakeup::default());
                self.notices.add(wakeup);
                true
            }
        }
    }

    fn let_past(&mut self, waiting: Waiting<'_, Seat>) {
        let seat = waiting.place();
        let pin = self.table.trie.pin();
        let monitor = Seat::monitor_of(&waiting, &pin);
        let mut wakeup = Wakeup::default();
        if monitor.let_past(&seat.waiter, &mut wakeup) {
            self.notices.add(wakeup);
        }
    }
}
