//! Another application with objects in the same namespace of the same plane: what it wants and has there, and what it
//! inherits. Pure.

use std::borrow::Cow;
use std::sync::OnceLock;

use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::api::app::{InventoryEntry, MultiCloudApp};
use crate::api::common::InstanceRef;
use crate::api::{APP_LABEL, APP_NAMESPACE_LABEL, COMPONENT_LABEL, KarmadaInstance, OWNER_UID_ANNOTATION};
use crate::application::model::{Identity, Template, Tenancy};
use crate::application::validate::validate;
use crate::controllers::stamp::APPLIED_ANNOTATION;
use crate::runtime::controller::Guarded;
use crate::runtime::finalizer::known;
use crate::runtime::planes::InstanceKey;

use super::FINALIZER;
use super::ownership::Ownership;

/// Another application with objects in the same place.
#[derive(Debug)]
pub(super) struct OtherApp<'a> {
    /// It, or its metadata.
    object: &'a Guarded<MultiCloudApp>,
    /// What is known of it.
    known: Option<Cow<'a, MultiCloudApp>>,
    /// What it wants there, looked up once: that takes as long as its spec is large.
    wanted: OnceLock<Vec<WantedTemplate>>,
}

/// An object that an application wants.
#[derive(Debug)]
struct WantedTemplate {
    identity: Identity,
    component: String,
}

impl<'a> OtherApp<'a> {
    pub(super) fn new(object: &'a Guarded<MultiCloudApp>) -> Self {
        Self { object, known: known(object), wanted: OnceLock::new() }
    }

    pub(super) fn uid(&self) -> Option<&str> {
        self.object.meta().uid.as_deref()
    }

    pub(super) fn is_named(&self, namespace: &str, name: &str) -> bool {
        let metadata = self.object.meta();
        metadata.namespace.as_deref() == Some(namespace) && metadata.name.as_deref() == Some(name)
    }

    /// The oldest come first.
    pub(super) fn age_order(&self) -> (Option<Timestamp>, Option<String>, Option<String>) {
        let metadata = self.object.meta();
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, metadata.namespace.clone(), metadata.name.clone())
    }

    /// Whether it is not being deleted, and may have written something. One that never did would not be asked to take
    /// anything away again.
    pub(super) fn stays(&self) -> bool {
        let metadata = self.object.meta();
        metadata.deletion_timestamp.is_none() && self.object.finalizers().iter().any(|held| held == FINALIZER)
    }

    pub(super) fn theirs(&self) -> Ownership {
        Ownership::Theirs(self.object.namespace().unwrap_or_default(), self.object.name_any())
    }

    fn inventory(&self) -> impl Iterator<Item = &InventoryEntry> {
        self.known.iter().filter_map(|known| known.status.as_ref()).flat_map(|status| &status.inventory)
    }

    /// What it wants and may have; nothing of one whose spec cannot be carried out.
    fn wanted(&self, instance: &KarmadaInstance) -> &[WantedTemplate] {
        self.wanted.get_or_init(|| {
            let (Ok(app), Some(host)) = (&self.object.0, instance.namespace()) else { return Vec::new() };
            let namespace = app.namespace().unwrap_or_default();
            if !instance.admits(&namespace) {
                return Vec::new();
            }
            let application = validate(app, Tenancy::of(&host, &namespace));
            let templates = application.map(|application| application.templates).unwrap_or_default();
            let wanted =
                |template: Template| WantedTemplate { identity: template.identity(), component: template.component };
            templates.into_iter().map(wanted).collect()
        })
    }

    /// Whether something in the plane may be its own.
    pub(super) fn may_have_something(&self, instance: Option<&KarmadaInstance>) -> bool {
        let Some(instance) = instance else { return true };
        self.inventory().next().is_some()
            || match &self.object.0 {
                Ok(_) => !self.wanted(instance).is_empty(),
                Err(_) => instance.admits(&self.object.namespace().unwrap_or_default()),
            }
    }

    /// Whether an object that bears its uid is its own: it wants the object, or its status lists it.
    pub(super) fn has(&self, object: &DynamicObject, instance: Option<&KarmadaInstance>) -> bool {
        let uid = object.metadata.uid.as_ref();
        if self.inventory().any(|entry| Some(&entry.uid) == uid) {
            return true;
        }
        let (Some(types), Some(instance)) = (&object.types, instance) else { return false };
        let (api_version, kind) = (types.api_version.clone(), types.kind.clone());
        let identity = Identity { api_version, kind, name: object.name_any() };
        self.wanted(instance).iter().any(|wanted| wanted.identity.same(&identity))
    }

    /// It as the heir of an object, if it waits for that.
    pub(super) fn inherits(&self, identity: &Identity, instance: &KarmadaInstance) -> Option<Heir> {
        if !self.stays() || !self.inventory().any(|entry| Identity::from(entry).same(identity)) {
            return None;
        }
        let wanted = self.wanted(instance).iter().find(|wanted| wanted.identity.same(identity))?;
        Some(Heir {
            namespace: self.object.namespace().unwrap_or_default(),
            name: self.object.name_any(),
            uid: self.object.uid()?,
            component: wanted.component.clone(),
        })
    }
}

/// Where an application has its objects: the instance, and the namespace in its plane.
pub(super) fn place(instance: &InstanceRef, namespace: Option<&str>, own: Option<String>) -> (InstanceKey, String) {
    let own = own.unwrap_or_default();
    (InstanceKey::of(instance, &own), namespace.map_or(own, str::to_owned))
}

/// The place of one that may not be readable; nothing when that is not known.
pub(super) fn place_of(app: &Guarded<MultiCloudApp>) -> Option<(InstanceKey, String)> {
    match &app.0 {
        Ok(known) => Some(place(&known.spec.instance_ref, known.spec.namespace.as_deref(), app.namespace())),
        Err(invalid) => {
            let instance = serde_json::from_value(invalid.spec.get("instanceRef")?.clone()).ok()?;
            let namespace = invalid.spec.get("namespace").and_then(Value::as_str);
            Some(place(&instance, namespace, app.namespace()))
        }
    }
}

/// The application that an object is handed over to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    namespace: String,
    name: String,
    pub(super) uid: String,
    component: String,
}

impl Heir {
    /// The metadata by which the object is the heir's. Without the digest of what was applied, the heir writes it anew.
    #[must_use]
    pub fn marks(&self) -> Value {
        json!({
            "labels": {APP_NAMESPACE_LABEL: self.namespace, APP_LABEL: self.name, COMPONENT_LABEL: self.component},
            "annotations": {OWNER_UID_ANNOTATION: self.uid, APPLIED_ANNOTATION: null},
        })
    }
}
