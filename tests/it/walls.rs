//! The walls of the house: which room of `src/` may import which, and what the pure room does without.
//!
//! The sources are read as tokens, so that groups over several lines, `super::` and paths in the middle of an
//! expression count, and comments and strings do not.

use std::fmt;
use std::path::{Path, PathBuf};

use super::harness::root;

/// Who may import whom. A test module (`#[cfg(test)]`) may import `cloud` besides.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli", "telemetry", "clock"]),
    ("clock", &[]),
    ("termination", &[]),
    ("telemetry", &["clock"]),
    ("api", &[]),
    ("ota", &["api", "clock", "sabotage", "telemetry"]),
    ("sabotage", &[]),
    ("rollout", &["api", "ota", "sabotage"]),
    ("cloud", &["api", "ota", "clock", "telemetry", "termination"]),
    ("controller", &["api", "ota", "rollout", "clock", "sabotage", "telemetry", "termination"]),
    ("doctor", &["api", "ota", "rollout", "controller", "clock"]),
    ("cli", &["api", "ota", "rollout", "cloud", "controller", "doctor", "clock", "telemetry", "termination"]),
];

/// The parts of `ota` that talk, wait or hold secrets: the decision core takes its pure types only.
const NOT_FOR_ROLLOUT: &[&str] =
    &["calls", "changing", "client", "credentials", "devices", "environment", "list_file", "quota", "sts"];

/// What the decision core must not reach, by path.
const IMPURE_PATHS: &[&[&str]] = &[
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "SystemTime"],
    &["std", "time", "Instant"],
    &["kube", "Client"],
    &["kube", "client"],
    &["kube", "Api"],
    &["kube", "api", "Api"],
    &["kube", "runtime"],
];

/// What the decision core must not name at all.
const IMPURE_WORDS: &[&str] = &["async", "await", "tokio", "futures", "reqwest", "rand"];

/// A rule that a line breaks.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: PathBuf,
    line: usize,
    why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.why)
    }
}

/// Every rule that a source file breaks. `path` is relative to the checkout.
fn check(path: &Path, text: &str) -> Vec<Violation> {
    let module = module_of(path);
    let mut found = Vec::new();
    let mut report = |line: usize, why: String| found.push(Violation { path: path.to_owned(), line, why });

    // The crate's own page is ARCHITECTURE.md.
    let included = path == Path::new("src/lib.rs") && text.starts_with("#![doc = include_str!");
    if !included && !text.starts_with("//! ") {
        report(1, "does not start with a `//!` line that says what it is for".into());
    }

    let tokens = tokens(text);
    let Some(room) = module.first().cloned() else {
        return found; // lib.rs lists the rooms and imports nothing
    };
    for (index, token) in tokens.iter().enumerate() {
        if token.text == "path" && index >= 2 && tokens[index - 1].text == "[" && tokens[index - 2].text == "#" {
            report(token.line, "`#[path]` hides where a module belongs".into());
        }
    }
    let paths = paths(&tokens, &module);
    for path in &paths {
        if let Some(why) = import(&room, path) {
            report(path.line, why);
        }
    }
    if room == "rollout" {
        for token in production(&tokens) {
            if IMPURE_WORDS.contains(&token.text.as_str()) {
                report(token.line, format!("`{}` in the pure room rollout", token.text));
            }
        }
        for path in paths.iter().filter(|path| !path.test) {
            if let Some(impure) = IMPURE_PATHS.iter().find(|impure| starts_with(&path.segments, impure)) {
                report(path.line, format!("`{}` in the pure room rollout", impure.join("::")));
            }
            // `use std::time::*` could be any of them.
            let stem = path.segments.strip_suffix(&["*".to_owned()]);
            if let Some(stem) = stem.filter(|stem| IMPURE_PATHS.iter().any(|impure| starts_with_stem(impure, stem))) {
                report(path.line, format!("`{}::*` in the pure room rollout", stem.join("::")));
            }
        }
    }
    found
}

/// Why a room may not have this path, if it may not. Paths outside the crate concern nobody.
fn import(room: &str, path: &FoundPath) -> Option<String> {
    let rest = path.segments.strip_prefix(&["crate".to_owned()])?;
    let spelled = format!("crate::{}", rest.join("::"));
    let Some(target) = rest.first().filter(|target| MAY_IMPORT.iter().any(|(name, _)| name == target)) else {
        return Some(format!("`{spelled}` does not say which room it means"));
    };
    if target == room || (path.test && target == "cloud") {
        return None;
    }
    let (_, allowed) = MAY_IMPORT.iter().find(|(name, _)| *name == room)?;
    if !allowed.contains(&target.as_str()) {
        return Some(format!("`{spelled}`: {room} must not import {target}"));
    }
    if room == "rollout" && target == "ota" {
        let part = rest.get(1).map_or("", String::as_str);
        if part == "*" {
            return Some(format!("`{spelled}`: rollout names the types that it takes from ota"));
        }
        if NOT_FOR_ROLLOUT.contains(&part) {
            return Some(format!("`{spelled}`: rollout takes ota's pure types only"));
        }
    }
    None
}

fn starts_with(segments: &[String], prefix: &[&str]) -> bool {
    segments.len() >= prefix.len() && segments.iter().zip(prefix).all(|(a, b)| a == b)
}

fn starts_with_stem(impure: &[&str], stem: &[String]) -> bool {
    impure.len() > stem.len() && stem.iter().zip(impure).all(|(a, b)| a == b)
}

/// The module that a file is: `src/ota/client.rs` is `ota::client`, `src/lib.rs` the root, `src/main.rs` `main`.
fn module_of(path: &Path) -> Vec<String> {
    let inside = path.strip_prefix("src").unwrap_or(path).with_extension("");
    let mut module: Vec<_> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || (last == "lib" && module.len() == 1)) {
        module.pop();
    }
    module
}

/// Whether a file is a test module by its name, as `#[cfg(test)] mod tests;` has it.
fn test_file(module: &[String]) -> bool {
    module.iter().skip(1).any(|part| part == "tests")
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Words, `::`, and single marks; without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut i, mut line) = (Vec::new(), 0, 1);
    while i < chars.len() {
        let start = i;
        let mut kept = false;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                while i < chars.len() {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            '"' => i = quoted(&chars, i),
            '\'' => {
                // A character ends with a quote, a lifetime does not.
                if at(i + 1) == '\\' {
                    i += 3;
                    while i < chars.len() && at(i) != '\'' {
                        i += 1;
                    }
                    i += 1;
                } else if at(i + 2) == '\'' {
                    i += 3;
                } else {
                    i += 1;
                    while word(at(i)) {
                        i += 1;
                    }
                }
            }
            c if word(c) => {
                while word(at(i)) {
                    i += 1;
                }
                let prefix: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
                if ["r", "br", "cr"].contains(&prefix.as_str()) && at(i + hashes) == '"' {
                    i += hashes + 1;
                    while i < chars.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                        i += 1;
                    }
                    i += 1 + hashes;
                } else if !(["b", "c"].contains(&prefix.as_str()) && at(i) == '"') {
                    kept = true;
                }
            }
            ':' if at(i + 1) == ':' => (i, kept) = (i + 2, true),
            c => (i, kept) = (i + 1, !c.is_whitespace()),
        }
        let end = i.min(chars.len());
        if kept {
            tokens.push(Token { text: chars[start..end].iter().collect(), line });
        }
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// The index behind a string that starts at `i`.
fn quoted(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// For each token: the inline modules around it, and whether one of them is `#[cfg(test)]`.
fn surroundings(tokens: &[Token]) -> Vec<(Vec<String>, bool)> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let mut around: Vec<(String, usize, bool)> = Vec::new();
    let (mut depth, mut test_next, mut all) = (0, false, Vec::new());
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "#" if (1..7).map(|n| text(index + n)).eq(["[", "cfg", "(", "test", ")", "]"]) => test_next = true,
            // The attribute belonged to something else than an inline module.
            ";" | "fn" | "struct" | "enum" | "impl" | "use" => test_next = false,
            "{" => {
                if index >= 2 && text(index - 2) == "mod" {
                    around.push((text(index - 1).to_owned(), depth, std::mem::take(&mut test_next)));
                }
                depth += 1;
            }
            "}" => {
                depth -= 1;
                around.pop_if(|(_, opened, _)| *opened == depth);
            }
            _ => {}
        }
        let names = around.iter().map(|(name, ..)| name.clone()).collect();
        all.push((names, around.iter().any(|(.., test)| *test)));
    }
    all
}

/// The tokens outside test modules.
fn production(tokens: &[Token]) -> Vec<&Token> {
    let surroundings = surroundings(tokens);
    tokens.iter().zip(surroundings).filter(|(_, (_, test))| !test).map(|(token, _)| token).collect()
}

/// A path that the source names, from `crate` on if it is the crate's own.
#[derive(Debug, PartialEq, Eq)]
struct FoundPath {
    line: usize,
    segments: Vec<String>,
    test: bool,
}

/// Every path, with groups taken apart and `self` and `super` resolved.
fn paths(tokens: &[Token], module: &[String]) -> Vec<FoundPath> {
    let surroundings = surroundings(tokens);
    let mut found = Vec::new();
    for (index, (token, (inner, test))) in tokens.iter().zip(&surroundings).enumerate() {
        let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
        let starts = token.text.chars().all(|c| c.is_alphanumeric() || c == '_');
        let follows = index > 0 && text(index - 1) == "::" && index > 1 && is_word(text(index - 2));
        let alias = token.text == "crate" && text(index + 1) == "as";
        if !starts || follows || !(text(index + 1) == "::" || alias) {
            continue;
        }
        let mut leaves = Vec::new();
        tree(tokens, index, &[], &mut leaves);
        let here: Vec<_> = module.iter().chain(inner).cloned().collect();
        for (line, segments) in leaves {
            let segments = resolve(&here, segments);
            found.push(FoundPath { line, segments, test: *test || test_file(module) });
        }
    }
    found
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_') && !["use", "in", "as"].contains(&text)
}

/// Reads a path or an import tree from `index` on, adds its leaves, and returns the index behind it.
fn tree(tokens: &[Token], mut index: usize, prefix: &[String], leaves: &mut Vec<(usize, Vec<String>)>) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let line = tokens.get(index).map_or(0, |token| token.line);
    let mut segments = prefix.to_vec();
    loop {
        if text(index) == "{" {
            index += 1;
            while index < tokens.len() && text(index) != "}" {
                index = tree(tokens, index, &segments, leaves);
                // `as name`, and the comma.
                while index < tokens.len() && ![",", "}"].contains(&text(index)) {
                    index += 1;
                }
                if text(index) == "," {
                    index += 1;
                }
            }
            return index + 1;
        }
        if is_word(text(index)) || text(index) == "*" {
            segments.push(text(index).to_owned());
            index += 1;
        }
        if text(index) != "::" {
            break;
        }
        index += 1;
    }
    leaves.push((line, segments));
    index
}

/// Makes a path of this crate start with `crate`, whichever way it is spelled; others stay as they are.
fn resolve(here: &[String], segments: Vec<String>) -> Vec<String> {
    let mut base = match segments.first().map(String::as_str) {
        Some("crate" | "fota") => Vec::new(),
        Some("self" | "super") => here.to_vec(),
        _ => return segments,
    };
    for (index, segment) in segments.into_iter().enumerate() {
        match segment.as_str() {
            "crate" | "fota" if index == 0 => {}
            "self" => {}
            "super" => _ = base.pop(),
            _ => base.push(segment),
        }
    }
    base.insert(0, "crate".to_owned());
    base
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_walls_stand() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    files.sort();
    let mut violations = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        violations.extend(check(file.strip_prefix(root()).unwrap(), &text).iter().map(Violation::to_string));
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn every_room_has_a_rule_and_every_rule_a_room() {
    let mut rooms: Vec<_> = std::fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| name != "lib")
        .collect();
    let mut ruled: Vec<_> = MAY_IMPORT.iter().map(|(name, _)| (*name).to_owned()).collect();
    rooms.sort();
    ruled.sort();
    assert_eq!(rooms, ruled);
    for room in ruled.iter().filter(|room| !["main", "clock", "sabotage", "termination"].contains(&room.as_str())) {
        let file = root().join("src").join(room).join("mod.rs");
        assert!(file.exists(), "{} explains the room", file.display());
    }
}

/// What the checker says of a file with this path and body, as `line: why`.
fn said(path: &str, body: &str) -> Vec<String> {
    let violations = check(Path::new(path), &format!("//! Doc.\n{body}"));
    violations.iter().map(|violation| format!("{}: {}", violation.line, violation.why)).collect()
}

#[test]
fn a_violation_is_printed_with_its_file_and_line() {
    let violations = check(Path::new("src/api/mod.rs"), "//! Doc.\n\nuse crate::ota::Request;\n");
    let printed: Vec<_> = violations.iter().map(Violation::to_string).collect();
    assert_eq!(printed, ["src/api/mod.rs:3: `crate::ota::Request`: api must not import ota"]);
}

#[test]
fn each_spelling_of_an_import_is_seen() {
    for body in [
        "use crate::cloud;",
        "use crate::cloud::Fleet;",
        "pub use crate::cloud::Fleet;",
        "pub(crate) use crate::cloud::Fleet as F;",
        "use ::fota::cloud::Fleet;",
        "use {std::fmt, crate::cloud};",
        "use crate::{api, cloud::{self, Fleet}};",
        "fn f() { let _ = crate::cloud::Fleet::new(); }",
        "fn f(x: &crate::cloud::Fleet) {}",
        "fn f() -> Vec<crate::cloud::Fleet> {}",
        "use super::super::cloud;",
        "use super::{super::cloud::Fleet};",
        "mod inner { use super::super::super::cloud; }",
        "use self::super::super::cloud;",
        "macro_rules! m { () => { $crate::cloud::go() } }",
        "fn f<'a>(x: &'a str, y: char) -> bool { y == '\"' && crate::cloud::go() }",
    ] {
        let said = said("src/ota/client.rs", body);
        assert!(!said.is_empty() && said.iter().all(|s| s.contains("ota must not import cloud")), "{body}: {said:?}");
    }
}

#[test]
fn a_group_over_several_lines_is_reported_on_the_line_of_its_branch() {
    let body =
        "pub(crate) use crate::{\n    api::{Spec, Status},\n    // why\n    rollout::{\n        decide,\n    },\n};\n";
    assert_eq!(said("src/cloud/model.rs", body), ["6: `crate::rollout::decide`: cloud must not import rollout"]);
}

#[test]
fn comments_strings_and_the_own_room_are_no_imports() {
    for body in [
        "// crate::cloud::Fleet",
        "/// See [`crate::cloud::Fleet`].\nfn f() {}",
        "/* /* nested */ crate::cloud::x */",
        "const A: &str = \"crate::cloud::x \\\" crate::cloud::y\";",
        "const A: &str = r#\"crate::cloud::\"x\"\"#;",
        "const A: &[u8] = b\"crate::cloud::x\";",
        "use crate::ota::sign; use crate::api::Spec; use crate::clock; use crate::telemetry::metrics;",
        "pub(crate) fn f() {} pub(in crate::ota) fn g() {}",
        "use super::sign; mod tests { use super::*; use super::super::sign; }",
        "use std::collections::BTreeMap; fn f() { cloud::go(); }",
    ] {
        assert_eq!(said("src/ota/client.rs", body), [""; 0], "{body}");
    }
}

#[test]
fn each_room_keeps_to_its_row() {
    let wrong = [
        ("src/clock.rs", "use crate::telemetry;"),
        ("src/telemetry/mod.rs", "use crate::api;"),
        ("src/api/mod.rs", "use crate::clock;"),
        ("src/api/mod.rs", "use super::telemetry::log;"),
        ("src/ota/mod.rs", "use crate::rollout::Step;"),
        ("src/rollout/decide.rs", "use crate::clock;"),
        ("src/rollout/decide.rs", "use crate::telemetry;"),
        ("src/rollout/decide.rs", "use crate::ota::client::Client;"),
        ("src/rollout/decide.rs", "use crate::ota::{Operation, quota};"),
        ("src/rollout/decide.rs", "use crate::ota::*;"),
        ("src/cloud/mod.rs", "use crate::controller::run;"),
        ("src/controller/mod.rs", "use crate::cloud;"),
        ("src/controller/mod.rs", "use crate::cli;"),
        ("src/main.rs", "use fota::cloud;"),
        ("src/ota/mod.rs", "use crate::*;"),
        ("src/ota/mod.rs", "use crate::Error;"),
        ("src/ota/mod.rs", "use crate as house;"),
        ("src/ota/mod.rs", "#[path = \"../cloud/fleet.rs\"]\nmod fleet;"),
    ];
    for (path, body) in wrong {
        assert_eq!(said(path, body).len(), 1, "{path}: {body}: {:?}", said(path, body));
    }
    let right = [
        ("src/rollout/decide.rs", "use crate::api::Spec; use crate::ota::{Operation, Outcome};"),
        ("src/cloud/mod.rs", "use crate::{api, clock, ota::sign, telemetry};"),
        ("src/controller/mod.rs", "use crate::{api, clock, ota::client, rollout::decide, telemetry};"),
        ("src/cli/plan.rs", "use crate::{cloud, controller, rollout};"),
        ("src/main.rs", "fn main() { fota::cli::main() }"),
    ];
    for (path, body) in right {
        assert_eq!(said(path, body), [""; 0], "{path}: {body}");
    }
}

#[test]
fn a_test_module_may_use_the_simulated_cloud_and_nothing_else_more() {
    let tests = |body: &str| format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{ {body} }}\n");
    assert_eq!(said("src/controller/mod.rs", &tests("use crate::cloud::Fleet;")), [""; 0]);
    assert_eq!(said("src/controller/tests.rs", "use crate::cloud::Fleet;"), [""; 0]);
    assert_eq!(said("src/rollout/gate.rs", &tests("use std::fs; async fn f() {}")), [""; 0]);
    assert_eq!(said("src/controller/mod.rs", &tests("use crate::cli;")).len(), 1);
    // The attribute is the module's, not the rest of the file's.
    let after = format!("{}use crate::cloud::Fleet;", tests(""));
    assert_eq!(said("src/controller/mod.rs", &after).len(), 1);
    assert_eq!(
        said("src/controller/mod.rs", "#[cfg(test)]\nuse crate::cloud::A;\nmod m { use crate::cloud::B; }").len(),
        2
    );
}

#[test]
fn the_decision_core_is_pure() {
    for body in [
        "async fn f() {}",
        "fn f() { x.await }",
        "use tokio;",
        "use std::fs;",
        "use std::{collections::BTreeMap, time::{Duration, Instant}};",
        "use std::time::SystemTime;",
        "use std::time::*;",
        "use std::*;",
        "fn f() { std::env::var(\"X\"); }",
        "use std::net::IpAddr;",
        "use kube::{Client, ResourceExt};",
    ] {
        assert_eq!(said("src/rollout/decide.rs", body).len(), 1, "{body}: {:?}", said("src/rollout/decide.rs", body));
        assert_eq!(said("src/ota/client.rs", body), [""; 0], "{body}");
    }
    let pure = "use std::time::Duration; use std::collections::*; use kube::ResourceExt; // async tokio";
    assert_eq!(said("src/rollout/decide.rs", pure), [""; 0]);
}

#[test]
fn a_file_without_its_first_line_is_named() {
    let why = "does not start with a `//!` line that says what it is for";
    for (path, text) in
        [("src/ota/mod.rs", "use std::fmt;\n"), ("src/ota/mod.rs", ""), ("src/lib.rs", "pub mod api;\n")]
    {
        let violations = check(Path::new(path), text);
        assert_eq!(violations, [Violation { path: path.into(), line: 1, why: why.into() }]);
    }
    assert_eq!(check(Path::new("src/lib.rs"), "#![doc = include_str!(\"../ARCHITECTURE.md\")]\n"), []);
}
