//! What brings a membership back: changes of its own, of its instance and its Secret, and of what was made for it in
//! the plane.

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};

use super::plan::{MEMBER_LABEL, MEMBER_NAMESPACE_LABEL, label_of};
use super::validate::instance_key;
use crate::api::KarmadaInstance;
use crate::api::member::MemberClusterJoin;
use crate::controllers::Context;
use crate::controllers::watch::{instances, matching};
use crate::karmada::Cluster;
use crate::runtime::guarded::{Guarded, PAGE};
use crate::runtime::planes::PlaneEvent;

type Join = Guarded<MemberClusterJoin>;

/// A controller with all its watches, and the instances that it knows.
pub fn controller(context: &Context) -> (Controller<Join>, Store<Guarded<KarmadaInstance>>) {
    let host = context.host.0.clone();
    let controller = Controller::new(Api::<Join>::all(host.clone()), watcher::Config::default().page_size(PAGE));
    let store = controller.store();
    let (instances, changed) = instances(host.clone());
    let by_instance = {
        let store = store.clone();
        move |key| futures::stream::iter(matching(&store, |join| instance_key(join) == key))
    };
    let by_secret = {
        let store = store.clone();
        move |secret: Guarded<PartialObjectMeta<Secret>>| {
            let (namespace, name) = (secret.namespace(), secret.name_any());
            matching(&store, |join| join.namespace() == namespace && join.spec.kubeconfig_secret_ref.name == name)
        }
    };
    let in_planes = context.planes.subscribe(move |event| {
        let is_ours = event.is_of::<Cluster>() || event.is_of::<Secret>();
        if is_ours { by_labels(&store, event) } else { Vec::new() }
    });
    let controller = controller
        .watches(
            Api::<Guarded<PartialObjectMeta<Secret>>>::all(host),
            watcher::Config::default().page_size(PAGE),
            by_secret,
        )
        .reconcile_on(changed.flat_map(by_instance))
        .reconcile_on(in_planes);
    (controller, instances)
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
