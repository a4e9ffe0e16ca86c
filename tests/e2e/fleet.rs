//! One Compact instance with three members, shared by the tests that need a plane.

use airdock::api::{KarmadaInstance, MemberClusterJoin};
use kube::Client;
use kube::api::Api;

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

/// The shared instance with its members, Ready.
pub async fn fleet() -> Fleet {
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
