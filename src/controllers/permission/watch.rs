//! What brings a permission back: changes of its own and of the instances that it may mean, of what was made for it in
//! planes, of the copies that carry it to members, and of the planes' clusters.

use futures::StreamExt;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Resource, ResourceExt};

use super::{plan, status};
use crate::api::permission::PermissionBinding;
use crate::api::{KarmadaInstance, PERMISSION_LABEL, PERMISSION_NAMESPACE_LABEL};
use crate::controllers::Context;
use crate::controllers::changes::Changes;
use crate::controllers::watch::{instances, matching};
use crate::karmada::{Cluster, ClusterPropagationPolicy, ClusterResourceBinding, PropagationPolicy, ResourceBinding};
use crate::runtime::guarded::{Guarded, PAGE};
use crate::runtime::planes::InstanceKey;

type Object = Guarded<PermissionBinding>;

/// A controller with all its watches, and the instances that it knows.
pub fn controller(context: &Context) -> (Controller<Object>, Store<Guarded<KarmadaInstance>>) {
    let host = context.host.0.clone();
    let controller = Controller::new(Api::<Object>::all(host.clone()), watcher::Config::default().page_size(PAGE));
    let store = controller.store();
    let (instances, changed) = instances(host);
    let by_instance = {
        let store = store.clone();
        move |key| futures::stream::iter(meaning(&store, &key))
    };
    let ours = watcher::Config::default().labels(PERMISSION_LABEL);
    let planes = &context.planes;
    let controller = controller
        .reconcile_on(changed.flat_map(by_instance))
        .reconcile_on(planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<RoleBinding>>(&store)))
        .reconcile_on(planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<ClusterRoleBinding>>(&store)))
        .reconcile_on(planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<ClusterRole>>(&store)))
        .reconcile_on(planes.triggers((), ours.clone(), by_labels::<PartialObjectMeta<PropagationPolicy>>(&store)))
        .reconcile_on(planes.triggers((), ours, by_labels::<PartialObjectMeta<ClusterPropagationPolicy>>(&store)))
        .reconcile_on(planes.triggers((), watcher::Config::default(), by_cluster(&store)))
        .reconcile_on(planes.triggers(
            (),
            watcher::Config::default(),
            by_copy::<PartialObjectMeta<ResourceBinding>>(&store, "-rolebinding"),
        ))
        .reconcile_on(planes.triggers(
            (),
            watcher::Config::default(),
            by_copy::<PartialObjectMeta<ClusterResourceBinding>>(&store, "-clusterrolebinding"),
        ));
    (controller, instances)
}

/// From an object of a plane to the binding that it was made for.
fn by_labels<W: Resource>(
    store: &Store<Object>,
) -> impl Fn(&InstanceKey, &W) -> Vec<ObjectRef<Object>> + Send + Sync + 'static + use<W> {
    let store = store.clone();
    move |_, object| {
        let (Some(namespace), Some(name)) =
            (object.labels().get(PERMISSION_NAMESPACE_LABEL), object.labels().get(PERMISSION_LABEL))
        else {
            return Vec::new();
        };
        let reference = ObjectRef::new(name).within(namespace);
        store.get(&reference).map(|_| reference).into_iter().collect()
    }
}

/// From a plane's binding of a RoleBinding to members, by its name, to the permission behind it.
fn by_copy<W: Resource>(
    store: &Store<Object>,
    suffix: &'static str,
) -> impl Fn(&InstanceKey, &W) -> Vec<ObjectRef<Object>> + Send + Sync + 'static + use<W> {
    let store = store.clone();
    move |_, object| {
        let name = object.name_any();
        let Some(name) = name.strip_suffix(suffix) else { return Vec::new() };
        matching(&store, |binding| plan::object_name(binding) == name)
    }
}

/// From a Cluster to all bindings that may mean its instance, when it changed in a way that matters: many other
/// things happen to Clusters.
fn by_cluster(
    store: &Store<Object>,
) -> impl Fn(&InstanceKey, &PartialObjectMeta<Cluster>) -> Vec<ObjectRef<Object>> + Send + Sync + 'static + use<> {
    let (store, changes) = (store.clone(), Changes::default());
    move |instance, cluster| {
        let meta = cluster.meta();
        let what = (&meta.uid, meta.generation, &meta.labels, &meta.deletion_timestamp);
        if changes.is_new(&format!("{instance}/{}", cluster.name_any()), &what) {
            meaning(&store, instance)
        } else {
            Vec::new()
        }
    }
}

/// The bindings that may mean an instance, and those that have something there.
fn meaning(store: &Store<Object>, instance: &InstanceKey) -> Vec<ObjectRef<Object>> {
    matching(store, |binding| {
        let selection = &binding.spec.scope.instances;
        let namespace = selection.namespace.clone().or_else(|| binding.namespace());
        let meant = namespace.as_ref() == Some(&instance.namespace)
            && (selection.names.is_empty() || selection.names.contains(&instance.name));
        meant || status::listed(binding).contains(instance)
    })
}
