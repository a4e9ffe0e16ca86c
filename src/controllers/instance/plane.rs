//! The objects inside a plane: put there once, and looked at again when one of them changes. *IO.*
//!
//! The plane's cache tells what is there. Only what is missing or has changed since it was last found right is read and,
//! where it differs, written.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource as _, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::{KarmadaInstance, MANAGED_BY, MANAGED_BY_LABEL};
use crate::chart::{self, Manifest};
use crate::karmada::Cluster;
use crate::runtime::apply::{Applier, Change, anybodys};
use crate::runtime::controller::Guarded;
use crate::runtime::planes::cache::PlaneCache;
use crate::runtime::planes::{InstanceKey, Plane, PlaneEvent};

use super::error::InstanceError;

/// Label on what belongs to the plane's installation itself; value `true`.
pub const INSTALLATION_LABEL: &str = "airdock.dev/installation";

/// Annotation on definitions with the bundle that they come from.
pub const BUNDLE_ANNOTATION: &str = "airdock.dev/bundle";

/// How often a plane whose objects were all right is asked whether it is ready.
pub const RECHECK: Duration = Duration::from_secs(20);

/// How long objects that were all right are not looked at again, when nothing is told of them.
const SETTLED_FOR: Duration = Duration::from_secs(300);

/// Annotation with the time at which a definition was last touched.
const TOUCHED_ANNOTATION: &str = "airdock.dev/touched";

/// The APIService through which a plane with upstream's components serves Clusters.
const CLUSTERS_API_SERVICE: &str = "v1alpha1.cluster.karmada.io";

/// How long a definition may take to be served before it is touched.
const TOUCH_AFTER_SECONDS: i64 = 5;

/// Writes at once into one plane.
const CONCURRENCY: usize = 8;

/// Planes that are looked at with all their wanted objects in memory: Karmada's definitions take some 15 MB each time.
const TURNS: usize = 2;

/// How long a look waits for its turn. A plane that keeps others waiting for longer is not to hold them up.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// What is known of the planes that were looked at.
#[derive(Clone)]
pub struct PlaneObjects {
    known: Arc<Mutex<HashMap<InstanceKey, Known>>>,
    turns: Arc<Semaphore>,
    turn_within: Duration,
}

impl Default for PlaneObjects {
    fn default() -> Self {
        Self { known: Arc::default(), turns: Arc::new(Semaphore::new(TURNS)), turn_within: TURN_WITHIN }
    }
}

#[derive(Clone)]
struct Known {
    /// What the wanted objects were made from, and what they are.
    inputs: String,
    wanted: String,
    plane: Arc<Plane>,
    applier: Applier,
    /// Version at which each object was found right. Kept also when a look is broken off half-way.
    right: Arc<Mutex<HashMap<String, String>>>,
    /// When every object was last found right, and every kind served.
    settled: Option<Instant>,
    /// How many changes were told of that this did not make.
    drifts: u64,
}

/// What a look at a plane has found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// What was written.
    pub changes: Vec<String>,
    /// Kinds that are defined, and not served yet.
    pub unserved: Vec<String>,
}

impl PlaneObjects {
    /// Whether a plane's objects, made from these inputs, were found right just now.
    #[must_use]
    pub fn are_settled(&self, plane: &Arc<Plane>, inputs: &str) -> bool {
        let all = self.known.lock();
        all.get(&plane.key).is_some_and(|known| {
            known.inputs == inputs
                && Arc::ptr_eq(&known.plane, plane)
                && known.settled.is_some_and(|at| at.elapsed() < SETTLED_FOR)
        })
    }

    /// Waits until few others hold the objects of a plane in memory, and for so long as that is held, tells others to wait.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = tokio::time::timeout(self.turn_within, self.turns.clone().acquire_owned()).await;
        turn.ok().and_then(Result::ok)
    }

    /// Brings a plane's objects to what is wanted. Tells what it changed.
    pub async fn ensure(&self, plane: &Arc<Plane>, inputs: &str, wanted: &[Manifest]) -> Result<Looked, InstanceError> {
        let known = self.known(plane, inputs, digest(wanted));
        let found = find(&plane.cache, wanted).await?;
        let mut changes = Vec::new();
        // Namespaces first: others live in them. The order within each of the two groups does not matter.
        let (first, second): (Vec<&Manifest>, Vec<&Manifest>) =
            wanted.iter().partition(|manifest| matches!(manifest, Manifest::Namespace(_)));
        for group in [first, second] {
            let pending: Vec<_> =
                group.into_iter().filter(|m| known.doubts(m, &found)).map(|m| apply(&known, m)).collect();
            let applied: Vec<Option<String>> =
                futures::stream::iter(pending).buffer_unordered(CONCURRENCY).try_collect().await?;
            changes.extend(applied.into_iter().flatten());
        }
        changes.extend(prune(&known.applier, wanted, &found).await?);
        let unserved = unserved(&plane.client, wanted).await;
        touch_unserved(&known.applier, wanted, &found, &unserved).await?;
        if unserved.is_empty() {
            self.settle(plane, &known);
        }
        Ok(Looked { changes, unserved })
    }

    /// Notes that all is right, unless something has changed since the look began.
    fn settle(&self, plane: &Plane, looked: &Known) {
        let mut all = self.known.lock();
        if let Some(known) = all.get_mut(&plane.key).filter(|known| known.drifts == looked.drifts) {
            known.settled = Some(Instant::now());
        }
    }

    /// The instance to be looked at, when an object of its installation is not as it was found right.
    pub fn drifted(&self, event: &PlaneEvent<'_>) -> Option<ObjectRef<Guarded<KarmadaInstance>>> {
        let mut all = self.known.lock();
        let known = all.get_mut(event.instance)?;
        if !is_drift(event, &known.right.lock()) {
            return None;
        }
        known.drifts += 1;
        known.settled = None;
        Some(ObjectRef::new(&event.instance.name).within(&event.instance.namespace))
    }

    /// What is known of a plane for which this is wanted; nothing, when either is new.
    fn known(&self, plane: &Arc<Plane>, inputs: &str, wanted: String) -> Known {
        let mut all = self.known.lock();
        let known = all
            .get(&plane.key)
            .filter(|known| known.inputs == inputs && known.wanted == wanted && Arc::ptr_eq(&known.plane, plane));
        if let Some(known) = known {
            return known.clone();
        }
        let applier = Applier::new(plane.client.clone(), "airdock.dev/instance");
        let inputs = inputs.to_owned();
        let known =
            Known { inputs, wanted, plane: plane.clone(), applier, right: Arc::default(), settled: None, drifts: 0 };
        all.insert(plane.key.clone(), known.clone());
        known
    }

    /// Forgets a plane.
    pub fn forget(&self, key: &InstanceKey) {
        self.known.lock().remove(key);
    }
}

/// Whether something has happened to an object of the installation after it was found right. *Pure.*
fn is_drift(event: &PlaneEvent<'_>, right: &HashMap<String, String>) -> bool {
    let is_installed = |object: &DynamicObject| object.labels().contains_key(INSTALLATION_LABEL);
    let is_right = right.get(&id(event.resource, event.object)) == Some(&version(event.object));
    event.before.into_iter().chain([event.object]).any(is_installed) && (event.deleted || !is_right)
}

/// Marks objects as part of a plane's installation. *Pure.*
pub fn mark(manifests: &mut [Manifest]) {
    for manifest in manifests {
        let labels = manifest.metadata_mut().labels.get_or_insert_default();
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        labels.insert(INSTALLATION_LABEL.to_owned(), "true".to_owned());
    }
}

/// Whether a plane holds definitions of a bundle of this version.
pub async fn holds_bundle(client: &Client, version: &str) -> bool {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    let params = ListParams::default().labels(&format!("{INSTALLATION_LABEL}=true"));
    api.list_metadata(&params).await.is_ok_and(|list| {
        list.items.iter().any(|object| object.annotations().get(BUNDLE_ANNOTATION).is_some_and(|v| v == version))
    })
}

/// Whether a plane serves Clusters, which it forwards to a component. Where its APIService does not say so yet, the plane
/// itself is asked: it looks at its APIServices every half a minute only.
pub async fn serves_clusters(plane: &Plane) -> bool {
    let services = plane.cache.kind(&ApiResource::erase::<APIService>(&())).await;
    let service = services.ok().and_then(|kind| kind.get(None, CLUSTERS_API_SERVICE));
    if service.is_some_and(|service| is_available(&service)) {
        return true;
    }
    let served = plane.client.list_api_group_resources(&Cluster::api_version(&())).await;
    served.is_ok_and(|list| list.resources.iter().any(|resource| resource.name == Cluster::plural(&())))
}

/// Whether an APIService says that what is behind it answers. *Pure.*
fn is_available(service: &DynamicObject) -> bool {
    let conditions = service.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Available" && one["status"] == "True")
}

/// Names of the definitions that the plane does not serve.
async fn unserved(client: &Client, wanted: &[Manifest]) -> Vec<String> {
    let mut served: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for definition in definitions(wanted) {
        for version in definition.spec.versions.iter().filter(|version| version.served) {
            let group_version = format!("{}/{}", definition.spec.group, version.name);
            if !served.contains_key(&group_version) {
                let list = client.list_api_group_resources(&group_version).await;
                let names = list.map(|list| list.resources.into_iter().map(|r| r.name).collect());
                served.insert(group_version.clone(), names.unwrap_or_default());
            }
            if !served[&group_version].contains(&definition.spec.names.plural) {
                missing.push(definition.name_any());
                break;
            }
        }
    }
    missing
}

fn definitions(wanted: &[Manifest]) -> impl Iterator<Item = &CustomResourceDefinition> {
    wanted.iter().filter_map(|manifest| match manifest {
        Manifest::CustomResourceDefinition(definition) => Some(definition.as_ref()),
        _ => None,
    })
}

/// Touches definitions that are not served long after they were made. An API server that ends between accepting
/// the names of a definition and establishing it takes that up again only when the definition changes.
async fn touch_unserved(
    applier: &Applier,
    wanted: &[Manifest],
    found: &Found,
    unserved: &[String],
) -> Result<(), InstanceError> {
    let now = Timestamp::now();
    for manifest in wanted.iter().filter(|manifest| unserved.iter().any(|name| name == manifest.name())) {
        let Some((resource, object)) = found.get(&id_of(manifest)) else { continue };
        let last = object.annotations().get(TOUCHED_ANNOTATION).and_then(|at| at.parse::<Timestamp>().ok());
        let last = last.or_else(|| object.creation_timestamp().map(|time| time.0));
        if last.is_some_and(|last| now.as_second() - last.as_second() < TOUCH_AFTER_SECONDS) {
            continue;
        }
        tracing::warn!(definition = manifest.name(), "the plane does not serve it yet: touching it");
        let patch = json!({ "metadata": { "annotations": { TOUCHED_ANNOTATION: now.to_string() } } });
        let api = applier.api(resource, None);
        api.patch(manifest.name(), &PatchParams::default(), &Patch::Merge(&patch)).await.map_err(|error| {
            InstanceError::Plane { what: format!("touch {}", manifest.id()), source: Box::new(error) }
        })?;
    }
    Ok(())
}

impl Known {
    /// Whether an object is missing, or has changed since it was found right.
    fn doubts(&self, manifest: &Manifest, found: &Found) -> bool {
        let right = self.right.lock();
        let now = found.get(&id_of(manifest)).map(|(_, object)| version(object));
        now.is_none() || now.as_ref() != right.get(&id_of(manifest))
    }
}

async fn apply(known: &Known, manifest: &Manifest) -> Result<Option<String>, InstanceError> {
    let resource = manifest.resource();
    let namespace = manifest.metadata().namespace.as_deref();
    let applied = known
        .applier
        .apply_value(&resource, namespace, manifest.name(), manifest.to_value()?, anybodys)
        .await
        .map_err(|error| InstanceError::Plane { what: format!("apply {}", manifest.id()), source: Box::new(error) })?;
    known.plane.cache.record(&resource, &applied.object);
    let mut right = known.right.lock();
    right.insert(id_of(manifest), version(&applied.object));
    Ok(match applied.change {
        Change::Created => Some(format!("created {}", manifest.id())),
        Change::Updated => Some(format!("updated {}", manifest.id())),
        Change::None => None,
    })
}

type Found = BTreeMap<String, (ApiResource, DynamicObject)>;

/// Finds what there is of the wanted kinds.
async fn find(cache: &PlaneCache, wanted: &[Manifest]) -> Result<Found, InstanceError> {
    let mut resources: Vec<ApiResource> = Vec::new();
    for manifest in wanted {
        let resource = manifest.resource();
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    let views = futures::future::try_join_all(resources.iter().map(|resource| cache.kind(resource))).await;
    let views = views.map_err(|error| InstanceError::Plane {
        what: "look up the plane's objects".to_owned(),
        source: Box::new(error),
    })?;
    let is_installed = |object: &DynamicObject| object.labels().get(INSTALLATION_LABEL).is_some_and(|v| v == "true");
    let mut found = Found::new();
    for kind in views {
        let objects = kind.list(is_installed).into_iter();
        found.extend(objects.map(|object| (id(kind.resource(), &object), (kind.resource().clone(), object))));
    }
    Ok(found)
}

/// Removes what is no longer wanted; never definitions and namespaces, which would take users' objects with them.
async fn prune(applier: &Applier, wanted: &[Manifest], found: &Found) -> Result<Vec<String>, InstanceError> {
    let wanted: HashSet<String> = wanted.iter().map(id_of).collect();
    let mut changes = Vec::new();
    for (id, (resource, object)) in found {
        let keeps = matches!(resource.kind.as_str(), "Namespace" | "CustomResourceDefinition");
        if keeps || wanted.contains(id) {
            continue;
        }
        let (name, uid) = (object.name_any(), object.uid().unwrap_or_default());
        let what = format!("{} {name}", resource.kind);
        applier
            .delete(resource, object.namespace().as_deref(), &name, &uid)
            .await
            .map_err(|error| InstanceError::Plane { what: format!("delete {what}"), source: Box::new(error) })?;
        changes.push(format!("removed {what}"));
    }
    Ok(changes)
}

/// Names an object of any kind.
fn id<K: kube::Resource>(resource: &ApiResource, object: &K) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{}/{}/{namespace}/{}", resource.group, resource.kind, object.name_any())
}

fn id_of(manifest: &Manifest) -> String {
    let namespace = manifest.metadata().namespace.as_deref().unwrap_or_default();
    let resource = manifest.resource();
    format!("{}/{}/{namespace}/{}", resource.group, resource.kind, manifest.name())
}

fn version<K: kube::Resource>(object: &K) -> String {
    format!("{}@{}", object.uid().unwrap_or_default(), object.resource_version().unwrap_or_default())
}

/// Changes whenever what is wanted does.
fn digest(wanted: &[Manifest]) -> String {
    let marks: Vec<String> = wanted
        .iter()
        .map(|manifest| {
            let annotations = manifest.metadata().annotations.as_ref();
            let rendered = annotations.and_then(|a| a.get(chart::RENDERED_ANNOTATION)).map_or("", String::as_str);
            format!("{}={rendered}", id_of(manifest))
        })
        .collect();
    chart::digest(marks.iter().map(String::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;

    fn object(labels: serde_json::Value, version: &str) -> DynamicObject {
        let metadata = json!({"name": "karmada", "uid": "u", "resourceVersion": version, "labels": labels});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    #[tokio::test]
    async fn few_planes_are_looked_at_together_and_one_that_hangs_holds_up_nobody() {
        let objects = PlaneObjects { turn_within: Duration::ZERO, ..PlaneObjects::default() };
        let held = [objects.turn().await, objects.turn().await];
        assert!(held.iter().all(Option::is_some));
        assert!(objects.turn().await.is_none(), "it goes on without");
        drop(held);
        assert!(objects.turn().await.is_some());
    }

    #[test]
    fn an_api_service_tells_whether_it_is_available() {
        let service = |conditions: Value| -> bool {
            let object = json!({"metadata": {"name": CLUSTERS_API_SERVICE}, "status": {"conditions": conditions}});
            is_available(&serde_json::from_value(object).unwrap())
        };
        assert!(service(json!([{"type": "Available", "status": "True"}])));
        assert!(!service(json!([{"type": "Available", "status": "False"}])) && !service(json!(null)));
    }

    #[test]
    fn whatever_happens_to_an_object_of_the_installation_is_drift_but_for_what_was_found_right() {
        let instance = InstanceKey { namespace: "fleet".into(), name: "east".into() };
        let resource = ApiResource::erase::<ValidatingWebhookConfiguration>(&());
        let ours = || json!({INSTALLATION_LABEL: "true"});
        let right = [(id(&resource, &object(ours(), "7")), "u@7".to_owned())].into();
        let drifts = |before: Option<DynamicObject>, now: DynamicObject, deleted: bool| {
            let before = before.as_ref();
            is_drift(&PlaneEvent { instance: &instance, resource: &resource, object: &now, before, deleted }, &right)
        };
        assert!(!drifts(None, object(ours(), "7"), false), "its own write");
        assert!(drifts(None, object(ours(), "8"), false));
        assert!(drifts(Some(object(ours(), "7")), object(json!({}), "9"), false), "its label was taken off");
        assert!(drifts(Some(object(ours(), "7")), object(ours(), "7"), true), "deleted");
        assert!(!drifts(None, object(json!({}), "9"), false), "somebody else's");
    }
}
