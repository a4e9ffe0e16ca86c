//! A real node: containerd, kubelet and kube-proxy in a network namespace.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use minijinja::context;

use crate::addresses::{DNS_SERVICE, NodeNetwork, POD_RANGE};
use crate::cgroups;
use crate::cluster::{api, control_plane};
use crate::command::{find, run, run_async};
use crate::failure::Advice;
use crate::image::catalogue;
use crate::layout::{self, Layout, RUN, make_dir};
use crate::network;
use crate::process::{self, Daemon};
use crate::setup::binaries::Binaries;
use crate::setup::packages::cni_folder;

/// A node's processes, by the names of their pid files.
pub fn parts(node: &str) -> [String; 3] {
    [format!("kube-proxy-{node}"), format!("kubelet-{node}"), format!("containerd-{node}")]
}

/// Writes the configuration and makes the node's network and control group.
pub fn prepare(layout: &Layout, node: &NodeNetwork) -> Result<()> {
    network::ensure_node(node)?;
    cgroups::ensure(&node.name)?;
    control_plane::node_credentials(layout, &node.name, node.address.into())?;
    let folder = layout.node(&node.name);
    let run = Path::new(RUN).join(&node.name);
    for dir in [folder.join("cni/conf"), folder.join("containerd"), folder.join("kubelet"), run.clone()] {
        make_dir(&dir)?;
    }
    let cni = cni_folder().ok_or_else(|| {
        anyhow!("missing package: containernetworking-plugins").remedy("apt-get install containernetworking-plugins")
    })?;
    let values = context! {
        node => &node.name,
        folder => folder.to_string_lossy(),
        run => run.to_string_lossy(),
        pods => &node.pods,
        pause => catalogue::PAUSE,
        cni => cni.to_string_lossy(),
        snapshotter => snapshotter(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), &folder),
        cgroup => cgroups::root_of(&node.name),
        pki => layout.pki().to_string_lossy(),
        dns => DNS_SERVICE.to_string(),
    };
    for (template, at) in [
        (include_str!("../../manifests/cni.conflist"), folder.join("cni/conf/10-lab.conflist")),
        (include_str!("../../manifests/containerd.toml"), folder.join("containerd.toml")),
        (include_str!("../../manifests/kubelet.yaml"), folder.join("kubelet.yaml")),
    ] {
        layout::write(&at, api::render(template, values.clone())?.as_bytes(), false)?;
    }
    Ok(())
}

/// Starts containerd and waits until it answers.
pub async fn ensure_runtime(layout: &Layout, node: &NodeNetwork) -> Result<()> {
    let name = format!("containerd-{}", node.name);
    let folder = layout.node(&node.name);
    if process::running(layout, &name).is_none() && process::in_netns(&node.netns).is_empty() {
        // A first start after an untidy end: the containers in its books are
        // gone, and only the images were worth keeping.
        if !folder.join("tidy").exists() {
            layout::remove(&folder.join("containerd"))?;
        }
        layout::remove(&folder.join("cni/leases"))?;
    }
    layout::remove(&folder.join("tidy"))?;
    let daemon = Daemon {
        name: name.clone(),
        netns: Some(node.netns.clone()),
        program: find("containerd").unwrap_or_else(|| "containerd".into()),
        args: vec!["--config".into(), folder.join("containerd.toml").display().to_string()],
    };
    process::ensure(layout, &daemon)?;
    let socket = layout.containerd_socket(&node.name).display().to_string();
    process::wait_for(layout, "containerd", &[&name], Duration::from_secs(30), || {
        let args = ["-a".to_owned(), socket.clone(), "version".to_owned()];
        async move { run_async("ctr", &args).await.is_ok() }
    })
    .await
}

/// Starts the kubelet and kube-proxy.
pub fn ensure_agents(layout: &Layout, binaries: &Binaries, node: &NodeNetwork) -> Result<()> {
    let folder = layout.node(&node.name);
    let pki = layout.pki();
    let kubelet = vec![
        format!("--config={}", folder.join("kubelet.yaml").display()),
        format!("--kubeconfig={}", pki.join(format!("{}.kubeconfig", node.name)).display()),
        format!("--root-dir={}", folder.join("kubelet").display()),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={}", node.address),
        "--node-labels=topology.kubernetes.io/region=local,topology.kubernetes.io/zone=local-a".into(),
    ];
    let mut proxy = vec![
        format!("--kubeconfig={}", pki.join("proxy.kubeconfig").display()),
        format!("--hostname-override={}", node.name),
        format!("--cluster-cidr={POD_RANGE}"),
        "--proxy-mode=iptables".into(),
        // New Services answer at once; the lab has few.
        "--iptables-min-sync-period=50ms".into(),
        // These are the machine's, not the namespace's.
        "--conntrack-max-per-core=0".into(),
        "--conntrack-tcp-timeout-established=0s".into(),
        "--conntrack-tcp-timeout-close-wait=0s".into(),
    ];
    if !network::bridge_filters() {
        proxy.push("--masquerade-all".into());
    }
    for (part, program, args) in [("kubelet", "kubelet", kubelet), ("kube-proxy", "kube-proxy", proxy)] {
        let daemon = Daemon {
            name: format!("{part}-{}", node.name),
            netns: Some(node.netns.clone()),
            program: binaries.path(program)?.to_path_buf(),
            args,
        };
        process::ensure(layout, &daemon)?;
    }
    Ok(())
}

/// Forgets the containers but keeps the images, so that the next start need
/// not load them again. Only worth trying: without it the store is made anew.
pub fn tidy(layout: &Layout, node: &str) -> Result<()> {
    let socket = layout.containerd_socket(node).display().to_string();
    let ctr = |args: &[&str]| {
        let mut all = vec!["-a", socket.as_str(), "-n", "k8s.io"];
        all.extend(args);
        run("ctr", &all)
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        let containers = ctr(&["containers", "ls", "-q"])?;
        let ids: Vec<&str> = containers.split_whitespace().collect();
        if ids.is_empty() {
            break;
        }
        // Those whose shim is not buried yet refuse; the next round takes them.
        for remove in [["tasks", "rm", "-f"].as_slice(), &["containers", "rm"]] {
            let mut args = remove.to_vec();
            args.extend(&ids);
            let _ = ctr(&args);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    if ctr(&["containers", "ls", "-q"])?.trim().is_empty() {
        layout::write(&layout.node(node).join("tidy"), b"", false)?;
    }
    Ok(())
}

/// Sockets of the nodes' shims, which outlive a killed shim as files.
pub fn shim_sockets() -> BTreeSet<std::path::PathBuf> {
    let mut sockets = BTreeSet::new();
    for node in fs::read_dir(RUN).into_iter().flatten().flatten() {
        let tasks = node.path().join("containerd/io.containerd.runtime.v2.task/k8s.io");
        for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
            let address = fs::read_to_string(task.path().join("address")).unwrap_or_default();
            if let Some(path) = address.trim().strip_prefix("unix://") {
                sockets.insert(path.into());
            }
        }
    }
    sockets
}

/// overlayfs cannot lie on top of itself, as in many containers.
fn snapshotter(mounts: &str, folder: &Path) -> &'static str {
    let kind = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
            folder.starts_with(at).then_some((at.len(), kind))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind);
    if kind == Some("overlay") { "native" } else { "overlayfs" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshotter_suits_the_file_system() {
        let mounts = "overlay / overlay rw 0 0\n/dev/vda /srv ext4 rw 0 0\n";
        for (folder, expected) in [("/srv/.lab/nodes/lab-1", "overlayfs"), ("/home/.lab", "native")] {
            assert_eq!(snapshotter(mounts, Path::new(folder)), expected);
        }
    }
}
