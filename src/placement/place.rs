//! From a placement to clusters with replicas.

use std::fmt;

use super::cluster::ClusterView;
use super::result::{Excluded, FitError, Placed};
use super::selector::{AffinityMismatch, affinity_matches, affinity_mismatch};
use super::taints::untolerated;
use super::weights::divide;
use crate::karmada::binding::{BindingSpec, TargetCluster};
use crate::karmada::policy::{Placement, ReplicaSchedulingType, StaticClusterWeight};

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// API version of the object.
    pub api_version: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// Uid of the object, which settles ties between weights.
    pub uid: Option<&'a str>,
    /// Its replicas, when its kind has any.
    pub replicas: Option<i64>,
    /// The rules.
    pub placement: &'a Placement,
    /// Where it is now.
    pub previous: Previous<'a>,
}

impl<'a> Request<'a> {
    /// What is to be placed by a binding; anywhere, when it has no rules.
    #[must_use]
    pub fn of(spec: &'a BindingSpec, previous: Previous<'a>) -> Self {
        static ANYWHERE: Placement =
            Placement { cluster_affinity: None, cluster_tolerations: Vec::new(), replica_scheduling: None };
        Self {
            api_version: &spec.resource.api_version,
            kind: &spec.resource.kind,
            uid: spec.resource.uid.as_deref(),
            replicas: spec.replicas.map(i64::from),
            placement: spec.placement.as_deref().unwrap_or(&ANYWHERE),
            previous,
        }
    }
}

/// The last decision about an object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Previous<'a> {
    /// The clusters: taints and missing kinds do not drive the object away from there.
    pub targets: &'a [TargetCluster],
    /// The rules that led to them.
    pub placement: Option<&'a Placement>,
}

impl<'a> From<&'a BindingSpec> for Previous<'a> {
    fn from(spec: &'a BindingSpec) -> Self {
        Self { targets: &spec.clusters, placement: spec.placement.as_deref() }
    }
}

/// Chooses clusters and divides replicas among them.
///
/// Replicas that are divided stay where they are until the rules or the number of replicas change, or one of their
/// clusters leaves: a cluster that joins, is relabelled or comes back does not move running pods. Everything else goes
/// to each cluster that fits now.
pub fn place<'c>(
    request: &Request<'_>,
    clusters: impl IntoIterator<Item = &'c ClusterView>,
) -> Result<Placed, FitError> {
    let clusters: Vec<&ClusterView> = clusters.into_iter().collect();
    if is_settled(request, &clusters) {
        return Ok(stay(request, &clusters));
    }
    let mut excluded = Vec::new();
    let mut fitting: Vec<&ClusterView> = Vec::new();
    for cluster in clusters {
        match misfit(request, cluster) {
            Some(why) => excluded.push(Excluded { cluster: cluster.name.clone(), why: why.to_string() }),
            None => fitting.push(cluster),
        }
    }
    fitting.sort_by(|a, b| a.name.cmp(&b.name));
    if fitting.is_empty() {
        return Err(FitError::NoClusterFit(excluded));
    }
    let targets: Vec<TargetCluster> = match divided_replicas(request) {
        Some(replicas) => {
            let scheduling = request.placement.replica_scheduling.as_ref();
            let preference = scheduling.and_then(|scheduling| scheduling.weight_preference.as_ref());
            divide_by_weight(request, replicas, &fitting, preference.map_or(&[], |p| &p.static_weight_list))
        }
        None => everywhere(&where_scaled_to_zero(request, &fitting), request.replicas),
    };
    for cluster in &fitting {
        if !targets.iter().any(|target| target.name == cluster.name) {
            let why = "got no replica by its weight".to_owned();
            excluded.push(Excluded { cluster: cluster.name.clone(), why });
        }
    }
    excluded.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Ok(Placed { targets, excluded })
}

/// Where an object goes whose replicas are not divided: everywhere. One that was divided and is scaled to zero stays where
/// it was, rather than appear in clusters that had no share of it.
fn where_scaled_to_zero<'c>(request: &Request<'_>, fitting: &[&'c ClusterView]) -> Vec<&'c ClusterView> {
    let is_previous = |cluster: &&&ClusterView| request.previous.targets.iter().any(|t| t.name == cluster.name);
    let staying: Vec<_> = fitting.iter().filter(is_previous).copied().collect();
    let scheduling = request.placement.replica_scheduling.as_ref();
    let is_divided = scheduling.is_some_and(|s| s.replica_scheduling_type == ReplicaSchedulingType::Divided);
    if is_divided && request.replicas == Some(0) && !staying.is_empty() { staying } else { fitting.to_vec() }
}

/// The replicas of an object whose replicas are divided. Those of an object that is scaled to zero are not.
fn divided_replicas(request: &Request<'_>) -> Option<i64> {
    let scheduling = request.placement.replica_scheduling.as_ref()?;
    let divided = scheduling.replica_scheduling_type == ReplicaSchedulingType::Divided;
    request.replicas.filter(|replicas| divided && *replicas > 0)
}

/// Whether the last division still holds.
fn is_settled(request: &Request<'_>, clusters: &[&ClusterView]) -> bool {
    let Previous { targets, placement } = request.previous;
    let Some(replicas) = divided_replicas(request) else { return false };
    let stays = |target: &TargetCluster| clusters.iter().any(|view| view.name == target.name && !view.leaving);
    let assigned: i64 = targets.iter().map(|target| i64::from(target.replicas.unwrap_or(0))).sum();
    placement == Some(request.placement) && assigned == replicas && targets.iter().all(stays)
}

fn stay(request: &Request<'_>, clusters: &[&ClusterView]) -> Placed {
    let mut targets = request.previous.targets.to_vec();
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    let others = clusters.iter().filter(|cluster| !targets.iter().any(|target| target.name == cluster.name));
    let mut excluded: Vec<Excluded> = others
        .map(|cluster| Excluded {
            cluster: cluster.name.clone(),
            why: misfit(request, cluster)
                .map_or_else(|| "came after the replicas were divided".to_owned(), |why| why.to_string()),
        })
        .collect();
    excluded.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Placed { targets, excluded }
}

/// Why a cluster does not fit, as a predicate of it.
#[derive(Debug, PartialEq)]
enum Misfit<'a> {
    Leaving,
    Affinity(AffinityMismatch<'a>),
    NotServed { api_version: &'a str, kind: &'a str },
    Taint(String),
}

impl fmt::Display for Misfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaving => f.write_str("is leaving"),
            Self::Affinity(mismatch) => mismatch.fmt(f),
            Self::NotServed { api_version, kind } => write!(f, "did not serve {api_version} {kind}"),
            Self::Taint(taint) => write!(f, "had the untolerated taint {{{taint}}}"),
        }
    }
}

fn misfit<'a>(request: &Request<'a>, cluster: &ClusterView) -> Option<Misfit<'a>> {
    if cluster.leaving {
        return Some(Misfit::Leaving);
    }
    let affinity = request.placement.cluster_affinity.as_ref();
    if let Some(mismatch) = affinity.and_then(|affinity| affinity_mismatch(affinity, cluster)) {
        return Some(Misfit::Affinity(mismatch));
    }
    if request.previous.targets.iter().any(|target| target.name == cluster.name) {
        return None;
    }
    if cluster.serves(request.api_version, request.kind) == Some(false) {
        return Some(Misfit::NotServed { api_version: request.api_version, kind: request.kind });
    }
    untolerated(cluster, &request.placement.cluster_tolerations).map(Misfit::Taint)
}

/// Whether a change of one cluster may lead to other clusters than those of a binding, or to another [`FitError`]; without a
/// view the cluster is not there. Whoever is to leave its clusters is for others to find.
#[must_use]
pub fn is_reached(
    spec: &BindingSpec,
    before: Option<&ClusterView>,
    after: Option<&ClusterView>,
    is_refused: bool,
) -> bool {
    let request = Request::of(spec, Previous::from(spec));
    let why_not = |view: Option<&ClusterView>| view.map(|view| misfit(&request, view));
    let fits = |why_not: &Option<Option<Misfit<'_>>>| matches!(why_not, Some(None));
    let (before, after) = (why_not(before), why_not(after));
    // The error names every cluster, and why it does not fit.
    fits(&before) != fits(&after) || (is_refused && before != after)
}

fn everywhere(clusters: &[&ClusterView], replicas: Option<i64>) -> Vec<TargetCluster> {
    clusters.iter().map(|cluster| target(&cluster.name, replicas)).collect()
}

fn divide_by_weight(
    request: &Request<'_>,
    replicas: i64,
    clusters: &[&ClusterView],
    rules: &[StaticClusterWeight],
) -> Vec<TargetCluster> {
    let weight = |cluster: &ClusterView| {
        let matching = rules.iter().filter(|rule| affinity_matches(&rule.target_cluster, cluster));
        matching.map(|rule| rule.weight).max().unwrap_or(0)
    };
    let mut weights: Vec<(&str, i64)> =
        clusters.iter().map(|cluster| (cluster.name.as_str(), weight(cluster))).collect();
    if weights.iter().all(|(_, weight)| *weight <= 0) {
        weights.iter_mut().for_each(|(_, weight)| *weight = 1);
    }
    divide(replicas, &weights, request.uid)
        .into_iter()
        .filter(|(_, replicas)| *replicas > 0)
        .map(|(name, replicas)| target(&name, Some(replicas)))
        .collect()
}

fn target(name: &str, replicas: Option<i64>) -> TargetCluster {
    let replicas = replicas.map(|replicas| i32::try_from(replicas).unwrap_or(i32::MAX));
    TargetCluster { name: name.to_owned(), replicas }
}

#[cfg(test)]
mod tests;
