//! An engine as a process of its own, so that its memory and its processor time are its own.

#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{ApiServer, Folder, Process, eventually, free_port};
use crate::report::{self, Memory};

/// Fields of /proc/PID/stat count in this; Linux fixes it for user space.
const TICK: Duration = Duration::from_millis(10);

/// Nothing is written for this long when the engine is quiet.
const QUIET: u32 = 5;

/// An engine that may use this much of a second does nothing but probe its members.
const IDLE: Duration = Duration::from_millis(120);

/// The environment that an instance gives its engine, as `env` takes it.
fn environment() -> Vec<String> {
    let deployment = include_str!("../manifests/instance/engine/deployment.yaml");
    let variable = |line: &str| {
        let (name, value) = line.trim().strip_prefix("- { name: ")?.split_once(", value: \"")?;
        Some(format!("{name}={}", value.strip_suffix("\" }")?))
    };
    let variables: Vec<String> = deployment.lines().filter_map(variable).collect();
    assert!(!variables.is_empty(), "the engine's Deployment sets no variable any more");
    variables
}

/// A running engine. Dropped, it is killed.
pub struct EngineProcess {
    pub id: u32,
    metrics: SocketAddr,
    process: Process,
    folder: Folder,
}

impl EngineProcess {
    /// The program: this build's, or another one to compare with.
    fn program() -> PathBuf {
        std::env::var_os("AIRDOCK_BENCH_BIN").map_or_else(|| env!("CARGO_BIN_EXE_airdock").into(), PathBuf::from)
    }

    /// Starts an engine for a plane. It does not wait for a Lease: that takes as long as its owner says.
    pub async fn start(plane: &ApiServer) -> Self {
        let program = Self::program();
        let folder = Folder::new("engine");
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut arguments = environment();
        arguments.extend([
            program.display().to_string(),
            "engine".to_owned(),
            format!("--kubeconfig={}", plane.kubeconfig_file().display()),
            format!("--listen={metrics}"),
            "--leader-elect=false".to_owned(),
        ]);
        let process = Process::run(Path::new("env"), &arguments, &folder.path().join("log"));
        let id = eventually("the engine's process", Duration::from_secs(10), async || {
            process.id(&program).ok_or_else(|| "it has not started".to_owned())
        })
        .await;
        Self { id, metrics, process, folder }
    }

    /// Memory now and at its peak.
    pub fn memory(&self) -> Memory {
        Memory::of(self.id).unwrap_or_else(|| panic!("the engine has ended:\n{}", self.log()))
    }

    /// Processor time so far, of user and system.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        // The name before the last parenthesis may hold anything; utime and stime are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        TICK * (ticks(11) + ticks(12))
    }

    /// Requests so far to a server, or to all, that write.
    pub fn writes(&self, host: Option<&str>) -> u64 {
        // It does not listen yet, then there were none.
        let requests = report::requests(&self.metrics().unwrap_or_default());
        let of_host = |other: &str| host.is_none_or(|host| host == other);
        requests.iter().filter(|((host, method), _)| of_host(host) && method != "GET").map(|(_, count)| count).sum()
    }

    fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
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

    /// Ends it as kill -9 does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}
