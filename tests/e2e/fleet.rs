//! One Compact instance with three members, shared by the tests that need a plane.

use std::path::Path;

use airdock::api::{KarmadaInstance, MemberClusterJoin};
use kube::Client;
use kube::api::Api;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::lab;

/// Namespace of the shared instance.
pub const NAMESPACE: &str = "e2e";

/// Name of the shared instance.
pub const INSTANCE: &str = "fleet";

/// The members, with region and provider.
pub const MEMBERS: [(&str, &str, &str); 3] =
    [("eu", "eu-west", "aurora"), ("us", "us-east", "borealis"), ("host", "local", "lab")];

/// What tests talk to.
pub struct Fleet {
    pub host: Client,
    pub plane: Client,
}

/// Tests that begin together bring the fleet up once.
static BRING_UP: Mutex<()> = Mutex::const_new(());

/// The shared instance with its members, Ready.
pub async fn fleet() -> Fleet {
    let _first = BRING_UP.lock().await;
    let host = lab::host().await;
    instance(&host, NAMESPACE, INSTANCE, "").await;
    for (name, region, provider) in MEMBERS {
        join(&host, NAMESPACE, INSTANCE, name, region, provider).await;
    }
    let members: Api<MemberClusterJoin> = Api::namespaced(host.clone(), NAMESPACE);
    for (name, ..) in MEMBERS {
        lab::until_ready(&members, name, 60).await;
    }
    let plane = lab::plane(NAMESPACE, INSTANCE).await;
    Fleet { host, plane }
}

/// A Compact instance, Ready; `more` is added to its spec.
pub async fn instance(host: &Client, namespace: &str, name: &str, more: &str) -> KarmadaInstance {
    lab::namespace(host, namespace).await;
    lab::apply(&manifest(namespace, name, more));
    lab::until_ready(&Api::namespaced(host.clone(), namespace), name, 120).await
}

/// The manifest of a Compact instance.
pub fn manifest(namespace: &str, name: &str, more: &str) -> String {
    format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: KarmadaInstance\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  profile: Compact\n  etcd: {{managed: {{storage: {{type: Ephemeral}}}}}}\n{more}"
    )
}

/// The release of Karmada that `KARMADA_BIN` holds: `KARMADA_VERSION`, else the one that instances have by default.
pub fn karmada_version() -> String {
    std::env::var("KARMADA_VERSION").unwrap_or_else(|_| "v1.18.2".to_owned())
}

/// The manifest of the Full instance `full`; `source` is where its definitions come from.
pub fn full_manifest(namespace: &str, source: &str) -> String {
    let version = std::env::var("KARMADA_VERSION").map(|version| format!("  version: {version}\n")).unwrap_or_default();
    format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: KarmadaInstance\nmetadata: {{name: full, namespace: {namespace}}}\n\
         spec:\n  profile: Full\n{version}  etcd: {{managed: {{storage: {{type: Ephemeral}}}}}}\n  crds: {{source: {{{source}}}}}\n"
    )
}

/// Karmada's bundle where the lab serves it, as a source with this checksum.
pub fn served_bundle(sha256: &str) -> String {
    format!("url: 'http://198.18.255.2:8099/crds.tar.gz', sha256: '{sha256}'")
}

/// Checksum of the bundle in the folder that `KARMADA_BIN` names; nothing when it names none.
pub fn bundle_sha256() -> Option<String> {
    let folder = std::env::var_os("KARMADA_BIN")?;
    let bundle = std::fs::read(Path::new(&folder).join("crds.tar.gz")).unwrap();
    Some(Sha256::digest(&bundle).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Applies a membership and the Secret that it needs.
pub async fn join(host: &Client, namespace: &str, instance: &str, member: &str, region: &str, provider: &str) {
    let kubeconfig = std::fs::read_to_string(lab::member_kubeconfig(member)).unwrap();
    lab::kubeconfig_secret(host, namespace, &format!("member-{member}"), &kubeconfig).await;
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: MemberClusterJoin\nmetadata: {{name: {member}, namespace: {namespace}}}\n\
         spec:\n  instanceRef: {{name: {instance}}}\n  clusterName: {member}\n  region: {region}\n  provider: {provider}\n  \
         labels: {{tier: {provider}}}\n  kubeconfigSecretRef: {{name: member-{member}}}\n"
    ));
}
