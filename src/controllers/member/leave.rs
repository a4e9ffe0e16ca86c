//! Lets a member go: observes, asks [`unjoin::next`], carries the step out, until there is something to wait for.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::error::Error;
use super::join::within_deadline;
use super::observe::{self, Holder, LiveCluster, MemberClient};
use super::plan::Membership;
use super::remaining::Remaining;
use super::status::{Progress, StatusInputs};
use super::unjoin::{self, Applications, ClusterSide, Done, Leaving, MemberSide, PlaneSide, Step};
use super::validate::instance_key;
use super::write::MemberWrite;
use super::{FINALIZER, Members, apply, cleanup, inventory, plan, plane_finds_ready};
use crate::api::instance::Profile;
use crate::api::member::MemberClusterJoin;
use crate::controllers::host_error::HostError;
use crate::karmada::{Cluster, DRAINED_CONDITION};
use crate::machinery::conditions;
use crate::machinery::error::{Classified as _, chain};
use crate::runtime::finalizer;
use crate::runtime::instance_ref::{InstanceRefError, is_plane_given_up};
use crate::runtime::planes::{Plane, PlaneError};

use std::sync::Arc;

/// How often a member that cannot go is looked at, when its deadline is not nearer.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// How long a plane has at least to let go of a member that it reaches. Upstream's `unjoin` waits as long.
const UNJOIN_GRACE_PERIOD_SECONDS: i64 = 60;

/// A member that is let go as it should be is gone by then; later, it is asked what remains.
const EXPECTED_UNJOIN_SECONDS: i64 = 8;

/// More steps than this in one round mean that something undoes them.
const MAX_STEPS: usize = 12;

/// When a member that cannot go is looked at again: at its deadline, if that comes first.
pub(super) fn recheck(join: &MemberClusterJoin) -> Duration {
    match remaining(join, Timestamp::now()) {
        Some(left) if left > Duration::ZERO => left.min(RECHECK_INTERVAL) + Duration::from_millis(50),
        _ => RECHECK_INTERVAL,
    }
}

/// Time until a member that cannot be reached is given up; `None` for never. Pure.
fn remaining(join: &MemberClusterJoin, now: Timestamp) -> Option<Duration> {
    let after = join.spec.deletion.force_after_seconds?;
    let deleted = join.metadata.deletion_timestamp.as_ref()?.0;
    let left = after.saturating_sub(now.as_second().saturating_sub(deleted.as_second()));
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
}

/// For how many seconds the plane has been letting go of a member. Pure.
fn ending_for(cluster: &Cluster, now: Timestamp) -> Option<i64> {
    let deleted = cluster.metadata.deletion_timestamp.as_ref()?.0;
    Some(now.as_second().saturating_sub(deleted.as_second()))
}

/// Whether the plane has had its time to let go of a member that it reaches. Pure.
fn is_overdue(join: &MemberClusterJoin, cluster: &Cluster, now: Timestamp) -> bool {
    let after = join.spec.deletion.force_after_seconds.map(|after| after.max(UNJOIN_GRACE_PERIOD_SECONDS));
    after.zip(ending_for(cluster, now)).is_some_and(|(after, passed)| passed >= after)
}

/// What the plane says that keeps it from letting the member go. Pure.
fn awaited(cluster: &Cluster) -> Option<String> {
    let status = cluster.status.as_ref()?;
    let drained = conditions::find(&status.conditions, DRAINED_CONDITION)?;
    (drained.status == "False").then(|| drained.message.clone())
}

/// One look at both sides.
struct Look {
    plane: Option<Arc<Plane>>,
    cluster: Option<LiveCluster>,
    side: PlaneSide,
}

impl Members {
    /// One round towards being gone. `None`: it is gone.
    pub(super) async fn leave(
        &self,
        join: &MemberClusterJoin,
        inputs: &mut StatusInputs,
    ) -> Result<Option<Progress>, Error> {
        // Whoever never got as far as the finalizer has written nothing anywhere.
        if !join.finalizers().iter().any(|held| held == FINALIZER) {
            return Ok(None);
        }
        let key = instance_key(join);
        let mut done = Done::default();
        // What a member that answers refuses is not asked for again once it is to be given up.
        let mut refused = None;
        for _ in 0..MAX_STEPS {
            let look = self.look(join).await?;
            let (member, member_client) = match &refused {
                Some(message) => (MemberSide::Away { message: String::clone(message) }, None),
                None => self.member_side(join, look.cluster.as_ref()).await,
            };
            inputs.cluster = look.cluster.as_ref().map(|live| live.typed.clone());
            let mut seen = Leaving {
                policy: join.spec.deletion.policy,
                due: remaining(join, Timestamp::now()) == Some(Duration::ZERO),
                plane: look.side.clone(),
                member,
                done: done.clone(),
            };
            let force = seen.forced();
            if let (PlaneSide::Here { cluster: Some(side), .. }, Some(live)) = (&mut seen.plane, &look.cluster) {
                side.annotated = annotated(join, live, force);
                // What the plane says itself need not be asked for.
                if side.awaited.is_none() {
                    side.remaining = self.remaining(&look, live, member_client.as_ref()).await;
                }
            }
            let step = unjoin::next(&seen);
            let of = Membership { instance: &key, mark: None };
            match (step, &look.plane, &look.cluster, &member_client) {
                (Step::Wait { reason, message, normal }, ..) => {
                    return Ok(Some(Progress::Leaving { reason, message, normal }));
                }
                (Step::WithholdDelete, _, _, Some(member_client)) => {
                    let withheld =
                        within_deadline(member_client, MemberWrite { member_client, join }.withhold_delete(&of)).await;
                    refused = unless_forced(withheld, force)?;
                    done.delete_withheld = refused.is_none();
                }
                (Step::RemoveApplications, _, _, Some(member_client)) => {
                    let removed =
                        within_deadline(member_client, cleanup::remove_applications(member_client, join)).await;
                    let removed = removed.map(|left| {
                        done.applications = left.map_or(Applications::Unmarked, Applications::Remaining);
                    });
                    refused = unless_forced(removed, seen.due)?;
                }
                (Step::RemoveIdentity, _, _, Some(member_client)) => {
                    let removed =
                        within_deadline(member_client, MemberWrite { member_client, join }.remove_identity()).await;
                    refused = unless_forced(removed, seen.due)?;
                    done.identity_removed = refused.is_none();
                }
                (Step::Annotate { force }, Some(plane), Some(live), _) => {
                    apply::annotate(plane, join, live, force).await?;
                    if force {
                        self.warn_of_force(join, &seen).await;
                    }
                }
                (Step::PreserveWorks, Some(plane), Some(live), _) => {
                    apply::Works::of(plane, &live.typed.name_any())
                        .preserve()
                        .await
                        .map_err(|source| Error::Plane { instance: key.to_string(), source })?;
                }
                (Step::DeleteCluster, Some(plane), Some(live), _) => apply::delete_cluster(plane, live).await?,
                (Step::ReleaseCluster, Some(plane), Some(live), _) => {
                    apply::release_cluster(plane, live).await?;
                    done.cluster_released = true;
                }
                (Step::RemoveSecrets, Some(plane), ..) => {
                    apply::remove_secrets(plane, join).await?;
                    done.secrets_removed = true;
                }
                (Step::Release { left_behind }, ..) => {
                    if let Some(note) = left_behind {
                        self.status.warn(join, "LeftBehind", &note).await;
                    }
                    self.release_credentials(join, join.uid().as_deref()).await;
                    finalizer::remove(&self.context.host.0, join, FINALIZER)
                        .await
                        .map_err(|source| HostError { action: "remove the finalizer", source })?;
                    return Ok(None);
                }
                // A step names only sides that were seen; whatever vanished since is looked at again.
                _ => {}
            }
        }
        let message = "the steps so far are being undone by somebody; trying again".to_owned();
        Ok(Some(Progress::Leaving { reason: "Unjoining", message, normal: true }))
    }

    /// What a member that is being let go still holds, once that takes longer than usual.
    async fn remaining(&self, look: &Look, live: &LiveCluster, member_client: Option<&MemberClient>) -> Remaining {
        let (Some(plane), PlaneSide::Here { profile, .. }) = (&look.plane, &look.side) else {
            return Remaining::default();
        };
        if ending_for(&live.typed, Timestamp::now()).is_none_or(|passed| passed < EXPECTED_UNJOIN_SECONDS) {
            return Remaining::default();
        }
        let read = inventory::remaining(plane, *profile, &live.typed, member_client);
        let remaining = match member_client {
            Some(member_client) => within_deadline(member_client, read).await,
            None => read.await,
        };
        match remaining {
            Ok(remaining) => remaining,
            Err(error) => {
                tracing::debug!(error = chain(&error), "what remains in the member is not known");
                Remaining::default()
            }
        }
    }

    /// Tells of a member that is given up what may stay there.
    async fn warn_of_force(&self, join: &MemberClusterJoin, seen: &Leaving) {
        let what = match &seen.plane {
            PlaneSide::Here { cluster: Some(side), .. } if !side.remaining.is_empty() => side.remaining.to_string(),
            _ => "whatever the plane could not remove".to_owned(),
        };
        let note = format!(
            "spec.deletion.forceAfterSeconds has passed: the plane lets the member go, and leaves behind {what}"
        );
        self.status.warn(join, "LeftBehind", &note).await;
    }

    async fn look(&self, join: &MemberClusterJoin) -> Result<Look, Error> {
        let key = instance_key(join);
        let gone = Look { plane: None, cluster: None, side: PlaneSide::Gone };
        let instance = match self.instance(join, &key).await {
            Ok(instance) => instance,
            Err(Error::Instance(InstanceRefError::NotFound { .. })) => return Ok(gone),
            // Consent was withdrawn; what was made must go all the same.
            Err(Error::Instance(InstanceRefError::NotShared { .. })) => match self.any_instance(&key) {
                Some(instance) => instance,
                None => return Ok(gone),
            },
            Err(error) => return Err(error),
        };
        let is_ending = instance.metadata.deletion_timestamp.is_some();
        if is_ending && matches!(self.context.planes.get(&key), Err(PlaneError::Unavailable(_))) {
            return Ok(gone);
        }
        // One request that fails is no sign that the plane is gone: it still needs its identity in the member.
        let is_given_up = is_plane_given_up(&instance, Timestamp::now());
        let away = |message: String| {
            let side = if is_given_up { PlaneSide::Gone } else { PlaneSide::Away { message } };
            Ok(Look { plane: None, cluster: None, side })
        };
        let plane = match observe::plane(&self.context.planes, &instance, &key) {
            Ok(plane) => plane,
            Err(error) => return away(chain(&error)),
        };
        let live = match observe::cluster(&plane, &join.spec.cluster_name).await {
            Ok(live) => live.filter(|live| observe::holder(join, &live.typed) == Holder::Us),
            Err(error) => return away(chain(&error)),
        };
        let profile = instance.spec.profile;
        let cluster = match &live {
            None => None,
            Some(live) => Some(self.cluster_side(join, &plane, profile, live).await?),
        };
        Ok(Look { plane: Some(plane), cluster: live, side: PlaneSide::Here { profile, cluster } })
    }

    fn any_instance(&self, key: &crate::runtime::planes::InstanceKey) -> Option<crate::api::KarmadaInstance> {
        observe::instance(&self.context.cache.instances, key, &key.namespace).ok()
    }

    async fn cluster_side(
        &self,
        join: &MemberClusterJoin,
        plane: &Plane,
        profile: Profile,
        live: &LiveCluster,
    ) -> Result<ClusterSide, Error> {
        let cluster = &live.typed;
        let unpreserved_works = profile == Profile::Full
            && !apply::Works::of(plane, &cluster.name_any())
                .unpreserved()
                .await
                .map_err(|source| Error::Plane { instance: plane.key.to_string(), source })?
                .is_empty();
        Ok(ClusterSide {
            deleting: cluster.metadata.deletion_timestamp.is_some(),
            ready: plane_finds_ready(cluster),
            reported: cluster.status.as_ref().is_some_and(|status| status.kubernetes_version.is_some()),
            annotated: false,
            unpreserved_works,
            overdue: is_overdue(join, cluster, Timestamp::now()),
            remaining: Remaining::default(),
            awaited: awaited(cluster),
        })
    }

    /// Whether the member can be entered, and is the one that was joined.
    async fn member_side(
        &self,
        join: &MemberClusterJoin,
        live: Option<&LiveCluster>,
    ) -> (MemberSide, Option<MemberClient>) {
        let joined = live
            .and_then(|live| live.typed.spec.id.clone())
            .or_else(|| join.status.as_ref().and_then(|status| status.cluster_id.clone()));
        let entered = async {
            let member_client = match self.member_client(join).await {
                // The Secret went first, as when the whole namespace goes: what it said is still known, mostly.
                Err(error @ (Error::SecretMissing { .. } | Error::KeyMissing { .. })) => {
                    self.known(join).map(|known| known.member_client).ok_or(error)?
                }
                result => result?,
            };
            let identity = within_deadline(&member_client, observe::identity(&member_client)).await?;
            match joined {
                Some(expected) if expected != identity.id => {
                    Err(Error::AnotherCluster { expected, found: identity.id })
                }
                _ => Ok(member_client),
            }
        };
        match entered.await {
            Ok(member_client) => (MemberSide::Here, Some(member_client)),
            Err(error) => {
                tracing::debug!(reason = error.reason(), "member cannot be entered");
                (MemberSide::Away { message: chain(&error) }, None)
            }
        }
    }
}

/// What failed in a member that is to be given up is only noted: it must not hold the membership for ever. Pure.
fn unless_forced(result: Result<(), Error>, forced: bool) -> Result<Option<String>, Error> {
    match result {
        Ok(()) => Ok(None),
        Err(error) if forced => Ok(Some(chain(&error))),
        Err(error) => Err(error),
    }
}

/// Whether the Cluster's annotations say what is wanted. Pure.
fn annotated(join: &MemberClusterJoin, live: &LiveCluster, force: bool) -> bool {
    let annotations = live.object.annotations();
    let is = |key: &str, value: &str| annotations.get(key).is_some_and(|found| found == value);
    is(plan::UNJOIN_POLICY_ANNOTATION, plan::unjoin_policy(join))
        && (!force || is(plan::FORCE_UNJOIN_ANNOTATION, "true"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn join(after: Option<i64>) -> MemberClusterJoin {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "MemberClusterJoin",
            "metadata": {"namespace": "team", "name": "one", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"instanceRef": {"name": "fleet"}, "clusterName": "c", "kubeconfigSecretRef": {"name": "s"},
                "deletion": {"forceAfterSeconds": after}},
        }))
        .unwrap()
    }

    #[test]
    fn a_plane_that_reaches_the_member_has_its_time() {
        let cluster = |deleted: Option<&str>| -> Cluster {
            serde_json::from_value(json!({
                "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster",
                "metadata": {"name": "c", "deletionTimestamp": deleted}, "spec": {"syncMode": "Push"},
            }))
            .unwrap()
        };
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let (early, late) = (cluster(Some("2026-01-01T00:59:01Z")), cluster(Some("2026-01-01T00:58:59Z")));
        for (case, after, cluster, overdue) in [
            ("not asked yet", Some(0), cluster(None), false),
            ("a minute at least", Some(0), early, false),
            ("after it", Some(0), late.clone(), true),
            ("more where more is given", Some(120), late.clone(), false),
            ("never, when absent", None, late, false),
        ] {
            assert_eq!(is_overdue(&join(after), &cluster, now), overdue, "{case}");
        }
    }

    #[test]
    fn what_a_member_refuses_does_not_hold_it_for_ever() {
        let error = || Err(Error::MemberNamespaceEnding);
        assert!(unless_forced(error(), false).is_err());
        assert!(unless_forced(error(), true).is_ok_and(|refused| refused.is_some()));
        assert!(unless_forced(Ok(()), true).is_ok_and(|refused| refused.is_none()));
    }

    #[test]
    fn a_member_is_given_up_at_its_time() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(remaining(&join(None), at("2026-02-01T00:00:00Z")), None);
        assert_eq!(remaining(&join(Some(60)), at("2026-01-01T00:00:20Z")), Some(Duration::from_secs(40)));
        assert_eq!(remaining(&join(Some(60)), at("2026-01-01T00:01:00Z")), Some(Duration::ZERO));
        assert_eq!(remaining(&join(Some(60)), at("2026-01-02T00:00:00Z")), Some(Duration::ZERO));
        assert_eq!(remaining(&join(Some(0)), at("2026-01-01T00:00:00Z")), Some(Duration::ZERO));
    }
}
