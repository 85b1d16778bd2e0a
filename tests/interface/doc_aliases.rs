//! The names by which a user of another library searches the documentation: each leads to the item
//! that has its place here. An alias has no effect on a program, so the test reads the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of other libraries and of the literature, with an item to which each leads.
const NAMES: &[(&str, &str)] = &[
    ("TVar", "struct VersionedCell"),
    ("STM", "fn atomically"),
    ("STM", "struct Transaction"),
    ("rcu", "fn update"),
    ("load", "fn read"),
    ("store", "fn set"),
    ("watch", "fn wait_changed"),
    ("watch", "fn changed"),
    ("keyed mutex", "struct LockTable"),
    ("KeyMutex", "struct LockTable"),
    ("striped", "struct LockTable"),
    ("RwLock", "struct LockTable"),
];

pub(crate) fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the crate") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|name| name == "rs") {
            all.push(path);
        }
    }
}

/// The kind and the name of a public item that a line declares.
fn item(line: &str) -> Option<String> {
    let declared = line.trim_start().strip_prefix("pub ")?;
    let mut words = declared
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !["const", "unsafe", "async"].contains(word));
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// Each alias, with the public item that it is an alias of.
fn aliases(text: &str) -> Vec<(String, String)> {
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let alias = line.trim_start().strip_prefix("#[doc(alias = \"");
        if let Some(name) = alias.and_then(|rest| rest.strip_suffix("\")]")) {
            names.push(name.to_owned());
        } else if let Some(item) = item(line) {
            found.extend(names.drain(..).map(|name| (name, item.clone())));
        }
    }
    assert!(names.is_empty(), "{names:?} are aliases of no public item");
    found
}

#[test]
fn names_of_other_libraries_lead_to_the_items_that_have_their_place() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let found: BTreeSet<(String, String)> = files
        .iter()
        .flat_map(|file| aliases(&fs::read_to_string(file).expect("a text")))
        .collect();
    let missing: Vec<_> = NAMES
        .iter()
        .filter(|(name, item)| !found.contains(&(name.to_string(), item.to_string())))
        .collect();
    assert!(missing.is_empty(), "no alias: {missing:?}");
}

#[test]
fn an_alias_belongs_to_the_item_behind_it() {
    let text = "#[doc(alias = \"a\")]\n#[doc(alias = \"b c\")]\n#[must_use]\n\
                pub const fn d<T>(&self) {\n}\npub struct E;\n";
    let expected = [("a", "fn d"), ("b c", "fn d")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(aliases(text), expected);
}
