//! A membership whose namespace is deleted with its instance: what the plane made in the member goes, and nothing else.
//!
//! Needs `etcd` and `kube-apiserver` in `AIRDOCK_TEST_BIN` (`.lab/bin` when unset).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use airdock::api::MemberClusterJoin;
use airdock::controllers::member::{self, plan, validate::LocalEndpoints};
use airdock::karmada::{CLUSTER_NAMESPACE, Cluster};
use harness::crash::FaultInjector;
use harness::operator::Operator;
use harness::{ApiServer, Etcd, eventually, objects};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::Api;
use kube::{Client, ResourceExt};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

/// Does what the member's token controller would do.
async fn issue_tokens(member: &Client, join: &MemberClusterJoin) {
    for name in [plan::identity_name(join), plan::impersonator_token_name(join)] {
        eventually(&format!("Secret {name}"), SOON, async || {
            let found = objects::get(member, "v1", "Secret", CLUSTER_NAMESPACE, &name).await;
            found.map(|_| ()).ok_or_else(|| "is not there".to_owned())
        })
        .await;
        let data = json!({"token": objects::encoded("token"), "ca.crt": objects::encoded("ca")});
        objects::merge(member, "v1", "Secret", CLUSTER_NAMESPACE, &name, json!({ "data": data })).await;
    }
}

async fn marked(member: &Client, name: &str, plane: &str, finalizers: &[&str]) {
    objects::apply(
        member,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name, "namespace": "shop", "finalizers": finalizers,
                "labels": {"karmada.io/managed": "true"}, "annotations": {"airdock.dev/plane": plane},
            },
        }),
    )
    .await;
}

#[tokio::test]
async fn what_a_plane_made_in_a_member_goes_with_its_namespace() {
    let etcd = Etcd::start();
    let mut servers = ["host", "plane", "member"].map(|name| ApiServer::start(&etcd, name));
    for server in &mut servers {
        server.ready().await;
    }
    let [host_server, plane_server, member_server] = &servers;
    let (host, plane, member) = (host_server.client(), plane_server.client(), member_server.client());
    objects::define(&host, &airdock::cli::crds::definitions()).await;
    objects::define(&plane, &airdock::karmada::definitions()).await;
    objects::ready_instance(&host, "team", "fleet", json!({}), &plane_server.kubeconfig()).await;
    objects::kubeconfig_secret(&host, "team", "one", json!({}), &member_server.kubeconfig()).await;

    let operator = Operator::start(host_server, &Arc::new(FaultInjector::never()), |context| {
        tokio::spawn(member::run_with(context, LocalEndpoints::Loopback));
    });
    objects::apply(
        &host,
        json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
            "metadata": {"name": "one", "namespace": "team"},
            "spec": {
                "instanceRef": {"name": "fleet"}, "clusterName": "one", "kubeconfigSecretRef": {"name": "one"},
            },
        }),
    )
    .await;
    let joins = Api::<MemberClusterJoin>::namespaced(host.clone(), "team");
    let join = joins.get("one").await.unwrap();
    issue_tokens(&member, &join).await;
    let clusters = Api::<Cluster>::all(plane.clone());
    eventually("the member is registered", SOON, async || {
        clusters.get_opt("one").await.unwrap().map(|_| ()).ok_or_else(|| "no Cluster".to_owned())
    })
    .await;

    let id = Api::<Namespace>::all(plane).get("kube-system").await.unwrap().uid().unwrap();
    objects::namespace(&member, "shop").await;
    marked(&member, "ours", &id, &[]).await;
    marked(&member, "held", &id, &["example.com/hold"]).await;
    marked(&member, "theirs", "another-plane", &[]).await;

    // As the namespace goes: Secrets and instance at once, and nothing in any order.
    for (kind, api_version, name) in [
        ("Secret", "v1", "one"),
        ("Secret", "v1", "fleet-operator-kubeconfig"),
        ("KarmadaInstance", "airdock.dev/v1alpha1", "fleet"),
        ("MemberClusterJoin", "airdock.dev/v1alpha1", "one"),
    ] {
        objects::delete(&host, api_version, kind, "team", name).await;
    }
    let maps = Api::<ConfigMap>::namespaced(member.clone(), "shop");
    eventually("it is named what remains", SOON, async || {
        let status = joins.get("one").await.unwrap().status.unwrap_or_default();
        let named = status.conditions.iter().any(|condition| {
            condition.reason == "RemovingApplications" && condition.message.contains("ConfigMap shop/held")
        });
        if named { Ok(()) } else { Err(format!("{:?}", status.conditions)) }
    })
    .await;
    assert!(maps.get_opt("ours").await.unwrap().is_none());
    let accounts = Api::<ServiceAccount>::namespaced(member.clone(), CLUSTER_NAMESPACE);
    assert!(accounts.get_opt(&plan::identity_name(&join)).await.unwrap().is_some(), "the mark is needed until the end");

    objects::merge(&member, "v1", "ConfigMap", "shop", "held", json!({"metadata": {"finalizers": null}})).await;
    eventually("the membership is gone", SOON, async || match joins.get_opt("one").await.unwrap() {
        None => Ok(()),
        Some(join) => Err(format!("{:?}", join.status)),
    })
    .await;
    assert!(maps.get_opt("held").await.unwrap().is_none());
    assert!(maps.get_opt("theirs").await.unwrap().is_some(), "another plane's object stays");
    assert!(accounts.get_opt(&plan::identity_name(&join)).await.unwrap().is_none());
    drop(operator);
}
