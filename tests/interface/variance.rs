//! The chapter on variance has tests for each public type with parameters.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::doc_aliases::sources;

/// The name of a public type with parameters that a line declares. A type that is not public is
/// not declared by a plain `pub`: a lint forbids it.
fn generic(line: &str) -> Option<&str> {
    let declared = line.trim_start().strip_prefix("pub ")?;
    let rest = ["struct ", "enum "]
        .iter()
        .find_map(|kind| declared.strip_prefix(kind))?;
    let (name, _) = rest.split_once('<')?;
    name.chars().all(char::is_alphanumeric).then_some(name)
}

#[test]
fn each_type_with_parameters_has_tests_of_its_variance() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let chapter = fs::read_to_string(root.join("docs/variance.rs")).expect("it is there");
    let (_, tests) = chapter.split_once("mod tests {").expect("the tests");
    let tested: BTreeSet<&str> = tests
        .split('"')
        .skip(1)
        .step_by(2)
        .flat_map(|ty| ty.split('<').next())
        .map(|path| path.rsplit("::").next().unwrap_or(path))
        .collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut count = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("a source is a text");
        for name in text.lines().filter_map(generic) {
            count += 1;
            assert!(tested.contains(name), "{name} in {}", file.display());
        }
    }
    assert!(count > 30, "{count}");
}
