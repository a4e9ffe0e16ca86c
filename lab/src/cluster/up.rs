//! `airdock-lab up`: from nothing, or from whatever is left, to a host cluster.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::addresses::{self, BUNDLE_PORT, INSIDE, MAX_NODES};
use crate::cluster::state::{self, Host, State};
use crate::cluster::{api, base, control_plane, down, node};
use crate::failure::{Advice, report};
use crate::image::{assemble, catalogue, load};
use crate::kubeconfig::Kubeconfig;
use crate::layout::{self, Layout};
use crate::progress::{self, Progress};
use crate::setup::binaries::{self, Binaries};
use crate::setup::packages;
use crate::{cgroups, exporter, network, setup};

/// Brings up a host cluster of its own, or completes a running one.
pub async fn own(layout: &Layout, nodes: Option<u8>, progress: &Progress) -> Result<()> {
    if !packages::is_root() {
        return Err(anyhow!("a lab of its own needs root, for namespaces, mounts and control groups")
            .remedy("run as root (sudo -E airdock-lab up), or use a cluster you have with --kubeconfig FILE"));
    }
    cgroups::detect()?;
    let _alone = layout.lock(true)?;
    state::refuse_if_foreign(layout)?;
    let binaries = setup::everything(layout, progress)?;

    let before = State::read(layout);
    if matches!(&before, Some(State { host: Host::Existing, .. })) {
        return Err(anyhow!("this lab uses an existing cluster").remedy("airdock-lab down, then up again"));
    }
    if before.as_ref().is_some_and(|s| !s.of_this_boot()) || !network::exists() {
        // Nothing of the lab can be running; what is left would be in the way.
        down::clear_leftovers(layout)?;
        if before.is_none() {
            // What an interrupted `down` left of another cluster.
            down::forget(layout, false)?;
            layout.create()?;
            binaries.link(&layout.bin())?;
        }
    }
    let had = before.as_ref().map_or(0, |s| if let Host::Own { nodes } = s.host { nodes } else { 0 });
    let nodes = nodes.unwrap_or(had.max(1));
    if nodes == 0 || nodes > MAX_NODES {
        return Err(anyhow!("{nodes} nodes are not possible").remedy(format!("choose 1 to {MAX_NODES}")));
    }
    if nodes < had {
        return Err(anyhow!("the lab has {had} nodes, and up does not remove any")
            .remedy("airdock-lab down, then up with fewer"));
    }
    let state = State::new(Host::Own { nodes });
    state::claim(layout)?;
    state.write(layout)?;

    let step = progress.step("bringing up the host cluster");
    network::ensure_first()?;
    control_plane::credentials(layout)?;
    let places: Vec<_> = (1..=nodes).map(addresses::node).collect();
    for place in &places {
        node::prepare(layout, place)?;
    }
    let karmada = catalogue::karmada()?;

    step.now("etcd, kube-apiserver, containerd");
    let runtimes = async {
        for place in &places {
            node::ensure_runtime(layout, place).await?;
            load::into_node(layout, &place.name, binaries.cache(), catalogue::first(&binaries)?, progress).await?;
        }
        Ok(())
    };
    tokio::try_join!(control_plane::ensure(layout, &binaries), runtimes)?;

    step.now("kubelet, kube-proxy, CoreDNS");
    for place in &places {
        node::ensure_agents(layout, &binaries, place)?;
    }
    exporter::ensure(layout, &state)?;
    let client = api::client(&layout.host_kubeconfig()).await?;
    let mut others = catalogue::rest(&binaries)?;
    others.extend(karmada.iter().flat_map(|k| k.images.clone()));
    let images = load::everywhere(layout, &state, binaries.cache(), others, progress);
    let cluster = async {
        base::apply(&client).await?;
        base::settled(layout, &client, nodes).await
    };
    tokio::try_join!(images, cluster)?;
    offer_karmada(layout, &state, karmada.as_ref(), progress)?;
    step.done();
    announce(layout);
    Ok(())
}

/// Uses an existing cluster as the host.
pub async fn existing(layout: &Layout, kubeconfig: &Path, progress: &Progress) -> Result<()> {
    let _alone = layout.lock(true)?;
    if matches!(State::read(layout), Some(State { host: Host::Own { .. }, .. })) {
        return Err(anyhow!("this folder already has a lab with a cluster of its own").remedy("airdock-lab down"));
    }
    let text = std::fs::read_to_string(kubeconfig)
        .with_context(|| format!("reading {}", kubeconfig.display()))
        .remedy("name the kubeconfig of a cluster that you administer")?;
    Kubeconfig::parse(&text)?;
    let binaries = setup::programs(layout, progress)?;
    layout::write(&layout.host_kubeconfig(), text.as_bytes(), true)?;
    let client = api::client(&layout.host_kubeconfig()).await?;
    let version = client
        .apiserver_version()
        .await
        .context("asking the cluster for its version")
        .remedy(format!("check that `kubectl --kubeconfig {} version` works", kubeconfig.display()))?;
    let state = State::new(Host::Existing);
    state.write(layout)?;
    let karmada = catalogue::karmada()?;
    if let Err(error) = feed_existing(layout, &state, &binaries, karmada.as_ref(), progress).await {
        // Most clusters pull for themselves; the names are upstream's.
        progress.say(&report(&error));
    }
    offer_karmada(layout, &state, karmada.as_ref(), progress)?;
    exporter::ensure(layout, &state)?;
    progress.say(&format!("using the cluster of {} ({})", kubeconfig.display(), version.git_version));
    announce(layout);
    Ok(())
}

async fn feed_existing(
    layout: &Layout,
    state: &State,
    binaries: &Binaries,
    karmada: Option<&catalogue::Karmada>,
    progress: &Progress,
) -> Result<()> {
    let mut specs = catalogue::rest(binaries)?;
    specs.extend(karmada.into_iter().flat_map(|k| k.images.clone()));
    load::everywhere(layout, state, binaries.cache(), specs, progress).await
}

/// Links karmadactl and puts the CRDs where the exporter serves them to a cluster of the lab's own.
fn offer_karmada(
    layout: &Layout,
    state: &State,
    karmada: Option<&catalogue::Karmada>,
    progress: &Progress,
) -> Result<()> {
    let Some(karmada) = karmada else { return Ok(()) };
    if let Some(program) = &karmada.karmadactl {
        binaries::link(program, &layout.bin().join("karmadactl"))?;
    }
    progress.say(&format!("Karmada {}: {} images", karmada.version, karmada.images.len()));
    if let Some(bundle) = &karmada.bundle {
        let content = std::fs::read(bundle).with_context(|| format!("reading {}", bundle.display()))?;
        let at = layout.bundle().join("crds.tar.gz");
        layout::write(&at, &content, false)?;
        let digest = assemble::file_digest(&at)?;
        layout::write(&layout.bundle().join("crds.tar.gz.sha256"), format!("{digest}\n").as_bytes(), false)?;
        progress.say(&match state.host {
            Host::Own { .. } => format!("CRDs: http://{INSIDE}:{BUNDLE_PORT}/crds.tar.gz sha256 {digest}"),
            // Nothing of that cluster could reach this machine; a ConfigMap takes the bundle there.
            Host::Existing => format!("CRDs: {}, for the ConfigMap of a configMapRef", at.display()),
        });
    }
    Ok(())
}

fn announce(layout: &Layout) {
    let root = layout.root().display();
    progress::print(&format!("export KUBECONFIG={root}/host.kubeconfig PATH={root}/bin:$PATH"));
}
