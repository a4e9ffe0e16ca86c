//! How the members of a plane fare, by what the plane says of the copies. Pure.

use crate::api::permission::PermissionBinding;
use crate::application::selectors::UnmatchedSelector;
use crate::controllers::permission::apply::Applied;
use crate::controllers::permission::observe::Copies;
use crate::controllers::permission::plan;
use crate::karmada::Cluster;

/// What was done in a plane, and how its members fare.
#[derive(Clone, Debug)]
pub struct Served {
    /// What was written.
    pub applied: Applied,
    /// How the members fare.
    pub members: Vec<MemberState>,
    /// Entries of the scope that select none of the members.
    pub unmatched: Vec<UnmatchedSelector>,
}

/// How one member fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// Name of the cluster.
    pub name: String,
    /// Whether the role holds there.
    pub synced: bool,
    /// Why it does not.
    pub problem: Option<Problem>,
}

/// Why a role does not hold in a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The plane has not got there yet.
    Pending(String),
    /// The plane could not.
    Failed(String),
}

/// How the members that are meant fare, by what the plane says of the copies.
#[must_use]
pub fn members(binding: &PermissionBinding, clusters: &[Cluster], copies: &[Copies]) -> Vec<MemberState> {
    let scopes: Vec<Option<String>> =
        if plan::everywhere(binding) { vec![None] } else { plan::namespaces(binding).into_iter().map(Some).collect() };
    plan::matched(binding, clusters)
        .into_iter()
        .map(|name| {
            let problem = scopes.iter().find_map(|scope| problem(&name, scope.as_ref(), copies));
            MemberState { synced: problem.is_none(), name, problem }
        })
        .collect()
}

fn problem(cluster: &str, scope: Option<&String>, copies: &[Copies]) -> Option<Problem> {
    let place = scope.map_or_else(String::new, |namespace| format!("namespace {namespace}: "));
    let item = copies
        .iter()
        .filter(|copies| copies.namespace.as_ref() == scope)
        .find_map(|copies| copies.clusters.iter().find(|item| item.cluster_name == cluster));
    match item {
        Some(item) if item.applied => None,
        Some(item) => match item.applied_message.as_deref().filter(|message| !message.is_empty()) {
            Some(message) => Some(Problem::Failed(format!("{place}{message}"))),
            None => Some(Problem::Pending(format!("{place}the plane is applying it"))),
        },
        None => Some(Problem::Pending(format!("{place}the plane has not propagated it yet"))),
    }
}
