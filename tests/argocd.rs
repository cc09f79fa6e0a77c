//! `make test-argocd`: the examples for Argo CD under the real Argo CD. First every fixture of the Lua files, then a story:
//! rollouts out of Git, through its repo-server, application-controller and API server, into a control plane of its own.
//!
//! `ONLY=fixtures` or `ONLY=story` runs one of the two. Whatever was started ends with this process, however it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

mod harness;

#[path = "argocd/application.rs"]
mod application;
#[path = "argocd/argo.rs"]
mod argo;
#[path = "demo/bar.rs"]
#[allow(dead_code)] // the demo shows more
mod bar;
#[path = "argocd/chapters.rs"]
mod chapters;
#[path = "argocd/cloud.rs"]
mod cloud;
#[path = "argocd/eventually.rs"]
mod eventually;
#[path = "argocd/fixtures.rs"]
mod fixtures;
#[path = "argocd/ground.rs"]
mod ground;
#[path = "argocd/held_sync.rs"]
mod held_sync;
#[path = "argocd/manifests.rs"]
mod manifests;
#[path = "argocd/report.rs"]
mod report;
#[path = "argocd/repository.rs"]
mod repository;
#[path = "argocd/rollouts.rs"]
mod rollouts;
#[path = "demo/show.rs"]
#[allow(dead_code)] // the demo shows more
mod show;
#[path = "argocd/waves.rs"]
mod waves;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use chapters::Lane;
use ground::Ground;
use harness::Result;
use held_sync::Place;
use report::Report;
use waves::Waves;

/// From the first line to the verdict.
const LIMIT: Duration = Duration::from_secs(900);

const LANES: [Lane; 2] = [
    Lane { name: "client", letter: "c", product: "a1Client00", server_side: false },
    Lane { name: "server", letter: "s", product: "a1Server00", server_side: true },
];

const HELD: Place = Place { name: "held", letter: "h", product: "a1Held0000" };

const WAVES: [Waves; 2] = [
    Waves { name: "waves-c", product: "a1Client00", server_side: false, names: 120 },
    Waves { name: "waves-s", product: "a1Server00", server_side: true, names: 200 },
];

fn main() -> ExitCode {
    // kube and reqwest link rustls with one provider; installing it twice is harmless here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("argocd: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run());
    // Lanes that still run are not waited for: what they wait for has ended.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("argocd: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let only = env::var("ONLY").unwrap_or_default();
    if !["", "fixtures", "story"].contains(&only.as_str()) {
        return Err(format!("ONLY={only}: it is fixtures, or story").into());
    }
    let report = Arc::new(Report::new());
    if only != "story" {
        fixtures::run(&report)?;
        report.note("fixtures", "every fixture went through the real argocd admin settings resource-overrides")?;
    }
    if only != "fixtures" {
        story(&report).await?;
    }
    report.conclude()
}

async fn story(report: &Arc<Report>) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let [client, server] = LANES.map(|lane| (lane.product, lane.letter));
    let products = [client, server, (HELD.product, HELD.letter)];
    let ground = Arc::new(Ground::start(report.clone(), &products)?);
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(LIMIT, told(&ground)) => {
            outcome.unwrap_or_else(|_| Err(format!("it had not come to its end after {} s", LIMIT.as_secs()).into()))
        }
        () = ground.broken() => Err("something that the story needs has ended".into()),
        _ = interrupt.recv() => return Err("interrupted".into()),
        _ = terminate.recv() => return Err("terminated".into()),
    };
    if outcome.is_err() {
        ground.explain()?;
    }
    outcome
}

/// The lanes side by side, and then the second variant.
async fn told(ground: &Arc<Ground>) -> Result<()> {
    let lanes = LANES.map(|lane| beside(ground, async move |ground| chapters::tell(ground, lane).await));
    let waves = WAVES.map(|waves| beside(ground, async move |ground| waves::begin(ground, waves).await));
    let held = beside(ground, async move |ground| held_sync::tell(ground, HELD).await);
    for lane in lanes.into_iter().chain([held]) {
        lane.await??;
    }
    let mut waiting = Vec::new();
    for waves in waves {
        waiting.push(waves.await??);
    }
    waves::pauses_are_healthy(ground)?;
    for waves in waiting {
        waves.end().await?;
    }
    Ok(())
}

/// Runs a lane on a thread of its own: kubectl and git block.
fn beside<T: Send + 'static>(
    ground: &Arc<Ground>,
    lane: impl AsyncFnOnce(Arc<Ground>) -> Result<T> + Send + 'static,
) -> JoinHandle<Result<T>> {
    let (ground, runtime) = (ground.clone(), Handle::current());
    tokio::task::spawn_blocking(move || runtime.block_on(lane(ground)))
}
