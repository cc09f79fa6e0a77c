//! The simulated OTA cloud, `fota cloud`: it speaks the vendor's API for real, on two clocks, with faults at will.
//!
//! Here belongs what the cloud does, the fleet it does it to, and how a person starts and watches it. What the operator
//! wants of a cloud never comes in here: nothing of `rollout` or `controller` is known.

pub mod connection;
pub mod faults;
pub mod fleet;
pub mod log;
pub mod model;
pub mod server;
mod storage;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

use crate::termination::Termination;

pub use faults::{Faults, FaultsPatch};
pub use fleet::{Fleet, FleetError};
pub use model::{Call, Clocks, Cloud, Edition, Switches};
pub use server::{Server, serve};

/// What `fota cloud` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8043")]
    pub listen: SocketAddr,
    /// The fleet file: accounts, products with device groups, firmware
    #[arg(long, value_name = "FILE")]
    pub fleet: PathBuf,
    /// How many times faster than the wall clock the fleet's clock runs
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Decides everything that is left to chance
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Faults in force from the start, as PUT /_admin/faults takes them, and under `switches` what PUT /_admin/switches takes
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// The generation of the service
    #[arg(long, value_name = "EDITION", value_enum, default_value_t = Edition::Current)]
    pub edition: Edition,
}

/// Why the simulated cloud cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The fleet file is refused.
    #[error("{}: {source}", path.display())]
    Fleet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FleetError,
    },
    /// The faults file is refused.
    #[error("{}: {why}", path.display())]
    Faults {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The server broke.
    #[error("the simulated cloud stopped: {0}")]
    Serve(std::io::Error),
}

/// Runs the simulated cloud until SIGTERM or ctrl-c.
pub async fn run(options: Options) -> Result<(), Error> {
    let fleet =
        Fleet::parse(&read(&options.fleet)?).map_err(|source| Error::Fleet { path: options.fleet.clone(), source })?;
    let mut cloud = Cloud::new(&fleet, options.seed, options.edition, fleet.switches.clone());
    if let Some(path) = &options.faults {
        let refused = |why| Error::Faults { path: path.clone(), why };
        let (faults, switches) = faults::parse(&read(path)?).map_err(refused)?;
        cloud.change_faults(&faults).map_err(refused)?;
        cloud.change_switches(&switches).map_err(refused)?;
    }
    // Before the line that says we listen: whoever reads it may stop us at once.
    let mut termination = Termination::listen().map_err(Error::Serve)?;
    let refused = |source| Error::Listen { listen: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    tracing::info!(%address, speed = options.speed, seed = options.seed, "the simulated cloud listens");
    // Programs read this line for the port. A closed stdout only means that nobody does.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "listening on http://{address}").and_then(|()| stdout.flush());
    let stop = async move { termination.asked().await };
    serve(listener, Server::new(cloud, options.speed), stop).await.map_err(Error::Serve)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if speed > 0.0 && speed.is_finite() { Ok(speed) } else { Err("must be above 0".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn the_command_line_is_as_documented() {
        let options = Line::try_parse_from(["fota", "--fleet", "f.yaml"]).unwrap().options;
        assert_eq!((options.listen.to_string().as_str(), options.speed, options.seed), ("127.0.0.1:8043", 1.0, 1));
        assert_eq!((options.edition, options.faults), (Edition::Current, None));
        let all = "fota --listen 0.0.0.0:0 --fleet f --speed 600 --seed 7 --faults x --edition Legacy";
        let options = Line::try_parse_from(all.split(' ')).unwrap().options;
        assert_eq!((options.speed, options.seed, options.edition), (600.0, 7, Edition::Legacy));
        for bad in ["fota", "fota --fleet f --speed 0", "fota --fleet f --edition legacy", "fota --fleet f --seed -1"] {
            assert!(Line::try_parse_from(bad.split(' ')).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn files_that_are_refused_are_named() {
        let directory = std::env::temp_dir().join(format!("fota-cloud-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let good = write("good.yaml", "accounts: []\nproducts: []\n");
        let bad = write("bad.yaml", "accounts: []\nproducts: []\ncolour: red\n");
        let faults = write("faults.yaml", "errorRate: 2\n");
        let switches = write("switches.yaml", "latencyMs: 5\nswitches: {pageShiftRate: 2}\n");
        for (arguments, expected) in [
            (vec!["--fleet", "/nowhere.yaml"], "/nowhere.yaml: "),
            (vec!["--fleet", &bad], "bad.yaml: "),
            (vec!["--fleet", &good, "--faults", &faults], "faults.yaml: errorRate: must be between 0 and 1"),
            (vec!["--fleet", &good, "--faults", &switches], "switches.yaml: pageShiftRate: must be between 0 and 1"),
        ] {
            let line = Line::try_parse_from(["fota", "--listen", "127.0.0.1:0"].into_iter().chain(arguments)).unwrap();
            let error = run(line.options).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
