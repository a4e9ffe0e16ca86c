//! Karmada's API as a Compact plane serves it: a real API server refuses by name what the engine does not carry out, and
//! takes everything else.
//!
//! Needs `etcd` and `kube-apiserver`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use std::time::Duration;

use airdock::api::KarmadaInstance;
use airdock::chart::Manifest;
use airdock::instance;
use airdock::karmada::compatibility::{self, Field, Kind, Neutral, Shape, Support};
use airdock::karmada::{
    self, CLUSTER_POLICY_PERMANENT_ID_LABEL, POLICY_FINALIZERS, POLICY_NAME_ANNOTATION, POLICY_PERMANENT_ID_LABEL,
};
use harness::{ApiServer, Etcd, eventually, objects, servers};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{Client, Resource as _};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// The engine's user, and the name of its role.
const ENGINE: &str = "airdock:engine";

/// What an eviction in a plane is answered.
const NO_PODS: &str = "this plane runs no pods";

struct Plane {
    client: Client,
    _server: ApiServer,
    _etcd: Etcd,
}

impl Plane {
    async fn start(definitions: &[CustomResourceDefinition]) -> Self {
        let (etcd, [server]) = servers(["compact"]).await;
        let client = server.client();
        objects::define(&client, definitions).await;
        objects::namespace(&client, "shop").await;
        Self { client, _server: server, _etcd: etcd }
    }

    /// Asks the API server what it thinks of creating an object, strictly, and whether it would be stored as it was sent.
    async fn would_create(&self, object: &Value) -> Result<Value, String> {
        self.send("POST", &collection(object), "&dryRun=All&fieldValidation=Strict", object).await
    }

    async fn create(&self, object: &Value) -> Result<Value, String> {
        self.send("POST", &collection(object), "", object).await
    }

    async fn send(&self, method: &str, path: &str, query: &str, body: &Value) -> Result<Value, String> {
        let request = http::Request::builder().method(method).uri(format!("{path}?fieldManager=test{query}"));
        let request = request.header("Content-Type", "application/json").body(body.to_string().into_bytes()).unwrap();
        let answer = self.client.request_text(request).await;
        answer.map(|text| serde_json::from_str(&text).unwrap()).map_err(|error| error.to_string())
    }

    /// Applies what a Compact plane has beside the definitions, as far as it is about admission.
    async fn admit(&self) {
        for manifest in admission() {
            objects::apply(&self.client, manifest.to_value().unwrap()).await;
        }
        // The API server reads them from a watch of its own.
        eventually("admission policies are enforced", SOON, async || {
            let foreign = policy(json!({"resourceSelectors": [selector(Some("elsewhere"))]}));
            let protected = self.protected("probe", "Always");
            let _ = self.create(&protected).await;
            let deleted = self.delete(&protected, true).await;
            // Each policy comes into force on its own; one that is not there yet finds no such pod.
            let evicted = self.evict("nobody").await;
            let mut identified = policy(json!({}));
            identified["metadata"]["name"] = json!("probe");
            identified["metadata"]["labels"] = json!({POLICY_PERMANENT_ID_LABEL: "i"});
            let _ = self.create(&identified).await;
            let other_id = json!({"metadata": {"labels": {POLICY_PERMANENT_ID_LABEL: "j"}}});
            let renamed = self.patch_with(&identified, other_id, true).await;
            let refused = [
                self.would_create(&foreign).await.is_err(),
                deleted.is_err(),
                evicted.contains(NO_PODS),
                renamed.is_err(),
            ];
            if refused == [true; 4] { Ok(()) } else { Err(format!("refused: {refused:?}")) }
        })
        .await;
    }

    fn protected(&self, name: &str, value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop",
            "labels": {"resourcetemplate.karmada.io/deletion-protected": value}}})
    }

    async fn delete(&self, object: &Value, dry_run: bool) -> Result<(), String> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let api = objects::api(&self.client, text("/apiVersion"), text("/kind"), text("/metadata/namespace"));
        let params = DeleteParams { dry_run, ..DeleteParams::default() };
        api.delete(text("/metadata/name"), &params).await.map(drop).map_err(|error| error.to_string())
    }

    /// Why a pod is not evicted.
    async fn evict(&self, pod: &str) -> String {
        let eviction =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "shop"}});
        let request = http::Request::post(format!("/api/v1/namespaces/shop/pods/{pod}/eviction"));
        let request = request.header("content-type", "application/json").body(eviction.to_string().into_bytes());
        self.client.request_text(request.unwrap()).await.unwrap_err().to_string()
    }

    async fn patch_as_engine(&self, object: &Value, subresource: &str, patch: &Value) -> Result<Value, String> {
        let name = object["metadata"]["name"].as_str().unwrap();
        let request = http::Request::patch(format!("{}/{name}{subresource}", collection(object)))
            .header("Impersonate-User", ENGINE)
            .header("Content-Type", "application/merge-patch+json")
            .body(patch.to_string().into_bytes());
        let answer = self.client.request_text(request.unwrap()).await;
        answer.map(|text| serde_json::from_str(&text).unwrap()).map_err(|error| error.to_string())
    }

    async fn patch(&self, object: &Value, patch: Value) -> Result<Value, String> {
        self.patch_with(object, patch, false).await
    }

    async fn patch_with(&self, object: &Value, patch: Value, dry_run: bool) -> Result<Value, String> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let api = objects::api(&self.client, text("/apiVersion"), text("/kind"), text("/metadata/namespace"));
        let params = PatchParams { dry_run, ..PatchParams::default() };
        let patched = api.patch(text("/metadata/name"), &params, &Patch::Merge(&patch)).await;
        patched.map(|object| serde_json::to_value(object).unwrap()).map_err(|error| error.to_string())
    }
}

fn collection(object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (api_version, namespace) = (text("/apiVersion"), text("/metadata/namespace"));
    let root = if api_version.contains('/') { "/apis" } else { "/api" };
    let plural = objects::resource(api_version, text("/kind")).plural;
    match namespace {
        "" => format!("{root}/{api_version}/{plural}"),
        namespace => format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
    }
}

/// What a Compact instance's plane gets.
fn plane_manifests() -> Vec<Manifest> {
    let instance: KarmadaInstance = serde_json::from_value(json!({
        "apiVersion": KarmadaInstance::api_version(&()), "kind": KarmadaInstance::kind(&()),
        "metadata": {"name": "east", "namespace": "fleet", "uid": "7d7c1a2e-0000-4000-8000-000000000001"},
        "spec": {"profile": "Compact"},
    }))
    .unwrap();
    instance::render(&instance, "airdock:test").unwrap().plane
}

/// What of that is for admission.
fn admission() -> Vec<Manifest> {
    let found: Vec<_> = plane_manifests()
        .into_iter()
        .filter(|m| matches!(m, Manifest::ValidatingAdmissionPolicy(_) | Manifest::ValidatingAdmissionPolicyBinding(_)))
        .collect();
    assert_eq!(found.len(), 8);
    found
}

fn selector(namespace: Option<&str>) -> Value {
    let mut selector = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    if let Some(namespace) = namespace {
        selector["namespace"] = json!(namespace);
    }
    selector
}

fn policy(spec: Value) -> Value {
    let mut all = json!({"resourceSelectors": [selector(None)]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "PropagationPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": all})
}

/// An object of a kind with no more than it needs.
fn minimal(kind: Kind, definition: &CustomResourceDefinition) -> Value {
    let spec = match kind {
        Kind::PropagationPolicy => json!({"resourceSelectors": [selector(None)]}),
        Kind::OverridePolicy => json!({}),
        Kind::ResourceBinding => json!({"resource": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}}),
        Kind::Cluster => json!({"syncMode": "Push"}),
    };
    let names = &definition.spec.names;
    let api_version = format!("{}/{}", definition.spec.group, definition.spec.versions[0].name);
    let mut object = json!({"apiVersion": api_version, "kind": names.kind, "metadata": {"name": "x"}, "spec": spec});
    if definition.spec.scope == "Namespaced" {
        object["metadata"]["namespace"] = json!("shop");
    }
    object
}

/// A value that asks for something.
fn sample(shape: Shape) -> Option<Value> {
    Some(match shape {
        Shape::Typed => return None,
        Shape::Boolean => json!(true),
        Shape::Integer | Shape::Long => json!(1),
        Shape::Text => json!("x"),
        Shape::Time => json!("2026-01-01T00:00:00Z"),
        Shape::Quantity => json!("1500m"),
        Shape::Texts => json!(["x"]),
        Shape::TextMap => json!({"x": "y"}),
        Shape::Quantities => json!({"cpu": "1"}),
        Shape::Object => json!({}),
        Shape::Objects | Shape::Affinities => json!([{}]),
    })
}

/// A value that asks for nothing.
fn neutral(field: &Field, neutral: Neutral) -> Option<Value> {
    match neutral {
        Neutral::Nothing => None,
        Neutral::False => Some(json!(false)),
        Neutral::Value(value) => Some(json!(value)),
        Neutral::Empty => Some(match field.shape {
            Shape::Text => json!(""),
            Shape::TextMap => json!({}),
            _ => json!([]),
        }),
    }
}

/// Puts a value at a path of the table.
fn put(object: &mut Value, path: &str, value: Value) {
    let place = path.split('.').fold(object, |at, segment| {
        let at = &mut at[segment.trim_end_matches("[]")];
        if segment.ends_with("[]") {
            if at.is_null() {
                *at = json!([{}]);
            }
            &mut at[0]
        } else {
            at
        }
    });
    *place = value;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_is_refused_by_name_or_accepted() {
    let plane = Plane::start(&karmada::definitions()).await;
    let (mut refused, mut accepted) = (0, 0);
    for (kind, definition) in karmada::kinds() {
        plane.would_create(&minimal(kind, &definition)).await.unwrap();
        for field in compatibility::fields(kind) {
            let what = format!("{}: {}", definition.spec.names.kind, field.path);
            let Some(value) = sample(field.shape) else { continue };
            let mut object = minimal(kind, &definition);
            if field.path.contains("taints[]") {
                object["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
            }
            let mut asking = object.clone();
            put(&mut asking, &field.path, value);
            let answer = plane.would_create(&asking).await;
            if compatibility::fate(kind, &field.path).0 == "refused" {
                let message = answer.expect_err(&what);
                // A field inside a refused one is refused with that one.
                let named = compatibility::fields(kind).iter().filter(|other| field.path.starts_with(&other.path));
                assert!(named.into_iter().any(|other| message.contains(&other.refusal())), "{what}: {message}");
                assert!(!message.contains("unknown field"), "{what}: {message}");
                refused += 1;
            } else {
                answer.unwrap_or_else(|message| panic!("{what}: {message}"));
                accepted += 1;
            }
            if let Support::Refused(harmless) = field.support
                && let Some(value) = neutral(field, harmless)
            {
                put(&mut object, &field.path, value);
                plane.would_create(&object).await.unwrap_or_else(|message| panic!("{what}: {message}"));
                accepted += 1;
            }
        }
    }
    assert!(refused > 100 && accepted > 100, "{refused} refused, {accepted} accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_from_a_full_plane_is_accepted() {
    let plane = Plane::start(&karmada::definitions()).await;
    plane.admit().await;
    let mut read_back = policy(json!({
        "resourceSelectors": [selector(Some("shop"))],
        "conflictResolution": "Abort", "preemption": "Never", "priority": 0, "schedulerName": "default-scheduler",
        "placement": {
            "clusterAffinity": {"clusterNames": ["eu"]},
            "clusterTolerations": [
                {"key": "cluster.karmada.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "cluster.karmada.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "replicaScheduling": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted"},
        },
    }));
    let id = json!({"propagationpolicy.karmada.io/permanent-id": "6c6b0b0e-0000-4000-8000-000000000001"});
    read_back["metadata"]["labels"] = id.clone();
    read_back["metadata"]["annotations"] = id;
    read_back["metadata"]["finalizers"] = json!([POLICY_FINALIZERS[0]]);
    plane.would_create(&read_back).await.unwrap();

    let overrides = json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "OverridePolicy",
        "metadata": {"name": "o", "namespace": "shop"}, "spec": {
            "resourceSelectors": [selector(Some("shop"))], "overriders": {},
            "overrideRules": [{"overriders": {"labelsOverrider": [{"operator": "add", "value": {"a": "b"}}]}}]}});
    plane.would_create(&overrides).await.unwrap();
    for (field, value) in
        [("targetCluster", json!({})), ("overriders", json!({"plaintext": [{"path": "/x", "operator": "remove"}]}))]
    {
        let mut both = overrides.clone();
        both["spec"][field] = value;
        let message = plane.would_create(&both).await.unwrap_err();
        assert!(message.contains(&format!("spec.{field}: not together with overrideRules")), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_can_be_changed_elsewhere_and_deleted() {
    let definitions = karmada::definitions();
    let plane = Plane::start(&definitions.iter().map(objects::without_rules).collect::<Vec<_>>()).await;
    let spec = json!({"suspension": {"dispatching": true}, "dependentOverrides": ["o"], "preemption": "Always",
        "placement": {"spreadConstraints": [{"spreadByField": "cluster", "maxGroups": 1}]},
        "failover": {"application": {"purgeMode": "Never"}}});
    let stored = plane.create(&policy(spec.clone())).await.unwrap();
    let api = Api::<CustomResourceDefinition>::all(plane.client.clone());
    for definition in &definitions {
        let name = definition.metadata.name.as_deref().unwrap();
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(definition)).await.unwrap();
    }
    eventually("the rules count", SOON, async || match plane.would_create(&policy(spec.clone())).await {
        Ok(_) => Err("still accepted".to_owned()),
        Err(message) => Ok(message),
    })
    .await;

    // Metadata, and other fields beside and above.
    plane.patch(&stored, json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/x"]}})).await.unwrap();
    plane.patch(&stored, json!({"spec": {"priority": 7}})).await.unwrap();
    plane.patch(&stored, json!({"spec": {"placement": {"clusterAffinity": {"clusterNames": ["eu"]}}}})).await.unwrap();
    // What changes is looked at again.
    for (change, field) in [
        (json!({"dependentOverrides": ["o", "p"]}), "spec.dependentOverrides"),
        (
            json!({"placement": {"spreadConstraints": [{"spreadByField": "cluster", "maxGroups": 2}]}}),
            "spec.placement.spreadConstraints",
        ),
        (json!({"failover": {"application": {"purgeMode": "Directly"}}}), "spec.failover.application"),
        (json!({"propagateDeps": true}), "spec.propagateDeps"),
    ] {
        let message = plane.patch(&stored, json!({"spec": change})).await.unwrap_err();
        assert!(message.contains(&format!("does not carry out {field}:")), "{message}");
        assert!(message.contains(&format!("{field}: ")), "the path is in the answer: {message}");
    }
    plane.patch(&stored, json!({"spec": {"suspension": null, "preemption": "Never"}})).await.unwrap();
    plane.delete(&stored, false).await.unwrap();
    plane.patch(&stored, json!({"metadata": {"finalizers": null}})).await.unwrap();
    assert!(
        objects::get(&plane.client, "policy.karmada.io/v1alpha1", "PropagationPolicy", "shop", "p").await.is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_select_in_their_own_namespace() {
    let plane = Plane::start(&karmada::definitions()).await;
    let foreign = json!({"resourceSelectors": [selector(None), selector(Some("elsewhere"))]});
    let mut stored = policy(foreign.clone());
    stored["metadata"]["name"] = json!("stored");
    plane.create(&stored).await.unwrap();
    plane.admit().await;
    for own in [selector(None), selector(Some("")), selector(Some("shop"))] {
        plane.would_create(&policy(json!({"resourceSelectors": [own]}))).await.unwrap();
    }
    let message = plane.would_create(&policy(foreign)).await.unwrap_err();
    assert!(
        message.contains(
            "spec.resourceSelectors[].namespace: a PropagationPolicy selects objects of its own namespace (shop) only"
        ),
        "{message}"
    );
    // What is stored can be labelled and let go, and not changed to something as wrong.
    plane.patch(&stored, json!({"metadata": {"labels": {"a": "b"}}})).await.unwrap();
    plane.patch(&stored, json!({"spec": {"priority": 1}})).await.unwrap_err();
    plane.delete(&stored, false).await.unwrap();
    let cluster_wide = json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "ClusterPropagationPolicy",
        "metadata": {"name": "c"}, "spec": {"resourceSelectors": [selector(Some("elsewhere"))]}});
    plane.would_create(&cluster_wide).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_keeps_its_permanent_id() {
    let plane = Plane::start(&karmada::definitions()).await;
    plane.admit().await;
    let mut wide = policy(json!({}));
    wide["kind"] = json!("ClusterPropagationPolicy");
    wide["metadata"] = json!({"name": "wide"});
    for (object, label) in [(policy(json!({})), POLICY_PERMANENT_ID_LABEL), (wide, CLUSTER_POLICY_PERMANENT_ID_LABEL)] {
        let labelled = |value: Value| json!({"metadata": {"labels": {label: value}}});
        plane.create(&object).await.unwrap();
        // It is written after the policy was created, also over nothing.
        for first in [json!(""), json!("i")] {
            plane.patch(&object, labelled(first)).await.unwrap();
        }
        for other in
            [labelled(json!("j")), labelled(json!("")), labelled(Value::Null), json!({"metadata": {"labels": null}})]
        {
            let message = plane.patch(&object, other.clone()).await.expect_err(&other.to_string());
            assert!(
                message.contains(&format!("metadata.labels: {label} identifies the policy"))
                    && message.contains("keep i,"),
                "{message}"
            );
        }
        // Everything else can be changed, and the policy let go.
        let finalizers = json!([POLICY_FINALIZERS[0], "example.com/x"]);
        let others = json!({"metadata": {"labels": {"team": "a"}, "finalizers": finalizers}, "spec": {"priority": 7}});
        plane.patch(&object, others).await.unwrap();
        plane.delete(&object, false).await.unwrap();
        plane.patch(&object, json!({"metadata": {"finalizers": null}})).await.unwrap();
        // A copy brings its id along.
        let mut copy = object.clone();
        copy["metadata"]["labels"] = json!({label: "i"});
        plane.create(&copy).await.unwrap();
        plane.patch(&copy, labelled(json!("j"))).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_objects_are_not_deleted() {
    let plane = Plane::start(&karmada::definitions()).await;
    plane.admit().await;
    let mut in_group = policy(json!({}));
    in_group["metadata"]["labels"] = plane.protected("x", "Always")["metadata"]["labels"].clone();
    for object in [plane.protected("a", "Always"), in_group] {
        plane.create(&object).await.unwrap();
        let message = plane.delete(&object, false).await.unwrap_err();
        assert!(
            message.contains("protects this object from deletion") && message.contains("remove the label"),
            "{message}"
        );
        plane.patch(&object, json!({"metadata": {"labels": null}})).await.unwrap();
        plane.delete(&object, false).await.unwrap();
    }
    let other = plane.protected("b", "Never");
    plane.create(&other).await.unwrap();
    plane.delete(&other, false).await.unwrap();
    // One of several that are deleted at once.
    let protected = plane.protected("c", "Always");
    plane.create(&protected).await.unwrap();
    let all = objects::api(&plane.client, "v1", "ConfigMap", "shop");
    all.delete_collection(&DeleteParams::default(), &Default::default()).await.unwrap_err();
    assert!(objects::get(&plane.client, "v1", "ConfigMap", "shop", "c").await.is_some());
    // An eviction deletes as well, and does not know what the pod's labels say.
    let mut pod = plane.protected("pod", "Always");
    pod["kind"] = json!("Pod");
    pod["spec"] = json!({"containers": [{"name": "c", "image": "c"}], "automountServiceAccountToken": false});
    plane.create(&pod).await.unwrap();
    let message = plane.evict("pod").await;
    assert!(message.contains(NO_PODS), "{message}");
    assert!(objects::get(&plane.client, "v1", "Pod", "shop", "pod").await.is_some());
}

/// The engine tells on templates of every kind which policy claims them, and gains nothing by it.
#[tokio::test]
async fn the_engine_may_mark_templates() {
    let plane = Plane::start(&karmada::definitions()).await;
    plane.admit().await;
    let role = |name: &str, verb: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": [verb]}]})
    };
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "c"}]}}}});
    let label = json!({"metadata": {"labels": {POLICY_PERMANENT_ID_LABEL: "i"}}});
    let annotation = json!({"metadata": {"annotations": {POLICY_NAME_ANNOTATION: "p"}}});
    let created = [plane.protected("settings", "Always"), deployment, role("reads", "get"), role("deletes", "delete")];
    for object in &created {
        plane.create(object).await.unwrap();
    }
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "propagationpolicies.policy.karmada.io"}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    // What the engine takes for a right that is still to come.
    let lacking = plane.patch_as_engine(&namespace, "", &label).await.unwrap_err();
    assert!(lacking.contains("cannot patch resource"), "{lacking}");
    for manifest in plane_manifests() {
        let object = manifest.to_value().unwrap();
        if object["metadata"]["name"] == ENGINE {
            objects::apply(&plane.client, object).await;
        }
    }
    eventually("the engine's role holds", SOON, async || plane.patch_as_engine(&namespace, "", &label).await.map(drop))
        .await;
    let [settings, web, reads, deletes] = &created;
    for (object, subresource, patch) in [
        (settings, "", &label),
        (web, "", &label),
        (web, "/status", &annotation),
        (reads, "", &label),
        (&definition, "", &label),
    ] {
        let patched = plane.patch_as_engine(object, subresource, patch).await.unwrap();
        let metadata = &patched["metadata"];
        let told = (&metadata["labels"][POLICY_PERMANENT_ID_LABEL], &metadata["annotations"][POLICY_NAME_ANNOTATION]);
        assert!(told.0 == "i" || told.1 == "p", "{metadata}");
        // A Deployment of another generation would be sent to every member.
        assert!(object["kind"] != "Deployment" || metadata["generation"] == 1, "{metadata}");
    }
    let refused = plane.patch_as_engine(deletes, "", &label).await.unwrap_err();
    assert!(refused.contains("not currently held") && !refused.contains("cannot patch resource"), "{refused}");
}
