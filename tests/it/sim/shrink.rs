//! From a schedule that breaks a rule to the shortest one found that still does.

use super::corpus::Script;
use super::scene::Scene;

/// Leaves out what is not needed: events one by one, then peculiarities of the scene.
pub fn shrink(script: &Script) -> Script {
    let breaks = |script: &Script| script.play(false).violation.is_some();
    let mut best = script.clone();
    loop {
        let before = best.clone();
        for at in (0..best.choices.len()).rev() {
            let mut shorter = best.clone();
            shorter.choices.remove(at);
            if breaks(&shorter) {
                best = shorter;
            }
        }
        for plainer in Scene::plainer(best.scene) {
            let plainer = Script { scene: plainer, ..best.clone() };
            if breaks(&plainer) {
                best = plainer;
            }
        }
        if best == before {
            return best;
        }
    }
}
