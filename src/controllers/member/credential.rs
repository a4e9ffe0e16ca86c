//! Holds on to the Secrets with members' kubeconfigs until the members have been left. IO.
//!
//! A namespace that is deleted takes its Secrets along in any order, and what they say is in memory alone from then on. A
//! finalizer keeps them until nothing has to be removed from the member any more. A Secret that is deleted otherwise goes
//! at once: whoever rotates a kubeconfig by deleting and creating it need not wait.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams, PartialObjectMeta};
use kube::{Client, Resource, ResourceExt};

use super::error::Error;
use crate::api::member::MemberClusterJoin;
use crate::controllers::host_error::HostError;
use crate::machinery::error::is_conflict;
use crate::runtime::finalizer;
use crate::runtime::guarded::{self, Guarded};

/// Finalizer of a Secret that a membership needs to leave its member.
pub const FINALIZER: &str = "airdock.dev/member-credential";

/// Keeps the kubeconfig of a membership from being lost. The membership must have its own finalizer by then.
pub async fn hold(host: &Client, join: &MemberClusterJoin) -> Result<(), Error> {
    let secrets = Api::<Secret>::namespaced(host.clone(), &join.namespace().unwrap_or_default());
    let failed = |source| HostError { action: "hold on to the kubeconfig Secret", source };
    loop {
        let secret = secrets.get_opt(&join.spec.kubeconfig_secret_ref.name).await.map_err(failed)?;
        // What is on its way out takes no finalizer any more.
        let Some(secret) = secret.filter(|secret| secret.metadata.deletion_timestamp.is_none()) else { return Ok(()) };
        match finalizer::add(host, &secret, FINALIZER).await {
            // Another membership with the same kubeconfig was faster, or somebody changed it.
            Err(error) if is_conflict(&error) => {}
            held => return Ok(held.map_err(failed)?),
        }
    }
}

/// Lets go of the Secrets of a namespace that no membership needs any more; `joins` are all that there are, less the one
/// that is just leaving.
pub async fn release_unneeded(
    host: &Client,
    namespace: &str,
    joins: &[Arc<Guarded<MemberClusterJoin>>],
) -> Result<(), Error> {
    let failed = |source| HostError { action: "read the Secrets with kubeconfigs", source };
    let secrets = Api::<Guarded<PartialObjectMeta<Secret>>>::namespaced(host.clone(), namespace);
    let all = guarded::list_all(&secrets, &ListParams::default()).await.map_err(failed)?;
    let held = all.into_iter().filter(|secret| secret.finalizers().iter().any(|held| held == FINALIZER));
    let users: Vec<_> = joins.iter().filter(|join| holds(join, namespace)).map(|join| join.0.as_ref().ok()).collect();
    let mut ending = None;
    for secret in held {
        let is_ending = match ending {
            Some(known) => known,
            None => *ending.insert(is_namespace_ending(host, namespace).await?),
        };
        let deleting = secret.meta().deletion_timestamp.is_some();
        if is_needed(&secret.name_any(), deleting, is_ending, &users) {
            continue;
        }
        let metadata = secret.meta().clone();
        match finalizer::remove(host, &Secret { metadata, ..Secret::default() }, FINALIZER).await {
            // Changed meanwhile: it is looked at again.
            Err(error) if !is_conflict(&error) => {
                return Err(HostError { action: "let the kubeconfig Secret go", source: error }.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// The memberships, with one as it is now that it has its finalizer: the cache may not know of it yet. Pure.
pub fn with_holder(
    mut joins: Vec<Arc<Guarded<MemberClusterJoin>>>,
    join: &MemberClusterJoin,
) -> Vec<Arc<Guarded<MemberClusterJoin>>> {
    let mut join = join.clone();
    let finalizers = join.finalizers_mut();
    if !finalizers.iter().any(|held| held == super::FINALIZER) {
        finalizers.push(super::FINALIZER.to_owned());
    }
    joins.retain(|other| other.uid() != join.uid());
    joins.push(Arc::new(Guarded(Ok(join))));
    joins
}

/// Whether a membership counts as a user of the Secrets of a namespace. Pure.
fn holds(join: &Guarded<MemberClusterJoin>, namespace: &str) -> bool {
    let holds = join.finalizers().iter().any(|held| held == super::FINALIZER);
    holds && join.namespace().as_deref() == Some(namespace)
}

async fn is_namespace_ending(host: &Client, namespace: &str) -> Result<bool, Error> {
    let found = Api::<Namespace>::all(host.clone()).get_metadata_opt(namespace).await;
    let found = found.map_err(|source| HostError { action: "read the namespace", source })?;
    Ok(found.is_some_and(|found| found.metadata.deletion_timestamp.is_some()))
}

/// Whether a Secret is needed. A membership that cannot be read may use any. Pure.
fn is_needed(name: &str, deleting: bool, namespace_ending: bool, users: &[Option<&MemberClusterJoin>]) -> bool {
    let mut users = users.iter().filter(|join| join.is_none_or(|join| join.spec.kubeconfig_secret_ref.name == name));
    let leaves = |join: &MemberClusterJoin| join.metadata.deletion_timestamp.is_some();
    users.any(|join| !deleting || namespace_ending || join.is_none_or(leaves))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_membership_counts_before_the_cache_knows_of_its_finalizer() {
        let join: MemberClusterJoin = serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
            "metadata": {"namespace": "team", "name": "one", "uid": "1"},
            "spec": {"instanceRef": {"name": "fleet"}, "clusterName": "c", "kubeconfigSecretRef": {"name": "s"}},
        }))
        .unwrap();
        let cached = Arc::new(Guarded(Ok(join.clone())));
        assert!(!holds(&cached, "team"));
        let all = with_holder(vec![cached], &join);
        assert_eq!(all.len(), 1);
        assert!(holds(&all[0], "team") && !holds(&all[0], "other"));
    }

    #[test]
    fn a_secret_is_held_while_a_membership_needs_it_to_leave() {
        let join = |secret: &str, deleted: Option<&str>| -> MemberClusterJoin {
            serde_json::from_value(json!({
                "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
                "metadata": {"namespace": "team", "name": "one", "deletionTimestamp": deleted},
                "spec": {"instanceRef": {"name": "fleet"}, "clusterName": "c", "kubeconfigSecretRef": {"name": secret}},
            }))
            .unwrap()
        };
        let (stays, leaves) = (join("s", None), join("s", Some("2026-01-01T00:00:00Z")));
        let other = join("other", None);
        for (case, deleting, namespace_ending, users, needed) in [
            ("used", false, false, vec![Some(&stays)], true),
            ("the reference names another one now", false, false, vec![Some(&other)], false),
            ("deleted alone: it may be made anew", true, false, vec![Some(&stays)], false),
            ("deleted with its namespace", true, true, vec![Some(&stays)], true),
            ("deleted with its membership", true, false, vec![Some(&leaves)], true),
            ("one of two leaves", true, false, vec![Some(&stays), Some(&leaves)], true),
            ("the last has left", true, true, vec![], false),
            ("used by what cannot be read", false, false, vec![None], true),
            ("deleted, and nobody is known to leave", true, false, vec![Some(&other)], false),
        ] {
            assert_eq!(is_needed("s", deleting, namespace_ending, &users), needed, "{case}");
        }
    }
}
