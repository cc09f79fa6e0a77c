//! The README against the files that it speaks of.

use std::fs;

use super::harness::root;

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn the_ten_line_manifest_is_the_example() {
    let minimal = fs::read_to_string(root().join("examples/minimal.yaml")).unwrap();
    assert!(readme().contains(&format!("```yaml\n{minimal}```")), "README.md and examples/minimal.yaml differ");
    let settings = minimal.lines().count();
    assert_eq!(settings, 10, "the ten-line manifest has {settings} lines");
}

#[test]
fn every_relative_link_leads_somewhere() {
    let text = readme();
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    let mut local = 0;
    for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
        let path = link.split('#').next().unwrap();
        assert!(root().join(path).exists(), "README.md links to {link}, which does not exist");
        local += 1;
    }
    assert!(local >= 6, "only {local} links were found: does this test still read them?");
}
