//! Whose an object of a plane is, and who gets it when its owner lets it go. Pure.
//!
//! The annotation with the owner's uid decides, where that application wants the object or has it in its status: whoever may
//! write in the plane may write any uid. Otherwise, and for objects of earlier versions, which have none, what the status
//! lists and the labels count. An object whose owner is gone is that of the application that its labels name (one that was
//! restored from a backup has another uid), and otherwise of the first that wants it.

use std::sync::Arc;

use kube::api::DynamicObject;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::api::app::{InventoryEntry, MultiCloudApp};
use crate::api::{APP_LABEL, APP_NAMESPACE_LABEL, KarmadaInstance, OWNER_UID_ANNOTATION};
use crate::application::model::{Application, Identity};
use crate::runtime::controller::Guarded;

use super::error::Error;
use super::other_app::{Heir, OtherApp, place, place_of};

/// An application among all others, which may want the same objects.
#[derive(Debug)]
pub struct Claims<'a> {
    /// The application.
    pub app: &'a MultiCloudApp,
    /// Its instance; nothing when that is gone.
    pub instance: Option<&'a KarmadaInstance>,
    /// The others with objects in the same namespace of the same plane, the oldest first.
    others: Vec<OtherApp<'a>>,
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
    /// An application among `all`, of which it may be one.
    #[must_use]
    pub fn new(
        app: &'a MultiCloudApp,
        all: &'a [Arc<Guarded<MultiCloudApp>>],
        instance: Option<&'a KarmadaInstance>,
    ) -> Self {
        let place = place(&app.spec.instance_ref, app.spec.namespace.as_deref(), app.namespace());
        let others = all
            .iter()
            .map(AsRef::as_ref)
            .filter(|other| other.meta().uid != app.metadata.uid && place_of(other).is_none_or(|other| other == place));
        let mut others: Vec<OtherApp<'a>> = others.map(OtherApp::new).collect();
        others.sort_by_cached_key(OtherApp::age_order);
        Self { app, instance, others }
    }

    /// Whose an object is.
    #[must_use]
    pub fn ownership(&self, object: &DynamicObject) -> Ownership {
        let label = |key: &str| object.labels().get(key).cloned().unwrap_or_default();
        let (namespace, name) = (label(APP_NAMESPACE_LABEL), label(APP_LABEL));
        let is_named = self.app.namespace().as_ref() == Some(&namespace) && self.app.name_any() == name;
        let mut is_abandoned = false;
        if let Some(uid) = object.annotations().get(OWNER_UID_ANNOTATION) {
            if self.app.metadata.uid.as_ref() == Some(uid) {
                return Ownership::Ours;
            }
            match self.others.iter().find(|other| other.uid() == Some(uid.as_str())) {
                Some(owner) if owner.has(object, self.instance) => return owner.theirs(),
                Some(_) => {}
                None => is_abandoned = true,
            }
        }
        if self.inventory().iter().any(|entry| Some(&entry.uid) == object.metadata.uid.as_ref()) || is_named {
            return Ownership::Ours;
        }
        if is_abandoned {
            return Ownership::Abandoned;
        }
        if namespace.is_empty() || name.is_empty() {
            // A uid that is not its owner's does not make it anybody's.
            return Ownership::Nobodys;
        }
        let owner = self.others.iter().find(|other| other.is_named(&namespace, &name));
        owner.map_or(Ownership::Abandoned, OtherApp::theirs)
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

    /// Whether the status lists an object as another's that the application waits for.
    #[must_use]
    pub fn awaits(&self, identity: &Identity) -> bool {
        self.inventory().iter().any(|entry| entry.uid.is_empty() && Identity::from(entry).same(identity))
    }

    /// What is written down of an object of another application that this one waits for: should it inherit the object, and
    /// not want it any more by then, it knows of it all the same.
    #[must_use]
    pub fn awaited_entry(&self, identity: Identity) -> InventoryEntry {
        let Identity { api_version, kind, name } = identity;
        let namespace = Some(Application::without_templates(self.app).namespace);
        InventoryEntry { api_version, kind, namespace, name, uid: String::new() }
    }

    /// An object of the application's with the mark of its owner.
    #[must_use]
    pub fn marked(&self, mut object: Value) -> Value {
        if let Some(uid) = &self.app.metadata.uid {
            object["metadata"]["annotations"][OWNER_UID_ANNOTATION] = json!(uid);
        }
        object
    }

    /// The application that gets an object when this one lets it go: of those that want it, have written that down and may
    /// have it, the oldest.
    #[must_use]
    pub fn heir(&self, identity: &Identity) -> Option<Heir> {
        self.others.iter().find_map(|other| other.inherits(identity, self.instance?))
    }

    /// Whether another application may have something in the application's namespace of the plane, and stays.
    #[must_use]
    pub fn is_namespace_shared(&self) -> bool {
        self.others.iter().any(|other| other.stays() && other.may_have_something(self.instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::app::FINALIZER;
    use crate::machinery::error::Classified;

    fn app(namespace: &str, name: &str, uid: &str, more: Value) -> MultiCloudApp {
        let mut app = json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": "2026-01-02T00:00:00Z", "finalizers": [FINALIZER]},
            "spec": {
                "instanceRef": {"name": "fleet", "namespace": "platform"},
                "components": [{"name": "web", "manifests": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}},
                ]}],
                "namespace": "shop",
            },
            "status": {"inventory": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "conf", "uid": ""}]},
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
        let elsewhere = app("platform", "elsewhere", "e", json!({"spec": {"namespace": "other"}}));
        let manifests = json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "another"}}]);
        let without = json!({"spec": {"components": [{"name": "web", "manifests": manifests}]}});
        let dropped = json!({"spec": without["spec"], "status": {"inventory": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "conf", "uid": "o"}]}});
        let others = all(vec![
            app("platform", "me", "m", json!({})),
            app("platform", "you", "y", json!({})),
            app("platform", "bystander", "b", without),
            app("platform", "former", "f", dropped),
            app("shop", "other", "s", json!({})),
            elsewhere,
        ]);
        let instance = instance(json!([]));
        let listed =
            json!({"status": {"inventory": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "conf", "uid": "o"}]}});
        let by = |name: &str| json!({"airdock.dev/app": name, "airdock.dev/app-namespace": "platform"});
        let of = |uid: &str| json!({"airdock.dev/owner-uid": uid});
        let theirs = |name: &str| Ownership::Theirs("platform".into(), name.into());
        for (name, status, object, want) in [
            ("nothing on it", json!({}), object(json!({}), json!({})), Ownership::Nobodys),
            ("my uid", json!({}), object(json!({}), of("m")), Ownership::Ours),
            ("your uid, whatever the labels say", json!({}), object(by("me"), of("y")), theirs("you")),
            ("your uid, though it was mine", listed.clone(), object(by("me"), of("y")), theirs("you")),
            ("the uid of one that has it", listed.clone(), object(by("me"), of("f")), theirs("former")),
            ("the uid of one that does not want it", listed.clone(), object(by("me"), of("b")), Ownership::Ours),
            ("that, and its labels", listed.clone(), object(by("bystander"), of("b")), Ownership::Ours),
            ("that, before it was listed", json!({}), object(by("me"), of("b")), Ownership::Ours),
            ("that, and all its own", json!({}), object(by("bystander"), of("b")), theirs("bystander")),
            ("that alone", json!({}), object(json!({}), of("b")), Ownership::Nobodys),
            ("the uid of one that is not let in", listed.clone(), object(by("me"), of("s")), Ownership::Ours),
            ("the uid of nobody", json!({}), object(by("you"), of("x")), Ownership::Abandoned),
            ("the uid of nobody, and my name", json!({}), object(by("me"), of("x")), Ownership::Ours),
            ("the uid of nobody, but listed", listed.clone(), object(json!({}), of("x")), Ownership::Ours),
            ("the uid of an application elsewhere", json!({}), object(json!({}), of("e")), Ownership::Abandoned),
            ("of an earlier version, mine", json!({}), object(by("me"), json!({})), Ownership::Ours),
            ("of an earlier version, yours", json!({}), object(by("you"), json!({})), theirs("you")),
            ("stripped of all, but listed", listed, object(json!({}), json!({})), Ownership::Ours),
            ("of an earlier version, of nobody", json!({}), object(by("x"), json!({})), Ownership::Abandoned),
        ] {
            let me = app("platform", "me", "m", status);
            let claims = Claims::new(&me, &others, Some(&instance));
            assert_eq!(claims.ownership(&object), want, "{name}");
        }
    }

    #[test]
    fn the_owner_is_named_within_its_own_namespace_only() {
        let listed =
            json!({"status": {"inventory": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "conf", "uid": "o"}]}});
        let others = all(vec![app("team", "you", "y", listed.clone()), app("rival", "them", "t", listed)]);
        let me = app("team", "me", "m", json!({}));
        let claims = Claims::new(&me, &others, None);
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
                "one that was suspended from the start",
                json!([]),
                vec![app("platform", "b", "b", json!({"metadata": {"finalizers": []}}))],
                None,
            ),
            (
                "one that has not written it down",
                json!([]),
                vec![app("platform", "b", "b", json!({"status": {"inventory": []}}))],
                None,
            ),
            (
                "the oldest, then by name",
                json!([]),
                vec![app("platform", "a", "a", json!({})), app("platform", "c", "c", older), me()],
                Some("c"),
            ),
        ] {
            let (me, instance, others) = (me(), instance(allowed), all(others));
            let claims = Claims::new(&me, &others, Some(&instance));
            assert_eq!(claims.heir(&identity).map(|heir| heir.uid).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn a_namespace_is_shared_with_those_that_may_have_something_in_it() {
        let invalid = json!({"spec": {"components": []}, "status": {"inventory": []}});
        let unreadable = |namespace: &str, instance: &str| {
            let deep = format!("{}1{}", r#"{"a":"#.repeat(300), "}".repeat(300));
            Guarded::of_json(&format!(
                r#"{{"metadata":{{"name":"deep","namespace":"{namespace}","uid":"d","finalizers":["{FINALIZER}"]}},
                "spec":{{"instanceRef":{{"name":"{instance}","namespace":"platform"}},"namespace":"shop","components":{deep}}}}}"#
            ))
        };
        let readable = |app: MultiCloudApp| Guarded(Ok(app));
        for (name, other, is_shared) in [
            ("one of the same namespace", readable(app("platform", "b", "b", json!({}))), true),
            ("one whose spec is out of order", readable(app("platform", "b", "b", invalid)), false),
            (
                "one of a namespace that is not allowed",
                readable(app("rival", "b", "b", json!({"status": {"inventory": []}}))),
                false,
            ),
            ("a tenant of old", readable(app("rival", "b", "b", json!({}))), true),
            ("one that cannot be read", unreadable("platform", "fleet"), true),
            ("one of another instance that cannot be read", unreadable("platform", "other"), false),
            ("one of a namespace that is not allowed, and cannot be read", unreadable("rival", "fleet"), false),
        ] {
            let (me, instance) = (app("platform", "me", "m", json!({})), instance(json!([])));
            let others = [Arc::new(other)];
            assert_eq!(Claims::new(&me, &others, Some(&instance)).is_namespace_shared(), is_shared, "{name}");
        }
    }
}
