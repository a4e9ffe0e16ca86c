//! `airdock-lab status`: the parts of the lab and whether they live.

use std::path::PathBuf;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cluster::state::{Host, State};
use crate::cluster::{api, control_plane, node};
use crate::layout::Layout;
use crate::{addresses, exporter, member, process};

/// One process.
#[derive(Debug, Serialize)]
struct Part {
    component: String,
    state: &'static str,
    pid: Option<u32>,
    log: PathBuf,
}

/// Everything that `status` knows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    lab: PathBuf,
    host: Option<Host>,
    host_ready: bool,
    nodes_ready: usize,
    nodes: usize,
    parts: Vec<Part>,
    members: Vec<member::Summary>,
    instances: Vec<PathBuf>,
}

impl Report {
    /// Looks at processes, clusters and files.
    pub async fn collect(layout: &Layout) -> Result<Self> {
        let state = State::read(layout);
        let mut report = Self {
            lab: layout.root().to_path_buf(),
            parts: parts(layout, state.as_ref()),
            host: state.map(|s| s.host),
            host_ready: false,
            nodes_ready: 0,
            nodes: 0,
            members: Vec::new(),
            instances: instances(layout),
        };
        if report.host.is_some()
            && let Ok(host) = api::client(&layout.host_kubeconfig()).await
            && api::ready(&host).await
        {
            report.host_ready = true;
            (report.nodes_ready, report.nodes) = api::nodes_ready(&host).await.context("listing the nodes")?;
            report.members = member::list(layout, &host).await?;
        }
        Ok(report)
    }

    /// Whether everything that should live does.
    pub fn healthy(&self) -> bool {
        self.host_ready
            && self.nodes > 0
            && self.nodes_ready == self.nodes
            && self.parts.iter().all(|p| p.pid.is_some())
            && self.members.iter().all(|m| m.ready)
    }

    /// For programs.
    pub fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("describing the lab")
    }

    /// For people.
    pub fn table(&self) -> String {
        if self.host.is_none() {
            return format!("there is no lab in {}; airdock-lab up makes one", self.lab.display());
        }
        let mut parts = table(&["COMPONENT", "STATE", "PID", "LOG"]);
        for part in &self.parts {
            let pid = part.pid.map_or_else(|| "-".into(), |pid| pid.to_string());
            parts.add_row([part.component.as_str(), part.state, &pid, &part.log.to_string_lossy()]);
        }
        let ready = if self.host_ready { "ready" } else { "not ready" };
        let mut text = format!("{parts}\n\nhost: {ready}, {} of {} nodes Ready\n", self.nodes_ready, self.nodes);
        if !self.members.is_empty() {
            let mut members = table(&["MEMBER", "STATE", "REGION", "ZONES", "PROVIDER", "NODES", "KUBECONFIG"]);
            for m in &self.members {
                members.add_row([
                    m.name.as_str(),
                    if m.ready { "ready" } else { "not ready" },
                    &m.place.region,
                    &m.place.zones.join(","),
                    &m.place.provider,
                    &format!("{}/{}", m.nodes.0, m.nodes.1),
                    &m.kubeconfig.to_string_lossy(),
                ]);
            }
            text.push_str(&format!("\n{members}\n"));
        }
        for instance in &self.instances {
            text.push_str(&format!("instance: {}\n", instance.display()));
        }
        text.trim_end().to_owned()
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    table
}

fn parts(layout: &Layout, state: Option<&State>) -> Vec<Part> {
    let names = match state.map(|s| &s.host) {
        None => Vec::new(),
        Some(Host::Existing) => vec![exporter::NAME.to_owned()],
        Some(Host::Own { nodes }) => {
            let plane = control_plane::PARTS.iter().rev().map(|name| (*name).to_owned());
            let nodes = (1..=*nodes).flat_map(|n| node::parts(&addresses::node(n).name).into_iter().rev());
            plane.chain(nodes).chain([exporter::NAME.to_owned()]).collect()
        }
    };
    let part = |component: String| {
        let pid = process::running(layout, &component);
        let state = if pid.is_some() { "running" } else { "dead" };
        Part { log: layout.log(&component), component, state, pid }
    };
    names.into_iter().map(part).collect()
}

fn instances(layout: &Layout) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(layout.instances())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "kubeconfig"))
        .collect();
    files.sort();
    files
}
