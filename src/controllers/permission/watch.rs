//! What brings a permission back: changes of its own and of the instances that it may mean, of what was made for it in
//! planes, of the copies that carry it to members, and of the planes' clusters.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use kube::api::DynamicObject;
use kube::runtime::Controller;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use super::{plan, status};
use crate::api::permission::PermissionBinding;
use crate::api::{PERMISSION_LABEL, PERMISSION_NAMESPACE_LABEL};
use crate::controllers::Context;
use crate::controllers::watch::{self, matching};
use crate::karmada::{Cluster, ClusterResourceBinding, ResourceBinding};
use crate::runtime::guarded::Guarded;
use crate::runtime::planes::{InstanceKey, PlaneEvent};

type Object = Guarded<PermissionBinding>;

/// A controller with all its triggers.
pub fn controller(context: &Context) -> Controller<Object> {
    watch::controller(context, &context.cache.permissions, meaning, concerned)
}

/// The bindings that something in a plane concerns: an object that was made for one, a copy on its way to the members,
/// a cluster that came, went, or has other labels.
fn concerned(store: &Store<Object>, event: &PlaneEvent<'_>) -> Vec<ObjectRef<Object>> {
    if event.is_of::<Cluster>() {
        let selected_by = |cluster: &DynamicObject| {
            (
                cluster.metadata.labels.clone(),
                cluster.metadata.generation,
                cluster.metadata.deletion_timestamp.is_some(),
            )
        };
        return if event.changes(selected_by) { meaning(store, event.instance) } else { Vec::new() };
    }
    if event.is_of::<ResourceBinding>() {
        return by_copy::<RoleBinding>(store, event.object);
    }
    if event.is_of::<ClusterResourceBinding>() {
        return by_copy::<ClusterRoleBinding>(store, event.object);
    }
    event.before.into_iter().chain([event.object]).flat_map(|object| by_labels(store, object)).collect()
}

/// From an object of a plane to the binding that it was made for.
fn by_labels(store: &Store<Object>, object: &DynamicObject) -> Vec<ObjectRef<Object>> {
    let labels = object.labels();
    let (Some(namespace), Some(name)) = (labels.get(PERMISSION_NAMESPACE_LABEL), labels.get(PERMISSION_LABEL)) else {
        return Vec::new();
    };
    let reference = ObjectRef::new(name).within(namespace);
    store.get(&reference).map(|_| reference).into_iter().collect()
}

/// From a plane's binding of a RoleBinding to members, by its name, to the permission behind it.
fn by_copy<K: Resource<DynamicType = ()>>(store: &Store<Object>, object: &DynamicObject) -> Vec<ObjectRef<Object>> {
    let name = object.name_any();
    matching(store, |binding| plan::resource_binding_name::<K>(binding) == name)
}

/// The bindings that may mean an instance, and those that have something there.
fn meaning(store: &Store<Object>, instance: &InstanceKey) -> Vec<ObjectRef<Object>> {
    matching(store, |binding| {
        let selection = &binding.spec.scope.instances;
        let namespace = selection.namespace.clone().or_else(|| binding.namespace());
        let meant = namespace.as_ref() == Some(&instance.namespace)
            && (selection.names.is_empty() || selection.names.contains(&instance.name));
        meant || status::planes(binding).contains(instance)
    })
}
