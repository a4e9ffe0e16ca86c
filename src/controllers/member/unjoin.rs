//! The order in which a member leaves: from what is observed to the next step. Pure.
//!
//! The plane goes first, while its credentials still work in the member: deleting the Cluster makes the plane take
//! its applications away (or leave them). Then Airdock's identity in the member, then the credentials in the plane.
//! Every step may be repeated, so nothing needs to be remembered.

use super::remaining::Remaining;
use crate::api::instance::Profile;
use crate::api::member::UnjoinPolicy;

/// What is observed of a member that is to leave.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// What becomes of applications.
    pub policy: UnjoinPolicy,
    /// Whether `forceAfterSeconds` have passed.
    pub due: bool,
    /// The instance's side.
    pub plane: PlaneSide,
    /// The member's side.
    pub member: MemberSide,
    /// What was done already in this round.
    pub done: Done,
}

/// The instance's side.
#[derive(Clone, Debug)]
pub enum PlaneSide {
    /// The instance does not exist, or is going and its plane is gone already.
    Gone,
    /// The plane does not answer.
    Away {
        /// What it answers.
        message: String,
    },
    /// The plane answers.
    Here {
        /// Who serves it.
        profile: Profile,
        /// The membership's Cluster.
        cluster: Option<ClusterSide>,
    },
}

/// A membership's Cluster in the plane.
#[derive(Clone, Debug, Default)]
pub struct ClusterSide {
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether the plane finds the member ready.
    pub ready: bool,
    /// Whether the plane ever reached the member.
    pub reported: bool,
    /// Whether the annotations say what is wanted now.
    pub annotated: bool,
    /// Profile Full: whether some of upstream's Works would still take their objects with them.
    pub unpreserved_works: bool,
    /// Whether the plane has had its time to let go of a member that it reaches.
    pub overdue: bool,
    /// What it still has in the member, once that takes longer than usual.
    pub remaining: Remaining,
    /// Profile Compact: what the plane says that it waits for.
    pub awaited: Option<String>,
}

/// The member's side.
#[derive(Clone, Debug)]
pub enum MemberSide {
    /// It answers, and accepts the credentials.
    Here,
    /// It does not.
    Away {
        /// Why.
        message: String,
    },
}

/// What a plane that is gone has left in the member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Applications {
    /// It was not looked for yet.
    #[default]
    Unknown,
    /// The plane's objects bear no mark by which they could be told from others.
    Unmarked,
    /// These are being deleted.
    Remaining(Remaining),
}

/// What was done already.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// What became of the applications of a plane that is gone.
    pub applications: Applications,
    /// The plane's identity lost the right to delete.
    pub delete_withheld: bool,
    /// Upstream's finalizers were stripped.
    pub cluster_released: bool,
    /// The identity was removed from the member.
    pub identity_removed: bool,
    /// The Secrets were removed from the plane.
    pub secrets_removed: bool,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take the verb `delete` from the plane's identity in the member, so that nobody can remove applications.
    WithholdDelete,
    /// Profile Full: make upstream's Works leave their objects.
    PreserveWorks,
    /// Write the annotations on the Cluster.
    Annotate {
        /// Whether to give the member up.
        force: bool,
    },
    /// Delete the Cluster.
    DeleteCluster,
    /// Profile Full: strip upstream's finalizers, since the member cannot be reached.
    ReleaseCluster,
    /// Remove from the member what a plane that is gone made there.
    RemoveApplications,
    /// Remove Airdock's identity from the member.
    RemoveIdentity,
    /// Remove the member's credentials from the plane.
    RemoveSecrets,
    /// Let the object go.
    Release {
        /// What stays behind, for an event.
        left_behind: Option<String>,
    },
    /// Nothing can be done now.
    Wait {
        /// One word.
        reason: &'static str,
        /// What is awaited.
        message: String,
        /// Whether it waits for the normal course of things.
        normal: bool,
    },
}

impl Leaving {
    /// Whether the member is to be given up: the time has come, and it cannot be reached, or keeps something although
    /// the plane has had its time to remove it.
    #[must_use]
    pub fn forced(&self) -> bool {
        let stuck = match &self.plane {
            PlaneSide::Here { cluster: Some(cluster), .. } => !cluster.ready || cluster.overdue,
            _ => false,
        };
        self.due && (matches!(self.member, MemberSide::Away { .. }) || stuck)
    }
}

/// The next step.
#[must_use]
pub fn next(seen: &Leaving) -> Step {
    match &seen.plane {
        PlaneSide::Away { message } => {
            return Step::Wait {
                reason: "PlaneUnreachable",
                message: format!("waiting for the plane, which must let the member go: {message}"),
                normal: false,
            };
        }
        PlaneSide::Here { profile, cluster: Some(cluster) } => return leave_plane(seen, *profile, cluster),
        PlaneSide::Gone | PlaneSide::Here { cluster: None, .. } => {}
    }
    let plane_gone = matches!(seen.plane, PlaneSide::Gone);
    if plane_gone && seen.policy == UnjoinPolicy::Unjoin && matches!(seen.member, MemberSide::Here) {
        match &seen.done.applications {
            Applications::Unknown => return Step::RemoveApplications,
            Applications::Remaining(remaining) if !remaining.is_empty() && !seen.due => {
                return Step::Wait {
                    reason: "RemovingApplications",
                    message: format!("the plane is gone; waiting for the member to remove {remaining}"),
                    normal: true,
                };
            }
            Applications::Remaining(_) | Applications::Unmarked => {}
        }
    }
    match &seen.member {
        MemberSide::Here if !seen.done.identity_removed => return Step::RemoveIdentity,
        MemberSide::Away { message } if !seen.due && !plane_gone => {
            return Step::Wait {
                reason: "MemberUnreachable",
                message: format!(
                    "Airdock's identity remains in the member, which cannot be reached ({message}): restore member_client, or set \
                     spec.deletion.forceAfterSeconds to leave it behind"
                ),
                normal: false,
            };
        }
        MemberSide::Here | MemberSide::Away { .. } => {}
    }
    if !plane_gone && !seen.done.secrets_removed {
        return Step::RemoveSecrets;
    }
    Step::Release { left_behind: left_behind(seen, plane_gone) }
}

fn leave_plane(seen: &Leaving, profile: Profile, cluster: &ClusterSide) -> Step {
    let forced = seen.forced();
    let orphan = seen.policy == UnjoinPolicy::Orphan;
    let full = profile == Profile::Full;
    // Also from one that is given up: applications are to stay.
    if orphan && !seen.done.delete_withheld && (!forced || matches!(seen.member, MemberSide::Here)) {
        return match &seen.member {
            MemberSide::Here => Step::WithholdDelete,
            // The Cluster goes on being what it is: deleting it could take the applications along.
            MemberSide::Away { message } if !cluster.deleting => Step::Wait {
                reason: "MemberUnreachable",
                message: format!(
                    "applications are to stay, but the member cannot be reached to make sure of it ({message}): restore \
                     member_client, or set spec.deletion.forceAfterSeconds"
                ),
                normal: false,
            },
            MemberSide::Away { message } => waiting(cluster, Some(message)),
        };
    }
    if !cluster.annotated {
        return Step::Annotate { force: forced };
    }
    if orphan && full && cluster.unpreserved_works {
        return Step::PreserveWorks;
    }
    if !cluster.deleting {
        // Upstream forgets a member that is not ready at once, with all that runs there.
        if full && !orphan && cluster.reported && !cluster.ready && !forced {
            return Step::Wait {
                reason: "MemberNotReady",
                message: "applications remain in the member, which the plane finds not ready: restore it, or set \
                          spec.deletion.forceAfterSeconds to leave them behind"
                    .to_owned(),
                normal: false,
            };
        }
        return Step::DeleteCluster;
    }
    if full && forced && !seen.done.cluster_released {
        return Step::ReleaseCluster;
    }
    waiting(
        cluster,
        match &seen.member {
            MemberSide::Away { message } => Some(message),
            MemberSide::Here => None,
        },
    )
}

fn waiting(cluster: &ClusterSide, away: Option<&String>) -> Step {
    match away {
        Some(message) => Step::Wait {
            reason: "MemberUnreachable",
            message: format!(
                "applications and Airdock's identity remain in the member, which cannot be reached ({message}): restore \
                 member_client, or set spec.deletion.forceAfterSeconds to leave them behind"
            ),
            normal: false,
        },
        None if cluster.reported && !cluster.ready => Step::Wait {
            reason: "MemberNotReady",
            message: "waiting for the plane to remove what it manages from the member, which it finds not ready"
                .to_owned(),
            normal: false,
        },
        None if cluster.remaining.is_empty() => Step::Wait {
            reason: "Unjoining",
            message: match &cluster.awaited {
                Some(awaited) => format!("waiting for the plane to let the member go: {awaited}"),
                None => "waiting for the plane to let the member go".to_owned(),
            },
            normal: true,
        },
        None => Step::Wait {
            reason: "Unjoining",
            message: format!(
                "waiting for the plane to let the member go, where it still has {}; see there what keeps it, or set \
                 spec.deletion.forceAfterSeconds to leave it behind",
                cluster.remaining
            ),
            normal: true,
        },
    }
}

fn left_behind(seen: &Leaving, plane_gone: bool) -> Option<String> {
    let apps = "whatever the plane could not remove";
    let identity =
        "Airdock's identity (namespace karmada-cluster and the ClusterRole and ClusterRoleBinding airdock-*)";
    match (&seen.member, plane_gone) {
        (MemberSide::Here, false) => None,
        (MemberSide::Here, true) => match (&seen.done.applications, seen.policy) {
            (Applications::Remaining(remaining), _) if remaining.is_empty() => None,
            (Applications::Remaining(remaining), _) => {
                Some(format!("the plane is gone; left behind in the member: {remaining}"))
            }
            (_, UnjoinPolicy::Orphan) => None,
            (_, UnjoinPolicy::Unjoin) => Some(format!("the plane is gone; left behind in the member: {apps}")),
        },
        (MemberSide::Away { message }, true) => Some(format!(
            "the plane is gone and the member cannot be reached ({message}); left behind in the member: {apps}, {identity}"
        )),
        (MemberSide::Away { message }, false) => {
            Some(format!("the member cannot be reached ({message}); left behind in the member: {apps}, {identity}"))
        }
    }
}

#[cfg(test)]
mod tests;
