//! The engine `sqlite:FILE` through the contract of an engine, without faults.
#![cfg(all(feature = "sqlite", target_os = "linux"))]

#[path = "support/contract.rs"]
mod contract;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use latchwork::table::FencingToken;
use latchwork_lease::engine::{Attempt, Engine, Nonce, Outcome, Renewal, Renewed};
use latchwork_lease::sqlite::SqliteEngine;
use latchwork_lease::{Leases, Release};
use support::{Folder, KEY, attempt, ms, request, soon};

fn engine(folder: &Folder) -> SqliteEngine {
    SqliteEngine::open(folder.file("leases.db")).unwrap()
}

/// A folder with a file that engines open.
struct File(Folder);

impl contract::Place for File {
    fn open(&self) -> Box<dyn Engine> {
        Box::new(engine(&self.0))
    }
}

contract::contract_tests!(Some(File(Folder::new())));

const LONG: Duration = Duration::from_secs(60);

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

/// The last connection that closes deletes `-wal` and `-shm`, at any moment of another's opening.
#[test]
fn a_file_opens_while_its_last_connection_closes() {
    let folder = Folder::new();
    drop(engine(&folder));
    let open = || {
        for _ in 0..150 {
            drop(SqliteEngine::open(folder.file("leases.db")).unwrap());
        }
    };
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(open);
        }
    });
}

fn refusal(path: impl AsRef<std::path::Path>) -> String {
    support::refusal(SqliteEngine::open(path))
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
    // Only the path of a file is shown in errors.
    for url in ["sqlite://me:sEcret@host/x", "sqlite://me:sEcret@"] {
        let error = SqliteEngine::from_url(url).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("sEcret"), "{error}");
    }
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

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms() {
    let folder = Folder::new();
    let open = || -> std::sync::Arc<dyn Engine> { std::sync::Arc::new(engine(&folder)) };
    contract::assert_conforms(&open);
}

#[cfg(feature = "conformance")]
#[test]
fn the_engine_conforms_across_processes() {
    let folder = Folder::new();
    let file = folder.file("leases.db");
    contract::assert_conforms_across_processes(&format!("sqlite:{}", file.display()));
}

/// The body of the processes of the suite. Alone it does nothing.
#[cfg(feature = "conformance")]
#[test]
fn act() {
    contract::act();
}

#[test]
fn a_lease_that_waited_for_the_writers_lock_has_its_whole_length() {
    let folder = Folder::new();
    let engine = engine(&folder);
    let other = rusqlite::Connection::open(folder.file("leases.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| attempt(&engine, KEY, 1, ms(5000)).unwrap());
        std::thread::sleep(ms(1000));
        other.execute_batch("ROLLBACK").unwrap();
    });
    let info = engine.holder(KEY, soon()).unwrap().unwrap();
    assert!(info.expires_in > ms(4500), "{:?}", info.expires_in);
}

#[test]
fn writers_of_one_process_take_turns() {
    let folder = Folder::new();
    let engines: Vec<_> = (0..8).map(|_| engine(&folder)).collect();
    let names: Vec<String> = (0..8).map(|number| format!("writer/{number}")).collect();
    let other = rusqlite::Connection::open(folder.file("leases.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        for (engine, name) in engines.iter().zip(&names) {
            scope.spawn(move || attempt(engine, support::key(name), 1, LONG).unwrap());
            std::thread::sleep(ms(40));
        }
        other.execute_batch("COMMIT").unwrap();
    });
    // Each transaction has stored its time.
    let mut listed = engines[0].list("tests", "", soon()).unwrap();
    listed.sort_by_key(|(_, info)| std::cmp::Reverse(info.held_for));
    let order: Vec<String> = listed.into_iter().map(|(name, _)| name).collect();
    assert_eq!(order, names);
}

#[test]
fn a_large_set_is_released_in_few_requests() {
    let folder = Folder::new();
    let url = format!("sqlite:{}", folder.file("leases.db").display());
    let leases = Leases::connect(&url).unwrap();
    let observer = rusqlite::Connection::open(folder.file("leases.db")).unwrap();
    let set = |number: usize| {
        let names = (0..number).map(|at| format!("set/{at}"));
        leases.acquire_all(names, LONG).unwrap()
    };
    let mut commits = 0;
    let version = || -> i64 {
        observer
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .unwrap()
    };
    let many = set(2500);
    let mut last = version();
    let done = std::sync::atomic::AtomicBool::new(false);
    // Acquire and Release: pairs, so that the last commit is counted.
    use std::sync::atomic::Ordering::{Acquire, Release as Publish};
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(many.release().unwrap(), Release::Done);
            done.store(true, Publish);
        });
        while !done.load(Acquire) {
            let now = version();
            commits += u32::from(now != last);
            last = now;
        }
    });
    assert!((1..=3).contains(&commits), "{commits} commits");
    assert!(leases.list("").unwrap().is_empty());

    // One of them was lost, and a set that is dropped.
    let some = set(3);
    assert!(
        leases
            .break_lease("set/1", some.get("set/1").unwrap().token())
            .unwrap()
    );
    assert_eq!(some.release().unwrap(), Release::WasLost);
    drop(set(1500));
    leases.shutdown(Duration::from_secs(10)).unwrap();
    let others = Leases::connect(&url).unwrap();
    assert!(others.list("").unwrap().is_empty());
}
