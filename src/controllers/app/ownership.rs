//! Whose an object of a plane is, and who gets it when its owner lets it go. Pure.
//!
//! The annotation with the owner's uid decides. Objects of earlier versions have none: there, what the status lists and
//! the labels count. An object whose owner is gone is that of the application that its labels name (one that was restored
//! from a backup has another uid), and otherwise of the first that wants it.

use std::sync::Arc;

use kube::api::DynamicObject;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::api::app::{InventoryEntry, MultiCloudApp};
use crate::api::{APP_LABEL, APP_NAMESPACE_LABEL, COMPONENT_LABEL, KarmadaInstance, OWNER_UID_ANNOTATION};
use crate::application::model::{Application, Identity, Tenancy};
use crate::application::validate::validate;
use crate::controllers::stamp::APPLIED_ANNOTATION;
use crate::runtime::controller::Guarded;
use crate::runtime::planes::InstanceKey;

use super::error::Error;

/// An application among all others, which may want the same objects.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// The application.
    pub app: &'a MultiCloudApp,
    /// All applications there are; it may be among them.
    pub others: &'a [Arc<Guarded<MultiCloudApp>>],
    /// Its instance; nothing when that is gone.
    pub instance: Option<&'a KarmadaInstance>,
}

/// Whose an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The application's own.
    Ours,
    /// Of an application that is gone.
    Abandoned,
    /// Of another application: its namespace and name.
    Theirs(String, String),
    /// It was not made by Airdock.
    Nobodys,
}

impl<'a> Claims<'a> {
    /// Whose an object is.
    #[must_use]
    pub fn ownership(&self, object: &DynamicObject) -> Ownership {
        let label = |key: &str| object.labels().get(key).cloned().unwrap_or_default();
        let (namespace, name) = (label(APP_NAMESPACE_LABEL), label(APP_LABEL));
        let is_named = self.app.namespace().as_ref() == Some(&namespace) && self.app.name_any() == name;
        let mut others = self.others.iter().filter(|other| other.meta().uid != self.app.metadata.uid);
        if let Some(uid) = object.annotations().get(OWNER_UID_ANNOTATION) {
            if self.app.metadata.uid.as_ref() == Some(uid) {
                return Ownership::Ours;
            }
            let owner = others.find(|other| other.meta().uid.as_ref() == Some(uid) && self.shares_plane(other));
            return match owner {
                Some(owner) => theirs(owner),
                None if is_named => Ownership::Ours,
                None => Ownership::Abandoned,
            };
        }
        if self.inventory().iter().any(|entry| Some(&entry.uid) == object.metadata.uid.as_ref()) {
            return Ownership::Ours;
        }
        if namespace.is_empty() || name.is_empty() {
            return Ownership::Nobodys;
        }
        if is_named {
            return Ownership::Ours;
        }
        let owner = others.find(|other| {
            other.namespace().as_ref() == Some(&namespace) && other.name_any() == name && self.shares_plane(other)
        });
        owner.map_or(Ownership::Abandoned, |owner| theirs(owner))
    }

    /// Whether an object is the application's own.
    #[must_use]
    pub fn is_ours(&self, object: &DynamicObject) -> bool {
        self.ownership(object) == Ownership::Ours
    }

    /// Whether the application may write an object.
    ///
    /// # Errors
    /// It is somebody else's. Who, is told within one namespace only.
    pub fn check(&self, object: &DynamicObject) -> Result<(), Error> {
        let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
        let (name, namespace) = (format!("{kind} {}", object.name_any()), object.namespace().unwrap_or_default());
        match self.ownership(object) {
            Ownership::Ours | Ownership::Abandoned => Ok(()),
            Ownership::Nobodys => Err(Error::Exists { object: name, namespace }),
            Ownership::Theirs(of, owner) => {
                let is_own = self.app.namespace().as_ref() == Some(&of);
                let owner = if is_own {
                    format!("MultiCloudApp {of}/{owner}")
                } else {
                    "an application of another tenant".into()
                };
                Err(Error::Claimed { object: name, namespace, owner })
            }
        }
    }

    /// What the application's status lists.
    #[must_use]
    pub fn inventory(&self) -> &'a [InventoryEntry] {
        self.app.status.as_ref().map(|status| status.inventory.as_slice()).unwrap_or_default()
    }

    /// An object of the application's with the mark of its owner.
    #[must_use]
    pub fn marked(&self, mut object: Value) -> Value {
        if let Some(uid) = &self.app.metadata.uid {
            object["metadata"]["annotations"][OWNER_UID_ANNOTATION] = json!(uid);
        }
        object
    }

    /// The application that gets an object when this one lets it go: of those that want it and may have it, the oldest.
    #[must_use]
    pub fn heir(&self, identity: &Identity) -> Option<Heir> {
        let instance = self.instance?;
        let host = instance.namespace().unwrap_or_default();
        let wants = |other: &&MultiCloudApp| {
            let namespace = other.namespace().unwrap_or_default();
            other.metadata.uid != self.app.metadata.uid
                && other.metadata.deletion_timestamp.is_none()
                && (namespace == host || instance.admits(&namespace))
        };
        let parsed =
            self.others.iter().filter(|other| self.shares_plane(other)).filter_map(|other| other.0.as_ref().ok());
        let mut heirs: Vec<(_, Heir)> = parsed
            .filter(wants)
            .filter_map(|other| {
                let namespace = other.namespace().unwrap_or_default();
                let application = validate(other, Tenancy::of(&host, &namespace)).ok()?;
                let template = application.templates.iter().find(|template| template.identity().same(identity))?;
                let created = other.metadata.creation_timestamp.as_ref().map(|time| time.0);
                let (name, component) = (other.name_any(), template.component.clone());
                let heir = Heir { namespace: namespace.clone(), name: name.clone(), uid: other.uid()?, component };
                Some(((created, namespace, name), heir))
            })
            .collect();
        heirs.sort_by(|(a, _), (b, _)| a.cmp(b));
        heirs.into_iter().map(|(_, heir)| heir).next()
    }

    /// Whether another application has its objects in the same namespace of the same plane. One that does not parse may.
    fn shares_plane(&self, other: &Guarded<MultiCloudApp>) -> bool {
        let place = |app: &MultiCloudApp| {
            let namespace = app.namespace().unwrap_or_default();
            (InstanceKey::of(&app.spec.instance_ref, &namespace), Application::without_templates(app).namespace)
        };
        other.0.as_ref().map_or(true, |other| place(other) == place(self.app))
    }
}

fn theirs(owner: &Guarded<MultiCloudApp>) -> Ownership {
    Ownership::Theirs(owner.namespace().unwrap_or_default(), owner.name_any())
}

/// The application that an object is handed over to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heir {
    namespace: String,
    name: String,
    uid: String,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machinery::error::Classified;

    fn app(namespace: &str, name: &str, uid: &str, more: Value) -> MultiCloudApp {
        let mut app = json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": "2026-01-02T00:00:00Z"},
            "spec": {
                "instanceRef": {"name": "fleet", "namespace": "platform"},
                "components": [{"name": "web", "manifests": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}},
                ]}],
                "namespace": "shop",
            },
        });
        json_patch::merge(&mut app, &more);
        serde_json::from_value(app).unwrap()
    }

    fn all(apps: Vec<MultiCloudApp>) -> Vec<Arc<Guarded<MultiCloudApp>>> {
        apps.into_iter().map(|app| Arc::new(Guarded(Ok(app)))).collect()
    }

    fn object(labels: Value, annotations: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "conf", "namespace": "shop", "uid": "o", "labels": labels, "annotations": annotations},
        }))
        .unwrap()
    }

    fn instance(allowed: Value) -> KarmadaInstance {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "KarmadaInstance",
            "metadata": {"name": "fleet", "namespace": "platform"}, "spec": {"tenancy": {"allowedNamespaces": allowed}},
        }))
        .unwrap()
    }

    #[test]
    fn the_annotation_decides_and_labels_only_without_it() {
        let elsewhere = app("team", "elsewhere", "e", json!({"spec": {"namespace": "other"}}));
        let others = all(vec![app("team", "me", "m", json!({})), app("team", "you", "y", json!({})), elsewhere]);
        let listed =
            json!({"status": {"inventory": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "conf", "uid": "o"}]}});
        let mine = json!({"airdock.dev/app": "me", "airdock.dev/app-namespace": "team"});
        let yours = json!({"airdock.dev/app": "you", "airdock.dev/app-namespace": "team"});
        let of = |uid: &str| json!({"airdock.dev/owner-uid": uid});
        let theirs = || Ownership::Theirs("team".into(), "you".into());
        for (name, status, object, want) in [
            ("nothing on it", json!({}), object(json!({}), json!({})), Ownership::Nobodys),
            ("my uid", json!({}), object(json!({}), of("m")), Ownership::Ours),
            ("your uid, whatever the labels say", json!({}), object(mine.clone(), of("y")), theirs()),
            ("your uid, though it was mine", listed.clone(), object(mine.clone(), of("y")), theirs()),
            ("the uid of nobody", json!({}), object(yours.clone(), of("x")), Ownership::Abandoned),
            ("the uid of nobody, and my name", json!({}), object(mine.clone(), of("x")), Ownership::Ours),
            ("the uid of an application elsewhere", json!({}), object(json!({}), of("e")), Ownership::Abandoned),
            ("of an earlier version, mine", json!({}), object(mine, json!({})), Ownership::Ours),
            ("of an earlier version, yours", json!({}), object(yours, json!({})), theirs()),
            ("stripped of all, but listed", listed, object(json!({}), json!({})), Ownership::Ours),
            (
                "of an earlier version, of nobody",
                json!({}),
                object(json!({"airdock.dev/app": "x", "airdock.dev/app-namespace": "team"}), json!({})),
                Ownership::Abandoned,
            ),
        ] {
            let me = app("team", "me", "m", status);
            let claims = Claims { app: &me, others: &others, instance: None };
            assert_eq!(claims.ownership(&object), want, "{name}");
        }
    }

    #[test]
    fn the_owner_is_named_within_its_own_namespace_only() {
        let others = all(vec![app("team", "you", "y", json!({})), app("rival", "them", "t", json!({}))]);
        let me = app("team", "me", "m", json!({}));
        let claims = Claims { app: &me, others: &others, instance: None };
        let said = |uid: &str| claims.check(&object(json!({}), json!({"airdock.dev/owner-uid": uid}))).unwrap_err();
        assert!(said("y").to_string().contains("ConfigMap conf in namespace shop belongs to MultiCloudApp team/you"));
        let rival = said("t");
        assert!(rival.to_string().contains("belongs to an application of another tenant"), "{rival}");
        assert!(!rival.to_string().contains("rival") && rival.reason() == "ObjectClaimed");
    }

    #[test]
    fn an_object_goes_to_the_oldest_that_may_have_it() {
        let older = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
        let going = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-03T00:00:00Z"}});
        let without = json!({"spec": {"components": [{"name": "web", "manifests": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "another"}}]}]}});
        let me = || app("platform", "me", "m", json!({}));
        let identity = Identity { api_version: "v1".into(), kind: "ConfigMap".into(), name: "conf".into() };
        for (name, allowed, others, want) in [
            ("nobody else", json!([]), vec![me()], None),
            ("another of the same namespace", json!([]), vec![app("platform", "b", "b", json!({}))], Some("b")),
            ("one that is going", json!([]), vec![app("platform", "b", "b", going)], None),
            ("one that does not want it", json!([]), vec![app("platform", "b", "b", without)], None),
            ("a tenant without consent", json!([]), vec![app("shop", "b", "b", json!({}))], None),
            ("a tenant with consent", json!(["shop"]), vec![app("shop", "b", "b", json!({}))], Some("b")),
            ("a tenant of another name", json!(["team"]), vec![app("team", "b", "b", json!({}))], None),
            (
                "the oldest, then by name",
                json!([]),
                vec![app("platform", "a", "a", json!({})), app("platform", "c", "c", older), me()],
                Some("c"),
            ),
        ] {
            let (me, instance, others) = (me(), instance(allowed), all(others));
            let claims = Claims { app: &me, others: &others, instance: Some(&instance) };
            assert_eq!(claims.heir(&identity).map(|heir| heir.uid).as_deref(), want, "{name}");
        }
    }
}
