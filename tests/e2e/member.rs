//! Memberships: status, bad credentials and recovery, leaving.

use airdock::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp};
use airdock::karmada::Cluster;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::fleet::{self, INSTANCE, NAMESPACE};
use crate::lab;

#[tokio::test]
async fn the_status_tells_version_nodes_and_capacity() {
    let _lab = lab::shared().await;
    let fleet = fleet::fleet().await;
    let members: Api<MemberClusterJoin> = Api::namespaced(fleet.host.clone(), NAMESPACE);
    let status = lab::eventually("nodes and capacity are known", 30, async || {
        members.get("eu").await.unwrap().status.filter(|s| s.nodes.is_some() && s.cpu.is_some())
    })
    .await;
    assert_eq!(status.kubernetes_version.as_deref(), Some("v1.36.3"));
    let nodes = status.nodes.unwrap();
    assert!(nodes.total >= 1 && nodes.ready == nodes.total, "{nodes:?}");
    assert_eq!(status.nodes_ready.unwrap(), format!("{}/{}", nodes.ready, nodes.total));
    let cluster = Api::<Cluster>::all(fleet.plane.clone()).get("eu").await.unwrap();
    assert_eq!(cluster.spec.region.as_deref(), Some("eu-west"));
    assert_eq!(cluster.spec.provider.as_deref(), Some("aurora"));
    assert_eq!(cluster.labels().get("tier").map(String::as_str), Some("aurora"));
}

#[tokio::test]
async fn wrong_credentials_are_named_and_a_corrected_secret_recovers() {
    let _lab = lab::shared().await;
    let host = lab::host().await;
    let namespace = "e2e-join";
    fleet::instance(&host, namespace, "lone", "").await;
    let members: Api<MemberClusterJoin> = Api::namespaced(host.clone(), namespace);
    let good = std::fs::read_to_string(lab::member_kubeconfig("us")).unwrap();

    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: MemberClusterJoin\nmetadata: {{name: us, namespace: {namespace}}}\n\
         spec: {{instanceRef: {{name: lone}}, clusterName: us, kubeconfigSecretRef: {{name: creds}}}}\n"
    ));
    lab::until_condition(&members, "us", "Ready", "False", "creds", 20).await;
    let unreachable = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n\
        clusters: [{name: c, cluster: {server: 'https://198.19.255.254:6443'}}]\nusers: [{name: u, user: {token: x}}]\n";
    lab::kubeconfig_secret(&host, namespace, "creds", unreachable).await;
    lab::until_condition(&members, "us", "Ready", "False", "198.19.255.254", 40).await;
    let exec = unreachable.replace("{token: x}", "{exec: {command: sh}}");
    lab::kubeconfig_secret(&host, namespace, "creds", &exec).await;
    lab::until_condition(&members, "us", "Stalled", "True", "exec", 40).await;
    lab::kubeconfig_secret(&host, namespace, "creds", &good).await;
    lab::until_ready(&members, "us", 60).await;

    // A second join of the same cluster, and of the same name, are refused.
    lab::kubeconfig_secret(&host, namespace, "creds2", &good).await;
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: MemberClusterJoin\nmetadata: {{name: again, namespace: {namespace}}}\n\
         spec: {{instanceRef: {{name: lone}}, clusterName: again, kubeconfigSecretRef: {{name: creds2}}}}\n---\n\
         apiVersion: airdock.dev/v1alpha1\nkind: MemberClusterJoin\nmetadata: {{name: same-name, namespace: {namespace}}}\n\
         spec: {{instanceRef: {{name: lone}}, clusterName: us, kubeconfigSecretRef: {{name: creds2}}}}\n"
    ));
    lab::until_condition(&members, "again", "Ready", "False", "us", 30).await;
    lab::until_condition(&members, "same-name", "Ready", "False", "us", 30).await;
    lab::delete(&members, "again", 30).await;
    lab::delete(&members, "same-name", 30).await;
    lab::until_ready(&members, "us", 10).await;

    // Leaving cleans both sides, even when the kubeconfig went first, as when a namespace is deleted.
    let plane = lab::plane(namespace, "lone").await;
    let (ok, text) = lab::kubectl(&["-n", namespace, "delete", "secret", "creds"]);
    assert!(ok, "{text}");
    lab::until_condition(&members, "us", "Ready", "False", "creds", 20).await;
    lab::delete(&members, "us", 60).await;
    assert!(Api::<Cluster>::all(plane.clone()).get_opt("us").await.unwrap().is_none());
    let secrets = Api::<Secret>::namespaced(plane, "karmada-cluster").list(&ListParams::default()).await.unwrap();
    assert!(secrets.items.is_empty(), "{:?}", secrets.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
    let accounts = Api::<ServiceAccount>::all(lab::member("us").await);
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=airdock");
    let left: Vec<String> = accounts.list(&ours).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert!(!left.iter().any(|name| name.contains("lone")), "identity left in the member: {left:?}");

    // Whoever is not let in does not keep an instance from being deleted.
    let tenant = "e2e-tenant";
    lab::namespace(&host, tenant).await;
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: MultiCloudApp\nmetadata: {{name: foreign, namespace: {tenant}}}\n\
         spec: {{instanceRef: {{name: lone, namespace: {namespace}}}, components: [{{name: a, manifests: \
         [{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}}}]}}]}}\n"
    ));
    let apps: Api<MultiCloudApp> = Api::namespaced(host.clone(), tenant);
    lab::until_condition(&apps, "foreign", "Ready", "False", "allowedNamespaces", 20).await;
    lab::delete(&Api::<KarmadaInstance>::namespaced(host, namespace), "lone", 90).await;
    lab::delete(&apps, "foreign", 20).await;
}

#[tokio::test]
async fn an_unknown_instance_is_named() {
    let _lab = lab::shared().await;
    let host = lab::host().await;
    lab::namespace(&host, "e2e-unknown").await;
    lab::apply(
        "apiVersion: airdock.dev/v1alpha1\nkind: MemberClusterJoin\nmetadata: {name: x, namespace: e2e-unknown}\n\
         spec: {instanceRef: {name: nowhere}, clusterName: x, kubeconfigSecretRef: {name: x}}\n",
    );
    let members: Api<MemberClusterJoin> = Api::namespaced(host.clone(), "e2e-unknown");
    lab::until_condition(&members, "x", "Ready", "False", "nowhere", 20).await;
    lab::delete(&members, "x", 20).await;

    // Another namespace's instance needs that namespace's consent.
    fleet::fleet().await;
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: MemberClusterJoin\nmetadata: {{name: far, namespace: e2e-unknown}}\n\
         spec: {{instanceRef: {{name: {INSTANCE}, namespace: {NAMESPACE}}}, clusterName: far, kubeconfigSecretRef: {{name: x}}}}\n"
    ));
    lab::until_condition(&members, "far", "Ready", "False", "allowedNamespaces", 20).await;
    lab::delete(&members, "far", 20).await;
}
