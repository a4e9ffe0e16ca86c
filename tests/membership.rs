//! The end of memberships, whatever happens meanwhile: what the plane made in the member goes, and nothing else.
//!
//! Needs `etcd` and `kube-apiserver` in `AIRDOCK_TEST_BIN` (`.lab/bin` when unset).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use airdock::api::MemberClusterJoin;
use airdock::controllers::member::{self, plan, validate::LocalEndpoints};
use airdock::karmada::{CLUSTER_NAMESPACE, Cluster};
use harness::crash::{FaultInjector, Moment};
use harness::operator::Operator;
use harness::{ApiServer, eventually, objects, servers};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// The member `one` of the instance `fleet`, joined by the kubeconfig of a Secret.
fn join(secret: &str, when_deleted: &str) -> Value {
    json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin", "metadata": {"name": "one", "namespace": "team"},
        "spec": {
            "instanceRef": {"name": "fleet"}, "clusterName": "one", "kubeconfigSecretRef": {"name": secret},
            "deletion": {"policy": when_deleted},
        },
    })
}

async fn until_registered(clusters: &Api<Cluster>) {
    eventually("the member is registered", SOON, async || {
        clusters.get_opt("one").await.unwrap().map(|_| ()).ok_or_else(|| "no Cluster".to_owned())
    })
    .await;
}

async fn until_left(joins: &Api<MemberClusterJoin>, what: &str) {
    eventually(what, SOON, async || match joins.get_opt("one").await.unwrap() {
        None => Ok(()),
        Some(join) => Err(format!("{:?}", join.status)),
    })
    .await;
}

/// Annotations by which a plane's objects in members are told.
type Mark = fn(plane: &str) -> Value;

/// A ConfigMap with a plane's marks, which speak of the ConfigMap `of`.
async fn marked(member: &Client, name: &str, of: &str, mark: Value, finalizers: &[&str]) {
    let mut annotations = mark;
    annotations["resourcebinding.karmada.io/namespace"] = json!("shop");
    annotations["resourcebinding.karmada.io/name"] = json!(format!("{of}-configmap"));
    objects::apply(
        member,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name, "namespace": "shop", "finalizers": finalizers,
                "labels": {"karmada.io/managed": "true"}, "annotations": annotations,
            },
        }),
    )
    .await;
}

fn operator(host: &ApiServer, crash: &Arc<FaultInjector>) -> Operator {
    Operator::start(host, crash, |context| {
        tokio::spawn(member::run_with(context, LocalEndpoints::Loopback));
    })
}

#[tokio::test]
async fn what_a_compact_plane_made_in_a_member_goes_with_its_namespace() {
    let mark: Mark = |plane| json!({"airdock.dev/plane": plane});
    goes_with_its_namespace(json!({}), mark, &json!({"airdock.dev/plane": "another-plane"})).await;
}

#[tokio::test]
async fn what_upstreams_components_made_in_a_member_goes_with_its_namespace() {
    let mark: Mark = |_| json!({"work.karmada.io/namespace": "karmada-es-one", "work.karmada.io/name": "x"});
    let spec = json!({"profile": "Full", "crds": {"source": {"configMapRef": {"name": "bundle"}}}});
    goes_with_its_namespace(spec, mark, &json!({"work.karmada.io/namespace": "karmada-es-two"})).await;
}

/// The operator dies in the midst: what it knew of the member is in the Secret alone, which is being deleted, too.
async fn goes_with_its_namespace(instance: Value, mark: Mark, foreign: &Value) {
    let (_etcd, servers) = servers(["host", "plane", "member"]).await;
    let [host_server, plane_server, member_server] = &servers;
    let (host, plane, member) = (host_server.client(), plane_server.client(), member_server.client());
    objects::define(&host, &airdock::cli::crds::definitions()).await;
    objects::define(&plane, &airdock::karmada::definitions()).await;
    objects::ready_instance(&host, "team", "fleet", instance, &plane_server.kubeconfig()).await;
    objects::kubeconfig_secret(&host, "team", "one", json!({}), &member_server.kubeconfig()).await;

    let first = operator(host_server, &Arc::new(FaultInjector::never()));
    objects::apply(&host, join("one", "Unjoin")).await;
    let joins = Api::<MemberClusterJoin>::namespaced(host.clone(), "team");
    let join = joins.get("one").await.unwrap();
    objects::issue_tokens(&member, &join).await;
    let clusters = Api::<Cluster>::all(plane.clone());
    until_registered(&clusters).await;

    let id = Api::<Namespace>::all(plane).get("kube-system").await.unwrap().uid().unwrap();
    objects::namespace(&member, "shop").await;
    marked(&member, "ours", "ours", mark(&id), &[]).await;
    marked(&member, "held", "held", mark(&id), &["example.com/hold"]).await;
    marked(&member, "theirs", "theirs", foreign.clone(), &[]).await;
    marked(&member, "restored", "ours", mark(&id), &[]).await;

    // As the namespace goes: Secrets and instance at once, and nothing in any order.
    objects::delete(&host, "v1", "Namespace", "", "team").await;
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

    let secrets = Api::<Secret>::namespaced(host.clone(), "team");
    let secret = secrets.get("one").await.unwrap();
    assert!(secret.metadata.deletion_timestamp.is_some() && secret.finalizers() == [member::credential::FINALIZER]);
    first.kill();
    let second = operator(host_server, &Arc::new(FaultInjector::never()));
    objects::merge(&member, "v1", "ConfigMap", "shop", "held", json!({"metadata": {"finalizers": null}})).await;
    until_left(&joins, "the membership is gone").await;
    assert!(maps.get_opt("held").await.unwrap().is_none());
    assert!(maps.get_opt("theirs").await.unwrap().is_some(), "another plane's object stays");
    assert!(maps.get_opt("restored").await.unwrap().is_some(), "a copy stays that somebody made there");
    assert!(accounts.get_opt(&plan::identity_name(&join)).await.unwrap().is_none());
    assert!(secrets.get_opt("one").await.unwrap().is_none(), "the kubeconfig is not held any longer");
    second.kill();
}

/// Whoever replaces a kubeconfig by deleting and creating it waits for nobody.
#[tokio::test]
async fn a_kubeconfig_that_is_deleted_alone_goes_at_once() {
    let (_etcd, servers) = servers(["host", "member"]).await;
    let [host_server, member_server] = &servers;
    let host = host_server.client();
    let crds = [airdock::cli::crds::definitions(), airdock::karmada::definitions()].concat();
    objects::define(&host, &crds).await;
    objects::ready_instance(&host, "team", "fleet", json!({}), &host_server.kubeconfig()).await;
    for secret in ["one", "two"] {
        objects::kubeconfig_secret(&host, "team", secret, json!({}), &member_server.kubeconfig()).await;
    }
    let operator = operator(host_server, &Arc::new(FaultInjector::never()));
    let secrets = Api::<Secret>::namespaced(host.clone(), "team");
    let until_held = async |name: &str, want: bool| {
        eventually(&format!("Secret {name} held: {want}"), SOON, async || {
            let held = secrets.get(name).await.unwrap().finalizers() == [member::credential::FINALIZER];
            if held == want { Ok(()) } else { Err(String::new()) }
        })
        .await;
    };
    objects::apply(&host, join("one", "Unjoin")).await;
    until_held("one", true).await;
    // Another one is named, and the first is free.
    let joins = Api::<MemberClusterJoin>::namespaced(host.clone(), "team");
    objects::issue_tokens(&member_server.client(), &joins.get("one").await.unwrap()).await;
    objects::apply(&host, join("two", "Unjoin")).await;
    until_held("two", true).await;
    until_held("one", false).await;
    // It is deleted, and nothing else is.
    objects::delete(&host, "v1", "Secret", "team", "two").await;
    eventually("Secret two is gone", SOON, async || match secrets.get_opt("two").await.unwrap() {
        None => Ok(()),
        Some(secret) => Err(format!("{:?}", secret.metadata)),
    })
    .await;
    operator.kill();
}

/// A `Work` that carries what nobody here can read is told to leave its objects as any other.
#[tokio::test]
async fn a_work_that_cannot_be_read_keeps_its_objects_where_they_are_to_stay() {
    let (_etcd, servers) = servers(["host", "member"]).await;
    let [host_server, member_server] = &servers;
    let (host, member) = (host_server.client(), member_server.client());
    let work: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "works.work.karmada.io"},
        "spec": {
            "group": "work.karmada.io", "scope": "Namespaced",
            "names": {"kind": "Work", "plural": "works", "singular": "work"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    }))
    .unwrap();
    let crds = [airdock::cli::crds::definitions(), airdock::karmada::definitions(), vec![work]].concat();
    objects::define(&host, &crds).await;
    let spec = json!({"profile": "Full", "crds": {"source": {"configMapRef": {"name": "bundle"}}}});
    objects::ready_instance(&host, "team", "fleet", spec, &host_server.kubeconfig()).await;
    objects::kubeconfig_secret(&host, "team", "one", json!({}), &member_server.kubeconfig()).await;
    let operator = operator(host_server, &Arc::new(FaultInjector::never()));
    objects::apply(&host, join("one", "Orphan")).await;
    let joins = Api::<MemberClusterJoin>::namespaced(host.clone(), "team");
    objects::issue_tokens(&member, &joins.get("one").await.unwrap()).await;
    let clusters = Api::<Cluster>::all(host.clone());
    until_registered(&clusters).await;
    objects::namespace(&host, "karmada-es-one").await;
    let path = "/apis/work.karmada.io/v1alpha1/namespaces/karmada-es-one/works";
    let nested = format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200));
    let body = format!(
        r#"{{"apiVersion":"work.karmada.io/v1alpha1","kind":"Work","metadata":{{"name":"deep"}},
        "spec":{{"workload":{{"manifests":[{nested}]}}}}}}"#
    );
    let request = http::Request::post(path).header("content-type", "application/json");
    host.request_text(request.body(body.into_bytes()).unwrap()).await.unwrap();
    objects::delete(&host, "airdock.dev/v1alpha1", "MemberClusterJoin", "team", "one").await;
    until_left(&joins, "the membership is gone").await;
    let request = http::Request::get(format!("{path}/deep")).body(Vec::new()).unwrap();
    let work = host.request_text(request).await.unwrap();
    assert!(work.contains(r#""preserveResourcesOnDeletion":true"#), "it would take its objects along");
    operator.kill();
}

/// Kills the operator at each write of a leaving membership, before it is sent or after it was carried out by turns, and lets
/// another go on: nothing is left in member, plane and host, and nothing hangs.
#[tokio::test]
async fn killed_at_any_write_a_member_is_left_the_same() {
    let (_etcd, servers) = servers(["host", "member"]).await;
    let [host_server, member_server] = &servers;
    let (host, member) = (host_server.client(), member_server.client());
    let crds = [airdock::cli::crds::definitions(), airdock::karmada::definitions()].concat();
    objects::define(&host, &crds).await;
    objects::ready_instance(&host, "team", "fleet", json!({}), &host_server.kubeconfig()).await;
    objects::kubeconfig_secret(&host, "team", "one", json!({}), &member_server.kubeconfig()).await;
    let joins = Api::<MemberClusterJoin>::namespaced(host.clone(), "team");
    let clusters = Api::<Cluster>::all(host.clone());
    let mut k = 0;
    loop {
        k += 1;
        let first = operator(host_server, &Arc::new(FaultInjector::never()));
        objects::apply(&host, join("one", "Unjoin")).await;
        let join = joins.get("one").await.unwrap();
        objects::issue_tokens(&member, &join).await;
        until_registered(&clusters).await;
        first.kill();

        let until_gone = async || until_left(&joins, &format!("the membership is gone, killed at write {k}")).await;
        let crash = Arc::new(FaultInjector::at(k, if k % 2 == 0 { Moment::After } else { Moment::Before }));
        let second = operator(host_server, &crash);
        objects::delete(&host, "airdock.dev/v1alpha1", "MemberClusterJoin", "team", "one").await;
        let reached = tokio::select! {
            () = crash.happened() => true,
            () = until_gone() => false,
        };
        second.kill();
        let third = operator(host_server, &Arc::new(FaultInjector::never()));
        until_gone().await;
        third.kill();

        let name = plan::identity_name(&join);
        let secret = Api::<Secret>::namespaced(host.clone(), "team").get("one").await.unwrap();
        assert!(secret.finalizers().is_empty(), "the Secret is still held, killed at write {k}");
        assert!(clusters.get_opt("one").await.unwrap().is_none(), "the Cluster is left, killed at write {k}");
        for (client, kind, namespace, name) in [
            (&host, "Secret", CLUSTER_NAMESPACE, "one"),
            (&host, "Secret", CLUSTER_NAMESPACE, "one-impersonator"),
            (&member, "ServiceAccount", CLUSTER_NAMESPACE, &name),
            (&member, "Secret", CLUSTER_NAMESPACE, &name),
            (&member, "ServiceAccount", CLUSTER_NAMESPACE, plan::IMPERSONATOR),
        ] {
            let left = objects::get(client, "v1", kind, namespace, name).await;
            assert!(left.is_none(), "{kind} {name} is left, killed at write {k}");
        }
        for kind in ["ClusterRole", "ClusterRoleBinding"] {
            let left = objects::get(&member, "rbac.authorization.k8s.io/v1", kind, "", &name).await;
            assert!(left.is_none(), "{kind} {name} is left, killed at write {k}");
        }
        let namespace = objects::get(&member, "v1", "Namespace", "", CLUSTER_NAMESPACE).await.unwrap();
        assert!(namespace["metadata"]["deletionTimestamp"].is_string(), "its namespace is left, killed at write {k}");
        objects::finalize_namespace(&member, CLUSTER_NAMESPACE).await;
        if !reached {
            break;
        }
    }
    assert!(k > 8, "a member is left in more than eight writes, not {k}");
}
