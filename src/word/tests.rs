//! Exhaustive tests of the packed words.

use super::*;
use crate::sync::tuning::{MAX_BYPASSES, MAX_INLINE_READERS};

const HASHES: [u64; 6] = [0, 1, 0x3ff, 0x400, 0x0123_4567_89ab_cdef, u64::MAX];

#[test]
fn slot_word_keeps_hash_bits_in_place() {
    for hash in HASHES {
        for mode in [Mode::Shared, Mode::Exclusive] {
            let word = SlotWord::inline(hash, mode);
            assert_eq!(word.kind(), Kind::Inline);
            assert_eq!(word.mode(), mode);
            assert!(word.names(hash));
            assert_eq!(word.hash_beside(hash), hash);
            assert_eq!(SlotWord::from_bits(word.bits()), word);
            assert!(!word.names(hash ^ (1 << STATE_BITS)), "another key");
            assert!(!word.is_frozen());
            assert_eq!(word.frozen().thawed(), word);
            assert!(word.frozen().is_frozen());
            assert_eq!(word.frozen().frozen(), word.frozen());
            assert_ne!(word, SlotWord::EMPTY);
        }
    }
}

#[test]
fn slot_word_counts_readers_up_and_down() {
    let hash = u64::MAX;
    let mut word = SlotWord::inline(hash, Mode::Shared);
    for n in 1..MAX_INLINE_READERS {
        assert_eq!(word.readers(), n);
        assert!(!word.is_full() && word.names(hash) && word.mode() == Mode::Shared);
        word = word.with_reader();
    }
    assert!(word.is_full() && word.names(hash) && !word.is_frozen());
    for n in (1..MAX_INLINE_READERS).rev() {
        word = word.without_holder();
        assert_eq!(word.readers(), n);
    }
    assert_eq!(word.without_holder(), SlotWord::EMPTY);
    let exclusive = SlotWord::inline(hash, Mode::Exclusive);
    assert_eq!(exclusive.without_holder(), SlotWord::EMPTY);
}

#[test]
fn slot_word_gives_addresses_back() {
    for address in [8, 0x7fff_ffff_fff8, 1 << 46] {
        for (word, kind) in [
            (SlotWord::monitor(address), Kind::Monitor),
            (SlotWord::child(address), Kind::Child),
        ] {
            assert_eq!((word.kind(), word.address()), (kind, address));
            assert_eq!(word.frozen().address(), address);
            assert_eq!(word.frozen().kind(), kind);
        }
    }
}

#[test]
fn an_empty_slot_word_is_empty_frozen_too() {
    assert_eq!(SlotWord::EMPTY.kind(), Kind::Empty);
    assert_eq!(SlotWord::EMPTY.frozen().kind(), Kind::Empty);
    assert_eq!(SlotWord::EMPTY.frozen().thawed(), SlotWord::EMPTY);
    assert!(!SlotWord::EMPTY.is_void() && !SlotWord::EMPTY.frozen().is_void());
}

#[test]
fn a_void_slot_word_is_what_cleared_memory_contains() {
    assert_eq!(SlotWord::VOID.bits(), 0);
    assert_eq!(SlotWord::VOID.kind(), Kind::Empty);
    assert!(SlotWord::VOID.is_void() && !SlotWord::VOID.is_frozen());
    assert_ne!(SlotWord::VOID, SlotWord::EMPTY);
}

#[test]
fn a_lock_is_an_inline_word_that_is_not_frozen() {
    for mode in [Mode::Exclusive, Mode::Shared] {
        let word = SlotWord::inline(u64::MAX, mode);
        assert!(word.is_lock() && !word.frozen().is_lock());
    }
    for word in [
        SlotWord::VOID,
        SlotWord::EMPTY,
        SlotWord::monitor(64),
        SlotWord::child(64),
    ] {
        assert!(!word.is_lock() && !word.frozen().is_lock());
    }
}

#[test]
fn a_phase_keeps_level_groups_and_number_apart() {
    let up = Phase::NEW.begun(Move::Up, 2).expect("there is a level 1");
    assert_eq!(
        (
            up.direction(),
            up.level(),
            up.source_level(),
            up.moved(),
            up.event()
        ),
        (Some(Move::Up), 1, Some(0), 0, 1)
    );
    let all = Phase::from_bits(up.bits() + (1 << 26) * Phase::ONE_GROUP);
    assert_eq!((all.moved(), all.level(), all.event()), (1 << 26, 1, 1));
    let ended = all.ended();
    assert_eq!(
        (
            ended.direction(),
            ended.level(),
            ended.source_level(),
            ended.moved(),
            ended.event()
        ),
        (None, 1, None, 0, 1)
    );
    assert_eq!(ended.begun(Move::Up, 2), None);
    assert_eq!(Phase::NEW.begun(Move::Down, 2), None);
    let down = ended.begun(Move::Down, 2).expect("there is a level 0");
    assert_eq!(
        (
            down.direction(),
            down.level(),
            down.source_level(),
            down.event()
        ),
        (Some(Move::Down), 0, Some(1), 2)
    );
}

/// Returns every state that holders and a queue can make together.
fn states() -> Vec<State> {
    let mut all = Vec::new();
    for readers in 0..4 {
        for queue in [Queued::Nobody, Queued::Readers, Queued::Writers] {
            let held = State::held_by(readers).with_queue(queue);
            all.push(held);
            // Free, for a woken head: the result of a release.
            let mut state = held;
            while let Release::Wake(next) | Release::Leave(next) =
                state.release(state.mode().unwrap(), false)
            {
                all.push(next);
                if !next.is_held() {
                    all.push(next.with_holders(Mode::Exclusive, 1));
                    all.push(next.with_holders(Mode::Shared, 1));
                    break;
                }
                state = next;
            }
        }
    }
    all
}

#[test]
fn state_is_its_bits_and_says_so() {
    for state in states() {
        assert_eq!(State::from_bits(state.bits()), state);
    }
    let state = State::held_by(2).with_queue(Queued::Writers);
    assert_eq!(
        format!("{state:?} {:?}", State::DEAD),
        "State(2 readers, 0 bypasses, queued, writer queued) State(0 readers, 0 bypasses, dead)"
    );
}

#[test]
fn state_changes_its_mode_and_nothing_else() {
    for queue in [Queued::Nobody, Queued::Readers, Queued::Writers] {
        let [writer, reader, two] = [0, 1, 2].map(|n| State::held_by(n).with_queue(queue));
        assert_eq!([writer, reader, two].map(State::holders), [1, 1, 2]);
        assert_eq!(writer.downgraded(), reader);
        assert_eq!(reader.upgraded(), Some(writer));
        assert_eq!(two.upgraded(), None);
        assert_eq!(two.is_queued(), queue != Queued::Nobody);
        assert_eq!(two.with_upgrader(), State::held_by(2).with_upgrader());
        assert_eq!(
            two.with_upgrader().with_upgrader(),
            two.with_upgrader(),
            "marks are set and not flipped"
        );
    }
}

#[test]
fn state_of_an_empty_queue_has_no_marks() {
    for queue in [Queued::Readers, Queued::Writers] {
        let held = State::held_by(0).with_queue(queue);
        let Release::Wake(free) = held.release(Mode::Exclusive, false) else {
            panic!("somebody waits: {held:?}");
        };
        assert_eq!(free.with_queue(Queued::Nobody).bits(), 0);
        assert_eq!(
            free.new_head(),
            free.with_queue(Queued::Nobody).with_queue(queue)
        );
    }
}

#[test]
fn state_admits_whom_it_fits_and_no_more() {
    assert_eq!(State::DEAD.enter(Mode::Shared), Entry::Dead);
    assert_eq!(State::DEAD.enter(Mode::Exclusive), Entry::Dead);
    for state in states() {
        for mode in [Mode::Shared, Mode::Exclusive] {
            match state.enter(mode) {
                Entry::Dead => panic!("{state:?} is not dead"),
                Entry::Admit(next) => {
                    assert!(
                        state.mode().is_none_or(|held| held.admits(mode)),
                        "{state:?}"
                    );
                    assert_eq!(next.mode(), Some(mode));
                    assert_eq!(next.released(mode), state, "leaving undoes entering");
                }
                Entry::Refuse => {
                    let writer_ahead = state != state.with_queue(Queued::Readers)
                        && state == state.with_queue(Queued::Writers);
                    let held = state.mode().is_some_and(|held| !held.admits(mode));
                    assert!(held || (mode == Mode::Shared && writer_ahead), "{state:?}");
                }
            }
        }
    }
}

#[test]
fn state_release_never_forgets_a_waiter() {
    for state in states().into_iter().filter(|s| s.is_held()) {
        let mode = state.mode().unwrap();
        let queued = state != state.with_queue(Queued::Nobody);
        match state.release(mode, false) {
            Release::Leave(next) => assert!(next.is_held() || next.is_woken(), "{state:?}"),
            Release::Die => assert!(!queued && state.released(mode).mode().is_none()),
            Release::Wake(next) => assert!(queued && !next.is_held() && next.is_woken()),
            Release::HandOver => assert!(queued && state.bypass_spent()),
            Release::Promote(_) => panic!("nobody upgrades"),
        }
        if state.readers() < 2 {
            let strict = state.release(mode, true);
            assert_eq!(strict == Release::HandOver, queued, "{state:?}");
        }
    }
}

#[test]
fn state_counts_bypasses_up_to_the_limit() {
    let mut state = State::held_by(0).with_queue(Queued::Writers);
    let mut bypasses = 0;
    loop {
        match state.release(Mode::Exclusive, false) {
            Release::Wake(next) | Release::Leave(next) => {
                bypasses += 1;
                state = next.with_holders(Mode::Exclusive, 1);
            }
            Release::HandOver => break,
            Release::Die => panic!("somebody waits"),
            Release::Promote(_) => panic!("nobody upgrades"),
        }
    }
    assert_eq!(bypasses, MAX_BYPASSES);
    assert!(!state.new_head().bypass_spent(), "a new head starts afresh");
}

#[test]
#[should_panic(
    expected = "a key has more shared holders than its lock can count; drop guards instead of forgetting them"
)]
fn state_refuses_to_overflow() {
    let _ = State::held_by((1 << 48) - 1).with_holders(Mode::Shared, 1);
}

#[test]
fn state_promotes_the_upgrader_that_is_left() {
    for readers in 2..5 {
        let state = State::held_by(readers).with_upgrader();
        assert!(state.has_upgrader() && state.is_queued());
        for newcomer in [Mode::Shared, Mode::Exclusive] {
            assert_eq!(state.enter(newcomer), Entry::Refuse);
        }
        for strict in [false, true] {
            let mut state = state;
            for left in (2..readers).rev() {
                let Release::Leave(next) = state.release(Mode::Shared, strict) else {
                    panic!("others still hold it: {state:?}");
                };
                assert_eq!((next.readers(), next.has_upgrader()), (left, true));
                state = next;
            }
            let Release::Promote(next) = state.release(Mode::Shared, strict) else {
                panic!("the upgrader is alone: {state:?}");
            };
            assert_eq!((next.mode(), next.holders()), (Some(Mode::Exclusive), 1));
            assert!(!next.has_upgrader() && !next.is_woken());
        }
    }
    // A waiter behind it marks the queue, and the mark of the upgrader stays; without a queue it is
    // cleared.
    let state = State::held_by(2).with_upgrader();
    assert!(state.with_queue(Queued::Writers).has_upgrader());
    assert!(!state.with_queue(Queued::Nobody).has_upgrader());
    assert!(!state.new_head().has_upgrader());
    assert!(!state.without_upgrader().has_upgrader());
}
