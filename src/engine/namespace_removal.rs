//! The end of namespaces in members: of those that Airdock made for applications, and of all when a member leaves. What
//! others have put there stays, and the namespace with it: it loses the engine's marks. Namespaces that a plane's users
//! make and delete themselves go as Karmada's do, with all that is in them.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::ApiResource;

use super::Engine;
use super::key::Key;
use super::marks::{Marks, PLANE_ANNOTATION};
use super::model::LiveObject;
use super::session::Session;
use crate::karmada::Cluster;
use crate::runtime::contents::{Contents, contents};

/// How long a namespace may be in use before it is taken to be needed: controllers need a moment to remove what they made.
const IN_USE_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// How soon it is checked again meanwhile.
const IN_USE_RECHECK: Duration = Duration::from_secs(1);

/// Reason of the event about a namespace that stays.
const NAMESPACE_KEPT: &str = "NamespaceKept";

/// Whether a namespace may be deleted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NamespaceRemoval {
    /// It goes, or stays, whatever is in it.
    NotChecked,
    /// Nothing of anybody else is in it.
    Allowed,
    /// Something was in it for some time, and what.
    InUse(String),
    /// Something is in it; it is checked again after a while.
    RecheckAfter(Duration),
}

/// Checks whether a namespace that is to go may be deleted. IO, no writes.
pub(super) async fn check(
    engine: &Engine,
    session: &Session,
    key: &Key,
    live: &LiveObject,
    preserve: bool,
) -> Result<NamespaceRemoval, kube::Error> {
    let leaves = engine.index().views.get(&session.cluster).is_some_and(|view| view.leaving);
    if preserve || !key.kind.is_namespace() || !(live.created_for_applications || leaves) {
        return Ok(NamespaceRemoval::NotChecked);
    }
    let is_own = |resource: &ApiResource, object: &ObjectMeta| {
        let plane = object.annotations.as_ref().and_then(|all| all.get(PLANE_ANNOTATION));
        plane.is_some_and(|plane| engine.plane == **plane) && Marks::of(&resource.kind, object) == Marks::Own
    };
    let found = contents(session.rest.client(), &key.name, is_own).await?;
    // Those that are bound are about to be removed, or to lose the marks because they are to stay.
    let is_bound = {
        let index = engine.index();
        index.bindings_in(&session.cluster).any(|bound| bound.namespace.as_deref() == Some(key.name.as_str()))
    };
    let is_timed = is_timed(&found, is_bound);
    let in_use_for = if is_timed { session.in_use_for(key) } else { Duration::ZERO };
    let removal = removal(found, is_bound, in_use_for);
    if !is_timed || !matches!(removal, NamespaceRemoval::RecheckAfter(_)) {
        session.forget_in_use(key);
    }
    Ok(removal)
}

/// Whether the time counts for which a namespace has been in use: only once no binding names objects in it. What the plane
/// removes before that, and what belongs to it (Pods of a Deployment), may take any time to go. Pure.
fn is_timed(found: &Contents, is_bound: bool) -> bool {
    !is_bound && matches!(found, Contents::Holds(_) | Contents::Unknown(_))
}

/// What follows from what is in a namespace, whether bindings name objects in it, and how long it has been in use
/// since none does. Pure.
fn removal(found: Contents, is_bound: bool, in_use_for: Duration) -> NamespaceRemoval {
    match found {
        Contents::Empty => NamespaceRemoval::Allowed,
        Contents::Own(_) if is_bound => NamespaceRemoval::RecheckAfter(IN_USE_RECHECK),
        Contents::Own(_) => NamespaceRemoval::Allowed,
        Contents::Holds(_) | Contents::Unknown(_) if is_bound || in_use_for < IN_USE_GRACE_PERIOD => {
            NamespaceRemoval::RecheckAfter(IN_USE_RECHECK)
        }
        Contents::Holds(object) => NamespaceRemoval::InUse(format!("it holds {object}, which is not the plane's")),
        Contents::Unknown(why) => NamespaceRemoval::InUse(why),
    }
}

/// Publishes an event about a namespace that stays in a member. IO.
pub(super) async fn publish_kept(engine: &Engine, session: &Session, key: &Key, why: &str) {
    let cluster = &session.cluster;
    let uid = engine.index().clusters.get(cluster).and_then(|cluster| cluster.metadata.uid.clone());
    let about = ObjectReference {
        api_version: Some(Cluster::api_version(&()).into_owned()),
        kind: Some(Cluster::kind(&()).into_owned()),
        name: Some(cluster.to_string()),
        uid,
        ..ObjectReference::default()
    };
    let namespace = &key.name;
    tracing::info!(%cluster, namespace, why, "namespace stays in the member");
    let note = format!("namespace {namespace} stays in cluster {cluster}: {why}");
    engine.statuses.warn_about(&about, NAMESPACE_KEPT, &note).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_stays_in_use_stays() {
        let holds = || Contents::Holds("ConfigMap shop/theirs".into());
        let unknown = || Contents::Unknown("x cannot be listed".into());
        for found in [holds(), unknown()] {
            assert!(is_timed(&found, false) && !is_timed(&found, true), "{found:?}");
            assert_eq!(removal(found, false, Duration::from_secs(3)), NamespaceRemoval::RecheckAfter(IN_USE_RECHECK));
        }
        for found in [holds(), unknown()] {
            assert_eq!(
                removal(found, true, IN_USE_GRACE_PERIOD),
                NamespaceRemoval::RecheckAfter(IN_USE_RECHECK),
                "what is bound is still being removed"
            );
        }
        assert_eq!(removal(Contents::Empty, false, Duration::ZERO), NamespaceRemoval::Allowed);
        let own = || Contents::Own("ConfigMap shop/settings".into());
        assert!(!is_timed(&own(), false) && !is_timed(&Contents::Empty, false));
        assert_eq!(
            removal(own(), true, IN_USE_GRACE_PERIOD),
            NamespaceRemoval::RecheckAfter(IN_USE_RECHECK),
            "it may be one that is to stay"
        );
        assert_eq!(removal(own(), false, Duration::ZERO), NamespaceRemoval::Allowed, "nothing stands for it any more");
        let words = |found| match removal(found, false, IN_USE_GRACE_PERIOD) {
            NamespaceRemoval::InUse(why) => why,
            other => format!("{other:?}"),
        };
        assert!(words(holds()).contains("ConfigMap shop/theirs") && words(unknown()).contains("cannot be listed"));
    }
}
