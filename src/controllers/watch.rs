//! What several controllers watch in the same way.

use std::fmt::Debug;

use futures::{Stream, StreamExt};
use kube::api::Api;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::utils::StreamBackoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource};

use super::changes::Changes;
use crate::api::KarmadaInstance;
use crate::runtime::controller::Guarded;
use crate::runtime::instance_ref::InstanceRefError;
use crate::runtime::planes::{InstanceKey, PromptBackoff};

/// A cache of all instances, and the keys of those that changed in a way that matters to who refers to them. The
/// stream fills the cache: it must be polled.
pub fn instances(host: Client) -> (Store<Guarded<KarmadaInstance>>, impl Stream<Item = InstanceKey> + Send + 'static) {
    let (store, writer) = reflector::store();
    let watched = watcher(Api::<Guarded<KarmadaInstance>>::all(host), watcher::Config::default());
    let watched = StreamBackoff::new(watched, PromptBackoff::default());
    let changes = Changes::default();
    let changed = reflector::reflector(writer, watched)
        .touched_objects()
        // An interrupted watch resumes by itself.
        .filter_map(move |event| std::future::ready(event.ok().and_then(|event| changes.of_instance(&event))));
    (store, changed)
}

/// The instance of a key. None: there is none. One that does not parse is there all the same, with all that was
/// written into its plane.
pub fn instance(
    store: &Store<Guarded<KarmadaInstance>>,
    key: &InstanceKey,
) -> Result<Option<KarmadaInstance>, InstanceRefError> {
    let Some(found) = store.get(&ObjectRef::new(&key.name).within(&key.namespace)) else { return Ok(None) };
    match &found.0 {
        Ok(instance) => Ok(Some(instance.clone())),
        Err(_) => Err(InstanceRefError::Unreadable(key.clone())),
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
