//! What the lab was asked to be, and which lab this machine runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::failure::Advice;
use crate::layout::{self, Layout, RUN};

/// The host cluster's kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Host {
    /// Made by the lab.
    Own {
        /// How many nodes.
        nodes: u8,
    },
    /// Somebody's, through a kubeconfig.
    Existing,
}

/// The contents of `lab.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where instances and members run.
    pub host: Host,
    /// The machine's boot in which it was made.
    pub boot: String,
}

impl State {
    /// A state for this boot.
    pub fn new(host: Host) -> Self {
        Self { host, boot: this_boot() }
    }

    /// Reads it; `None` when there is no lab.
    pub fn read(layout: &Layout) -> Option<Self> {
        serde_json::from_slice(&fs::read(layout.state()).ok()?).ok()
    }

    /// Reads it, or says how to get a lab.
    pub fn require(layout: &Layout) -> Result<Self> {
        Self::read(layout)
            .ok_or_else(|| anyhow!("there is no lab in {}", layout.root().display()).remedy("airdock-lab up"))
    }

    /// Keeps it.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("describing the lab")?;
        layout::write(&layout.state(), &text, false)
    }

    /// Whether the machine has been restarted since.
    pub fn of_this_boot(&self) -> bool {
        self.boot == this_boot()
    }
}

fn this_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn owner_file() -> PathBuf {
    Path::new(RUN).join("owner")
}

/// Refuses when another folder's lab runs: the addresses are fixed, so a machine
/// has room for one.
pub fn refuse_if_foreign(layout: &Layout) -> Result<()> {
    match fs::read_to_string(owner_file()) {
        Ok(owner) if owner.trim() != layout.root().to_string_lossy() && crate::network::exists() => {
            let owner = owner.trim();
            Err(anyhow!("this machine already runs a lab, in {owner}")
                .remedy(format!("use it with --dir {owner}, or end it: airdock-lab --dir {owner} down")))
        }
        _ => Ok(()),
    }
}

/// Notes that the machine's one lab is the one in this folder.
pub fn claim(layout: &Layout) -> Result<()> {
    layout::write(&owner_file(), layout.root().to_string_lossy().as_bytes(), false)
}

/// Whether the machine's lab, if any, is the one in this folder.
pub fn owned(layout: &Layout) -> bool {
    match fs::read_to_string(owner_file()) {
        Ok(owner) => owner.trim() == layout.root().to_string_lossy(),
        // Nobody wrote a claim: what is left is a half-made lab's, anyone may clear it.
        Err(_) => true,
    }
}
