//! Writing what an app wants in its plane, and taking away what it wants no more. IO.

use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::core::ApiResource;
use serde_json::Value;

use crate::api::app::InventoryEntry;
use crate::application::model::Plan;
use crate::controllers::stamp::{APPLIED_ANNOTATION, digest};
use crate::karmada::{OverridePolicy, PropagationPolicy};
use crate::runtime::apply::Change;
use crate::runtime::guarded::omitted;

use super::error::Error;
use super::namespace;
use super::observe::{ObservedApp, ObservedTemplate, resource};
use super::ownership::Claims;
use super::plane_client::{PlaneClient, each};

/// How often one object is tried in one round, while somebody else keeps changing it.
const MAX_ATTEMPTS: usize = 5;

/// What became of the writes.
#[derive(Debug, Default)]
pub struct WriteResults {
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
pub async fn apply(
    plane_client: &PlaneClient,
    claims: &Claims<'_>,
    plan: &Plan,
    observed: &ObservedApp,
) -> WriteResults {
    let mut results = WriteResults { generations: vec![None; plan.templates.len()], ..WriteResults::default() };
    if let Err(error) = write_all(plane_client, claims, plan, observed, &mut results).await {
        results.failure = Some(error);
    }
    results.inventory.sort();
    results
}

async fn write_all(
    plane_client: &PlaneClient,
    claims: &Claims<'_>,
    plan: &Plan,
    observed: &ObservedApp,
    results: &mut WriteResults,
) -> Result<(), Error> {
    match &observed.namespace {
        Some(namespace) if namespace.metadata.deletion_timestamp.is_some() => {
            return Err(Error::NamespaceEnding(namespace.name_any()));
        }
        Some(_) => {}
        None => {
            namespace::create(plane_client, &plan.namespace).await?;
            results.changed = true;
        }
    }
    let [overrides, propagation, templates] = wanted(claims, plan, observed);
    for stage in [overrides, propagation] {
        for written in each(stage.into_iter().map(|wanted| write(plane_client, claims, wanted)).collect()).await? {
            results.record(&written);
        }
    }
    // One template that the plane refuses must not keep the others away.
    let writes = templates.into_iter().map(|wanted| async move { Ok(write(plane_client, claims, wanted).await) });
    let written = each(writes.collect()).await?;
    let mut failure = None;
    for (result, generation) in written.into_iter().zip(&mut results.generations) {
        match result {
            Ok(written) => {
                *generation = written.0.metadata.generation;
                results.inventory.push(entry(&written.0));
                results.changed |= written.1;
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    for live in &observed.stale {
        results.changed |= release(plane_client, claims, live).await?;
    }
    if let Some(policy) = observed.propagation.as_ref().filter(|_| !selects_anything(plan)) {
        results.changed |= delete_object(plane_client, claims, &resource::<PropagationPolicy>(), policy).await?;
    }
    for policy in &observed.overrides {
        if !plan.overrides.iter().any(|wanted| wanted.name_any() == policy.name_any()) {
            results.changed |= delete_object(plane_client, claims, &resource::<OverridePolicy>(), policy).await?;
        }
    }
    Ok(())
}

impl WriteResults {
    fn record(&mut self, (object, changed): &(DynamicObject, bool)) {
        self.inventory.push(entry(object));
        self.changed |= changed;
    }
}

/// Whether everything that a plan wants is there as it wants it.
#[must_use]
pub fn is_written(claims: &Claims<'_>, plan: &Plan, observed: &ObservedApp) -> bool {
    let holds = |wanted: &Wanted<'_>| {
        let stamp = wanted.object.pointer("/metadata/annotations").and_then(|map| map.get(APPLIED_ANNOTATION));
        wanted.live.is_some_and(|live| {
            omitted(&live.data).is_none()
                && live.annotations().get(APPLIED_ANNOTATION).map(String::as_str) == stamp.and_then(Value::as_str)
        })
    };
    observed.stale.is_empty() && wanted(claims, plan, observed).iter().flatten().all(holds)
}

/// A policy without selectors would be refused, and is for nothing.
fn selects_anything(plan: &Plan) -> bool {
    !plan.propagation.spec.propagation.resource_selectors.is_empty()
}

/// Override policies, the policy, templates.
fn wanted<'a>(claims: &Claims<'_>, plan: &Plan, observed: &'a ObservedApp) -> [Vec<Wanted<'a>>; 3] {
    let overrides = plan.overrides.iter().map(|policy| Wanted {
        resource: resource::<OverridePolicy>(),
        object: stamped_value(claims.marked(serde_json::to_value(policy).unwrap_or_default())),
        live: observed.overrides.iter().find(|live| live.name_any() == policy.name_any()),
    });
    let propagation = selects_anything(plan).then(|| Wanted {
        resource: resource::<PropagationPolicy>(),
        object: stamped_value(claims.marked(serde_json::to_value(&plan.propagation).unwrap_or_default())),
        live: observed.propagation.as_ref(),
    });
    let templates = plan.templates.iter().zip(&observed.templates).map(|(template, live)| Wanted {
        resource: live.resource.clone(),
        object: stamped_value(claims.marked(template.object.clone())),
        live: live.object.as_ref(),
    });
    [overrides.collect(), propagation.into_iter().collect(), templates.collect()]
}

fn stamped_value(mut object: Value) -> Value {
    let stamp = digest(&object);
    object["metadata"]["annotations"][APPLIED_ANNOTATION] = Value::String(stamp);
    object
}

/// Writes one object, unless it is as it should be. It is created, or written over what the plane itself has: the cache may
/// be behind. When somebody was faster, its owner is looked at again.
async fn write(
    plane_client: &PlaneClient,
    claims: &Claims<'_>,
    wanted: Wanted<'_>,
) -> Result<(DynamicObject, bool), Error> {
    let Wanted { resource, object, live } = wanted;
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    if let Some(live) = live.filter(|live| plane_client.applier.is_applied(&resource, &object, live)) {
        return Ok((live.clone(), false));
    }
    let mut seen = match live {
        Some(_) => plane_client.get(&resource, Some(&namespace), &name).await?,
        None => None,
    };
    let mut attempt = 1;
    loop {
        if let Some(object) = &seen {
            // Also when it turns out to be another's: the next look at the cache is to find that.
            plane_client.record(&resource, object);
            claims.check(object)?;
        }
        let written = plane_client.applier.apply_seen(&resource, Some(&namespace), &name, object.clone(), seen).await;
        match written {
            Err(error) if error.is_conflict() && attempt < MAX_ATTEMPTS => {
                seen = plane_client.get(&resource, Some(&namespace), &name).await?;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
            Ok(applied) => {
                plane_client.record(&resource, &applied.object);
                return Ok((applied.object, applied.change != Change::None));
            }
        }
    }
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

/// Lets go of an object, if it is there and the app's: it is handed over to the application that waits for it, and
/// deleted when none does. Tells whether anything was written.
pub async fn release(plane_client: &PlaneClient, claims: &Claims<'_>, live: &ObservedTemplate) -> Result<bool, Error> {
    let Some(object) = live.object.as_ref().filter(|object| claims.is_ours(object)) else { return Ok(false) };
    match claims.heir(&live.identity).filter(|_| object.metadata.deletion_timestamp.is_none()) {
        Some(heir) => {
            let object = plane_client.applier.patch_metadata(&live.resource, object, heir.marks()).await?;
            plane_client.record(&live.resource, &object);
            Ok(true)
        }
        None => delete_object(plane_client, claims, &live.resource, object).await,
    }
}

/// Deletes an object of the application's. When it was changed since it was seen, its owner is looked at again. Tells whether it was
/// deleted: one that is on its way out already, kept by somebody's finalizer, is left alone.
pub async fn delete_object(
    plane_client: &PlaneClient,
    claims: &Claims<'_>,
    resource: &ApiResource,
    object: &DynamicObject,
) -> Result<bool, Error> {
    let mut seen = object.clone();
    let mut attempt = 1;
    while seen.metadata.deletion_timestamp.is_none() && claims.is_ours(&seen) {
        match plane_client.applier.delete_seen(resource, &seen).await {
            Err(error) if error.is_conflict() && attempt < MAX_ATTEMPTS => {
                let now = plane_client.get(resource, seen.namespace().as_deref(), &seen.name_any()).await?;
                let Some(now) = now else { return Ok(false) };
                seen = now;
                attempt += 1;
            }
            deleted => return Ok(deleted.map(|()| true)?),
        }
    }
    Ok(false)
}
