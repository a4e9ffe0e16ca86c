//! Brings objects of members to what is wanted of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::ApiResource;
use serde_json::{Map, Value, json};

use super::Engine;
use super::desired::{DesiredState, Manifest, check_adoption, desired_state, holds, is_named, repair_backoff};
use super::index::{Attempt, Repair, Requeues};
use super::key::{Key, ObjectKey};
use super::member::Session;
use super::model::{Live, is_create_entry, parse, unstamp, version};
use super::queue::Outcome;
use super::rest::{Target, is_kind_missing, is_namespace_missing, is_refused, is_unanswered, message};
use crate::interpret;
use crate::karmada::MANAGED_LABEL;
use crate::runtime::error::is_conflict;

/// How long an object is left alone that is not to be taken over: nothing tells when it goes.
const CONFLICT_RECHECK: Duration = Duration::from_secs(60);

/// What is known when work on an object begins.
enum Begin {
    Nothing,
    Refused(String),
    Remove { live: Live, preserve: bool },
    Apply { manifest: Manifest, live: Option<Live>, repair: Option<Repair>, taken: bool },
}

/// Brings one object of a member to what is wanted of it. IO.
pub(super) async fn run(engine: Arc<Engine>, session: Arc<Session>, key: Key) -> Outcome {
    match begin(&engine, &session, &key) {
        Begin::Nothing => Outcome::Done,
        Begin::Refused(why) => {
            failed(&engine, &session, &key, why);
            Outcome::Done
        }
        Begin::Remove { live, preserve } => remove(&engine, &session, &key, &live, preserve).await,
        Begin::Apply { manifest, live, repair, taken } => {
            let wait = repair.map(|repair| repair_backoff(repair.count, repair.at, Instant::now())).unwrap_or_default();
            if !wait.is_zero() {
                return Outcome::Again(wait);
            }
            let Some((resource, target_namespace)) = resource_of(&engine, &session, &key) else {
                return Outcome::Stuck;
            };
            let target = Target { resource: &resource, namespace: target_namespace, name: &key.name };
            let result = match live {
                Some(live) => update(&engine, &session, &key, &target, &manifest, live).await,
                // A namespace is likely to be there already, made by the member's own people.
                None if taken || key.kind.is_namespace() => {
                    look_again(&engine, &session, &key, &target, &manifest).await
                }
                None => create(&engine, &session, &key, &target, &manifest).await,
            };
            result.unwrap_or_else(|error| fail(&engine, &session, &key, &error))
        }
    }
}

/// Decides what to do, and whether there is anything to do. Pure but for the lock.
fn begin(engine: &Engine, session: &Session, key: &Key) -> Begin {
    let (step, live, repair, attempt, unreadable) = {
        let index = engine.index();
        let Some(member) = index.member(&session.cluster) else { return Begin::Nothing };
        if !member.reachable || !member.synced.contains(&key.kind) {
            // Its objects are looked at as soon as they are all known.
            return Begin::Nothing;
        }
        let live = member.live.get(key).cloned();
        let (repair, attempt) = (member.repairs.get(key).copied(), member.attempts.get(key).cloned());
        let unreadable = index.unreadable_override(key).map(|(_, name)| name.clone());
        (desired_state(&index, &session.cluster, key), live, repair, attempt, unreadable)
    };
    match step {
        DesiredState::Keep => Begin::Nothing,
        DesiredState::Remove { preserve } => match live {
            Some(live) if (preserve || !live.deleting) && engine.index().is_ours(&live, key) => {
                Begin::Remove { live, preserve }
            }
            _ => Begin::Nothing,
        },
        DesiredState::Apply(inputs) => {
            if let Some(policy) = unreadable {
                return Begin::Refused(format!(
                    "override policy {policy} cannot be read, and what it changes is not known: correct or delete it"
                ));
            }
            let manifest = match inputs.render(key) {
                Ok(manifest) => manifest,
                Err(error) => return Begin::Refused(error.to_string()),
            };
            let taken = matches!(attempt, Some(Attempt::Taken(_)));
            let Some(live) = live else { return Begin::Apply { manifest, live: None, repair, taken } };
            if live.deleting {
                // It is made anew when it is gone.
                return Begin::Nothing;
            }
            if let Err(why) = check_adoption(&live, true, &engine.plane, &manifest, &session.cluster) {
                return Begin::Refused(why);
            }
            if live.settled == Some(manifest.hash) || holds(&live, &manifest) {
                let settled = live.settled == Some(manifest.hash) && attempt == Some(Attempt::Applied);
                if !settled {
                    engine.change(|index| index.settle(&session.cluster, key, live.hash, manifest.hash));
                }
                return Begin::Nothing;
            }
            let repair = repair.filter(|repair| repair.wanted == manifest.hash);
            Begin::Apply { manifest, live: Some(live), repair, taken: false }
        }
    }
}

/// The kind as the member serves it.
fn resource_of<'a>(engine: &Engine, session: &Session, key: &'a ObjectKey) -> Option<(ApiResource, Option<&'a str>)> {
    let Some((resource, namespaced)) = session.resource(&key.kind) else {
        session.rediscover();
        let shared = Arc::new(key.clone());
        failed(engine, session, &shared, format!("cluster {} does not serve {}", session.cluster, key.kind));
        return None;
    };
    Some((resource, key.namespace.as_deref().filter(|_| namespaced)))
}

/// Makes an object that is not there, or takes over one that nobody knew of.
async fn create(
    engine: &Arc<Engine>,
    session: &Arc<Session>,
    key: &Key,
    target: &Target<'_>,
    manifest: &Manifest,
) -> Result<Outcome, kube::Error> {
    let _in_flight = InFlight::begin(engine, session, key);
    let mut result = session.rest.create(target, manifest.json.clone().into_bytes()).await;
    if let Err(error) = &result
        && is_namespace_missing(error)
        && let Some(namespace) = target.namespace
    {
        // The namespace is on its way too; it just was not first.
        Box::pin(run(engine.clone(), session.clone(), ObjectKey::of_namespace(namespace))).await;
        result = session.rest.create(target, manifest.json.clone().into_bytes()).await;
    }
    match result {
        Ok(object) => {
            written(engine, session, key, object, manifest);
            tracing::debug!(cluster = %session.cluster, object = %key, "created");
            Ok(Outcome::Done)
        }
        Err(error) if is_conflict(&error) => match session.rest.get(target).await? {
            Some(object) => adopt(engine, session, key, target, manifest, object).await,
            None => Ok(Outcome::Failed),
        },
        Err(error) => Err(error),
    }
}

/// The name was taken the last time: whether it still is, is asked without a write.
async fn look_again(
    engine: &Arc<Engine>,
    session: &Arc<Session>,
    key: &Key,
    target: &Target<'_>,
    manifest: &Manifest,
) -> Result<Outcome, kube::Error> {
    match session.rest.get(target).await? {
        Some(object) => adopt(engine, session, key, target, manifest, object).await,
        None => create(engine, session, key, target, manifest).await,
    }
}

/// An object is there that the watch does not show: it does not carry the label.
async fn adopt(
    engine: &Arc<Engine>,
    session: &Arc<Session>,
    key: &Key,
    target: &Target<'_>,
    manifest: &Manifest,
    object: Value,
) -> Result<Outcome, kube::Error> {
    if object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) {
        failed(engine, session, key, format!("an object of this name is being deleted in cluster {}", session.cluster));
        return Ok(Outcome::Failed);
    }
    let labels = object.pointer("/metadata/labels");
    let labelled = labels.and_then(|all| all.get(MANAGED_LABEL)).and_then(Value::as_str) == Some("true");
    let live = Live::of(object.clone());
    if let Err(why) = check_adoption(&live, labelled, &engine.plane, manifest, &session.cluster) {
        engine.change(|index| index.attempted(&session.cluster, key, Attempt::Taken(why)));
        return Ok(Outcome::Again(CONFLICT_RECHECK));
    }
    apply(engine, session, key, target, manifest, Some(object)).await
}

/// Brings an object that is there to what is wanted.
async fn update(
    engine: &Arc<Engine>,
    session: &Arc<Session>,
    key: &Key,
    target: &Target<'_>,
    manifest: &Manifest,
    live: Live,
) -> Result<Outcome, kube::Error> {
    let object = if live.created || (live.body.is_none() && interpret::retains(&manifest.value)) {
        match session.rest.get(target).await? {
            Some(object) => Some(object),
            None => {
                engine.change(|index| index.remove_live(&session.cluster, key, Some((&live.uid, live.version))));
                return Ok(Outcome::Done);
            }
        }
    } else {
        live.body.as_deref().map(parse)
    };
    // The wanted state is what it was: then it is the live object that somebody changed.
    let drifted = {
        let mut index = engine.index();
        let repairs = &mut index.member_mut(&session.cluster).repairs;
        match repairs.get_mut(key).filter(|repair| repair.wanted == manifest.hash) {
            Some(repair) => {
                let in_a_row = repair.at.elapsed() < Duration::from_secs(60);
                *repair = Repair { count: if in_a_row { repair.count + 1 } else { 1 }, at: Instant::now(), ..*repair };
                true
            }
            None => {
                repairs.insert(key.clone(), Repair { wanted: manifest.hash, count: 0, at: Instant::now() });
                false
            }
        }
    };
    if drifted {
        tracing::info!(cluster = %session.cluster, object = %key, "found changed; putting it right");
    }
    apply(engine, session, key, target, manifest, object).await
}

/// Applies a manifest over an object. Fields that a create made the engine's are first made those of an apply: otherwise
/// they could never be taken away again.
async fn apply(
    engine: &Arc<Engine>,
    session: &Arc<Session>,
    key: &Key,
    target: &Target<'_>,
    manifest: &Manifest,
    object: Option<Value>,
) -> Result<Outcome, kube::Error> {
    let mut wanted = manifest.value.clone();
    if let Some(object) = &object {
        interpret::retain(&mut wanted, object);
        if let Some(patch) = as_applied(object) {
            session.rest.merge(target, &patch).await?;
        }
    }
    let object = session.rest.apply(target, wanted.to_string().into_bytes()).await?;
    written(engine, session, key, object, manifest);
    tracing::debug!(cluster = %session.cluster, object = %key, "applied");
    Ok(Outcome::Done)
}

/// A merge patch that turns the engine's create into an apply; nothing when there is no such entry.
fn as_applied(object: &Value) -> Option<Value> {
    let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array)?;
    let created = managers.iter().find(|manager| is_create_entry(manager))?;
    let is_applied = |manager: &&Value| {
        manager.get("manager") == created.get("manager") && manager.get("operation") == Some(&json!("Apply"))
    };
    let mut entry = created.clone();
    if let Some(applied) = managers.iter().find(is_applied)
        && let (Some(into), Some(from)) = (
            entry.get_mut("fieldsV1").and_then(Value::as_object_mut),
            applied.get("fieldsV1").and_then(Value::as_object),
        )
    {
        unite(into, from);
    }
    entry["operation"] = json!("Apply");
    let others = managers.iter().filter(|manager| !is_create_entry(manager) && !is_applied(manager)).cloned();
    let managers: Vec<Value> = others.chain([entry]).collect();
    let resource_version = version(object).to_string();
    Some(json!({"metadata": {"resourceVersion": resource_version, "managedFields": managers}}))
}

/// Unites two sets of fields.
fn unite(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (field, below) in from {
        match into.get_mut(field).and_then(Value::as_object_mut) {
            Some(there) => below.as_object().into_iter().for_each(|below| unite(there, below)),
            None => {
                into.insert(field.clone(), below.clone());
            }
        }
    }
}

/// Takes an object away, or takes the engine's marks off it.
async fn remove(engine: &Engine, session: &Session, key: &Key, live: &Live, preserve: bool) -> Outcome {
    let Some((resource, namespace)) = resource_of(engine, session, key) else { return Outcome::Stuck };
    let target = Target { resource: &resource, namespace, name: &key.name };
    let result = if preserve {
        session.rest.merge(&target, &unstamp(&live.uid)).await.map(|_| None)
    } else {
        session.rest.delete(&target, &live.uid).await
    };
    match result {
        Ok(Some(object)) if is_named(&object, key) => {
            // On its way out; the watch tells when it is gone.
            engine.change(|index| index.put_live(&session.cluster, key, Live::of(object), false));
            Outcome::Done
        }
        Ok(_) => {
            engine.change(|index| index.remove_live(&session.cluster, key, Some((&live.uid, live.version))));
            tracing::debug!(cluster = %session.cluster, object = %key, preserve, "removed");
            Outcome::Done
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            engine.change(|index| index.remove_live(&session.cluster, key, Some((&live.uid, live.version))));
            Outcome::Done
        }
        // A namesake took its place: the watch is about to tell.
        Err(error) if is_conflict(&error) => Outcome::Failed,
        Err(error) => fail(engine, session, key, &error),
    }
}

fn written(engine: &Engine, session: &Session, key: &Key, object: Value, manifest: &Manifest) {
    let live = Live::of(object);
    engine.change(|index| {
        let repairs = &mut index.member_mut(&session.cluster).repairs;
        repairs.entry(key.clone()).or_insert(Repair { wanted: manifest.hash, count: 0, at: Instant::now() }).wanted =
            manifest.hash;
        index.applied(&session.cluster, key, live, manifest.hash)
    });
}

fn fail(engine: &Engine, session: &Session, key: &Key, error: &kube::Error) -> Outcome {
    let message = message(error);
    tracing::debug!(cluster = %session.cluster, object = %key, error = message, "not done; trying again");
    if is_unanswered(error) || matches!(error, kube::Error::Api(status) if status.code == 401) {
        // Whether the cluster is there is for the probe to say.
        session.probe();
        return Outcome::Failed;
    }
    if is_kind_missing(error) {
        session.rediscover();
    }
    failed(engine, session, key, message);
    if is_refused(error) { Outcome::Stuck } else { Outcome::Failed }
}

fn failed(engine: &Engine, session: &Session, key: &Key, why: String) {
    engine.change(|index| index.attempted(&session.cluster, key, Attempt::Failed(why)));
}

/// Remembers that a create is under way, so that nobody takes the object for gone meanwhile.
struct InFlight<'a> {
    engine: &'a Engine,
    session: &'a Session,
    key: Key,
}

impl<'a> InFlight<'a> {
    fn begin(engine: &'a Engine, session: &'a Session, key: &Key) -> Self {
        engine.index().member_mut(&session.cluster).in_flight.insert(key.clone());
        Self { engine, session, key: key.clone() }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.engine.change(|index| {
            index.member_mut(&self.session.cluster).in_flight.remove(&self.key);
            // Who waited for it may go on.
            let binding = index.binding(&self.key);
            let waiting = binding.is_some_and(|binding| binding.deleting || !binding.removing.is_empty());
            Requeues { schedule: waiting.then(|| self.key.clone()).into_iter().collect(), ..Requeues::default() }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_create_becomes_an_apply() {
        let entry = |manager: &str, operation: &str, fields: Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        let object = |managers: Value| json!({"metadata": {"resourceVersion": "7", "managedFields": managers}});
        assert_eq!(as_applied(&object(json!([entry("kubectl", "Update", json!({}))]))), None);
        assert_eq!(as_applied(&object(json!([entry("airdock-engine", "Apply", json!({}))]))), None);
        let patch = as_applied(&object(json!([
            entry("airdock-engine", "Update", json!({"f:spec": {"f:a": {}}})),
            entry("airdock-engine", "Apply", json!({"f:spec": {"f:b": {}}, "f:data": {}})),
            entry("kubectl", "Update", json!({"f:x": {}})),
        ])))
        .unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7", "managedFields": [
                entry("kubectl", "Update", json!({"f:x": {}})),
                entry("airdock-engine", "Apply", json!({"f:spec": {"f:a": {}, "f:b": {}}, "f:data": {}})),
            ]}})
        );
    }
}
