//! Events on templates, by Karmada's reasons. They tell what was done and what was not; nothing depends on them.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::EventType;
use tokio::sync::mpsc;

use super::key::{ObjectKey, Uid};
use crate::runtime::status::StatusWriter;

/// Events that may wait. More than that are lost, as anywhere in Kubernetes.
const QUEUE_CAPACITY: usize = 1024;

/// Events that are remembered as published.
const PUBLISHED_CAPACITY: usize = 4096;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// A member's object was written with what override policies say.
    ApplyOverridePolicySucceed,
    /// An override policy cannot be carried out on the object.
    ApplyOverridePolicyFailed,
    /// The object goes nowhere.
    ScheduleBindingFailed,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::ApplyOverridePolicySucceed => "ApplyOverridePolicySucceed",
            Self::ApplyOverridePolicyFailed => "ApplyOverridePolicyFailed",
            Self::ScheduleBindingFailed => "ScheduleBindingFailed",
        }
    }

    fn type_(self) -> EventType {
        match self {
            Self::ApplyOverridePolicySucceed => EventType::Normal,
            Self::ApplyOverridePolicyFailed | Self::ScheduleBindingFailed => EventType::Warning,
        }
    }
}

/// An event that waits for its turn.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Waiting {
    key: ObjectKey,
    uid: Uid,
    reason: Reason,
    note: String,
}

/// Takes events; they are published one after another, each once as long as it is remembered.
#[derive(Debug)]
pub(super) struct Events {
    queue: mpsc::Sender<Waiting>,
}

impl Events {
    /// What takes the events, and the work of publishing them.
    pub(super) fn new(plane: Client) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut waiting) = mpsc::channel(QUEUE_CAPACITY);
        let writer = StatusWriter::new(plane, "engine");
        let publish = async move {
            let mut published = HashSet::new();
            while let Some(event) = waiting.recv().await {
                if published.contains(&event) {
                    continue;
                }
                let (about, reason) = (reference(&event), event.reason);
                writer.publish_about(&about, reason.type_(), reason.text(), &event.note).await;
                if published.len() >= PUBLISHED_CAPACITY {
                    published.clear();
                }
                published.insert(event);
            }
        };
        (Self { queue }, publish)
    }

    /// Something is to be told about the template of this key and uid.
    pub(super) fn send(&self, key: &ObjectKey, uid: &Uid, reason: Reason, note: String) {
        // One that finds no room is lost.
        let _ = self.queue.try_send(Waiting { key: key.clone(), uid: uid.clone(), reason, note });
    }
}

fn reference(event: &Waiting) -> ObjectReference {
    ObjectReference {
        api_version: Some(event.key.kind.api_version.clone()),
        kind: Some(event.key.kind.kind.clone()),
        namespace: event.key.namespace.as_deref().map(str::to_owned),
        name: Some(event.key.name.clone()),
        uid: Some(event.uid.to_string()),
        ..ObjectReference::default()
    }
}
