//! What brings a membership back: changes of its own, of its instance and its Secret, and of what was made for it in
//! the plane.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::runtime::Controller;
use kube::runtime::reflector::{ObjectRef, Store};

use super::plan::{MEMBER_LABEL, MEMBER_NAMESPACE_LABEL, label_of};
use super::validate::instance_key;
use crate::api::member::MemberClusterJoin;
use crate::controllers::Context;
use crate::controllers::watch::{by_instance, matching};
use crate::karmada::Cluster;
use crate::runtime::guarded::Guarded;
use crate::runtime::planes::PlaneEvent;

type Join = Guarded<MemberClusterJoin>;

/// A controller with all its triggers.
pub fn controller(context: &Context) -> Controller<Join> {
    let controller = context.cache.joins.controller();
    let store = controller.store();
    let of_instance = {
        let store = store.clone();
        by_instance(&context.cache.instances, move |key| matching(&store, |join| instance_key(join) == *key))
    };
    let of_secret = {
        let store = store.clone();
        context.cache.secrets.subscribe(move |event| {
            let (namespace, name) = (event.object.namespace(), event.object.name_any());
            matching(&store, |join| join.namespace() == namespace && join.spec.kubeconfig_secret_ref.name == name)
        })
    };
    let in_planes = context.planes.subscribe(move |event| {
        let is_ours = event.is_of::<Cluster>() || event.is_of::<Secret>();
        if is_ours { by_labels(&store, event) } else { Vec::new() }
    });
    controller.reconcile_on(of_instance).reconcile_on(of_secret).reconcile_on(in_planes)
}

/// The memberships that something in a plane was made for, now or before its labels were changed.
fn by_labels(store: &Store<Join>, event: &PlaneEvent<'_>) -> Vec<ObjectRef<Join>> {
    let mut found = Vec::new();
    for object in event.before.into_iter().chain([event.object]) {
        let namespace = object.labels().get(MEMBER_NAMESPACE_LABEL);
        let Some(name) = object.labels().get(MEMBER_LABEL) else { continue };
        found.extend(matching(store, |join| {
            join.namespace().as_ref() == namespace && label_of(&join.name_any()) == *name
        }));
    }
    found
}
