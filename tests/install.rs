//! The demo's installation of the operator completes when it is run again, whenever it was killed.
//!
//! Needs `helm`, `kubectl`, etcd and kube-apiserver.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::{Folder, eventually, files, servers};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

const NAMESPACE: &str = "airdock-system";

/// The script, with its own folder for all that it and helm write. Nothing runs pods, so helm waits until `timeout`.
fn install(folder: &Path, timeout: &str) -> Command {
    let mut command = Command::new(files::root().join("lab/install.sh"));
    let tools = files::program("helm").parent().unwrap().to_path_buf();
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(["manifests/chart", "--wait", "--timeout", timeout])
        .current_dir(files::root())
        .env("PATH", format!("{}:{path}", tools.display()))
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("AIRDOCK_LAB_DIR", folder)
        .env("HELM_CACHE_HOME", folder)
        .env("HELM_CONFIG_HOME", folder)
        .env("HELM_DATA_HOME", folder)
        .stdin(Stdio::null());
    command
}

/// Kills the script and helm, as a power cut would.
fn kill(mut script: Child) {
    let group = format!("-{}", script.id());
    assert!(Command::new("kill").args(["-9", "--", &group]).status().unwrap().success());
    script.wait().unwrap();
}

/// State of the latest release, as helm labels it.
async fn state(secrets: &Api<Secret>) -> Option<String> {
    let list = secrets.list(&ListParams::default().labels("owner=helm,name=airdock")).await.unwrap();
    let latest = list.items.iter().max_by_key(|secret| secret.name_any())?;
    latest.labels().get("status").cloned()
}

#[tokio::test]
async fn an_installation_that_was_killed_completes_when_it_is_run_again() {
    let (_etcd, [host]) = servers(["host"]).await;
    let folder = Folder::new("install");
    std::fs::write(folder.path().join("kubeconfig"), host.kubeconfig()).unwrap();
    let secrets = Api::<Secret>::namespaced(host.client(), NAMESPACE);

    for pending in ["pending-install", "pending-upgrade"] {
        let log = std::fs::File::create(folder.path().join(pending)).unwrap();
        let script =
            install(folder.path(), "10m").stdout(log.try_clone().unwrap()).stderr(log).process_group(0).spawn();
        let script = script.unwrap();
        eventually(&format!("the release is {pending}"), Duration::from_secs(60), async || {
            let state = state(&secrets).await;
            if state.as_deref() == Some(pending) { Ok(()) } else { Err(format!("{state:?}")) }
        })
        .await;
        kill(script);
        // Helm goes through all of it, and gives up at the end, as no pod becomes ready here.
        let again = install(folder.path(), "1s").output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&again.stdout), String::from_utf8_lossy(&again.stderr));
        assert!(!text.contains("in progress") && text.contains("not ready"), "after {pending}: {text}");
        assert_eq!(state(&secrets).await.as_deref(), Some("failed"), "after {pending}: {text}");
    }
}
