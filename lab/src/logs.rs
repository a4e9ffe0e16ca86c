//! `airdock-lab logs`: the processes' log files, and the members' through the
//! host's API server.

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, LogParams};

use crate::cluster::api;
use crate::cluster::state::State;
use crate::failure::Advice;
use crate::layout::Layout;
use crate::{member, progress};

/// Prints the end of one component's log, or lists the components.
pub async fn show(layout: &Layout, component: Option<&str>, lines: usize) -> Result<()> {
    match component {
        None => list(layout),
        Some(name) => match name.strip_prefix("member/") {
            Some(member) => of_member(layout, member, lines).await,
            None => of_process(layout, name, lines),
        },
    }
}

fn names(layout: &Layout) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(layout.logs())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log").map(str::to_owned))
        .collect();
    names.sort();
    names
}

fn list(layout: &Layout) -> Result<()> {
    let names = names(layout);
    if names.is_empty() {
        return Err(anyhow!("{} holds no logs", layout.logs().display()).remedy("airdock-lab up"));
    }
    for name in names {
        progress::print(&format!("{name:32} {}", layout.log(&name).display()));
    }
    Ok(())
}

fn of_process(layout: &Layout, name: &str, lines: usize) -> Result<()> {
    let known = names(layout);
    // "kubelet" is enough while there is only one.
    let fitting: Vec<_> = known.iter().filter(|k| *k == name || k.starts_with(&format!("{name}-lab-"))).collect();
    let [one] = fitting.as_slice() else {
        let choice = if fitting.is_empty() { known.join(", ") } else { format!("{fitting:?}") };
        return Err(
            anyhow!("{name:?} names {} logs", fitting.len()).remedy(format!("choose one of {choice}, or member/NAME"))
        );
    };
    let path = layout.log(one);
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    progress::print(&all[all.len().saturating_sub(lines)..].join("\n"));
    Ok(())
}

/// `NAME` for the API server's log, `NAME/CONTAINER` for another's.
async fn of_member(layout: &Layout, name: &str, lines: usize) -> Result<()> {
    State::require(layout)?;
    let (name, container) = name.split_once('/').unwrap_or((name, "kube-apiserver"));
    let host = api::client(&layout.host_kubeconfig()).await?;
    let pod = member::pod(&host, name)
        .await?
        .ok_or_else(|| anyhow!("there is no member {name}").remedy("`airdock-lab status` lists the members"))?;
    let tail = i64::try_from(lines).unwrap_or(i64::MAX);
    let wanted = LogParams { container: Some(container.to_owned()), tail_lines: Some(tail), ..LogParams::default() };
    let pods: Api<Pod> = Api::namespaced(host, member::NAMESPACE);
    let text = pods.logs(&pod.name_any(), &wanted).await.with_context(|| format!("reading the log of {container}"))?;
    progress::print(text.trim_end());
    Ok(())
}
