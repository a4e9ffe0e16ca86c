//! What is to be written in the host cluster for an instance: from what was observed. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret, Service};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DynamicObject, PartialObjectMeta};

use crate::api::{INSTANCE_LABEL, KarmadaInstance};
use crate::chart::{self, Component, ETCD_CLIENT_SERVICE, Inputs, Manifest, Names, Stage, component_of};
use crate::instance::keys;
use crate::pki::secrets::Data;
use crate::pki::{Entry, Issuer, Keyring};
use crate::runtime::apply::typed;

use super::caches::Host;
use super::error::InstanceError;
use super::ownership::{Ownership, Target, owned, ownership};

/// What is wanted in the host cluster, once all that it depends on is known.
pub struct DesiredHost {
    /// The Secrets.
    pub entries: Vec<Entry>,
    /// Everything else.
    pub manifests: Vec<Manifest>,
}

/// Addresses of the Services that clients of the instance's servers use.
pub struct Addresses {
    /// Of the API server.
    pub api_server: Vec<String>,
    /// Of etcd.
    pub etcd: Vec<String>,
}

impl Addresses {
    /// Takes the addresses from the Services as they were applied.
    #[must_use]
    pub fn of(instance: &KarmadaInstance, applied: &[DynamicObject]) -> Self {
        let names = Names::of(instance);
        let addresses = |name: &str| {
            let service = applied.iter().find(|object| object.name_any() == name);
            let service = service.and_then(|object| typed::<Service>(object.clone()).ok());
            service.map(|service| keys::service_addresses(&service)).unwrap_or_default()
        };
        Self {
            api_server: addresses(&names.component(Component::ApiServer)),
            etcd: addresses(&names.object(ETCD_CLIENT_SERVICE)),
        }
    }
}

/// The Services, which come before all else: certificates name their addresses.
pub fn services(instance: &KarmadaInstance, engine_image: &str) -> Result<Vec<Manifest>, InstanceError> {
    let manifests =
        chart::host(&Inputs { instance, engine_image, secret_digests: &BTreeMap::new(), ca: "", etcd_addresses: &[] })?;
    Ok(manifests.into_iter().filter(|manifest| matches!(manifest, Manifest::Service(_))).collect())
}

/// The keys as they are to be: what the instance has of them is kept while it is good.
pub fn keyring<'a>(
    instance: &KarmadaInstance,
    entries: &[Entry],
    secrets: impl IntoIterator<Item = &'a Secret>,
    now: Timestamp,
) -> Result<Keyring, InstanceError> {
    let existing: BTreeMap<String, Data> = secrets
        .into_iter()
        .filter(|secret| ownership(&secret.metadata, instance) != Ownership::Foreign)
        .map(|secret| (secret.name_any(), keys::data(secret)))
        .collect();
    Ok(Keyring::complete(entries, &existing, keys::lifetimes(instance), now)?)
}

/// The Secrets that hold the keys.
#[must_use]
pub fn secrets(instance: &KarmadaInstance, entries: &[Entry], keyring: &Keyring) -> Vec<Manifest> {
    let secret = |entry: &Entry| Some(keys::secret(instance, entry, keyring.secrets.get(&entry.name)?).into());
    entries.iter().filter_map(secret).collect()
}

/// Certificate of the main CA.
#[must_use]
pub fn ca(keyring: &Keyring) -> &str {
    keyring.cas.get(&Issuer::Main).map_or("", String::as_str)
}

/// Refuses volume claims that etcd's StatefulSet would take up although they are somebody else's.
pub fn check_claims(
    instance: &KarmadaInstance,
    claims: &[PartialObjectMeta<PersistentVolumeClaim>],
) -> Result<(), InstanceError> {
    let is_foreign = |claim: &&PartialObjectMeta<PersistentVolumeClaim>| {
        claim.labels().get(INSTANCE_LABEL) != instance.metadata.name.as_ref()
    };
    match claims.iter().find(is_foreign) {
        Some(claim) => Err(InstanceError::Taken { kind: "PersistentVolumeClaim".into(), name: claim.name_any() }),
        None => Ok(()),
    }
}

/// The manifests of a stage, apart from Services.
#[must_use]
pub fn of_stage(manifests: &[Manifest], stage: Stage) -> Vec<Manifest> {
    let is_of_stage = |manifest: &&Manifest| {
        let component = manifest.label(chart::COMPONENT_LABEL).and_then(Component::named);
        !matches!(manifest, Manifest::Service(_)) && component.is_some_and(|component| component.stage() == stage)
    };
    manifests.iter().filter(is_of_stage).cloned().collect()
}

/// Members of etcd under a new CA and those under the old one shut each other out, and a roll-out one by one would wait
/// for ever: those left behind are restarted together. Pods of an etcd of several members that run under another CA
/// than the desired one.
#[must_use]
pub fn pods_of_another_ca(host: &Host, ca_digest: Option<&String>) -> Vec<Target> {
    let members: Vec<_> =
        host.pods.values().filter(|pod| component_of(pod.as_ref()) == Some(Component::Etcd)).collect();
    if members.len() < 2 {
        return Vec::new();
    }
    members
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| pod.annotations().get(chart::CA_ANNOTATION) != ca_digest)
        .map(|pod| Target::of(pod.as_ref()))
        .collect()
}

/// Controllers must not be newer than the API server: until it has been rolled out, they keep the image that they have.
pub fn keep_image(manifests: &mut [Manifest], host: &Host, component: Component) {
    for manifest in manifests {
        let Manifest::Deployment(desired) = manifest else { continue };
        if component_of(desired.as_ref()) != Some(component) {
            continue;
        }
        let live = host
            .deployments
            .get(&desired.name_any())
            .and_then(|live| live.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone());
        let container = desired
            .spec
            .as_mut()
            .and_then(|spec| spec.template.spec.as_mut())
            .and_then(|spec| spec.containers.first_mut());
        if let (Some(live), Some(container)) = (live, container) {
            container.image = Some(live);
        }
    }
}

/// What the instance owns in the host cluster and no longer wants.
#[must_use]
pub fn superfluous(instance: &KarmadaInstance, host: &Host, desired: &DesiredHost) -> Vec<Target> {
    let is_desired = |kind: &str, name: &str| {
        (kind == "Secret" && desired.entries.iter().any(|entry| entry.name == name))
            || desired.manifests.iter().any(|m| m.resource().kind == kind && m.name() == name)
    };
    let owned = owned(instance, host).into_iter();
    owned.filter(|target| !is_desired(&target.resource.kind, &target.name)).collect()
}

/// Changes whenever the objects inside the plane might, apart from the bundle behind a ConfigMap.
#[must_use]
pub fn inputs_digest(inputs: &Inputs<'_>) -> String {
    let spec = serde_json::to_string(&inputs.instance.spec).unwrap_or_default();
    chart::digest([spec.as_bytes(), inputs.engine_image.as_bytes(), inputs.ca.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;
    use serde_json::json;
    use std::sync::Arc;

    fn member(host: &mut Host, name: &str, ca: &str) {
        let pod = json!({ "metadata": { "name": name, "uid": name,
            "labels": { "app.kubernetes.io/component": "etcd" },
            "annotations": { chart::CA_ANNOTATION: ca } } });
        host.pods.insert(name.to_owned(), Arc::new(serde_json::from_value(pod).unwrap()));
    }

    #[test]
    fn members_left_behind_by_a_new_ca_are_restarted_together() {
        let mut host = Host::default();
        let new = "new".to_owned();
        member(&mut host, "a", "old");
        assert!(pods_of_another_ca(&host, Some(&new)).is_empty(), "one alone is rolled out as any other");
        member(&mut host, "b", "old");
        member(&mut host, "c", "new");
        let names: Vec<String> = pods_of_another_ca(&host, Some(&new)).into_iter().map(|target| target.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn claims_of_another_instance_are_refused() {
        let claim = |name: &str, instance: &str| -> PartialObjectMeta<PersistentVolumeClaim> {
            let metadata = json!({ "name": name, "labels": { INSTANCE_LABEL: instance } });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let own = claim("data-east-etcd-0", "east");
        assert!(check_claims(&instance("Compact"), std::slice::from_ref(&own)).is_ok());
        let error = check_claims(&instance("Compact"), &[own, claim("data-east-etcd-1", "west")]).unwrap_err();
        assert!(error.to_string().contains("data-east-etcd-1"), "{error}");
    }

    #[test]
    fn what_is_no_longer_wanted_is_superfluous_when_it_is_the_instances() {
        let i = instance("Compact");
        let mut host = Host::default();
        let object = |name: &str, owned: bool| -> Arc<Secret> {
            let owners: Vec<_> =
                owned.then(|| crate::controllers::instance::ownership::owner(&i)).into_iter().collect();
            let metadata = json!({ "name": name, "uid": name, "ownerReferences": owners });
            Arc::new(serde_json::from_value(json!({ "metadata": metadata })).unwrap())
        };
        for (name, owned) in [("east-ca", true), ("east-old", true), ("foreign", false)] {
            host.secrets.insert(name.into(), object(name, owned));
        }
        let desired = DesiredHost { entries: keys::entries(&i, &[]).unwrap(), manifests: Vec::new() };
        let names: Vec<String> = superfluous(&i, &host, &desired).into_iter().map(|target| target.name).collect();
        assert_eq!(names, ["east-old"]);
    }

    #[test]
    fn services_come_without_anything_else() {
        let services = services(&instance("Compact"), "airdock:test").unwrap();
        assert!(!services.is_empty() && services.iter().all(|manifest| matches!(manifest, Manifest::Service(_))));
    }
}
