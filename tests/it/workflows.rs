//! The workflows under `.github`, as far as actionlint cannot know what they must be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::root;

fn texts() -> BTreeMap<String, String> {
    let all = std::fs::read_dir(root().join(".github/workflows")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(&path).unwrap())
    });
    all.collect()
}

fn parsed() -> BTreeMap<String, Value> {
    texts().into_iter().map(|(name, text)| (name, serde_yaml::from_str(&text).unwrap())).collect()
}

fn steps(workflow: &Value) -> impl Iterator<Item = &Value> {
    workflow["jobs"].as_object().unwrap().values().flat_map(|job| job["steps"].as_array().into_iter().flatten())
}

#[test]
fn each_action_is_one_commit_of_the_version_that_it_is_called_by() {
    let mut versions = BTreeMap::new();
    for (name, text) in texts() {
        for line in text.lines().filter_map(|line| line.trim_start().trim_start_matches("- ").strip_prefix("uses: ")) {
            if line.starts_with("./") {
                continue;
            }
            let (action, pin) = line.split_once('@').unwrap_or_else(|| panic!("{name}: {line} names no version"));
            let (commit, version) = pin.split_once(" # v").unwrap_or_else(|| panic!("{name}: {line} says no version"));
            assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{name}: {line}");
            let known = versions.entry(action.to_owned()).or_insert((commit.to_owned(), version.to_owned())).clone();
            assert_eq!(known, (commit.to_owned(), version.to_owned()), "{name}: two of {action}");
        }
    }
    assert!(versions.len() >= 4, "{versions:?}");
}

#[test]
fn each_job_has_only_the_rights_that_it_names_and_leaves_no_token_behind() {
    for (name, workflow) in parsed() {
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{name}: nothing unless a job says so");
        for (job, it) in workflow["jobs"].as_object().unwrap() {
            let rights = it["permissions"].as_object().unwrap_or_else(|| panic!("{name}: {job} names no rights"));
            let writes = rights.values().any(|right| right != "read");
            assert!(
                !writes || (name.as_str(), job.as_str()) == ("release.yml", "publish"),
                "{name}: {job}: {rights:?}"
            );
        }
        for step in steps(&workflow).filter(|s| s["uses"].as_str().is_some_and(|u| u.starts_with("actions/checkout@")))
        {
            assert_eq!(step["with"]["persist-credentials"], false, "{name}");
        }
    }
}

#[test]
fn what_outsiders_write_reaches_no_shell() {
    for (name, workflow) in parsed() {
        for step in steps(&workflow) {
            let script = step["run"].as_str().unwrap_or_default();
            assert!(
                !script.contains("${{"),
                "{name}: an expression is pasted into a script; hand it over in env: {script}"
            );
        }
        assert!(workflow["on"].is_object(), "{name}");
        assert!(workflow["on"]["pull_request_target"].is_null(), "{name} would run strangers' code with our secrets");
    }
}

#[test]
fn a_release_uses_nothing_that_an_earlier_run_left() {
    let release = &parsed()["release.yml"];
    assert!(steps(release).all(|s| !s["uses"].as_str().unwrap_or_default().contains("cache")), "a cache");
    assert!(steps(release).all(|s| s["with"]["cache"].is_null() || s["with"]["cache"] == false), "a cache");
    assert_eq!(release["jobs"]["ci"]["with"]["fresh"], true);
    let ci = &parsed()["ci.yml"];
    for step in steps(ci).filter(|s| s["uses"].as_str().unwrap_or_default().contains("cache")) {
        // Not `== false`: where nobody calls it, there is no input at all.
        assert_eq!(step["if"], "${{ !inputs.fresh }}");
    }
    let needs: BTreeSet<_> =
        release["jobs"]["publish"]["needs"].as_array().unwrap().iter().map(|n| n.as_str()).collect();
    let all: BTreeSet<_> = release["jobs"].as_object().unwrap().keys().map(|k| Some(k.as_str())).collect();
    let before: BTreeSet<_> = all.into_iter().filter(|job| *job != Some("publish")).collect();
    assert_eq!(needs, before, "it is published after everything else");
}

/// The minor out of a text that begins with `1.`.
fn minor(text: &str) -> u32 {
    text.split('.').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_story_runs_on_every_minor_from_the_charts_oldest_on() {
    let chart: Value =
        serde_yaml::from_str(&std::fs::read_to_string(root().join("charts/fota/Chart.yaml")).unwrap()).unwrap();
    let oldest = minor(chart["kubeVersion"].as_str().unwrap().trim_start_matches(">="));
    let e2e = &parsed()["e2e.yml"];
    let matrix = e2e["jobs"]["kind"]["strategy"]["matrix"]["include"].as_array().unwrap();
    let mut minors = Vec::new();
    for one in matrix {
        let (said, image) = (one["minor"].as_str().unwrap(), one["image"].as_str().unwrap());
        let (tag, digest) = image.strip_prefix("kindest/node:v").and_then(|i| i.split_once("@sha256:")).unwrap();
        assert_eq!(minor(said), minor(tag), "{image}");
        assert_eq!(digest.len(), 64, "{image}");
        minors.push(minor(said));
    }
    let newest = *minors.last().unwrap();
    assert_eq!(minors, (oldest..=newest).collect::<Vec<_>>(), "none is left out");
    let module = std::fs::read_to_string(root().join("tests/kube/go.mod")).unwrap();
    let tested = module.lines().find_map(|l| l.trim().strip_prefix("k8s.io/kubernetes v")).unwrap();
    assert!((oldest..=newest).contains(&minor(tested)), "the tests' own API server is {tested}");
}
