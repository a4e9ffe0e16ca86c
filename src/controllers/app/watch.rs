//! What brings an app back: changes of its own, of its instance, of its objects and bindings in the plane, and of
//! the plane's clusters.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::runtime::Controller;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::api::{APP_LABEL, APP_NAMESPACE_LABEL, MultiCloudApp};
use crate::controllers::Context;
use crate::controllers::watch::{self, matching};
use crate::karmada::names::binding_name;
use crate::karmada::{Cluster, ResourceBinding};
use crate::runtime::apply::typed;
use crate::runtime::guarded::Guarded;
use crate::runtime::planes::{InstanceKey, PlaneEvent};

type App = Guarded<MultiCloudApp>;

/// A controller with all its triggers.
pub fn controller(context: &Context) -> Controller<App> {
    watch::controller(context, &context.cache.apps, users, concerned)
}

/// The apps that something in a plane concerns: an object of theirs, a binding of one, or a cluster that may be
/// placed on in another way now. Most of what happens to clusters concerns nobody: their capacity changes all the time.
fn concerned(apps: &Store<App>, event: &PlaneEvent<'_>) -> Vec<ObjectRef<App>> {
    if event.is_of::<Cluster>() {
        return if event.changes(fingerprint) { users(apps, event.instance) } else { Vec::new() };
    }
    if event.is_of::<ResourceBinding>() {
        let (namespace, name) = (event.object.namespace().unwrap_or_default(), event.object.name_any());
        return matching(apps, |app| uses(app, event.instance) && binds(app, &namespace, &name));
    }
    if event.is_of::<Namespace>() {
        // Who found it being deleted makes it anew.
        let name = event.object.name_any();
        let waits = |app: &MultiCloudApp| uses(app, event.instance) && namespace_of(app) == Some(&name);
        return if event.deleted { matching(apps, waits) } else { Vec::new() };
    }
    event.before.into_iter().chain([event.object]).filter_map(owner).collect()
}

/// The app whose labels an object carries.
fn owner(object: &DynamicObject) -> Option<ObjectRef<App>> {
    let labels = object.labels();
    Some(ObjectRef::new(labels.get(APP_LABEL)?).within(labels.get(APP_NAMESPACE_LABEL)?))
}

fn uses(app: &MultiCloudApp, key: &InstanceKey) -> bool {
    InstanceKey::of(&app.spec.instance_ref, &app.namespace().unwrap_or_default()) == *key
}

/// The apps of an instance.
fn users(apps: &Store<App>, key: &InstanceKey) -> Vec<ObjectRef<App>> {
    matching(apps, |app| uses(app, key))
}

/// The namespace of an app in its plane.
fn namespace_of(app: &MultiCloudApp) -> Option<&String> {
    app.spec.namespace.as_ref().or(app.metadata.namespace.as_ref())
}

/// Bindings carry no label of the app, but their names follow from its manifests.
fn binds(app: &MultiCloudApp, namespace: &str, binding: &str) -> bool {
    let text = |value: Option<&serde_json::Value>| value.and_then(|value| value.as_str()).map(str::to_owned);
    let mut manifests = app.spec.components.iter().flat_map(|component| &component.manifests);
    let mut inventory = app.status.iter().flat_map(|status| &status.inventory);
    namespace_of(app).is_some_and(|own| own == namespace)
        && (manifests.any(|manifest| {
            let kind = text(manifest.0.get("kind")).unwrap_or_default();
            let name = text(manifest.0.get("metadata").and_then(|metadata| metadata.get("name"))).unwrap_or_default();
            binding_name(&kind, &name) == binding
        }) || inventory.any(|entry| binding_name(&entry.kind, &entry.name) == binding))
}

/// What placement and status depend on.
fn fingerprint(object: &DynamicObject) -> Option<(ClusterPlace, Vec<(String, String)>)> {
    let cluster: Cluster = typed(object.clone()).ok()?;
    let conditions = cluster.status.map(|status| status.conditions).unwrap_or_default();
    let ready = conditions.into_iter().filter(|condition| condition.type_ == "Ready");
    let place = ClusterPlace {
        uid: cluster.metadata.uid,
        labels: cluster.metadata.labels,
        is_ending: cluster.metadata.deletion_timestamp.is_some(),
        location: (cluster.spec.provider, cluster.spec.region, cluster.spec.zones),
    };
    Some((place, ready.map(|condition| (condition.status, condition.message)).collect()))
}

/// What selects a cluster.
#[derive(PartialEq)]
struct ClusterPlace {
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    is_ending: bool,
    location: (Option<String>, Option<String>, Vec<String>),
}
