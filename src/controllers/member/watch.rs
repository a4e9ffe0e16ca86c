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
use crate::controllers::watch::{self, matching};
use crate::karmada::Cluster;
use crate::runtime::guarded::Guarded;
use crate::runtime::planes::{InstanceKey, PlaneEvent};

type Join = Guarded<MemberClusterJoin>;

/// A controller with all its triggers.
pub fn controller(context: &Context) -> Controller<Join> {
    let controller = watch::controller(context, &context.cache.joins, users, concerned);
    let store = controller.store();
    let of_secret = context.cache.secrets.subscribe(move |event| {
        let (namespace, name) = (event.object.namespace(), event.object.name_any());
        matching(&store, |join| join.namespace() == namespace && join.spec.kubeconfig_secret_ref.name == name)
    });
    controller.reconcile_on(of_secret)
}

/// The memberships of an instance.
fn users(store: &Store<Join>, key: &InstanceKey) -> Vec<ObjectRef<Join>> {
    matching(store, |join| instance_key(join) == *key)
}

/// The memberships that something in a plane concerns: their cluster, or a Secret of theirs.
fn concerned(store: &Store<Join>, event: &PlaneEvent<'_>) -> Vec<ObjectRef<Join>> {
    let is_ours = event.is_of::<Cluster>() || event.is_of::<Secret>();
    if is_ours { by_labels(store, event) } else { Vec::new() }
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
