//! From a template to its binding.

mod binding;
mod plan;

use std::sync::Arc;

use serde_json::Value;

use super::Engine;
use super::claim_metadata::ClaimMetadata;
use super::events::Reason;
use super::key::{Key, Uid};
use super::model::{Binding, Template, identity};
use super::queue::WorkResult;
use super::rest::Target;
use crate::machinery::error::{chain, is_conflict};

pub use self::binding::{binding_key, binding_resource};
pub use self::plan::{Step, plan};

/// Brings a template's binding to what it should be. IO.
pub(super) async fn run(engine: Arc<Engine>, key: Key) -> WorkResult {
    // The lock is held for the look-ups alone: eight workers decide at the same time.
    let inputs = engine.index().schedule_inputs(&key);
    let plan = plan(&inputs);
    if plan.wanted.is_some() || plan.not_scheduled.is_some() {
        let content = inputs.template.as_deref().map(Template::content);
        let now = engine.now();
        let claim = plan.claim.as_ref().map(ClaimMetadata::fingerprint);
        engine.change(|index| {
            let mut requeues = index.decided(&key, content, plan.wanted, plan.not_scheduled.clone(), now);
            requeues.merge(index.claim_decided(&key, claim));
            requeues
        });
    }
    if let (Some(template), Some((_, why))) = (&inputs.template, &plan.not_scheduled) {
        engine.events.send(&key, &template.uid, Reason::ScheduleBindingFailed, why.clone());
    }
    let resource = binding_resource(&key);
    let name = key.binding_name();
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &name };
    let written = match &plan.step {
        Step::Nothing => Ok(None),
        Step::Create(body) => engine.rest.create(&target, body.to_string().into_bytes()).await.map(Some),
        Step::Change { adopts: Some(uid), .. } if !template_exists(&engine, &key, uid).await => {
            return WorkResult::Failed;
        }
        Step::Change { version, operations, .. } => {
            engine.rest.patch(&target, *version, operations.clone()).await.map(Some)
        }
        Step::Delete { uid } => match engine.rest.delete(&target, uid, None).await {
            Ok(None) => {
                engine.change(|index| index.remove_binding(&key, Some((uid.clone(), u64::MAX))));
                return WorkResult::Done;
            }
            other => other,
        },
    };
    match written {
        Ok(None) => WorkResult::Done,
        Ok(Some(object)) => {
            ingest(&engine, &key, object, false);
            WorkResult::Done
        }
        Err(error) if is_conflict(&error) || matches!(&error, kube::Error::Api(status) if status.code == 404) => {
            reread_binding(&engine, &key, &target).await
        }
        Err(error) => {
            tracing::warn!(object = %key, error = chain(&error), "binding was not written; trying again");
            WorkResult::Failed
        }
    }
}

/// Whether a template is there for certain. The garbage collector takes the owner off the binding of a template that is
/// deleted with `--cascade=orphan`; putting it back because of an old event would have the binding deleted, too.
async fn template_exists(engine: &Engine, key: &Key, uid: &Uid) -> bool {
    let Some(resource) = engine.plane_resource(&key.kind) else { return false };
    let target = Target { resource: &resource, namespace: key.namespace.as_deref(), name: &key.name };
    match engine.rest.get(&target).await {
        Ok(Some(object)) => identity(&object).0 == *uid && object.pointer("/metadata/deletionTimestamp").is_none(),
        Ok(None) => false,
        Err(error) => {
            tracing::debug!(object = %key, error = chain(&error), "template was not read");
            false
        }
    }
}

/// The binding is not as it was known: what is there now decides.
async fn reread_binding(engine: &Engine, key: &Key, target: &Target<'_>) -> WorkResult {
    match engine.rest.get(target).await {
        Ok(Some(object)) => {
            let is_same = |found: &Key| {
                found == key
                    || (found.kind.is_other_version_of(&key.kind)
                        && (&found.namespace, &found.name) == (&key.namespace, &key.name))
            };
            let Some(found) = binding_key(&object).filter(is_same) else {
                let name = target.name;
                tracing::error!(object = %key, binding = name, "the name of the binding is taken by another object's");
                return WorkResult::Stuck;
            };
            ingest(engine, &found, object, true);
        }
        Ok(None) => {
            engine.change(|index| index.remove_binding(key, None));
        }
        Err(error) => tracing::debug!(object = %key, error = chain(&error), "binding was not read"),
    }
    WorkResult::Failed
}

fn ingest(engine: &Engine, key: &Key, object: Value, relist: bool) {
    match Binding::of(object) {
        Ok(binding) => {
            // Without finalizers a deleted binding is gone with this very answer.
            if binding.deleting && binding.finalizers.is_empty() {
                engine.change(|index| index.remove_binding(key, Some((binding.uid, binding.version))));
            } else {
                engine.change(|index| index.put_binding(key.clone(), binding, relist));
            }
        }
        Err(error) => tracing::warn!(object = %key, error = chain(&error), "binding is not understood"),
    }
}
