//! The small examples as their readers meet them: they succeed, and print what they promise.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// An example beside this test. `cargo test` builds both; with `--test examples` it builds the test
/// alone, and this is the example as it was built last.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("the test has a path");
    let profile = test.parent().and_then(Path::parent).expect("…/deps/test");
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let example = profile.join("examples").join(file);
    assert!(
        example.is_file(),
        "{} is not built: run `cargo test`, or `cargo build --example {name}` for this profile",
        example.display()
    );
    Command::new(example)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the examples write UTF-8")
}

/// What the example printed, after a run that must succeed and have nothing to complain of.
fn printed(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the example starts");
    assert!(status.success(), "{status}: {}", text(&stderr));
    assert_eq!(text(&stderr), "");
    text(&stdout).to_owned()
}

/// The number that stands before `what` on a line of its own.
fn number(printed: &str, what: &str) -> usize {
    let number = printed
        .lines()
        .find_map(|line| line.trim_start().strip_suffix(what)?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("no number of{what} in:\n{printed}"))
}

#[test]
fn single_flight_fills_each_key_once() {
    let printed = printed(&mut example("single_flight"));
    let fills = number(&printed, " fills");
    let hits = number(&printed, " hits at the first look");
    let late_hits = number(&printed, " hits at the second look, by a leader");
    let followers = number(&printed, " followers of a leader");
    assert_eq!(number(&printed, " requests for 8 keys"), 400);
    assert_eq!(fills, 8);
    assert_eq!(fills + hits + late_hits + followers, 400);
    assert!(hits >= 200, "the second round finds everything: {printed}");
}

#[test]
fn walk_reports_a_busy_file_and_comes_back_to_it() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("walk-{}", std::process::id()));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(place.join("deep/er")).expect("the target directory is writable");
    for (name, lines) in [("a.txt", 3), ("deep/b ü.txt", 2), ("deep/er/c.txt", 0)] {
        fs::write(place.join(name), "line\n".repeat(lines)).expect("the directory is writable");
    }
    let printed = printed(example("walk").arg(&place));
    fs::remove_dir_all(&place).expect("the directory is ours");

    for walker in 1..=4 {
        // On a busy machine there may be others; the first file is always among them.
        let line = format!("walker {walker}: a.txt was busy, done now");
        assert!(printed.lines().any(|l| l == line), "{line}\n{printed}");
    }
    assert!(printed.contains("3 files, 4 walkers, 12 visits"));
    assert!(printed.contains("20 lines counted, 0 visits failed"));
}

#[test]
fn walk_takes_its_own_source_and_an_empty_directory() {
    let own = printed(&mut example("walk"));
    assert!(own.contains("walker 4: "), "{own}");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("none-{}", std::process::id()));
    fs::create_dir_all(&place).expect("the target directory is writable");
    let empty = printed(example("walk").arg(&place));
    fs::remove_dir_all(&place).expect("the directory is ours");
    assert!(empty.contains("0 files, 4 walkers, 0 visits"), "{empty}");
}

#[test]
fn walk_refuses_what_it_cannot_walk_in_one_line() {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let missing = place.join("no such directory");
    let file = std::env::current_exe().expect("the test has a path");
    for path in [missing.as_path(), &file, Path::new("")] {
        let output = example("walk").arg(path).output().expect("it starts");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(output.stdout.is_empty());
        assert_eq!(said.lines().count(), 1, "{said}");
        let start = format!("walk: {}: ", path.display());
        assert!(said.starts_with(&start), "{said}");
    }
    let output = example("walk").args(["a", "b"]).output().expect("starts");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr), "walk: give one directory, or none\n");
}

#[test]
fn job_queue_refuses_the_late_write() {
    let printed = printed(&mut example("job_queue"));
    let cut_off = "worker 0 is cut off in job 1 of anvil";
    assert_eq!(printed.lines().next(), Some(cut_off));
    let refusal = printed
        .lines()
        .find_map(|line| line.strip_prefix("worker 0 is refused: token "))
        .expect("the late write is shown");
    let (token, newer) = refusal.split_once(" is older than ").expect("two tokens");
    let newer = newer.split(',').next().expect("a token");
    let [token, newer] = [token, newer].map(|n| n.parse::<u64>().expect("a token is a number"));
    assert!(token < newer, "{refusal}");
    for customer in ["anvil", "bobbin", "cobalt"] {
        let line = format!("{customer:<8}  250 jobs    31375 owed");
        assert!(printed.lines().any(|l| l == line), "{line}\n{printed}");
    }
    let done: usize = (1..=4)
        .map(|worker| {
            let start = format!("worker {worker} did ");
            let mut done = printed.lines().filter_map(|l| l.strip_prefix(&start));
            let done = done.next().and_then(|l| l.strip_suffix(" jobs"));
            done.expect("a line for each worker").parse::<usize>()
        })
        .map(|done| done.expect("a number"))
        .sum();
    assert_eq!(done, 750);
}

#[test]
fn bank_finds_the_same_sum_in_every_audit() {
    let printed = printed(&mut example("bank"));
    assert_eq!(number(&printed, " payments"), 8_000);
    number(&printed, " times the funds were waited for");
    assert!(number(&printed, " audits found 400 in all") > 0);
    for (account, funds) in [400, 0, 0, 0].iter().enumerate() {
        let line = format!("account {account} has {funds:>3} again");
        assert!(printed.lines().any(|l| l == line), "{line}\n{printed}");
    }
}

#[test]
fn bounded_queue_delivers_every_letter_once() {
    let printed = printed(&mut example("bounded_queue"));
    assert_eq!(number(&printed, " letters"), 4_000);
    assert_eq!(number(&printed, " of them urgent"), 2_000);
    assert_eq!(number(&printed, " is what they are worth"), 2_002_000);
    for consumer in 1..=2 {
        let start = format!("consumer {consumer} took ");
        assert!(printed.lines().any(|l| l.starts_with(&start)), "{printed}");
    }
}

#[test]
fn inventory_gives_each_order_one_piece() {
    let printed = printed(&mut example("inventory"));
    assert_eq!(number(&printed, " orders, each with one piece"), 2_000);
    assert_eq!(number(&printed, " plums were delivered and bought"), 600);
    number(&printed, " times another clerk was faster");
    number(&printed, " times a customer waited");
    let refused = "refused: nothing was written; item 0: the key exists";
    assert_eq!(printed.lines().last(), Some(refused));
}

#[test]
fn page_cache_makes_each_page_once() {
    let printed = printed(&mut example("page_cache"));
    assert_eq!(number(&printed, " requests for 8 pages"), 200);
    assert_eq!(number(&printed, " pages were made"), 8);
    assert_eq!(number(&printed, " hits"), 200);
    let versions = printed.lines().last().expect("the last line");
    // The lock of the absent key has made an entry without a value, of version 1.
    assert_eq!(versions, "page 3 went from version 2 to 3");
}

#[test]
fn philosophers_all_eat() {
    let printed = printed(&mut example("philosophers"));
    for name in ["Arendt", "Bacon", "Camus", "Diotima", "Epictetus"] {
        let line = format!("{name} has eaten 1000 times");
        assert!(printed.lines().any(|l| l == line), "{line}\n{printed}");
    }
    let most = printed
        .lines()
        .find_map(|line| line.strip_prefix("at most "))
        .and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(matches!(most, Some(1 | 2)), "{printed}");
}

/// The names of the lines that end in a ratio.
fn measured(printed: &str) -> Vec<&str> {
    let lines = printed.lines().filter(|line| line.ends_with(" x"));
    lines.map(|line| line[2..26].trim_end()).collect()
}

#[test]
fn btree_does_as_a_btree_map_and_is_measured_beside_others() {
    let printed = printed(example("btree").arg("2"));
    assert!(
        printed.starts_with("40000 steps as in a BTreeMap, "),
        "{printed}"
    );
    let names = [
        "BTree",
        "Mutex<BTreeMap>",
        "RwLock<BTreeMap>",
        "crossbeam-skiplist",
    ];
    assert_eq!(measured(&printed), [names, names].concat(), "{printed}");
}

#[test]
fn sorted_list_is_walked_in_two_ways() {
    let printed = printed(example("sorted_list").arg("2"));
    for walk in ["HandOverHand", "Optimistic"] {
        let start = format!("10000 steps {walk} as in a BTreeSet, ");
        assert!(
            printed.lines().any(|line| line.starts_with(&start)),
            "{printed}"
        );
    }
    let names = [
        "list, optimistic",
        "list, hand over hand",
        "Mutex<BTreeMap>",
        "RwLock<BTreeMap>",
        "crossbeam-skiplist",
    ];
    assert_eq!(measured(&printed), names, "{printed}");
    let output = example("btree").arg("soon").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "give the milliseconds of a round, or nothing\n"
    );
}
