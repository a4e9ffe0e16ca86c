//! Objects of any kind in an API server, and those that most tests begin with.

use std::collections::BTreeMap;
use std::time::Duration;

use airdock::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp};
use airdock::controllers::member::plan;
use airdock::karmada::{CLUSTER_NAMESPACE, Cluster};
use airdock::machinery::conditions::find;
use base64::Engine as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::core::gvk::GroupVersionKind;
use kube::{Client, Resource};
use serde_json::{Value, json};

use super::{ADMIN, eventually};

pub fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Objects of a kind; without a namespace those of the whole cluster.
pub fn api(client: &Client, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = resource(api_version, kind);
    match namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    }
}

pub async fn get(client: &Client, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
    let found = api(client, api_version, kind, namespace).get_opt(name).await.unwrap();
    found.map(|object| serde_json::to_value(object).unwrap())
}

pub async fn delete(client: &Client, api_version: &str, kind: &str, namespace: &str, name: &str) {
    api(client, api_version, kind, namespace).delete(name, &DeleteParams::default()).await.unwrap();
}

pub async fn apply(client: &Client, object: Value) {
    apply_as(client, "test", object).await;
}

pub async fn apply_as(client: &Client, manager: &str, object: Value) {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let api = api(client, &text("/apiVersion"), &text("/kind"), &text("/metadata/namespace"));
    let params = PatchParams::apply(manager).force();
    api.patch(&text("/metadata/name"), &params, &Patch::Apply(&object)).await.unwrap();
}

pub async fn merge(client: &Client, api_version: &str, kind: &str, namespace: &str, name: &str, patch: Value) {
    let api = api(client, api_version, kind, namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

pub async fn merge_status(client: &Client, api_version: &str, kind: &str, namespace: &str, name: &str, patch: Value) {
    let api = api(client, api_version, kind, namespace);
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&json!({"status": patch}))).await.unwrap();
}

/// Makes these kinds known, and waits until they are served.
pub async fn define(client: &Client, definitions: &[CustomResourceDefinition]) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for definition in definitions {
        api.create(&Default::default(), definition).await.unwrap();
    }
    for definition in definitions {
        // It is established before its storage answers, so that is asked instead.
        let spec = &definition.spec;
        let path = format!("/apis/{}/{}/{}", spec.group, spec.versions[0].name, spec.names.plural);
        eventually(&format!("{path} is served"), Duration::from_secs(30), async || {
            let request = http::Request::get(&path).body(Vec::new()).unwrap();
            client.request_text(request).await.map_err(|error| error.to_string())
        })
        .await;
    }
}

/// Joins a member to a plane: a Cluster, and the Secret with its administrator's credentials.
pub async fn join(plane: &Client, name: &str, url: &str, ca: &str, region: &str) {
    namespace(plane, CLUSTER_NAMESPACE).await;
    let metadata = json!({"name": name, "namespace": CLUSTER_NAMESPACE});
    let data = json!({"token": encoded(ADMIN), "caBundle": encoded(ca)});
    apply(plane, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})).await;
    let spec = json!({"syncMode": "Push", "apiEndpoint": url, "region": region,
        "secretRef": {"namespace": CLUSTER_NAMESPACE, "name": name}});
    let metadata = json!({"name": name, "labels": {"name": name}});
    let (api_version, kind) = (Cluster::api_version(&()), Cluster::kind(&()));
    apply(plane, json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})).await;
}

/// Does what the member's token controller would do.
pub async fn issue_tokens(member: &Client, join: &MemberClusterJoin) {
    for name in [plan::identity_name(join), plan::impersonator_token_name(join)] {
        eventually(&format!("Secret {name}"), Duration::from_secs(30), async || {
            let found = get(member, "v1", "Secret", CLUSTER_NAMESPACE, &name).await;
            found.map(|_| ()).ok_or_else(|| "is not there".to_owned())
        })
        .await;
        let data = json!({"token": encoded("token"), "ca.crt": encoded("authority")});
        merge(member, "v1", "Secret", CLUSTER_NAMESPACE, &name, json!({ "data": data })).await;
    }
}

/// A definition that refuses nothing, as if an earlier release had made it.
pub fn without_rules(definition: &CustomResourceDefinition) -> CustomResourceDefinition {
    fn strip(schema: &mut JSONSchemaProps) {
        schema.x_kubernetes_validations = None;
        schema.properties.iter_mut().flatten().for_each(|(_, property)| strip(property));
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
            strip(items);
        }
    }
    let mut definition = definition.clone();
    for version in &mut definition.spec.versions {
        strip(version.schema.as_mut().unwrap().open_api_v3_schema.as_mut().unwrap());
    }
    definition
}

/// Makes sure that a namespace is there.
pub async fn namespace(client: &Client, name: &str) {
    apply(client, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
}

/// Watches that an API server serves, by resource.
pub async fn watches(client: &Client) -> BTreeMap<String, i64> {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let mut watches = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("apiserver_longrunning_requests{")) {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        if label("verb").as_deref() == Some("WATCH") {
            let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            *watches.entry(label("resource").unwrap()).or_default() += count.round() as i64;
        }
    }
    watches
}

/// Does what the namespace controller does with an empty namespace that is being deleted: lets it go.
pub async fn finalize_namespace(client: &Client, name: &str) {
    let path = format!("/api/v1/namespaces/{name}/finalize");
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}});
    let request = http::Request::put(path).header("content-type", "application/json");
    // It may be gone already.
    let _ = client.request_text(request.body(body.to_string().into_bytes()).unwrap()).await;
}

/// Text as a Secret's `data` has it.
pub fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Writes a Secret with a kubeconfig.
pub async fn kubeconfig_secret(client: &Client, namespace: &str, name: &str, labels: Value, kubeconfig: &str) {
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let data = json!({"kubeconfig": encoded(kubeconfig)});
    apply(client, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})).await;
}

/// An instance that is installed: its plane is what the kubeconfig leads to.
pub async fn ready_instance(host: &Client, namespace: &str, name: &str, spec: Value, kubeconfig: &str) {
    self::namespace(host, namespace).await;
    let labels = json!({"airdock.dev/purpose": "operator-kubeconfig", "airdock.dev/instance": name});
    kubeconfig_secret(host, namespace, &format!("{name}-operator-kubeconfig"), labels, kubeconfig).await;
    let metadata = json!({"name": name, "namespace": namespace});
    let (api_version, kind) = (KarmadaInstance::api_version(&()), KarmadaInstance::kind(&()));
    apply(host, json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})).await;
    instance_condition(host, namespace, name, "True", "installed").await;
}

/// Sets an instance's `Ready`.
pub async fn instance_condition(host: &Client, namespace: &str, name: &str, status: &str, message: &str) {
    let (api_version, kind) = (KarmadaInstance::api_version(&()), KarmadaInstance::kind(&()));
    let conditions = json!([{
        "type": "Ready", "status": status, "reason": "Test", "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]);
    merge_status(host, &api_version, &kind, namespace, name, json!({"conditions": conditions})).await;
}

/// Waits until an application's `Ready` says so of its present spec, with these words.
pub async fn until_app(apps: &Api<MultiCloudApp>, name: &str, status: &str, words: &str) -> MultiCloudApp {
    eventually(&format!("MultiCloudApp {name}"), Duration::from_secs(30), async || {
        let app = apps.get(name).await.map_err(|error| error.to_string())?;
        let known = app.status.clone().unwrap_or_default();
        let ready = find(&known.conditions, "Ready");
        let is_so = known.observed_generation == app.metadata.generation
            && ready.is_some_and(|ready| ready.status == status && ready.message.contains(words));
        if is_so { Ok(app) } else { Err(format!("not Ready={status} with {words:?} but {known:?}")) }
    })
    .await
}
