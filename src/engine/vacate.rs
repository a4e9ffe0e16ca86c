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
use super::marks::Marks;
use super::member::Session;
use super::model::Live;
use super::stamp::PLANE_ANNOTATION;
use crate::karmada::Cluster;
use crate::runtime::contents::{Contents, contents};

/// How long a namespace may be in use before it is taken to be needed: controllers need a moment to remove what they made.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon it is looked at again meanwhile.
const RECHECK: Duration = Duration::from_secs(1);

/// Reason of the event about a namespace that stays.
const NAMESPACE_KEPT: &str = "NamespaceKept";

/// Whether a namespace may be deleted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Vacancy {
    /// It goes, or stays, whatever is in it.
    NotAsked,
    /// Nothing of anybody else is in it.
    Vacant,
    /// Something was in it for some time, and what.
    Occupied(String),
    /// Something is in it; it is looked at again after a while.
    Wait(Duration),
}

/// Looks whether a namespace that is to go may be deleted. IO, no writes.
pub(super) async fn look(
    engine: &Engine,
    session: &Session,
    key: &Key,
    live: &Live,
    preserve: bool,
) -> Result<Vacancy, kube::Error> {
    let leaves = engine.index().views.get(&session.cluster).is_some_and(|view| view.leaving);
    if preserve || !key.kind.is_namespace() || !(live.created_for_applications || leaves) {
        return Ok(Vacancy::NotAsked);
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
    let occupied_for = if is_timed { session.occupied_for(key) } else { Duration::ZERO };
    let vacancy = vacancy(found, is_bound, occupied_for);
    if !is_timed || !matches!(vacancy, Vacancy::Wait(_)) {
        session.forget_occupied(key);
    }
    Ok(vacancy)
}

/// Whether the time counts for which a namespace has been in use: only once no binding names objects in it. What the plane
/// removes before that, and what belongs to it (Pods of a Deployment), may take any time to go. Pure.
fn is_timed(found: &Contents, is_bound: bool) -> bool {
    !is_bound && matches!(found, Contents::Holds(_) | Contents::Unknown(_))
}

/// What follows from what is in a namespace, whether bindings name objects in it, and how long it has been in use
/// since none does. Pure.
fn vacancy(found: Contents, is_bound: bool, occupied_for: Duration) -> Vacancy {
    match found {
        Contents::Empty => Vacancy::Vacant,
        Contents::Own(_) if is_bound => Vacancy::Wait(RECHECK),
        Contents::Own(_) => Vacancy::Vacant,
        Contents::Holds(_) | Contents::Unknown(_) if is_bound || occupied_for < PATIENCE => Vacancy::Wait(RECHECK),
        Contents::Holds(object) => Vacancy::Occupied(format!("it holds {object}, which is not the plane's")),
        Contents::Unknown(why) => Vacancy::Occupied(why),
    }
}

/// Tells of a namespace that stays in a member.
pub(super) async fn tell(engine: &Engine, session: &Session, key: &Key, why: &str) {
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
            assert_eq!(vacancy(found, false, Duration::from_secs(3)), Vacancy::Wait(RECHECK));
        }
        for found in [holds(), unknown()] {
            assert_eq!(vacancy(found, true, PATIENCE), Vacancy::Wait(RECHECK), "what is bound is still being removed");
        }
        assert_eq!(vacancy(Contents::Empty, false, Duration::ZERO), Vacancy::Vacant);
        let own = || Contents::Own("ConfigMap shop/settings".into());
        assert!(!is_timed(&own(), false) && !is_timed(&Contents::Empty, false));
        assert_eq!(vacancy(own(), true, PATIENCE), Vacancy::Wait(RECHECK), "it may be one that is to stay");
        assert_eq!(vacancy(own(), false, Duration::ZERO), Vacancy::Vacant, "nothing stands for it any more");
        let words = |found| match vacancy(found, false, PATIENCE) {
            Vacancy::Occupied(why) => why,
            other => format!("{other:?}"),
        };
        assert!(words(holds()).contains("ConfigMap shop/theirs") && words(unknown()).contains("cannot be listed"));
    }
}
