//! The lab as tests see it: kubeconfigs, clients, kubectl, and waiting with a reason.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use airdock::runtime::client::ClientFactory;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Held by tests that use the lab beside others, and by those that stop what the others need.
static USERS: RwLock<()> = RwLock::const_new(());

/// Uses the lab beside other tests, as long as the guard lives.
pub async fn shared() -> RwLockReadGuard<'static, ()> {
    USERS.read().await
}

/// Has the lab alone: for tests that stop or kill the operator or an engine.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    USERS.write().await
}

/// The lab's folder: `AIRDOCK_LAB_DIR`, else `.lab` in the project.
pub fn folder() -> PathBuf {
    std::env::var_os("AIRDOCK_LAB_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".lab"), PathBuf::from)
}

/// Makes TLS work; every test calls it through one of the clients.
fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client from one of the lab's kubeconfig files.
pub async fn client_of(file: &Path) -> Client {
    install_provider();
    assert!(file.exists(), "{} is missing: run `make test-e2e`, which brings the lab up", file.display());
    ClientFactory::default().trusted_file(file).await.unwrap()
}

/// The host cluster.
pub async fn host() -> Client {
    client_of(&folder().join("host.kubeconfig")).await
}

/// A member; `host` is the host cluster itself.
pub async fn member(name: &str) -> Client {
    client_of(&member_kubeconfig(name)).await
}

/// Where a member's kubeconfig is.
pub fn member_kubeconfig(name: &str) -> PathBuf {
    match name {
        "host" => folder().join("host.kubeconfig"),
        name => folder().join("members").join(format!("{name}.kubeconfig")),
    }
}

/// An instance's plane, once the lab has written its kubeconfig.
pub async fn plane(namespace: &str, name: &str) -> Client {
    let file = folder().join("instances").join(format!("{namespace}.{name}.kubeconfig"));
    eventually("the lab has written the plane's kubeconfig", 30, async || file.exists().then_some(())).await;
    client_of(&file).await
}

/// Runs the lab's kubectl against the host cluster; returns success and all output.
pub fn kubectl(args: &[&str]) -> (bool, String) {
    kubectl_with(&folder().join("host.kubeconfig"), args, None)
}

/// Runs kubectl with a kubeconfig and, when given, a manifest on its standard input.
pub fn kubectl_with(kubeconfig: &Path, args: &[&str], stdin: Option<&str>) -> (bool, String) {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = Command::new(folder().join("bin/kubectl"))
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(args)
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(text) = stdin {
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Applies a manifest to the host cluster, as users do.
pub fn apply(manifest: &str) {
    let (ok, text) = kubectl_with(&folder().join("host.kubeconfig"), &["apply", "-f", "-"], Some(manifest));
    assert!(ok, "kubectl apply failed: {text}");
}

/// Waits until `probe` gives something; fails with the reason after so many seconds.
pub async fn eventually<T>(what: &str, seconds: u64, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < until, "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Makes sure that a namespace is there.
pub async fn namespace(client: &Client, name: &str) {
    let object =
        Namespace { metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() }, ..Namespace::default() };
    Api::<Namespace>::all(client.clone())
        .patch(name, &PatchParams::apply("e2e").force(), &Patch::Apply(&object))
        .await
        .unwrap();
}

/// Deletes the ConfigMap with a bundle that an earlier run left.
pub fn forget_bundle(namespace: &str) {
    let (ok, text) = kubectl(&["-n", namespace, "delete", "configmap", "bundle", "--ignore-not-found"]);
    assert!(ok, "{text}");
}

/// Writes a Secret with a member's kubeconfig.
pub async fn kubeconfig_secret(client: &Client, namespace: &str, name: &str, kubeconfig: &str) {
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        string_data: Some([("kubeconfig".to_owned(), kubeconfig.to_owned())].into()),
        ..Secret::default()
    };
    Api::<Secret>::namespaced(client.clone(), namespace)
        .patch(name, &PatchParams::apply("e2e").force(), &Patch::Apply(&secret))
        .await
        .unwrap();
}

/// Deletes an object and waits until it is gone.
pub async fn delete<K>(api: &Api<K>, name: &str, seconds: u64)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => return,
        Err(error) => panic!("delete {name}: {error}"),
    }
    gone(api, name, seconds).await;
}

/// Waits until an object is gone.
pub async fn gone<K>(api: &Api<K>, name: &str, seconds: u64)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let kind = K::kind(&());
    let what = format!("{kind} {name} is gone");
    eventually(&what, seconds, async || api.get_opt(name).await.unwrap().is_none().then_some(())).await;
}

/// The `Ready` condition of an object, as (status, reason, message).
pub fn ready<K: Serialize>(object: &K) -> (String, String, String) {
    condition(object, "Ready").unwrap_or_default()
}

/// A condition of an object, as (status, reason, message).
pub fn condition<K: Serialize>(object: &K, type_: &str) -> Option<(String, String, String)> {
    let value = serde_json::to_value(object).unwrap();
    let found = value["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == type_)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason"), text("message")))
}

/// Waits until an object is Ready at its present generation; fails with what its condition says.
pub async fn until_ready<K>(api: &Api<K>, name: &str, seconds: u64) -> K
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let object = api.get(name).await.unwrap();
        let state = ready(&object);
        let observed = serde_json::to_value(&object).unwrap()["status"]["observedGeneration"].as_i64();
        if state.0 == "True" && observed == object.meta().generation {
            return object;
        }
        let kind = K::kind(&());
        assert!(Instant::now() < until, "{kind} {} is not Ready within {seconds} s: {state:?}", object.name_any());
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Waits until a condition of an object has this status and a message with these words.
pub async fn until_condition<K>(api: &Api<K>, name: &str, type_: &str, status: &str, words: &str, seconds: u64)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let object = api.get(name).await.unwrap();
        let state = condition(&object, type_);
        if state.as_ref().is_some_and(|(s, _, message)| s == status && message.contains(words)) {
            return;
        }
        assert!(
            Instant::now() < until,
            "{} {name}: {type_} is not {status} with {words:?} within {seconds} s but {state:?}",
            K::kind(&())
        );
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

/// Ids of the processes of this command line (binary name and subcommand) in the lab's containers.
pub fn processes(binary: &str, subcommand: &str) -> Vec<u32> {
    let wanted = [binary, subcommand];
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|id| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).take(2).collect();
            words.len() == 2 && words[0].ends_with(wanted[0].as_bytes()) && words[1] == wanted[1].as_bytes()
        })
        .filter(|id| {
            // Only those in a container of the lab.
            std::fs::read_to_string(format!("/proc/{id}/cgroup")).is_ok_and(|text| text.contains("kubepods"))
        })
        .collect()
}

/// Kills without warning.
pub fn kill_9(ids: &[u32]) {
    for id in ids {
        let status = Command::new("kill").args(["-9", &id.to_string()]).status().unwrap();
        assert!(status.success(), "kill -9 {id}");
    }
}
