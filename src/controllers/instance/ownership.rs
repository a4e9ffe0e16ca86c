//! Which objects of the host cluster are an instance's. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::ApiResource;
use kube::{Resource, ResourceExt as _};

use crate::api::KarmadaInstance;
use crate::runtime::planes::InstanceKey;

use super::caches::{Host, Named};

/// Annotation on what outlives its instance, for the next one of the same name to take up.
pub const RETAINED_ANNOTATION: &str = "airdock.dev/retained";

/// Whose an object of the host cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This very instance's.
    Ours,
    /// Left by an earlier instance of this name, to be taken up.
    Retained,
    /// Somebody else's.
    Foreign,
}

/// Whose an object is.
#[must_use]
pub fn ownership(object: &ObjectMeta, instance: &KarmadaInstance) -> Ownership {
    let controller = object.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    let label = object.labels.as_ref().and_then(|labels| labels.get(crate::api::INSTANCE_LABEL));
    let retained = object.annotations.as_ref().is_some_and(|a| a.contains_key(RETAINED_ANNOTATION));
    match controller {
        Some(owner) if Some(&owner.uid) == instance.metadata.uid.as_ref() => Ownership::Ours,
        None if retained && label == instance.metadata.name.as_ref() => Ownership::Retained,
        _ => Ownership::Foreign,
    }
}

/// The reference that makes the instance the owner of an object.
#[must_use]
pub fn owner(instance: &KarmadaInstance) -> OwnerReference {
    OwnerReference {
        api_version: KarmadaInstance::api_version(&()).into_owned(),
        kind: KarmadaInstance::kind(&()).into_owned(),
        name: instance.name_any(),
        uid: instance.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The key under which the instance's plane is known.
#[must_use]
pub fn key(instance: &KarmadaInstance) -> InstanceKey {
    InstanceKey { namespace: instance.namespace().unwrap_or_default(), name: instance.name_any() }
}

/// An object of the host cluster, by which exactly it is deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Target {
    /// This very object.
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
        Self { resource: ApiResource::erase::<K>(&()), name, uid }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.resource.kind, self.name)
    }
}

/// What the instance owns in the host cluster.
#[must_use]
pub fn owned(instance: &KarmadaInstance, host: &Host) -> Vec<Target> {
    fn add<K: Resource<DynamicType = ()>>(into: &mut Vec<Target>, instance: &KarmadaInstance, objects: &Named<K>) {
        let own = objects.values().filter(|object| {
            object.meta().deletion_timestamp.is_none() && ownership(object.meta(), instance) == Ownership::Ours
        });
        into.extend(own.map(|object| Target::of(object.as_ref())));
    }
    let Host { deployments, stateful_sets, services, secrets, disruption_budgets, claims: _, pods: _ } = host;
    let mut all = Vec::new();
    add(&mut all, instance, deployments);
    add(&mut all, instance, stateful_sets);
    add(&mut all, instance, services);
    add(&mut all, instance, secrets);
    add(&mut all, instance, disruption_budgets);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;

    #[test]
    fn only_this_instances_objects_are_its_own() {
        let i = instance("Compact");
        let mut meta = ObjectMeta { owner_references: Some(vec![owner(&i)]), ..ObjectMeta::default() };
        assert_eq!(ownership(&meta, &i), Ownership::Ours);
        let mut namesake = i.clone();
        namesake.metadata.uid = Some("another".into());
        assert_eq!(ownership(&meta, &namesake), Ownership::Foreign);
        meta.owner_references = None;
        assert_eq!(ownership(&meta, &i), Ownership::Foreign);
        meta.labels = Some([(crate::api::INSTANCE_LABEL.to_owned(), "east".to_owned())].into());
        assert_eq!(ownership(&meta, &i), Ownership::Foreign);
        meta.annotations = Some([(RETAINED_ANNOTATION.to_owned(), "true".to_owned())].into());
        assert_eq!(ownership(&meta, &i), Ownership::Retained);
        meta.labels = Some([(crate::api::INSTANCE_LABEL.to_owned(), "west".to_owned())].into());
        assert_eq!(ownership(&meta, &i), Ownership::Foreign);
    }
}
