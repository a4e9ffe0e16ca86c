//! Brings images to the nodes, skipping those that a node has already.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow};

use super::ImageSpec;
use super::assemble::{Archive, assemble};
use crate::cluster::state::{Host, State};
use crate::command::{blocking, find, run};
use crate::failure::Advice;
use crate::kubeconfig::Kubeconfig;
use crate::layout::Layout;
use crate::progress::Progress;

/// Assembles the images and loads them into every node of the host cluster.
pub async fn everywhere(
    layout: &Layout,
    state: &State,
    cache: &Path,
    specs: Vec<ImageSpec>,
    progress: &Progress,
) -> Result<()> {
    match &state.host {
        Host::Own { nodes } => {
            for number in 1..=*nodes {
                let node = crate::addresses::node(number).name;
                into_node(layout, &node, cache, specs.clone(), progress).await?;
            }
            Ok(())
        }
        Host::Existing => {
            let (layout, cache) = (layout.clone(), cache.to_path_buf());
            let progress = progress.clone();
            blocking(move || into_existing(&layout, &cache, &specs, &progress)).await
        }
    }
}

/// Loads images into one node.
pub async fn into_node(
    layout: &Layout,
    node: &str,
    cache: &Path,
    specs: Vec<ImageSpec>,
    progress: &Progress,
) -> Result<()> {
    let socket = layout.containerd_socket(node);
    let folder = cache.join("images");
    let progress = progress.clone();
    let node = node.to_owned();
    blocking(move || {
        let mut step = None;
        let present = present(&socket)?;
        for spec in specs {
            let archive = assemble(&spec, &folder)?;
            if spec.refs.iter().all(|name| present.get(name) == Some(&archive.digest)) {
                continue;
            }
            let step = step.get_or_insert_with(|| progress.step(format!("loading images into {node}")));
            step.now(spec.name());
            import(&socket, &archive)?;
        }
        if let Some(step) = step {
            step.done();
        }
        Ok(())
    })
    .await
}

fn ctr(socket: &Path, args: &[&str]) -> Result<String> {
    let socket = socket.to_string_lossy();
    let mut all = vec!["-a", &*socket, "-n", "k8s.io"];
    all.extend(args);
    run("ctr", &all)
}

fn import(socket: &Path, archive: &Archive) -> Result<()> {
    ctr(socket, &["images", "import", &archive.path.to_string_lossy()])
        .map(|_| ())
        .remedy("check the disk's free space; `airdock-lab logs` names containerd's log")
}

/// Which images a node has, and the digest of each.
fn present(socket: &Path) -> Result<BTreeMap<String, String>> {
    Ok(parse_list(&ctr(socket, &["images", "ls"])?))
}

/// Reads ctr's table: REF TYPE DIGEST SIZE …
fn parse_list(table: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, _, digest) = (words.next()?, words.next()?, words.next()?);
        digest.starts_with("sha256:").then(|| (name.to_owned(), digest.to_owned()))
    };
    table.lines().filter_map(row).collect()
}

/// kind can be fed; any other cluster pulls from registries.
fn into_existing(layout: &Layout, cache: &Path, specs: &[ImageSpec], progress: &Progress) -> Result<()> {
    let text = std::fs::read_to_string(layout.host_kubeconfig()).unwrap_or_default();
    let context = Kubeconfig::parse(&text)?.current_context().map(str::to_owned).unwrap_or_default();
    let names: Vec<&str> = specs.iter().flat_map(|s| &s.refs).map(String::as_str).collect();
    let Some(cluster) = context.strip_prefix("kind-") else {
        return Err(anyhow!("{} cannot be loaded into the cluster of context {context:?}", names.join(", "))
            .remedy("push these images to a registry that the cluster pulls from"));
    };
    if find("kind").is_none() {
        return Err(anyhow!("missing program: kind").remedy("install kind, which loads images into its clusters"));
    }
    for spec in specs {
        let step = progress.step(format!("loading {} into kind", spec.name()));
        let archive = assemble(spec, &cache.join("images"))?;
        run("kind", &["load", "image-archive", &archive.path.to_string_lossy(), "--name", cluster])?;
        step.done();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_images() {
        let table = "\
REF                     TYPE                                       DIGEST        SIZE    PLATFORMS   LABELS
lab.airdock.dev/pause:1 application/vnd.oci.image.manifest.v1+json sha256:aa11 1.2 MiB linux/amd64 io.cri=managed
sha256:bb22             application/vnd.oci.image.manifest.v1+json sha256:aa11 1.2 MiB linux/amd64 -
";
        let images = parse_list(table);
        assert_eq!(images["lab.airdock.dev/pause:1"], "sha256:aa11");
        assert!(!images.contains_key("REF"));
    }
}
