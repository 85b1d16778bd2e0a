//! Who may pass whom in a queue, and how often.

use std::task::Poll;

use latchwork::Mode;

use crate::actors::Table;
use crate::common::tasks::poll;

/// A reader that was woken and is slow to look is passed by others who upgrade, but not for ever:
/// its turn comes, as it does among those who just lock.
#[test]
fn upgrades_pass_a_slow_reader_so_often_and_no_more() {
    let table = Table::new();
    let (mut one, mut two) = (table.session(), table.session());
    one.lock(&1).unwrap();
    let mut slow = table.lock_shared_async(&1);
    assert!(poll(&mut slow).is_pending());
    let passed = (0..1_000)
        .take_while(|_| {
            // Leaves the key free, and so counts; the reader does not look.
            one.unlock(&1);
            one.lock_shared(&1).unwrap();
            two.lock_shared(&1).unwrap();
            let mut upgrade = one.lock_async(&1);
            assert!(poll(&mut upgrade).is_pending());
            two.unlock(&1);
            // If not, the reader was given the key, and holds it too.
            matches!(poll(&mut upgrade), Poll::Ready(Ok(())))
        })
        .count();
    assert!(passed < 100, "passed {passed} times");
    assert_eq!(table.mode(&1), Some(Mode::Shared));
    assert!(poll(&mut slow).is_ready());
}
