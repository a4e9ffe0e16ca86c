//! The rules of Airdock's kinds, on a real API server: what is refused, when it is made and when it is changed.
//!
//! Needs `etcd` and `kube-apiserver` in `AIRDOCK_TEST_BIN` (`.lab/bin` when unset).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use harness::{objects, servers};

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("airdock.dev", "v1alpha1", kind));
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "airdock.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec})
}

/// A spec with changes, where null removes a field.
fn with(spec: &Value, change: &Value) -> Value {
    let mut spec = spec.clone();
    json_patch::merge(&mut spec, change);
    spec
}

/// A spec that is taken as it is.
fn sample(kind: &str) -> Value {
    match kind {
        "KarmadaInstance" => json!({}),
        "MemberClusterJoin" => {
            json!({"instanceRef": {"name": "fleet"}, "clusterName": "eu", "kubeconfigSecretRef": {"name": "eu"}})
        }
        "MultiCloudApp" => {
            let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}});
            json!({"instanceRef": {"name": "fleet"}, "components": [{"name": "web", "manifests": [manifest]}]})
        }
        "PermissionBinding" => {
            let ann = json!({"kind": "User", "name": "ann"});
            json!({"subjects": [ann], "role": "Viewer", "scope": {"namespaces": ["hello"]}})
        }
        other => panic!("no sample of {other}"),
    }
}

/// What of a spec is refused at all.
async fn made(client: &Client) {
    let clusters = |clusters: Value| json!({"scope": {"clusters": clusters}});
    let alone = "spec.scope.clusters.none: means no member at all";
    for (kind, change, refused) in [
        ("KarmadaInstance", json!({"profile": "Full"}), Some("spec.crds: required with profile Full")),
        ("KarmadaInstance", json!({"etcd": {"managed": {"replicas": 2}}}), Some("must be 1, 3 or 5")),
        ("KarmadaInstance", json!({"networking": {"serviceCidr": "10.0.0.0/99"}}), Some("must be a CIDR")),
        ("MultiCloudApp", json!({"differences": [{}]}), Some("give at least one of imageRegistry")),
        (
            "PermissionBinding",
            json!({"subjects": [{"kind": "User", "name": "system:admin"}]}),
            Some("belong to Kubernetes"),
        ),
        ("PermissionBinding", json!({"scope": {"namespaces": ["*", "a"]}}), Some("'*' must be the only entry")),
        ("PermissionBinding", clusters(json!({"none": true})), None),
        ("PermissionBinding", clusters(json!({"none": false, "regions": ["eu"]})), None),
        ("PermissionBinding", clusters(json!({"none": true, "clusters": ["eu"]})), Some(alone)),
        ("PermissionBinding", clusters(json!({"none": true, "labels": {"a": "b"}})), Some(alone)),
        ("PermissionBinding", clusters(json!({"none": true, "regions": ["eu"]})), Some(alone)),
        ("PermissionBinding", clusters(json!({"none": true, "zones": ["eu-a"]})), Some(alone)),
        ("PermissionBinding", clusters(json!({"none": true, "providers": ["aurora"]})), Some(alone)),
    ] {
        let object = serde_json::from_value(object(kind, &with(&sample(kind), &change))).unwrap();
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        expect(&format!("{kind} with {change}"), refused, api(client, kind).create(&dry_run, &object).await);
    }
}

/// What of a spec cannot be changed later: neither to another value, nor from absent or to absent.
async fn changed(client: &Client) {
    let fixed = Some("cannot be changed");
    let storage = |change: Value| json!({"etcd": {"managed": {"storage": change}}});
    for (kind, first, then, refused) in [
        (
            "KarmadaInstance",
            json!({}),
            json!({"profile": "Full", "crds": {"source": {"configMapRef": {"name": "c"}}}}),
            fixed,
        ),
        ("KarmadaInstance", json!({}), json!({"networking": {"serviceCidr": "10.1.0.0/16"}}), fixed),
        ("KarmadaInstance", json!({"networking": {"serviceCidr": "10.1.0.0/16"}}), json!({"networking": null}), fixed),
        ("KarmadaInstance", json!({}), json!({"etcd": {"managed": {"replicas": 3}}}), fixed),
        ("KarmadaInstance", json!({"etcd": {"managed": {"replicas": 3}}}), json!({"etcd": null}), fixed),
        ("KarmadaInstance", json!({}), storage(json!({"storageClassName": "fast"})), fixed),
        (
            "KarmadaInstance",
            storage(json!({"storageClassName": "fast"})),
            storage(json!({"storageClassName": null})),
            fixed,
        ),
        ("KarmadaInstance", storage(json!({"type": "Ephemeral"})), storage(Value::Null), fixed),
        ("KarmadaInstance", json!({}), json!({"suspend": true}), None),
        ("MemberClusterJoin", json!({}), json!({"clusterName": "us"}), fixed),
        ("MemberClusterJoin", json!({}), json!({"instanceRef": {"namespace": "other"}}), fixed),
        ("MemberClusterJoin", json!({}), json!({"mode": "Push", "region": "eu"}), None),
        ("MultiCloudApp", json!({}), json!({"namespace": "shop"}), fixed),
        ("MultiCloudApp", json!({"namespace": "shop"}), json!({"namespace": null}), fixed),
        ("MultiCloudApp", json!({"namespace": "shop"}), json!({"namespace": "store"}), fixed),
        ("MultiCloudApp", json!({"namespace": "shop"}), json!({"namespace": "shop", "suspend": true}), None),
        ("MultiCloudApp", json!({}), json!({"suspend": true}), None),
        ("MultiCloudApp", json!({}), json!({"instanceRef": {"name": "other"}}), fixed),
        ("PermissionBinding", json!({}), json!({"role": "Admin"}), None),
    ] {
        let api = api(client, kind);
        let before = serde_json::from_value(object(kind, &with(&sample(kind), &first))).unwrap();
        api.create(&PostParams::default(), &before).await.unwrap();
        let patched = api.patch("x", &PatchParams::default(), &Patch::Merge(json!({"spec": then}))).await;
        api.delete("x", &DeleteParams::default()).await.unwrap();
        expect(&format!("{kind} from {first} by {then}"), refused, patched);
    }
}

fn expect(what: &str, refused: Option<&str>, result: Result<DynamicObject, kube::Error>) {
    match (refused, result) {
        (None, Ok(_)) => {}
        (None, Err(error)) => panic!("{what}: {error}"),
        (Some(words), Ok(_)) => panic!("{what} was taken, and should not be: {words}"),
        (Some(words), Err(error)) => assert!(error.to_string().contains(words), "{what}: {error}"),
    }
}

#[tokio::test]
async fn the_api_server_refuses_what_the_rules_say() {
    let (_etcd, [server]) = servers(["rules"]).await;
    let client = server.client();
    objects::define(&client, &airdock::cli::crds::definitions()).await;
    made(&client).await;
    changed(&client).await;
}
