//! Writing what an app wants in its plane, and taking away what it wants no more. IO.

use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::Value;

use crate::api::app::{InventoryEntry, MultiCloudApp};
use crate::application::model::Plan;
use crate::controllers::stamp::{APPLIED_ANNOTATION, digest, stamped};
use crate::karmada::{OverridePolicy, PropagationPolicy};
use crate::runtime::apply::{Change, anybodys};
use crate::runtime::guarded::omitted;

use super::access::{Access, each};
use super::error::Error;
use super::observe::{Live, Observed, is_ours, resource};

/// What became of the writes.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the app has in the plane now, as far as it was written.
    pub inventory: Vec<InventoryEntry>,
    /// Generation of each template, in the order of the plan.
    pub generations: Vec<Option<i64>>,
    /// Whether anything was written.
    pub changed: bool,
    /// The first failure. What does not depend on it was written all the same.
    pub failure: Option<Error>,
}

/// One object to be written.
struct Wanted<'a> {
    resource: ApiResource,
    object: Value,
    live: Option<&'a DynamicObject>,
}

/// Writes a plan: policies first, so that no template is ever placed or sent out without them; then the templates;
/// and last it deletes what is not wanted any more.
pub async fn apply(access: &Access, app: &MultiCloudApp, plan: &Plan, observed: &Observed) -> Outcome {
    let mut outcome = Outcome { generations: vec![None; plan.templates.len()], ..Outcome::default() };
    if let Err(error) = write_all(access, app, plan, observed, &mut outcome).await {
        outcome.failure = Some(error);
    }
    outcome.inventory.sort();
    outcome
}

async fn write_all(
    access: &Access,
    app: &MultiCloudApp,
    plan: &Plan,
    observed: &Observed,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    match &observed.namespace {
        Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => {
            return Err(Error::NamespaceEnding(namespace.name_any()));
        }
        Some(_) => {}
        None => {
            let resource = resource::<k8s_openapi::api::core::v1::Namespace>();
            let name = plan.namespace.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let namespace = plan.namespace.clone();
            let applied = access.applier.apply_over(&resource, None, name, namespace, None, anybodys).await?;
            access.record(&resource, &applied.object);
            outcome.changed = true;
        }
    }
    let [overrides, propagation, templates] = wanted(plan, observed);
    for stage in [overrides, propagation] {
        for written in each(stage.into_iter().map(|wanted| write(access, wanted)).collect()).await? {
            outcome.record(&written);
        }
    }
    // One template that the plane refuses must not keep the others away.
    let writes = templates.into_iter().map(|wanted| async move { Ok(write(access, wanted).await) });
    let written = each(writes.collect()).await?;
    let mut failure = None;
    for (result, generation) in written.into_iter().zip(&mut outcome.generations) {
        match result {
            Ok(written) => {
                *generation = written.0.metadata.generation;
                outcome.inventory.push(entry(&written.0));
                outcome.changed |= written.1;
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    for live in &observed.stale {
        delete(access, app, live).await?;
        outcome.changed = true;
    }
    for policy in &observed.overrides {
        if !plan.overrides.iter().any(|wanted| wanted.name_any() == policy.name_any()) {
            delete_object(access, &resource::<OverridePolicy>(), policy).await?;
            outcome.changed = true;
        }
    }
    Ok(())
}

impl Outcome {
    fn record(&mut self, (object, changed): &(DynamicObject, bool)) {
        self.inventory.push(entry(object));
        self.changed |= changed;
    }
}

/// Whether everything that a plan wants is there as it wants it.
#[must_use]
pub fn is_written(plan: &Plan, observed: &Observed) -> bool {
    let holds = |wanted: &Wanted<'_>| {
        let stamp = wanted.object.pointer("/metadata/annotations").and_then(|map| map.get(APPLIED_ANNOTATION));
        wanted.live.is_some_and(|live| {
            omitted(&live.data).is_none()
                && live.annotations().get(APPLIED_ANNOTATION).map(String::as_str) == stamp.and_then(Value::as_str)
        })
    };
    observed.stale.is_empty() && wanted(plan, observed).iter().flatten().all(holds)
}

/// Override policies, the policy, templates.
fn wanted<'a>(plan: &Plan, observed: &'a Observed) -> [Vec<Wanted<'a>>; 3] {
    let overrides = plan.overrides.iter().map(|policy| Wanted {
        resource: resource::<OverridePolicy>(),
        object: serde_json::to_value(stamped(policy.clone())).unwrap_or_default(),
        live: observed.overrides.iter().find(|live| live.name_any() == policy.name_any()),
    });
    let propagation = Wanted {
        resource: resource::<PropagationPolicy>(),
        object: serde_json::to_value(stamped(plan.propagation.clone())).unwrap_or_default(),
        live: observed.propagation.as_ref(),
    };
    let templates = plan.templates.iter().zip(&observed.templates).map(|(template, live)| Wanted {
        resource: live.resource.clone(),
        object: stamped_value(&template.object),
        live: live.object.as_ref(),
    });
    [overrides.collect(), vec![propagation], templates.collect()]
}

fn stamped_value(object: &Value) -> Value {
    let stamp = digest(object);
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(APPLIED_ANNOTATION.to_owned(), Value::String(stamp));
        }
    }
    object
}

/// Writes one object, whose owner was checked when it was read.
async fn write(access: &Access, wanted: Wanted<'_>) -> Result<(DynamicObject, bool), Error> {
    let Wanted { resource, object, live } = wanted;
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let applied =
        access.applier.apply_over(&resource, Some(&namespace), &name, object, live.cloned(), anybodys).await?;
    access.record(&resource, &applied.object);
    Ok((applied.object, applied.change != Change::None))
}

fn entry(object: &DynamicObject) -> InventoryEntry {
    let types = object.types.clone().unwrap_or_default();
    InventoryEntry {
        api_version: types.api_version,
        kind: types.kind,
        namespace: object.namespace(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

/// Deletes an object of the app, if it is there and the app's.
pub async fn delete(access: &Access, app: &MultiCloudApp, live: &Live) -> Result<(), Error> {
    match live.object.as_ref().filter(|object| is_ours(app, object)) {
        Some(object) => delete_object(access, &live.resource, object).await,
        None => Ok(()),
    }
}

/// Deletes this very object.
pub async fn delete_object(access: &Access, resource: &ApiResource, object: &DynamicObject) -> Result<(), Error> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let (namespace, uid) = (object.namespace(), object.uid().unwrap_or_default());
    access.applier.delete(resource, namespace.as_deref(), &object.name_any(), &uid).await?;
    Ok(())
}
