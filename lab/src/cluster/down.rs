//! `airdock-lab down`: leaves no process, mount, device, namespace, control
//! group or rule behind, whatever state the lab is in.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::cluster::state::{self, Host, State};
use crate::cluster::{control_plane, node};
use crate::failure::Advice;
use crate::layout::{self, Layout, RUN};
use crate::progress::Progress;
use crate::setup::packages;
use crate::{cgroups, exporter, member, mounts, network, process};

/// Somebody else's kubelet has its configuration here, and the sockets' folder
/// beside it is shared.
const FOREIGN_KUBELET: &str = "/var/lib/kubelet/config.yaml";
/// Made by kubelets and containerd at places that cannot be configured.
const SHARED_FOLDERS: [&str; 6] = [
    "/var/lib/kubelet",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/var/log/containers",
    "/run/containerd/s",
    "/run/containerd",
];

/// Ends the lab. With `purge` the images and the folder go as well.
pub async fn down(layout: &Layout, purge: bool, progress: &Progress) -> Result<()> {
    if !layout.root().exists() && !network::exists() {
        progress.say("there is no lab");
        return Ok(());
    }
    let alone = layout.lock(true)?;
    let step = progress.step("ending the lab");
    if let Some(State { host: Host::Existing, .. }) = State::read(layout) {
        process::stop(layout, exporter::NAME, Duration::from_secs(2))?;
        member::remove_all(layout).await?;
    } else {
        if !state::owned(layout) {
            return Err(anyhow!("the lab that this machine runs belongs to another folder")
                .remedy(format!("read the folder's name in {RUN}/owner and give it with --dir")));
        }
        if !packages::is_root() {
            return Err(anyhow!("ending the lab needs root").remedy("sudo -E airdock-lab down"));
        }
        clear_leftovers(layout)?;
    }
    forget(layout, purge)?;
    drop(alone);
    if purge {
        layout::remove(layout.root())?;
    }
    step.done();
    Ok(())
}

/// Ends whatever of a lab exists on this machine; its data stays.
pub fn clear_leftovers(layout: &Layout) -> Result<()> {
    process::stop(layout, exporter::NAME, Duration::ZERO)?;
    // Who would start pods anew goes first, then the pods, and containerd only
    // after it has forgotten them.
    for part in control_plane::PARTS {
        process::stop(layout, part, Duration::ZERO)?;
    }
    let nodes = node_names(layout);
    for name in &nodes {
        let [proxy, kubelet, _] = node::parts(name);
        process::stop(layout, &proxy, Duration::ZERO)?;
        process::stop(layout, &kubelet, Duration::ZERO)?;
    }
    end_pods()?;
    for name in &nodes {
        if process::running(layout, &node::parts(name)[2]).is_some() {
            let _ = node::tidy(layout, name);
        }
    }
    let sockets = node::shim_sockets();
    let strays: BTreeSet<u32> = network::namespaces().iter().flat_map(|netns| process::in_netns(netns)).collect();
    process::kill_all(&strays)?;
    end_pods()?;
    for name in process::known(layout) {
        process::stop(layout, &name, Duration::ZERO)?;
    }
    mounts::remove_beneath(&[layout.root(), Path::new(RUN)])?;
    network::remove()?;
    cgroups::remove()?;
    for socket in sockets {
        layout::remove(&socket)?;
    }
    forget_outside(layout)?;
    layout::remove(Path::new(RUN))
}

/// Pods can fork while they are being ended, and on a busy machine their threads
/// take a moment to go, so look until none is left.
fn end_pods() -> Result<()> {
    let begun = Instant::now();
    loop {
        let pods = cgroups::processes();
        if pods.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(30) {
            return Err(anyhow!("the pods' processes {pods:?} do not end").remedy("look at them with ps"));
        }
        process::kill_all(&pods)?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn node_names(layout: &Layout) -> Vec<String> {
    let folders = [layout.nodes(), RUN.into()];
    let names: BTreeSet<String> = folders
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.into_iter().collect()
}

/// Traces that kubelets and CNI leave at places that cannot be configured.
fn forget_outside(layout: &Layout) -> Result<()> {
    for entry in fs::read_dir("/var/log/containers").into_iter().flatten().flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target.starts_with(layout.root())) {
            layout::remove(&entry.path())?;
        }
    }
    for entry in fs::read_dir("/var/lib/cni/results").into_iter().flatten().flatten() {
        // The loopback's result does not name the network, but the sandbox's place.
        let ours = entry.file_name().to_string_lossy().starts_with("airdock-lab-");
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if ours || text.contains(&format!("{RUN}/")) {
            layout::remove(&entry.path())?;
        }
    }
    if !Path::new(FOREIGN_KUBELET).exists() {
        layout::remove(Path::new("/var/lib/kubelet/device-plugins"))?;
    }
    // Gone when empty, which they are unless somebody else uses them too.
    for dir in SHARED_FOLDERS {
        let _ = fs::remove_dir(dir);
    }
    Ok(())
}

/// Forgets the clusters; the images stay for the next `up`.
pub fn forget(layout: &Layout, purge: bool) -> Result<()> {
    for path in [
        layout.etcd(),
        layout.pki(),
        layout.pids(),
        layout.members(),
        layout.instances(),
        layout.volumes(),
        layout.bundle(),
        layout.host_kubeconfig(),
        layout.state(),
    ] {
        layout::remove(&path)?;
    }
    for name in node_names(layout) {
        for part in ["kubelet", "pods", "cni", "containerd.toml", "kubelet.yaml", "opt"] {
            layout::remove(&layout.node(&name).join(part))?;
        }
    }
    if purge {
        layout::remove(&layout.nodes())?;
    }
    Ok(())
}
