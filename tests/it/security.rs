//! SECURITY.md names a test for each "cannot", and each is there.

use std::path::{Path, PathBuf};

use super::harness::root;

/// A test that the page names, and the module that it is said to be in.
type Named = (String, String);

fn is_module(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == ':')
}

/// A test's name is a sentence.
fn is_test(word: &str) -> bool {
    word.matches('_').count() >= 2 && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Every test that a text names: a module in backticks, and behind its colon tests in backticks, with commas between.
fn named(text: &str) -> Vec<Named> {
    let mut all = Vec::new();
    let mut module = String::new();
    let parts: Vec<&str> = text.split('`').collect();
    for (index, word) in parts.iter().enumerate().skip(1).step_by(2) {
        if is_test(word) {
            all.push((module.clone(), (*word).to_owned()));
        } else if is_module(word) && parts.get(index + 1).is_some_and(|next| next.trim() == ":") {
            module = (*word).to_owned();
        }
    }
    all
}

/// Where a module's tests may be: its file, its folder, and the file of its tests.
fn places(module: &str) -> Vec<PathBuf> {
    let path = module.replace("::", "/");
    let files = ["src", "tests/it"].map(|base| root().join(base).join(&path));
    files
        .iter()
        .flat_map(|file| {
            [file.with_extension("rs"), file.join("mod.rs"), file.join("tests.rs"), file.join("tests/mod.rs")]
        })
        .collect()
}

/// Whether a file has this as a test, and not merely as a function.
fn has(file: &Path, test: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(index, line)| {
        let is = line.trim_start_matches("async ").starts_with(&format!("fn {test}("));
        let marked = lines[..index].iter().rev().take_while(|above| above.starts_with('#') || above.starts_with("//"));
        // In proptest's block the mark stands above, too.
        is && marked.clone().any(|above| above.contains("test"))
    })
}

fn page() -> String {
    std::fs::read_to_string(root().join("SECURITY.md")).unwrap()
}

#[test]
fn each_test_that_the_page_names_is_there() {
    let all = named(&page());
    assert!(all.len() > 30, "{all:?}");
    let missing: Vec<_> =
        all.iter().filter(|(module, test)| !places(module).iter().any(|file| has(file, test))).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that are not there: {missing:#?}");
}

#[test]
fn each_row_names_a_test() {
    let page = page();
    let rows = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let rows: Vec<_> = rows.filter(|line| !line.contains("| cannot |")).collect();
    assert!(rows.len() > 15, "{rows:#?}");
    for row in rows {
        assert!(!named(row).is_empty(), "no test in {row}");
    }
}

#[test]
fn names_are_read_out_of_sentences() {
    let text = "It is so (`a::b`: `one_is_this_way`,\n`two_is_that_way`), and `--a-flag`, `watchNamespaces`; `c`: `three_is_so`.";
    let expected = [("a::b", "one_is_this_way"), ("a::b", "two_is_that_way"), ("c", "three_is_so")];
    assert_eq!(named(text), expected.map(|(module, test)| (module.to_owned(), test.to_owned())));
    assert!(has(&root().join("tests/it/security.rs"), "each_row_names_a_test"));
    assert!(!has(&root().join("tests/it/security.rs"), "is_module"), "no test");
}
