//! What several controllers watch in the same way.

use std::fmt::Debug;

use futures::Stream;
use kube::runtime::Controller;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

use crate::api::KarmadaInstance;
use crate::api::common::condition::READY;
use crate::controllers::Context;
use crate::machinery::conditions::is_true;
use crate::runtime::finalizer::HasFinalizer;
use crate::runtime::guarded::Guarded;
use crate::runtime::host_cache::{HostEvent, HostKind, HostObject};
use crate::runtime::instance_ref::InstanceRefError;
use crate::runtime::planes::{InstanceKey, PlaneEvent};

/// A controller of a kind whose objects refer to instances and have objects in their planes. `users` are those of an
/// instance, `concerned` those that something in a plane concerns.
pub fn controller<K: HostObject>(
    context: &Context,
    kind: &HostKind<K>,
    users: impl Fn(&Store<Guarded<K>>, &InstanceKey) -> Vec<ObjectRef<Guarded<K>>> + Send + Sync + 'static,
    concerned: impl Fn(&Store<Guarded<K>>, &PlaneEvent<'_>) -> Vec<ObjectRef<Guarded<K>>> + Send + Sync + 'static,
) -> Controller<Guarded<K>> {
    let controller = kind.controller();
    let (store, same_store) = (controller.store(), controller.store());
    let of_instance = by_instance(&context.cache.instances, move |key| users(&store, key));
    let in_planes = context.planes.subscribe(move |event| concerned(&same_store, event));
    controller.reconcile_on(of_instance).reconcile_on(in_planes)
}

/// Who is to be looked at when an instance changes in a way that matters to those who refer to it.
fn by_instance<T, M>(instances: &HostKind<KarmadaInstance>, users: M) -> impl Stream<Item = T> + Send + use<T, M>
where
    M: Fn(&InstanceKey) -> Vec<T> + Send + Sync + 'static,
    T: Send + 'static,
{
    instances.subscribe(move |event| changed_instance(event).iter().flat_map(&users).collect())
}

/// The instance of an event, when something changed that those who refer to it must know: its spec, its labels, whether it
/// is ready, whether it is going or gone. Its counts and figures change all the time. *Pure.*
fn changed_instance(event: &HostEvent<'_, KarmadaInstance>) -> Option<InstanceKey> {
    let facts = |object: &Guarded<KarmadaInstance>| {
        let status = object.0.as_ref().ok().and_then(|instance| instance.status.as_ref());
        let ready = status.is_some_and(|status| is_true(&status.conditions, READY));
        let meta = object.meta();
        (meta.uid.clone(), meta.generation, meta.labels.clone(), meta.deletion_timestamp.clone(), ready)
    };
    let object = event.object;
    let key = || InstanceKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    event.changes(facts).then(key)
}

/// The instance of a key. None: there is none. One that does not parse is there all the same, with all that was
/// written into its plane; while it is being deleted, what is left of it serves those that have to go before it.
pub fn instance(
    instances: &HostKind<KarmadaInstance>,
    key: &InstanceKey,
) -> Result<Option<KarmadaInstance>, InstanceRefError> {
    let Some(found) = instances.get(&key.namespace, &key.name) else { return Ok(None) };
    match &found.0 {
        Ok(instance) => Ok(Some(instance.clone())),
        Err(invalid) => {
            let is_ending = invalid.metadata.deletion_timestamp.is_some();
            let known = KarmadaInstance::stand_in(invalid).filter(|_| is_ending);
            known.map(Some).ok_or_else(|| InstanceRefError::Unreadable(key.clone()))
        }
    }
}

/// The objects of a cache that are meant; one that does not parse is not.
pub fn matching<K>(store: &Store<Guarded<K>>, wanted: impl Fn(&K) -> bool) -> Vec<ObjectRef<Guarded<K>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
{
    let objects = store.state();
    let meant = objects.iter().filter(|guarded| guarded.0.as_ref().is_ok_and(&wanted));
    meant.map(|guarded| ObjectRef::from_obj(guarded.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_instance_matters_when_it_is_gone_and_not_when_its_figures_change() {
        let instance = |generation: i64, status: Value| {
            let object = json!({
                "apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
                "metadata": {"name": "east", "namespace": "fleet", "uid": "u", "generation": generation},
                "spec": {}, "status": status,
            });
            Guarded::<KarmadaInstance>::of_json(&object.to_string())
        };
        let (installing, running) = (|| json!({"phase": "Installing"}), || json!({"phase": "Running"}));
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "reason": "R",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        for (name, before, object, deleted, is_told) in [
            ("new", None, instance(1, installing()), false, true),
            ("other figures", Some(instance(1, installing())), instance(1, running()), false, false),
            ("another spec", Some(instance(1, running())), instance(2, running()), false, true),
            ("ready", Some(instance(1, running())), instance(1, ready), false, true),
            ("gone", Some(instance(1, running())), instance(1, running()), true, true),
        ] {
            let event = HostEvent { object: &object, before: before.as_ref(), deleted };
            assert_eq!(changed_instance(&event).is_some(), is_told, "{name}");
        }
    }
}
