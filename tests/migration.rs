//! What earlier builds left behind is read, taken over in place and brought to what is written today.
//!
//! The objects are those that builds before the mark of the owner (`airdock.dev/owner-uid`) and before the mark of the
//! plane on a membership's account wrote, with their labels, annotations, finalizers and statuses. Fields are only added to
//! the API; where what is written elsewhere has changed, a case here shows how objects come along.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs)]

mod harness;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use airdock::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp, OWNER_UID_ANNOTATION, PermissionBinding};
use airdock::controllers::app;
use airdock::controllers::member::plan::{self, Membership, Rights};
use airdock::controllers::member::{self, validate::LocalEndpoints};
use airdock::engine::PLANE_ANNOTATION;
use airdock::karmada::{CLUSTER_NAMESPACE, Cluster, OverridePolicy, PropagationPolicy};
use airdock::runtime::planes::InstanceKey;
use harness::crash::FaultInjector;
use harness::operator::Operator;
use harness::{eventually, objects, servers};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, DeleteParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(40);

/// An object read as its type has the same fields when it is written.
fn keeps<K: DeserializeOwned + Serialize>(object: Value) {
    let read: K = serde_json::from_value(object.clone()).unwrap();
    let written = serde_json::to_value(read).unwrap();
    assert_within(&object, &written, "");
}

/// Everything of `part` is in `whole`; defaults may come on top.
fn assert_within(part: &Value, whole: &Value, path: &str) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part.iter().for_each(|(field, value)| {
            let path = format!("{path}.{field}");
            assert_within(value, whole.get(field).unwrap_or_else(|| panic!("{path} is lost")), &path);
        }),
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => {
            part.iter().zip(whole).for_each(|(part, whole)| assert_within(part, whole, path));
        }
        _ => assert_eq!(part, whole, "{path}"),
    }
}

fn ready(reason: &str) -> Value {
    json!([{"type": "Ready", "status": "True", "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

#[test]
fn statuses_of_all_kinds_are_read_and_kept() {
    let of = |kind: &str, spec: Value, status: Value| {
        json!({"apiVersion": "airdock.dev/v1alpha1", "kind": kind, "metadata": {"name": "x", "namespace": "fleet"},
               "spec": spec, "status": status})
    };
    let entry = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "shop", "name": "one", "uid": "u"});
    let amount = json!({"allocatable": "4", "allocated": "1"});
    keeps::<KarmadaInstance>(of(
        "KarmadaInstance",
        json!({"profile": "Compact", "etcd": {"managed": {"replicas": 3}}, "tenancy": {"allowedNamespaces": ["team"]}}),
        json!({"observedGeneration": 1, "phase": "Running", "version": "0.1.0", "kubernetesVersion": "v1.36.3",
            "endpoint": "https://x-apiserver.fleet.svc:5443", "adminKubeconfigSecretRef": {"name": "x-admin-kubeconfig"},
            "components": [{"name": "etcd", "ready": 1, "desired": 1, "version": "3.6"}],
            "certificates": [{"name": "apiserver", "secretName": "x-apiserver", "notAfter": "2027-01-01T00:00:00Z"}],
            "overview": {"clustersReady": "1/1", "clusters": {"ready": 1, "total": 1}, "nodes": {"ready": 1, "total": 1},
                "cpu": amount, "memory": amount, "pods": amount, "bindings": {"ready": 1, "total": 1}},
            "conditions": ready("Running")}),
    ));
    keeps::<MemberClusterJoin>(of(
        "MemberClusterJoin",
        json!({"instanceRef": {"name": "east"}, "clusterName": "eu", "kubeconfigSecretRef": {"name": "eu"},
               "taints": [{"key": "gpu", "effect": "NoSchedule"}], "deletion": {"policy": "Orphan", "forceAfterSeconds": 9}}),
        json!({"observedGeneration": 1, "clusterID": "id", "kubernetesVersion": "v1.36.3", "conditions": ready("Joined")}),
    ));
    keeps::<MultiCloudApp>(of(
        "MultiCloudApp",
        app_spec(),
        json!({"observedGeneration": 1, "inventory": [entry],
        "conditions": ready("Running")}),
    ));
    keeps::<PermissionBinding>(of(
        "PermissionBinding",
        json!({"subjects": [{"kind": "User", "name": "ann"}], "role": "Viewer",
               "scope": {"namespaces": ["shop"], "clusters": {"clusters": ["eu"]}}}),
        json!({"observedGeneration": 1, "targetsSynced": "1/1",
            "targets": [{"instance": "fleet/east", "cluster": "eu", "synced": true}],
            "inventory": [{"namespace": "fleet", "name": "east", "objects": [entry]}], "conditions": ready("Synced")}),
    ));
}

fn app_spec() -> Value {
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
                 "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}},
    });
    let colours = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "colours"}, "data": {"a": "b"}});
    json!({"instanceRef": {"name": "east"}, "namespace": "shop", "differences": [{"match": {"clusters": ["eu"]}, "replicas": 3}],
           "components": [{"name": "all", "manifests": [web, colours]}]})
}

/// Everything of an application in its plane, as it was written: known by labels, and stamped.
async fn write_application(plane: &Client) {
    let labels = json!({"airdock.dev/app": "shop", "airdock.dev/app-namespace": "fleet",
        "app.kubernetes.io/managed-by": "airdock"});
    let mut of_component = labels.clone();
    of_component["airdock.dev/component"] = json!("all");
    let object = |api_version: &str, kind: &str, name: &str, labels: &Value, more: Value| {
        let metadata = json!({"name": name, "namespace": "shop", "labels": labels,
            "annotations": {"airdock.dev/applied": "0123456789abcdef"}});
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let selector = |api_version: &str, kind: &str, name: &str| json!({"apiVersion": api_version, "kind": kind, "namespace": "shop", "name": name});
    let web = selector("apps/v1", "Deployment", "web");
    let policy = "policy.karmada.io/v1alpha1";
    let rules = json!([{"targetCluster": {"clusterNames": ["eu"]},
        "overriders": {"plaintext": [{"path": "/spec/replicas", "operator": "replace", "value": 3}]}}]);
    let all = [
        object(
            policy,
            "OverridePolicy",
            "shop-web-de413657",
            &of_component,
            json!({"spec": {
            "resourceSelectors": [web], "overrideRules": rules}}),
        ),
        // Of a template that has gone from the spec meanwhile.
        object(
            policy,
            "OverridePolicy",
            "shop-old-00000000",
            &of_component,
            json!({"spec": {
            "resourceSelectors": [selector("apps/v1", "Deployment", "old")], "overrideRules": rules}}),
        ),
        object(
            policy,
            "PropagationPolicy",
            "shop-959a2e59",
            &labels,
            json!({"spec": {
            "resourceSelectors": [web, selector("v1", "ConfigMap", "colours"), selector("v1", "ConfigMap", "old")],
            "placement": {"replicaScheduling": {"replicaSchedulingType": "Duplicated"}}}}),
        ),
        object("v1", "ConfigMap", "colours", &of_component, json!({"data": {"a": "b", "removed": "from the spec"}})),
        object("v1", "ConfigMap", "old", &of_component, json!({"data": {"a": "b"}})),
        object(
            "apps/v1",
            "Deployment",
            "web",
            &of_component,
            json!({"spec": app_spec()["components"][0]["manifests"][0]["spec"]}),
        ),
    ];
    objects::apply(
        plane,
        json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"app.kubernetes.io/managed-by": "airdock"}}}),
    )
    .await;
    for object in all {
        // By the field manager of then, which is that of today.
        objects::apply_as(plane, "airdock.dev/app", object).await;
    }
    for (api_version, kind, name) in [("apps/v1", "Deployment", "web"), ("v1", "ConfigMap", "colours")] {
        let binding = format!("{name}-{}", kind.to_lowercase());
        let spec = json!({"resource": selector(api_version, kind, name), "clusters": [{"name": "eu"}]});
        let (work, resource_binding) = ("work.karmada.io/v1alpha2", "ResourceBinding");
        objects::apply(
            plane,
            json!({"apiVersion": work, "kind": resource_binding,
            "metadata": {"name": binding, "namespace": "shop"}, "spec": spec}),
        )
        .await;
        let status = json!({"aggregatedStatus": [{"clusterName": "eu", "applied": true, "health": "Healthy"}]});
        objects::merge_status(plane, work, resource_binding, "shop", &binding, status).await;
    }
}

async fn uid<K>(client: &Client, namespace: &str, name: &str) -> String
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    Api::<K>::namespaced(client.clone(), namespace).get(name).await.unwrap().uid().unwrap()
}

/// The uids of what stays: were something deleted and made anew, it would have another one.
async fn kept(plane: &Client) -> Vec<String> {
    vec![
        uid::<OverridePolicy>(plane, "shop", "shop-web-de413657").await,
        uid::<PropagationPolicy>(plane, "shop", "shop-959a2e59").await,
        uid::<Deployment>(plane, "shop", "web").await,
        uid::<ConfigMap>(plane, "shop", "colours").await,
    ]
}

#[tokio::test]
async fn an_application_and_a_membership_of_an_earlier_build_are_taken_over_in_place() {
    let (_etcd, servers) = servers(["host", "plane", "member"]).await;
    let [host_server, plane_server, member_server] = &servers;
    let (host, plane, member) = (host_server.client(), plane_server.client(), member_server.client());
    objects::define(&host, &airdock::cli::crds::definitions()).await;
    objects::define(&plane, &airdock::karmada::definitions()).await;
    objects::ready_instance(&host, "fleet", "east", json!({}), &plane_server.kubeconfig()).await;

    write_application(&plane).await;
    let before = kept(&plane).await;
    objects::apply(
        &host,
        json!({"apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": "shop", "namespace": "fleet", "finalizers": ["airdock.dev/app"]}, "spec": app_spec()}),
    )
    .await;
    let entry = |api_version: &str, kind: &str, name: &str, uid: &str| json!({"apiVersion": api_version, "kind": kind, "namespace": "shop", "name": name, "uid": uid});
    let old = uid::<ConfigMap>(&plane, "shop", "old").await;
    let inventory = json!([
        entry("v1", "ConfigMap", "colours", &before[3]),
        entry("v1", "ConfigMap", "old", &old),
        entry("apps/v1", "Deployment", "web", &before[2])
    ]);
    let status = json!({"observedGeneration": 1, "inventory": inventory, "conditions": ready("Running")});
    objects::merge_status(&host, "airdock.dev/v1alpha1", "MultiCloudApp", "fleet", "shop", status).await;
    let account = write_membership(&host, &plane, &member, &member_server.kubeconfig()).await;

    let traffic = Arc::new(FaultInjector::never());
    let operator = Operator::start(host_server, &traffic, |context| {
        tokio::spawn(member::run_with(context.clone(), LocalEndpoints::Loopback));
        tokio::spawn(app::run(context));
    });
    let apps = Api::<MultiCloudApp>::namespaced(host.clone(), "fleet");
    let owner = apps.get("shop").await.unwrap().uid().unwrap();
    eventually("the application's objects bear its mark, and what it no longer has is gone", SOON, async || {
        let marks = [
            mark::<OverridePolicy>(&plane, "shop-web-de413657").await,
            mark::<PropagationPolicy>(&plane, "shop-959a2e59").await,
            mark::<Deployment>(&plane, "web").await,
            mark::<ConfigMap>(&plane, "colours").await,
        ];
        let maps = Api::<ConfigMap>::namespaced(plane.clone(), "shop");
        let old = maps.get_opt("old").await.unwrap();
        let policies = Api::<OverridePolicy>::namespaced(plane.clone(), "shop");
        let of_old = policies.get_opt("shop-old-00000000").await.unwrap();
        let is_done = marks.iter().all(|mark| mark.as_ref() == Some(&owner)) && old.is_none() && of_old.is_none();
        if is_done { Ok(()) } else { Err(format!("{marks:?}, {}, {}", old.is_some(), of_old.is_some())) }
    })
    .await;
    assert_eq!(kept(&plane).await, before, "in place");
    let colours = Api::<ConfigMap>::namespaced(plane.clone(), "shop").get("colours").await.unwrap();
    assert_eq!(
        colours.data.unwrap().into_keys().collect::<Vec<_>>(),
        ["a"],
        "fields that the spec has no more are gone"
    );

    let accounts = Api::<ServiceAccount>::namespaced(member.clone(), CLUSTER_NAMESPACE);
    let id = Api::<Namespace>::all(plane.clone()).get("kube-system").await.unwrap().uid();
    eventually("the membership's account bears the mark of the plane", SOON, async || {
        let now = accounts.get(&account.name_any()).await.unwrap();
        assert_eq!(now.uid(), account.uid(), "in place");
        let mark = now.annotations().get(PLANE_ANNOTATION);
        if mark == id.as_ref() { Ok(()) } else { Err(format!("{mark:?}")) }
    })
    .await;
    let joins = Api::<MemberClusterJoin>::namespaced(host.clone(), "fleet");
    assert!(joins.get("eu").await.unwrap().status.unwrap().cluster_id.is_some());
    let deletions: Vec<String> = traffic.writes().into_iter().filter(|write| write.starts_with("DELETE")).collect();
    assert_eq!(deletions.len(), 2, "{deletions:?}");

    apps.delete("shop", &DeleteParams::default()).await.unwrap();
    for binding in ["web-deployment", "colours-configmap"] {
        // Plays the engine, which lets go when the templates are gone.
        objects::delete(&plane, "work.karmada.io/v1alpha2", "ResourceBinding", "shop", binding).await;
    }
    eventually("it is gone, with its policies", SOON, async || {
        let policies = Api::<PropagationPolicy>::namespaced(plane.clone(), "shop");
        let left =
            (apps.get_opt("shop").await.unwrap().is_some(), policies.get_opt("shop-959a2e59").await.unwrap().is_some());
        if left == (false, false) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    operator.kill();
}

async fn mark<K>(client: &Client, name: &str) -> Option<String>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let found = Api::<K>::namespaced(client.clone(), "shop").get_opt(name).await.unwrap()?;
    found.annotations().get(OWNER_UID_ANNOTATION).cloned()
}

/// A membership as it was left: joined, with an identity in the member that bears no mark of the plane. Returns the
/// identity's account.
async fn write_membership(host: &Client, plane: &Client, member: &Client, kubeconfig: &str) -> ServiceAccount {
    objects::kubeconfig_secret(host, "fleet", "eu", json!({}), kubeconfig).await;
    objects::apply(
        host,
        json!({"apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
        "metadata": {"name": "eu", "namespace": "fleet", "finalizers": ["airdock.dev/member"]},
        "spec": {"instanceRef": {"name": "east"}, "clusterName": "eu", "kubeconfigSecretRef": {"name": "eu"}}}),
    )
    .await;
    let joins = Api::<MemberClusterJoin>::namespaced(host.clone(), "fleet");
    let join = joins.get("eu").await.unwrap();
    let id = Api::<Namespace>::all(member.clone()).get("kube-system").await.unwrap().uid().unwrap();
    let status = json!({"observedGeneration": 1, "clusterID": id, "conditions": ready("Joined")});
    objects::merge_status(host, "airdock.dev/v1alpha1", "MemberClusterJoin", "fleet", "eu", status).await;

    let labels = plan::labels(&join);
    let metadata = json!({"name": "eu", "labels": labels, "annotations": {"airdock.dev/applied": "0123456789abcdef"},
        "finalizers": ["karmada.io/cluster-controller"]});
    let (api_version, kind) = (Cluster::api_version(&()), Cluster::kind(&()));
    objects::apply_as(
        plane,
        "airdock.dev/member",
        json!({"apiVersion": api_version, "kind": kind, "metadata": metadata,
        "spec": {"id": id, "syncMode": "Push", "apiEndpoint": "https://127.0.0.1:1"}}),
    )
    .await;
    let status = json!({"conditions": ready("ClusterReady")});
    objects::merge_status(plane, &api_version, &kind, "", "eu", status).await;

    objects::namespace(member, CLUSTER_NAMESPACE).await;
    let instance = InstanceKey { namespace: "fleet".into(), name: "east".into() };
    // Without the mark, the identity is made as it was then.
    let identity = plan::identity(&join, &Membership { instance: &instance, mark: None }, Rights::Full);
    for object in [
        typed("v1", "ServiceAccount", &identity.account),
        typed("rbac.authorization.k8s.io/v1", "ClusterRole", &identity.role),
        typed("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", &identity.binding),
        typed("v1", "Secret", &identity.token),
        typed("v1", "Secret", &identity.impersonator_token),
    ] {
        objects::apply_as(member, "airdock.dev/member", object).await;
    }
    objects::issue_tokens(member, &join).await;
    Api::<ServiceAccount>::namespaced(member.clone(), CLUSTER_NAMESPACE).get(&plan::identity_name(&join)).await.unwrap()
}

fn typed(api_version: &str, kind: &str, object: &impl Serialize) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    object
}
