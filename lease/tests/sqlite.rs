//! The engine `sqlite:FILE` through the contract of an engine, without faults.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::engine::{
    Attempt, AttemptAll, Engine, Nonce, Outcome, Released, Renewal, Renewed,
};
use latchwork_lease::sqlite::SqliteEngine;
use support::{Folder, KEY, attempt, key, ms, request, soon};

fn engine(folder: &Folder) -> SqliteEngine {
    SqliteEngine::open(folder.file("leases.db")).unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_key_is_held_by_one_nonce_until_its_release() {
    let folder = Folder::new();
    let (first, second) = (engine(&folder), engine(&folder));
    assert_eq!(attempt(&first, KEY, 1, LONG), Some(1));
    assert_eq!(attempt(&second, KEY, 2, LONG), None);
    assert_eq!(
        second.release(KEY, Nonce::new(2), soon()).unwrap(),
        Released::WasLost
    );
    assert_eq!(
        first.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::Done
    );
    assert_eq!(
        first.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::WasLost
    );
    assert_eq!(attempt(&second, KEY, 2, LONG), Some(2));
}

#[test]
fn a_repeated_request_has_the_same_token_and_a_new_end() {
    let folder = Folder::new();
    let engine = engine(&folder);
    assert_eq!(attempt(&engine, KEY, 1, ms(300)), Some(1));
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
    thread::sleep(ms(350));
    assert_eq!(attempt(&engine, KEY, 2, LONG), None);
}

#[test]
fn an_expired_lease_is_neither_renewed_nor_released() {
    let folder = Folder::new();
    let engine = engine(&folder);
    assert_eq!(attempt(&engine, KEY, 1, ms(100)), Some(1));
    let renewal = |token| Renewal {
        key: KEY,
        nonce: Nonce::new(1),
        token: FencingToken::new(token),
        ttl: ms(100),
    };
    let renewed = engine
        .renew_many(&[renewal(1), renewal(2)], soon())
        .unwrap();
    assert_eq!(renewed, [Renewed::Held, Renewed::Lost]);
    thread::sleep(ms(120));
    assert_eq!(
        engine.renew_many(&[renewal(1)], soon()).unwrap(),
        [Renewed::Lost]
    );
    assert_eq!(
        engine.release(KEY, Nonce::new(1), soon()).unwrap(),
        Released::WasLost
    );
    assert!(engine.holder(KEY, soon()).unwrap().is_none());
    assert_eq!(attempt(&engine, KEY, 2, LONG), Some(2));
}

#[test]
fn several_keys_are_granted_together_or_not_at_all() {
    let folder = Folder::new();
    let engine = engine(&folder);
    assert_eq!(attempt(&engine, key("b"), 1, LONG), Some(1));
    let requests = |nonce| {
        [
            request(key("a"), nonce, LONG),
            request(key("b"), nonce, LONG),
        ]
    };
    match engine
        .try_acquire_all(&requests(2), soon())
        .unwrap()
        .unwrap()
    {
        AttemptAll::Busy {
            index: 1,
            free_in: Some(left),
        } => assert!(left > ms(50_000)),
        other => panic!("{other:?}"),
    }
    assert!(engine.holder(key("a"), soon()).unwrap().is_none());
    engine.release(key("b"), Nonce::new(1), soon()).unwrap();
    let all = engine
        .try_acquire_all(&requests(2), soon())
        .unwrap()
        .unwrap();
    assert_eq!(
        all,
        AttemptAll::Granted(vec![FencingToken::new(1), FencingToken::new(2)])
    );
}

#[test]
fn the_prefix_of_a_list_is_literal_and_its_order_is_that_of_bytes() {
    let folder = Folder::new();
    let engine = engine(&folder);
    for name in ["a%c", "a_b", "abc", "aéc", "A%d", "b"] {
        attempt(&engine, key(name), 1, LONG).unwrap();
    }
    let names = |prefix: &str| -> Vec<String> {
        let list = engine.list("tests", prefix, soon()).unwrap();
        list.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(""), ["A%d", "a%c", "a_b", "abc", "aéc", "b"]);
    assert_eq!(names("a%"), ["a%c"]);
    assert_eq!(names("a_"), ["a_b"]);
    assert!(engine.list("test", "", soon()).unwrap().is_empty());
}

#[test]
fn a_lease_is_broken_only_under_the_token_that_was_seen() {
    let folder = Folder::new();
    let engine = engine(&folder);
    attempt(&engine, KEY, 1, LONG).unwrap();
    let info = engine.holder(KEY, soon()).unwrap().unwrap();
    assert_eq!((info.owner.as_str(), info.token.get()), ("a test", 1));
    assert!(info.expires_in <= LONG && info.expires_in > ms(50_000));
    assert!(info.held_for < ms(10_000));
    assert!(
        !engine
            .break_lease(KEY, FencingToken::new(2), soon())
            .unwrap()
    );
    assert!(
        engine
            .break_lease(KEY, FencingToken::new(1), soon())
            .unwrap()
    );
    assert!(
        !engine
            .break_lease(KEY, FencingToken::new(1), soon())
            .unwrap()
    );
    assert_eq!(attempt(&engine, KEY, 2, LONG), Some(2));
}

#[test]
fn a_raised_floor_is_exceeded_by_each_later_token_and_keeps_the_holder() {
    let folder = Folder::new();
    let engine = engine(&folder);
    attempt(&engine, KEY, 1, LONG).unwrap();
    engine
        .raise_floor(KEY, FencingToken::new(40), soon())
        .unwrap();
    engine
        .raise_floor(KEY, FencingToken::new(7), soon())
        .unwrap();
    assert_eq!(engine.holder(KEY, soon()).unwrap().unwrap().token.get(), 1);
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
    engine.release(KEY, Nonce::new(1), soon()).unwrap();
    assert_eq!(attempt(&engine, KEY, 2, LONG), Some(41));
    engine
        .raise_floor(key("new"), FencingToken::new(3), soon())
        .unwrap();
    assert_eq!(attempt(&engine, key("new"), 2, LONG), Some(4));
    let greatest = FencingToken::new(u64::MAX);
    let error = engine.raise_floor(KEY, greatest, soon()).unwrap_err();
    assert!(
        !error.is_temporary && error.outcome == Outcome::NotDone,
        "{error}"
    );
}

#[test]
fn namespaces_and_names_are_not_concatenated() {
    let folder = Folder::new();
    let engine = engine(&folder);
    let key = |namespace, name| latchwork_lease::engine::Key { namespace, name };
    for (nonce, key) in [key("a", "bc"), key("ab", "c"), key("a", "BC")]
        .into_iter()
        .enumerate()
    {
        assert_eq!(attempt(&engine, key, nonce as u128, LONG), Some(1));
    }
}

#[test]
fn the_files_are_private_and_survive_the_engine() {
    let folder = Folder::new();
    let engine = engine(&folder);
    attempt(&engine, KEY, 1, LONG).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let metadata = fs::metadata(folder.file(&format!("leases.db{suffix}"))).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o600, "{suffix}");
    }
    drop(engine);
    let engine = SqliteEngine::open(folder.file("leases.db")).unwrap();
    assert_eq!(attempt(&engine, KEY, 2, LONG), None);
    assert_eq!(attempt(&engine, KEY, 1, LONG), Some(1));
}

fn refusal(path: impl AsRef<std::path::Path>) -> String {
    let error = SqliteEngine::open(path).unwrap_err();
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, false),
        "{error}"
    );
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn files_that_others_control_are_refused() {
    let folder = Folder::new();
    drop(engine(&folder));
    let database = folder.file("leases.db");

    let link = folder.file("link.db");
    symlink(&database, &link).unwrap();
    assert!(refusal(&link).contains("symbolic link"));
    let dangling = folder.file("dangling.db");
    symlink(folder.file("nothing"), &dangling).unwrap();
    assert!(refusal(&dangling).contains("symbolic link"));
    assert!(!folder.file("nothing").exists());
    let wal = folder.file("leases.db-wal");
    symlink(folder.file("elsewhere"), &wal).unwrap();
    assert!(refusal(&database).contains("symbolic link"));
    fs::remove_file(&wal).unwrap();

    let second = folder.file("second.db");
    fs::hard_link(&database, &second).unwrap();
    assert!(refusal(&database).contains("hard link"));
    fs::remove_file(&second).unwrap();

    fs::set_permissions(&database, fs::Permissions::from_mode(0o660)).unwrap();
    assert!(refusal(&database).contains("chmod 600"));
    fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();

    if fs::metadata(&database).unwrap().uid() == 0 {
        std::os::unix::fs::chown(&database, Some(12_345), None).unwrap();
        assert!(refusal(&database).contains("user 12345 owns the file, not user 0"));
        std::os::unix::fs::chown(&database, Some(0), None).unwrap();
    }
    assert!(refusal(folder.path()).contains("not a regular file"));
    assert!(refusal(folder.file("missing/leases.db")).contains("folder cannot be opened"));
    assert!(refusal("/proc/leases.db").contains("cannot be created"));
    // A link on the way to the folder is permitted.
    let other = Folder::new();
    symlink(folder.path(), other.file("way")).unwrap();
    drop(SqliteEngine::open(other.file("way/leases.db")).unwrap());
}

#[test]
fn databases_of_other_programs_and_releases_are_refused_and_unchanged() {
    let folder = Folder::new();
    let path = folder.file("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE lease (name TEXT)")
        .unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    assert!(refusal(&path).contains("database of another program"));
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(
        folder.file("text"),
        "no database at all, although long enough",
    )
    .unwrap();
    assert!(refusal(folder.file("text")).contains("not a database"));

    let engine = engine(&folder);
    let other = rusqlite::Connection::open(folder.file("leases.db")).unwrap();
    other.pragma_update(None, "user_version", 2).unwrap();
    let text = refusal(folder.file("leases.db"));
    assert!(
        text.contains("layout 2") && text.contains("reads layout 1"),
        "{text}"
    );
    // An engine that was open while the layout changed stops as well.
    let error = engine
        .try_acquire(&request(KEY, 1, LONG), soon())
        .unwrap_err();
    assert!(
        error.to_string().contains("layout 2") && !error.is_temporary,
        "{error}"
    );
}

#[test]
fn urls_name_a_file() {
    let folder = Folder::new();
    let path = folder.file("from url.db");
    for prefix in ["sqlite:", "sqlite://"] {
        let engine = SqliteEngine::from_url(&format!("{prefix}{}", path.display())).unwrap();
        assert!(format!("{engine:?}").contains("from url.db"));
    }
    for url in [
        "sqlite:",
        "sqlite::memory:",
        "postgres://a",
        "sqlite:a.db?mode=ro",
        "a.db",
    ] {
        assert!(
            !SqliteEngine::from_url(url).unwrap_err().is_temporary,
            "{url}"
        );
    }
}

#[test]
fn many_threads_and_engines_get_distinct_growing_tokens() {
    let folder = Folder::new();
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (path, barrier) = (folder.file("leases.db"), Arc::clone(&barrier));
            thread::spawn(move || {
                let engine = SqliteEngine::open(path).unwrap();
                barrier.wait();
                let mut tokens = Vec::new();
                while tokens.len() < 25 {
                    let nonce = u128::from(thread as u8) * 1000 + tokens.len() as u128;
                    match attempt(&engine, KEY, nonce, LONG) {
                        Some(token) => {
                            tokens.push(token);
                            let released = engine.release(KEY, Nonce::new(nonce), soon());
                            assert_eq!(released.unwrap(), Released::Done);
                        }
                        None => engine.wait_hint(KEY, Nonce::new(nonce), soon()).unwrap(),
                    }
                }
                tokens
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        let tokens = thread.join().unwrap();
        assert!(tokens.is_sorted());
        all.extend(tokens);
    }
    all.sort_unstable();
    assert_eq!(all, (1..=100).collect::<Vec<u64>>());
}

#[test]
fn a_release_ends_the_wait_of_another_engine() {
    let folder = Folder::new();
    let (holder, waiter) = (engine(&folder), engine(&folder));
    attempt(&holder, KEY, 1, LONG).unwrap();
    attempt(&holder, key("other"), 1, LONG).unwrap();
    let start = Instant::now();
    waiter
        .wait_hint(KEY, Nonce::new(2), start + ms(100))
        .unwrap();
    assert!(
        start.elapsed() >= ms(100),
        "the wait ended while the key was held"
    );

    thread::scope(|scope| {
        let wait = scope.spawn(|| {
            let start = Instant::now();
            waiter.wait_hint(KEY, Nonce::new(2), start + LONG).unwrap();
            Instant::now()
        });
        thread::sleep(ms(100));
        // A release of another key does not end it.
        holder.release(key("other"), Nonce::new(1), soon()).unwrap();
        thread::sleep(ms(100));
        let released = Instant::now();
        holder.release(KEY, Nonce::new(1), soon()).unwrap();
        let woken = wait.join().unwrap();
        assert!(woken > released, "the wait ended before the release");
        assert!(woken - released < ms(1000));
    });
    // A key that is free at once, and a wait within one engine.
    waiter
        .wait_hint(KEY, Nonce::new(2), Instant::now() + LONG)
        .unwrap();
}

#[test]
fn a_call_that_waits_for_the_writers_lock_ends_at_its_deadline_without_spinning() {
    let folder = Folder::new();
    let engine = engine(&folder);
    let other = rusqlite::Connection::open(folder.file("leases.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let (start, processor) = (Instant::now(), processor_time());
    let error = engine
        .try_acquire(&request(KEY, 1, LONG), start + ms(500))
        .unwrap_err();
    let (waited, used) = (start.elapsed(), processor_time() - processor);
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, true),
        "{error}"
    );
    assert!(waited >= ms(500) && waited < ms(700), "{waited:?}");
    assert!(used < ms(100), "{used:?} of processor time in {waited:?}");
    // Reading needs no lock.
    assert!(engine.holder(KEY, soon()).unwrap().is_none());

    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(attempt(&engine, KEY, 2, LONG), Some(1));
    let error = engine
        .try_acquire(&request(KEY, 2, LONG), Instant::now())
        .unwrap_err();
    assert_eq!(
        (error.outcome, error.is_temporary),
        (Outcome::NotDone, true),
        "{error}"
    );
}

/// Returns the processor time of this thread.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_row_of_another_boot_has_expired_and_its_token_counts_on() {
    let folder = Folder::new();
    let engine = engine(&folder);
    attempt(&engine, KEY, 1, LONG).unwrap();
    let other = rusqlite::Connection::open(folder.file("leases.db")).unwrap();
    let changed = other.execute(
        "UPDATE lease SET boot = 'an earlier boot', token = 9, counter = 9",
        [],
    );
    assert_eq!(changed.unwrap(), 1);
    assert!(engine.holder(KEY, soon()).unwrap().is_none());
    let renewal = Renewal {
        key: KEY,
        nonce: Nonce::new(1),
        token: FencingToken::new(9),
        ttl: LONG,
    };
    assert_eq!(
        engine.renew_many(&[renewal], soon()).unwrap(),
        [Renewed::Lost]
    );
    assert_eq!(attempt(&engine, KEY, 2, LONG), Some(10));
}

#[test]
fn a_busy_key_reports_when_it_is_free_and_is_not_written() {
    let folder = Folder::new();
    let (first, second) = (engine(&folder), engine(&folder));
    attempt(&first, KEY, 1, ms(2000)).unwrap();
    let size = fs::metadata(folder.file("leases.db-wal")).unwrap().len();
    match second.try_acquire(&request(KEY, 2, LONG), soon()).unwrap() {
        Attempt::Busy {
            free_in: Some(left),
        } => assert!(left <= ms(2000) && left > ms(500)),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        fs::metadata(folder.file("leases.db-wal")).unwrap().len(),
        size
    );
}
