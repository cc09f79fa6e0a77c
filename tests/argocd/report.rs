//! What the program prints: a timeline, and at its end what was found. Judging what is found never comes in here.

use std::sync::{Mutex, PoisonError};

use super::harness::Result;
use super::show::{Screen, Tint};

/// One thing that was promised, and whether it was so.
struct Finding {
    lane: &'static str,
    right: bool,
    text: String,
}

/// The timeline and the findings.
pub struct Report {
    screen: Screen,
    findings: Mutex<Vec<Finding>>,
}

impl Report {
    pub fn new() -> Self {
        Self { screen: Screen::new(), findings: Mutex::default() }
    }

    /// A line of the timeline.
    pub fn note(&self, lane: &str, text: &str) -> Result<()> {
        self.screen.note(lane, text)
    }

    /// A line of the timeline about what somebody does.
    pub fn act(&self, lane: &str, text: &str) -> Result<()> {
        self.screen.note(lane, &self.screen.tint(Tint::Strong, text))
    }

    /// Keeps a finding for the end. One that is wrong is also told at once, where its causes stand.
    pub fn check(&self, lane: &'static str, right: bool, text: impl Into<String>) -> Result<()> {
        let text = text.into();
        if !right {
            self.screen.note(lane, &self.screen.tint(Tint::Bad, &format!("WRONG: {text}")))?;
        }
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(Finding { lane, right, text });
        Ok(())
    }

    /// Prints the findings, lane by lane; fails when one of them is wrong.
    pub fn conclude(&self) -> Result<()> {
        let mut findings = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        findings.sort_by_key(|finding| finding.lane);
        self.screen.line("")?;
        for Finding { lane, right, text } in findings.iter() {
            let mark =
                if *right { self.screen.tint(Tint::Good, "ok   ") } else { self.screen.tint(Tint::Bad, "WRONG") };
            self.screen.line(&format!("{mark}  {lane:<9}  {text}"))?;
        }
        self.screen.line("")?;
        let wrong = findings.iter().filter(|finding| !finding.right).count();
        if wrong > 0 {
            return Err(format!("{wrong} of {} findings are not as promised, see WRONG above", findings.len()).into());
        }
        let all = format!("{} findings, all as promised, after {:.0} s", findings.len(), self.screen.seconds());
        self.screen.line(&self.screen.tint(Tint::Good, &all))
    }
}
