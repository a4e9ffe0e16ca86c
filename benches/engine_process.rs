//! An engine as a process of its own.

#![allow(dead_code)]

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::harness::ApiServer;
use crate::process::AirdockProcess;

/// Nothing is written for this long when the engine is quiet.
const QUIET: u32 = 5;

/// An engine that may use this much of a second does nothing but probe its members.
const IDLE: Duration = Duration::from_millis(120);

/// The environment that an instance gives its engine.
fn environment() -> Vec<(&'static str, String)> {
    let deployment = include_str!("../manifests/instance/engine/deployment.yaml");
    let variable = |line: &'static str| {
        let (name, value) = line.trim().strip_prefix("- { name: ")?.split_once(", value: \"")?;
        Some((name, value.strip_suffix("\" }")?.to_owned()))
    };
    let variables: Vec<_> = deployment.lines().filter_map(variable).collect();
    assert!(!variables.is_empty(), "the engine's Deployment sets no variable any more");
    variables
}

/// A running engine. Dropped, it is killed.
pub struct EngineProcess(AirdockProcess);

impl Deref for EngineProcess {
    type Target = AirdockProcess;

    fn deref(&self) -> &AirdockProcess {
        &self.0
    }
}

impl DerefMut for EngineProcess {
    fn deref_mut(&mut self) -> &mut AirdockProcess {
        &mut self.0
    }
}

impl EngineProcess {
    /// Starts an engine for a plane.
    pub async fn start(plane: &ApiServer) -> Self {
        let kubeconfig = format!("--kubeconfig={}", plane.kubeconfig_file().display());
        Self(AirdockProcess::start("engine", &[kubeconfig], &environment()).await)
    }

    /// Requests so far to a server, or to all, that write.
    pub fn writes(&self, host: Option<&str>) -> u64 {
        let of_host = |other: &str| host.is_none_or(|host| host == other);
        let requests = self.requests();
        requests.iter().filter(|((host, method), _)| of_host(host) && method != "GET").map(|(_, count)| count).sum()
    }

    /// Waits until it neither writes nor works, and tells since when.
    pub async fn until_quiet(&self, within: Duration) -> Instant {
        let started = Instant::now();
        let mut since = Instant::now();
        let mut calm = 0;
        let mut before = (self.writes(None), self.cpu());
        while calm < QUIET {
            assert!(started.elapsed() < within, "the engine was not quiet within {within:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = (self.writes(None), self.cpu());
            if now.0 == before.0 && now.1 - before.1 < IDLE {
                calm += 1;
            } else {
                (calm, since) = (0, Instant::now());
            }
            before = now;
        }
        since
    }
}
