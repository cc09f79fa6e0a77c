//! Schedules as text: a scene's number, and a line for each thing that happens. Those that once broke a rule are kept in
//! `corpus/` and played again by every test run.

use std::path::{Path, PathBuf};

use super::chooser::Chooser;
use super::event::Choice;
use super::scene::Scene;
use super::schedule::{self, Report};

/// A schedule to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub scene: u64,
    pub choices: Vec<Choice>,
}

impl Script {
    /// Plays it; `told`: with its story.
    pub fn play(&self, told: bool) -> Report {
        schedule::run(Scene::new(self.scene), Chooser::replay(&self.choices), told)
    }

    /// Plays it, and keeps every place that it passes.
    pub fn trail(&self) -> Report {
        let mut chooser = Chooser::replay(&self.choices);
        chooser.trail = Some(Vec::new());
        schedule::run(Scene::new(self.scene), chooser, false)
    }

    /// Its text, with a line of comment.
    pub fn text(&self, comment: &str) -> String {
        let lines: String = self.choices.iter().map(|choice| format!("{choice}\n")).collect();
        format!("# {}\nscene {}\n{lines}", comment.replace('\n', " "), self.scene)
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self { scene: 0, choices: Vec::new() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.strip_prefix("scene ") {
                Some(number) => script.scene = number.parse().map_err(|_| format!("{number} is no scene"))?,
                None => script.choices.push(line.parse()?),
            }
        }
        Ok(script)
    }
}

/// Where they are kept.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sim/corpus")
}

/// All that are kept, by name.
pub fn all() -> Vec<(String, Script)> {
    let files = std::fs::read_dir(folder()).unwrap();
    let mut paths: Vec<PathBuf> =
        files.map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "txt")).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let script = Script::parse(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
        (name, script)
    };
    paths.into_iter().map(read).collect()
}
