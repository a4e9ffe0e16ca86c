//! What brings an app back: changes of its own, of its instance, of its objects and bindings in the plane, and of
//! the plane's clusters.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Resource, ResourceExt};

use crate::api::{APP_LABEL, APP_NAMESPACE_LABEL, KarmadaInstance, MultiCloudApp};
use crate::application::plan::binding_name;
use crate::controllers::Context;
use crate::controllers::watch::{instances, matching};
use crate::karmada::{Cluster, OverridePolicy, PropagationPolicy, ResourceBinding};
use crate::runtime::controller::Guarded;
use crate::runtime::planes::InstanceKey;

type App = Guarded<MultiCloudApp>;

/// A controller with all its watches, and the instances that it knows.
pub fn controller(context: &Context) -> (Controller<App>, Store<Guarded<KarmadaInstance>>) {
    let host = context.host.0.clone();
    let controller = Controller::new(Api::<App>::all(host.clone()), watcher::Config::default());
    let apps = controller.store();

    let (instances, changed) = instances(host);
    let of_instance = {
        let apps = apps.clone();
        changed.flat_map(move |key| futures::stream::iter(users(&apps, &key)))
    };
    let controller = controller
        .reconcile_on(of_instance)
        .reconcile_on(clusters(context, apps.clone()))
        .reconcile_on(bindings(context, apps));
    // Objects of other kinds come back by their bindings, which Karmada rewrites when a template changes.
    let controller = controller
        .reconcile_on(owned::<PropagationPolicy>(context))
        .reconcile_on(owned::<OverridePolicy>(context))
        .reconcile_on(owned::<Deployment>(context))
        .reconcile_on(owned::<StatefulSet>(context))
        .reconcile_on(owned::<DaemonSet>(context))
        .reconcile_on(owned::<Job>(context))
        .reconcile_on(owned::<CronJob>(context))
        .reconcile_on(owned::<Service>(context))
        .reconcile_on(owned::<ConfigMap>(context))
        .reconcile_on(owned::<Secret>(context));
    (controller, instances)
}

fn uses(app: &MultiCloudApp, key: &InstanceKey) -> bool {
    InstanceKey::of(&app.spec.instance_ref, &app.namespace().unwrap_or_default()) == *key
}

/// The apps of an instance.
fn users(apps: &Store<App>, key: &InstanceKey) -> Vec<ObjectRef<App>> {
    matching(apps, |app| uses(app, key))
}

/// Objects that carry an app's labels.
fn owned<K>(context: &Context) -> impl Stream<Item = ObjectRef<App>> + Send + 'static + use<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    let config = watcher::Config::default().labels(APP_LABEL);
    context.planes.triggers((), config, |_, object: &PartialObjectMeta<K>| {
        let labels = object.labels();
        match (labels.get(APP_LABEL), labels.get(APP_NAMESPACE_LABEL)) {
            (Some(name), Some(namespace)) => vec![ObjectRef::new(name).within(namespace)],
            _ => Vec::new(),
        }
    })
}

/// Bindings carry no label of the app, but their names follow from its manifests.
fn bindings(context: &Context, apps: Store<App>) -> impl Stream<Item = ObjectRef<App>> + Send + 'static + use<> {
    let config = watcher::Config::default();
    context.planes.triggers((), config, move |key, binding: &PartialObjectMeta<ResourceBinding>| {
        let (namespace, name) = (binding.namespace().unwrap_or_default(), binding.name_any());
        matching(&apps, |app| uses(app, key) && binds(app, &namespace, &name))
    })
}

fn binds(app: &MultiCloudApp, namespace: &str, binding: &str) -> bool {
    let own = app.spec.namespace.as_deref().or(app.metadata.namespace.as_deref());
    let text = |value: Option<&serde_json::Value>| value.and_then(|value| value.as_str()).map(str::to_owned);
    let mut manifests = app.spec.components.iter().flat_map(|component| &component.manifests);
    let mut inventory = app.status.iter().flat_map(|status| &status.inventory);
    own == Some(namespace)
        && (manifests.any(|manifest| {
            let kind = text(manifest.0.get("kind")).unwrap_or_default();
            let name = text(manifest.0.get("metadata").and_then(|metadata| metadata.get("name"))).unwrap_or_default();
            binding_name(&kind, &name) == binding
        }) || inventory.any(|entry| binding_name(&entry.kind, &entry.name) == binding))
}

/// Clusters, when something changed that placement or status depend on; their capacity changes all the time.
fn clusters(context: &Context, apps: Store<App>) -> impl Stream<Item = ObjectRef<App>> + Send + 'static + use<> {
    let seen: Mutex<HashMap<(InstanceKey, String), u64>> = Mutex::default();
    context.planes.triggers((), watcher::Config::default(), move |key, cluster: &Cluster| {
        let now = fingerprint(cluster);
        let place = (key.clone(), cluster.name_any());
        let before = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(place, now);
        // A deletion comes with the last state of the object, so what is being deleted always counts.
        if before == Some(now) && cluster.metadata.deletion_timestamp.is_none() {
            return Vec::new();
        }
        users(&apps, key)
    })
}

fn fingerprint(cluster: &Cluster) -> u64 {
    let mut hasher = DefaultHasher::new();
    cluster.metadata.uid.hash(&mut hasher);
    cluster.metadata.labels.hash(&mut hasher);
    let spec = &cluster.spec;
    (&spec.provider, &spec.region, &spec.zones).hash(&mut hasher);
    for condition in cluster.status.iter().flat_map(|status| &status.conditions).filter(|c| c.type_ == "Ready") {
        (&condition.status, &condition.message).hash(&mut hasher);
    }
    hasher.finish()
}
