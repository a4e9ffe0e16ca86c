//! Every example, and the chart itself, is taken by a real API server that knows Airdock's kinds.
//!
//! Needs `etcd`, `kube-apiserver`, `kubectl` and `helm`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use harness::files::{documents, root, tool};
use harness::{ApiServer, Etcd, Folder, servers};
use serde_json::Value;

/// Kinds of others, which a bare API server does not know. Everything else must be known to it.
const FOREIGN: [&str; 3] = ["argoproj.io/", "kustomize.toolkit.fluxcd.io/", "source.toolkit.fluxcd.io/"];

/// An API server, and kubectl with an administrator's rights in it.
struct Cluster {
    kubeconfig: PathBuf,
    _folder: Folder,
    _server: ApiServer,
    _etcd: Etcd,
}

impl Cluster {
    async fn start() -> Self {
        let (etcd, [server]) = servers(["examples"]).await;
        let folder = Folder::new("kubectl");
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig()).unwrap();
        Self { kubeconfig, _folder: folder, _server: server, _etcd: etcd }
    }

    fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Output {
        let mut command = tool("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(text) = input {
            child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        }
        child.wait_with_output().unwrap()
    }

    fn must(&self, arguments: &[&str], input: Option<&str>, what: &str) {
        let output = self.kubectl(arguments, input);
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What `kubectl apply` would do, checked by the server as strictly as it can.
    fn would_take(&self, manifest: &Value, what: &str) {
        let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        self.must(&arguments, Some(&manifest.to_string()), what);
    }
}

fn documents_of(path: &Path) -> Vec<Value> {
    documents(&fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display())))
}

/// Every manifest under examples/, by folder and file name.
fn examples() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(root().join("examples")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() {
            for file in fs::read_dir(&folder).unwrap() {
                let file = file.unwrap().path();
                if file.extension().is_some_and(|e| e == "yaml") {
                    found.push(file);
                }
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_real_api_server_takes_every_example_and_the_chart() {
    let server = Cluster::start().await;
    // Client-side, as people do it.
    server.must(&["apply", "-f", "crds"], None, "crds/");
    for crd in airdock::cli::crds::definitions() {
        let name = format!("crd/{}", crd.metadata.name.unwrap());
        server.must(&["wait", "--for=condition=Established", &name, "--timeout=20s"], None, &name);
    }

    let mut seen = 0;
    let mut kinds = std::collections::BTreeSet::new();
    for file in examples() {
        for object in documents_of(&file) {
            let what = format!("{} {} in {}", object["kind"], object["metadata"]["name"], file.display());
            let version = object["apiVersion"].as_str().unwrap_or_else(|| panic!("{what}: no apiVersion"));
            if FOREIGN.iter().any(|group| version.starts_with(group)) {
                continue;
            }
            // A namespace is made, since what follows is refused without it.
            if object["kind"] == "Namespace" {
                server.must(&["apply", "-f", "-"], Some(&object.to_string()), &what);
            } else if let Some(namespace) = object["metadata"]["namespace"].as_str().filter(|n| *n == "argocd") {
                server.kubectl(&["create", "namespace", namespace], None);
            }
            server.would_take(&object, &what);
            kinds.insert(object["kind"].as_str().unwrap().to_owned());
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} objects");
    for crd in airdock::cli::crds::definitions() {
        assert!(kinds.contains(&crd.spec.names.kind), "no example has a {}", crd.spec.names.kind);
    }

    let chart: Value = documents_of(&root().join("manifests/chart/Chart.yaml")).remove(0);
    let shown = chart["annotations"]["artifacthub.io/crdsExamples"].as_str().unwrap();
    for example in serde_saphyr::from_str::<Vec<Value>>(shown).unwrap() {
        server.would_take(&example, "artifacthub.io/crdsExamples");
    }
    let rendered = tool("kubectl").args(["kustomize", "manifests/kustomize/overlays/ha"]).output().unwrap();
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    server.must(&["apply", "-f", "manifests/kustomize/base/namespace.yaml"], None, "namespace");
    let rendered = String::from_utf8(rendered.stdout).unwrap();
    server.must(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], Some(&rendered), "the operator");
}

#[test]
fn argo_cd_gets_the_health_script_for_every_kind() {
    let script = fs::read_to_string(root().join("examples/gitops-argo/health.lua")).unwrap();
    let map = documents_of(&root().join("examples/gitops-argo/argocd-cm.yaml")).remove(0);
    let mut wanted: Vec<_> = airdock::cli::crds::definitions()
        .into_iter()
        .map(|crd| format!("resource.customizations.health.{}_{}", crd.spec.group, crd.spec.names.kind))
        .collect();
    wanted.sort();
    let data = map["data"].as_object().unwrap();
    let mut found: Vec<_> = data.keys().cloned().collect();
    found.sort();
    assert_eq!(found, wanted);
    assert!(data.values().all(|text| text == script.as_str()), "argocd-cm.yaml differs from health.lua");
}

#[test]
fn the_chart_takes_the_example_values() {
    let values = "examples/ha/helm/values.yaml";
    let output = tool("helm").args(["template", "airdock", "manifests/chart", "-f", values]).output().unwrap();
    assert!(output.status.success(), "{values}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_index_names_every_example() {
    let index = fs::read_to_string(root().join("examples/README.md")).unwrap();
    for file in examples() {
        let folder = file.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        assert!(index.contains(&format!("[{folder}]({folder})")), "examples/README.md does not name {folder}");
    }
}
