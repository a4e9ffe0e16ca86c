//! A process of Airdock's own, so that its memory and its processor time are its own.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::harness::{Folder, Process, eventually, free_port};
use crate::report::{self, Memory};

/// Fields of /proc/PID/stat count in this; Linux fixes it for user space.
const TICK: Duration = Duration::from_millis(10);

/// A running `airdock`. Dropped, it is killed.
pub struct AirdockProcess {
    pub id: u32,
    metrics: SocketAddr,
    process: Process,
    folder: Folder,
}

impl AirdockProcess {
    /// The program: this build's, or another one to compare with.
    fn program() -> PathBuf {
        std::env::var_os("AIRDOCK_BENCH_BIN").map_or_else(|| env!("CARGO_BIN_EXE_airdock").into(), PathBuf::from)
    }

    /// Starts a subcommand, with variables of its own. It does not wait for a Lease: that takes as long as its owner says.
    pub async fn start(subcommand: &str, arguments: &[String], variables: &[(&str, String)]) -> Self {
        let program = Self::program();
        let folder = Folder::new(subcommand);
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let mut all: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        all.push(program.display().to_string());
        all.extend([subcommand.to_owned(), format!("--listen={metrics}"), "--leader-elect=false".to_owned()]);
        all.extend_from_slice(arguments);
        let process = Process::run("/usr/bin/env".as_ref(), &all, &folder.path().join("log"));
        let id = eventually("the process", Duration::from_secs(10), async || {
            process.id(&program).ok_or_else(|| "it has not started".to_owned())
        })
        .await;
        Self { id, metrics, process, folder }
    }

    /// Memory now and at its peak.
    pub fn memory(&self) -> Memory {
        Memory::of(self.id).unwrap_or_else(|| panic!("the process has ended:\n{}", self.log()))
    }

    /// Processor time so far, of user and system.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        // The name before the last parenthesis may hold anything; utime and stime are the 12th and 13th field after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        TICK * (ticks(11) + ticks(12))
    }

    /// Requests so far, by host and method.
    pub fn requests(&self) -> BTreeMap<(String, String), u64> {
        // It does not listen yet, then there were none.
        report::requests(&self.metrics().unwrap_or_default())
    }

    fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
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
