//! Writing a status: only when it changed, with an event for each transition.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::guarded::{Guarded, InvalidObject};
use crate::api::common::ConditionedStatus;
use crate::api::common::condition::READY;
use crate::limits::shorten;
use crate::machinery::conditions::{Verdict, find};
use crate::machinery::error::{chain, is_not_found};

/// Reason of what concerns an object that cannot be read.
pub const INVALID_OBJECT: &str = "InvalidObject";

/// The longest note of an event that the API server accepts.
const MAX_NOTE: usize = 1024;

/// Writes statuses as one field manager.
#[derive(Clone)]
pub struct StatusWriter {
    client: Client,
    manager: String,
    recorder: Recorder,
}

impl std::fmt::Debug for StatusWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusWriter").field("manager", &self.manager).finish_non_exhaustive()
    }
}

impl StatusWriter {
    /// A writer for one controller; one for its whole life, since the recorder counts repetitions.
    #[must_use]
    pub fn new(client: Client, controller: &str) -> Self {
        let reporter = format!("airdock-{controller}").into();
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, manager: format!("airdock.dev/{controller}-status"), recorder }
    }

    /// Writes the status when it differs from the object's, and an event when `Ready` changed its status or reason.
    ///
    /// An object that is gone is no error.
    pub async fn write<K>(&self, object: &K, status: K::Status) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + HasStatus
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
        K::Status: ConditionedStatus + Serialize + PartialEq,
    {
        if object.status() == Some(&status) {
            return Ok(());
        }
        let namespace = object.namespace().unwrap_or_default();
        // The answer is an object that may not be readable.
        let api: Api<Guarded<K>> = Api::namespaced(self.client.clone(), &namespace);
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // The uid keeps a status from landing on a namesake that was created since.
            "metadata": { "name": object.name_any(), "namespace": namespace, "uid": object.uid() },
            "status": status,
        });
        let params = PatchParams::apply(&self.manager).force();
        match api.patch_status(&object.name_any(), &params, &Patch::Apply(&body)).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
        let before = object.status().map(ConditionedStatus::conditions).unwrap_or_default();
        if let Some(event) = transition(before, status.conditions()) {
            self.publish(&event, &object.object_ref(&())).await;
        }
        Ok(())
    }

    /// Tells in an object's own conditions that it cannot be read. The rest of its status stays as it is.
    pub async fn write_invalid<K>(&self, invalid: &InvalidObject) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let Some(status) = invalid_status(invalid) else { return Ok(()) };
        let (namespace, name) = (invalid.metadata.namespace.clone().unwrap_or_default(), invalid.metadata.name.clone());
        let name = name.unwrap_or_default();
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name, "namespace": namespace, "uid": invalid.metadata.uid },
            "status": status,
        });
        // The answer cannot be read either.
        let api: Api<Guarded<K>> = Api::namespaced(self.client.clone(), &namespace);
        match api.patch_status(&name, &PatchParams::apply(&self.manager).force(), &Patch::Apply(&body)).await {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Publishes an event of one's own. A lost event is logged, never an error: the status tells the same.
    pub async fn publish(&self, event: &Event, about: &ObjectReference) {
        if let Err(error) = self.recorder.publish(event, about).await {
            tracing::debug!(error = chain(&error), reason = event.reason, "event was not published");
        }
    }

    /// Publishes a warning about an object.
    pub async fn warn<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, note: &str) {
        self.warn_about(&object.object_ref(&()), reason, note).await;
    }

    /// Publishes a warning about an object by its reference.
    pub async fn warn_about(&self, about: &ObjectReference, reason: &str, note: &str) {
        self.publish_about(about, EventType::Warning, reason, note).await;
    }

    /// Publishes an event about an object by its reference.
    pub async fn publish_about(&self, about: &ObjectReference, type_: EventType, reason: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shorten(note, MAX_NOTE)),
            action: "Reconciling".to_owned(),
            secondary: None,
        };
        self.publish(&event, about).await;
    }
}

/// The status of an object that cannot be read; nothing when it says so already.
fn invalid_status(invalid: &InvalidObject) -> Option<Value> {
    let mut status = invalid.status.as_object().cloned().unwrap_or_default();
    let before: Vec<Condition> =
        status.get("conditions").and_then(|known| serde_json::from_value(known.clone()).ok()).unwrap_or_default();
    let mut conditions = before.clone();
    let message =
        format!("the object cannot be read: {}; nothing of it is carried out until it is corrected", invalid.problem);
    let generation = invalid.metadata.generation;
    Verdict::Stalled { reason: INVALID_OBJECT, message }.write(&mut conditions, generation, Timestamp::now());
    if conditions == before {
        return None;
    }
    status.insert("conditions".to_owned(), json!(conditions));
    status.insert("observedGeneration".to_owned(), json!(generation));
    Some(Value::Object(status))
}

/// The event for a change of `Ready`, if it changed.
fn transition(before: &[Condition], after: &[Condition]) -> Option<Event> {
    let now = find(after, READY)?;
    let then = find(before, READY);
    if then.is_some_and(|then| then.status == now.status && then.reason == now.reason) {
        return None;
    }
    Some(Event {
        type_: if now.status == "False" { EventType::Warning } else { EventType::Normal },
        reason: now.reason.clone(),
        note: Some(shorten(&now.message, MAX_NOTE)),
        action: "Reconciling".to_owned(),
        secondary: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machinery::conditions::Verdict;

    #[test]
    fn one_event_for_each_transition() {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        Verdict::Progressing { reason: "Installing", message: "etcd".into() }.write(
            &mut after,
            None,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(transition(&before, &after).unwrap().reason, "Installing");
        before.clone_from(&after);
        Verdict::Progressing { reason: "Installing", message: "apiserver".into() }.write(
            &mut after,
            None,
            Timestamp::UNIX_EPOCH,
        );
        assert!(transition(&before, &after).is_none(), "a new message alone is no transition");
        Verdict::NotReady { reason: "Broken", message: "x".repeat(3000) }.write(
            &mut after,
            None,
            Timestamp::UNIX_EPOCH,
        );
        assert!(transition(&before, &after).unwrap().note.unwrap().len() <= MAX_NOTE);
    }

    #[test]
    fn an_object_that_cannot_be_read_keeps_the_rest_of_its_status() {
        let mut invalid = InvalidObject {
            problem: "is nested 200 levels deep".to_owned(),
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                generation: Some(4),
                ..Default::default()
            },
            spec: Value::Null,
            status: json!({"inventory": [{"name": "web"}], "conditions": [
                {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Kept", "status": "True", "reason": "Kept", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        };
        let status = invalid_status(&invalid).unwrap();
        assert_eq!((&status["inventory"][0]["name"], &status["observedGeneration"]), (&json!("web"), &json!(4)));
        let conditions: Vec<Condition> = serde_json::from_value(status["conditions"].clone()).unwrap();
        let written: Vec<_> =
            conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect();
        assert_eq!(
            written,
            [("Ready", "False", INVALID_OBJECT), ("Kept", "True", "Kept"), ("Stalled", "True", INVALID_OBJECT)]
        );
        assert!(conditions[0].message.contains("is nested 200 levels deep"));
        // It is written once.
        invalid.status = status;
        assert_eq!(invalid_status(&invalid), None);
        invalid.status = Value::Null;
        assert!(invalid_status(&invalid).is_some());
    }
}
