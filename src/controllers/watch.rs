//! What several controllers watch in the same way.

use std::fmt::Debug;

use futures::Stream;
use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};

use super::changes::Changes;
use crate::api::KarmadaInstance;
use crate::runtime::finalizer::Held;
use crate::runtime::guarded::Guarded;
use crate::runtime::host_cache::HostKind;
use crate::runtime::instance_ref::InstanceRefError;
use crate::runtime::planes::InstanceKey;

/// Who is to be looked at when an instance changes in a way that matters to those who refer to it.
pub fn by_instance<T, M>(instances: &HostKind<KarmadaInstance>, users: M) -> impl Stream<Item = T> + Send + use<T, M>
where
    M: Fn(&InstanceKey) -> Vec<T> + Send + Sync + 'static,
    T: Send + 'static,
{
    let changes = Changes::default();
    instances.subscribe(move |event| changes.of_instance(event).iter().flat_map(&users).collect())
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
