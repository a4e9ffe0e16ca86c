//! Templates: objects of the plane that policies may claim.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::claim_metadata::ClaimMetadata;
use super::super::key::Uid;
use super::{generation, identity, is_deleting, parse};
use crate::interpret;

/// An object of the plane that policies may claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Identity.
    pub uid: Uid,
    /// Version of the object.
    pub version: u64,
    /// Generation of its spec.
    pub generation: i64,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// What becomes of its binding when it is deleted.
    pub cascade: Cascade,
    /// Fingerprint of the metadata that tells on it which policy claims it.
    pub claim: u64,
    /// The object as overrides see it: without its status and version, and without that metadata.
    pub body: Arc<str>,
    /// Its status.
    pub status: Arc<str>,
}

impl Template {
    /// What is remembered of an object.
    #[must_use]
    pub fn of(mut object: Value) -> Self {
        let status = object.get_mut("status").map(Value::take).filter(Value::is_object).unwrap_or_else(|| json!({}));
        let ((uid, version), generation) = (identity(&object), generation(&object));
        let (deleting, cascade) = (is_deleting(&object), Cascade::of(&object));
        let claim = ClaimMetadata::of_object(&object).fingerprint();
        let body = interpret::without_state(object);
        let (body, status) = (body.to_string().into(), status.to_string().into());
        Self { uid, version, generation, deleting, cascade, claim, body, status }
    }

    /// Hash of everything that members' objects are made from.
    #[must_use]
    pub fn content(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.uid, self.generation, self.deleting, &self.body).hash(&mut hasher);
        hasher.finish()
    }

    /// Whether it is to be written which policy claims it, given the fingerprint of the metadata that says so.
    #[must_use]
    pub fn lacks_claim(&self, claim: u64) -> bool {
        !self.deleting && self.claim != claim
    }

    /// The object, parsed.
    #[must_use]
    pub fn parsed(&self) -> Value {
        parse(&self.body)
    }
}

/// What the deletion of an object means for those that it owns. Kubernetes keeps this in finalizers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cascade {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay without an owner.
    Orphan,
}

impl Cascade {
    fn of(object: &Value) -> Self {
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        let has = |name: &str| finalizers.is_some_and(|all| all.iter().any(|finalizer| finalizer == name));
        if has("orphan") {
            Self::Orphan
        } else if has("foregroundDeletion") {
            Self::Foreground
        } else {
            Self::Background
        }
    }
}
