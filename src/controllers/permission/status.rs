//! What a permission says of itself. Pure.

use k8s_openapi::jiff::Timestamp;

use super::apply::Applied;
use super::error::{Error, InstanceError};
use super::observe::Copies;
use super::{plan, summary};
use crate::api::permission::{PermissionBinding, PermissionBindingStatus, PermissionTarget, PlaneInventory};
use crate::karmada::Cluster;
use crate::runtime::apply::Change;
use crate::runtime::conditions::Verdict;
use crate::runtime::error::{Class, Classified, chain};
use crate::runtime::planes::InstanceKey;

/// What was done in a plane, and how its members fare.
#[derive(Clone, Debug)]
pub struct Served {
    /// What was written.
    pub applied: Applied,
    /// How the members fare.
    pub members: Vec<MemberState>,
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

/// A round over all instances.
#[derive(Debug, Default)]
pub struct Round {
    /// Instances that are meant.
    pub served: Vec<(InstanceKey, Result<Served, InstanceError>)>,
    /// Planes that are meant no longer.
    pub left: Vec<(InstanceKey, Result<(), InstanceError>)>,
    /// When the role ended, if it did.
    pub expired: Option<Timestamp>,
    /// Why no instance is meant.
    pub problem: Option<Error>,
}

impl Round {
    /// The failure that decides when to try again: the most pressing class, told by the first that has it.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        let served = self.served.iter().filter_map(|(key, result)| Some((key, result.as_ref().err()?)));
        let left = self.left.iter().filter_map(|(key, result)| Some((key, result.as_ref().err()?)));
        let all: Vec<(&InstanceKey, &InstanceError)> = served.chain(left).collect();
        let (key, first) =
            all.iter().find(|(_, error)| error.class() == Class::Retry).or_else(|| all.first()).copied()?;
        let mut message = chain(first);
        let name = key.to_string();
        if !message.contains(&name) {
            message = format!("KarmadaInstance {name}: {message}");
        }
        if all.len() > 1 {
            message =
                format!("{message} (and {} more of {} instances)", all.len() - 1, self.served.len() + self.left.len());
        }
        Some(Error::Instances { class: first.class(), reason: first.reason(), message })
    }
}

/// The status after a round.
#[must_use]
pub fn status(binding: &PermissionBinding, round: &Round, now: Timestamp) -> PermissionBindingStatus {
    let before = binding.status.clone().unwrap_or_default();
    let generation = binding.metadata.generation;
    // Writing what a changed spec asks for is no repair.
    let settled = generation.is_some() && before.observed_generation == generation;
    let mut status = PermissionBindingStatus {
        observed_generation: generation,
        conditions: before.conditions.clone(),
        ..PermissionBindingStatus::default()
    };
    summary::tell(binding, &mut status);
    let mut failed_members = Vec::new();
    let mut pending_members = Vec::new();
    for (key, result) in &round.served {
        match result {
            Ok(served) => {
                let repaired = settled && is_repair(&before, key, &served.applied);
                let known = known_target(&before, key, None).and_then(|target| target.repaired_at.clone());
                status.targets.push(PermissionTarget {
                    instance: key.to_string(),
                    cluster: None,
                    synced: true,
                    repaired_at: if repaired { Some(time(now)) } else { known },
                    message: None,
                });
                for member in &served.members {
                    let message = match &member.problem {
                        None => None,
                        Some(Problem::Pending(text)) => {
                            pending_members.push(format!("{} of {key}: {text}", member.name));
                            Some(text.clone())
                        }
                        Some(Problem::Failed(text)) => {
                            failed_members.push(format!("{} of {key}: {text}", member.name));
                            Some(text.clone())
                        }
                    };
                    status.targets.push(PermissionTarget {
                        instance: key.to_string(),
                        cluster: Some(member.name.clone()),
                        synced: member.synced,
                        repaired_at: None,
                        message,
                    });
                }
                status.inventory.push(inventory(key, served.applied.inventory.clone()));
            }
            Err(error) => {
                let left = round.left.iter().find(|(other, _)| other == key);
                status.targets.push(failed_target(&before, key, &chain(error)));
                if !matches!(left, Some((_, Ok(())))) {
                    status.targets.extend(unknown_members(&before, key));
                    status.inventory.extend(known_inventory(&before, key));
                }
            }
        }
    }
    for (key, result) in &round.left {
        if let Err(error) = result
            && !round.served.iter().any(|(other, _)| other == key)
        {
            status.targets.push(failed_target(
                &before,
                key,
                &format!("the role is still to be removed: {}", chain(error)),
            ));
            status.inventory.extend(known_inventory(&before, key));
        }
    }
    let synced = status.targets.iter().filter(|target| target.synced).count();
    status.targets_synced = Some(format!("{synced}/{}", status.targets.len()));
    verdict(round, synced, status.targets.len(), &failed_members, &pending_members)
        .write(&mut status.conditions, generation);
    status
}

fn verdict(round: &Round, synced: usize, all: usize, failed: &[String], pending: &[String]) -> Verdict {
    if let Some(end) = round.expired {
        let still = round.failure().map(|error| format!("; still to be removed: {error}")).unwrap_or_default();
        return Verdict::NotReady { reason: "Expired", message: format!("the role expired at {}{still}", time(end)) };
    }
    if let Some(error) = &round.problem {
        return Verdict::of_error(error);
    }
    if let Some(error) = round.failure() {
        return Verdict::NotReady { reason: error.reason(), message: error.to_string() };
    }
    if let Some(first) = failed.first() {
        return Verdict::NotReady {
            reason: "NotSynced",
            message: format!("{synced} of {all} targets hold the role; {first}"),
        };
    }
    match pending.first() {
        Some(first) => Verdict::Progressing {
            reason: "Syncing",
            message: format!("{synced} of {all} targets hold the role; waiting for {first}"),
        },
        None => Verdict::Ready { reason: "Synced", message: format!("the role holds in all {all} targets") },
    }
}

/// Whether something that had been there was put right.
fn is_repair(before: &PermissionBindingStatus, key: &InstanceKey, applied: &Applied) -> bool {
    let known = known_inventory(before, key);
    applied.changed.iter().any(|(entry, change)| match change {
        Change::None => false,
        Change::Updated => true,
        Change::Created => known.iter().flat_map(|inventory| &inventory.objects).any(|object| {
            (&object.kind, &object.namespace, &object.name) == (&entry.kind, &entry.namespace, &entry.name)
        }),
    })
}

fn inventory(key: &InstanceKey, objects: Vec<crate::api::app::InventoryEntry>) -> PlaneInventory {
    PlaneInventory { namespace: key.namespace.clone(), name: key.name.clone(), objects }
}

fn known_inventory(before: &PermissionBindingStatus, key: &InstanceKey) -> Option<PlaneInventory> {
    before.inventory.iter().find(|known| known.namespace == key.namespace && known.name == key.name).cloned()
}

fn known_target<'a>(
    before: &'a PermissionBindingStatus,
    key: &InstanceKey,
    cluster: Option<&str>,
) -> Option<&'a PermissionTarget> {
    let instance = key.to_string();
    before.targets.iter().find(|target| target.instance == instance && target.cluster.as_deref() == cluster)
}

fn failed_target(before: &PermissionBindingStatus, key: &InstanceKey, message: &str) -> PermissionTarget {
    PermissionTarget {
        instance: key.to_string(),
        cluster: None,
        synced: false,
        repaired_at: known_target(before, key, None).and_then(|target| target.repaired_at.clone()),
        message: Some(message.to_owned()),
    }
}

/// Members of a plane that does not answer: what held there may hold or not.
fn unknown_members(before: &PermissionBindingStatus, key: &InstanceKey) -> Vec<PermissionTarget> {
    let instance = key.to_string();
    before
        .targets
        .iter()
        .filter(|target| target.instance == instance && target.cluster.is_some())
        .map(|target| PermissionTarget {
            synced: false,
            message: Some("unknown, while the plane does not answer".to_owned()),
            ..target.clone()
        })
        .collect()
}

/// The planes that a status lists, whatever was written there.
#[must_use]
pub fn listed(binding: &PermissionBinding) -> Vec<InstanceKey> {
    let listed = binding.status.as_ref().map(|status| status.inventory.as_slice()).unwrap_or_default();
    listed.iter().map(|known| InstanceKey { namespace: known.namespace.clone(), name: known.name.clone() }).collect()
}

/// The status that lists these planes, too, before anything is written in them: should the process end right after,
/// they are known to hold something. `None`, when they are listed already.
#[must_use]
pub fn announcing(binding: &PermissionBinding, planes: &[InstanceKey]) -> Option<PermissionBindingStatus> {
    let known = listed(binding);
    let new: Vec<&InstanceKey> = planes.iter().filter(|key| !known.contains(key)).collect();
    if new.is_empty() {
        return None;
    }
    let mut status = binding.status.clone().unwrap_or_default();
    summary::tell(binding, &mut status);
    status.inventory.extend(new.into_iter().map(|key| inventory(key, Vec::new())));
    let message =
        format!("writing the role into {} of {} planes", planes.len() - known.len().min(planes.len()), planes.len());
    Verdict::Progressing { reason: "Syncing", message }.write(&mut status.conditions, binding.metadata.generation);
    Some(status)
}

/// The status of a binding that cannot be carried out at all.
#[must_use]
pub fn refused(binding: &PermissionBinding, error: &Error) -> PermissionBindingStatus {
    let mut status = binding.status.clone().unwrap_or_default();
    status.observed_generation = binding.metadata.generation;
    summary::tell(binding, &mut status);
    Verdict::of_error(error).write(&mut status.conditions, binding.metadata.generation);
    status
}

/// The status of a binding that is going, and cannot yet.
#[must_use]
pub fn leaving(binding: &PermissionBinding, round: &Round) -> PermissionBindingStatus {
    let mut status = binding.status.clone().unwrap_or_default();
    status.observed_generation = binding.metadata.generation;
    let gone = |key: &PlaneInventory| {
        round
            .left
            .iter()
            .any(|(left, result)| result.is_ok() && left.namespace == key.namespace && left.name == key.name)
    };
    status.inventory.retain(|known| !gone(known));
    let waiting = round.failure().map_or_else(String::new, |error| error.to_string());
    let message = format!("the role is still to be removed from {} of its planes: {waiting}", status.inventory.len());
    Verdict::NotReady { reason: "Removing", message }.write(&mut status.conditions, binding.metadata.generation);
    status
}

fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::app::InventoryEntry;
    use crate::api::common::condition::{READY, RECONCILING};
    use crate::karmada::binding::AggregatedStatusItem;
    use crate::runtime::conditions::find;
    use serde_json::{Value, json};

    fn binding(namespaces: Value, status: Value) -> PermissionBinding {
        serde_json::from_value(json!({
            "apiVersion": "airdock.dev/v1alpha1", "kind": "PermissionBinding",
            "metadata": {"namespace": "team", "name": "devs", "generation": 2},
            "spec": {"subjects": [{"kind": "User", "name": "alice"}], "role": "Viewer", "scope": {"namespaces": namespaces}},
            "status": status,
        }))
        .unwrap()
    }

    fn key(name: &str) -> InstanceKey {
        InstanceKey { namespace: "team".into(), name: name.into() }
    }

    fn cluster(name: &str) -> Cluster {
        Cluster::new(name, crate::karmada::cluster::ClusterSpec::default())
    }

    fn item(cluster: &str, applied: bool, message: &str) -> AggregatedStatusItem {
        AggregatedStatusItem {
            cluster_name: cluster.into(),
            applied,
            applied_message: (!message.is_empty()).then(|| message.to_owned()),
            ..AggregatedStatusItem::default()
        }
    }

    fn entry(name: &str) -> InventoryEntry {
        InventoryEntry {
            api_version: "rbac.authorization.k8s.io/v1".into(),
            kind: "RoleBinding".into(),
            namespace: Some("a".into()),
            name: name.into(),
            uid: "u".into(),
        }
    }

    fn served(changed: Vec<(InventoryEntry, Change)>, members: Vec<MemberState>) -> Served {
        Served { applied: Applied { inventory: vec![entry("x")], changed }, members }
    }

    #[test]
    fn a_member_is_synced_when_every_namespace_is() {
        let copies = |namespace: &str, clusters: Vec<AggregatedStatusItem>| Copies {
            namespace: Some(namespace.into()),
            clusters,
        };
        let both = binding(json!(["a", "b"]), Value::Null);
        let clusters = [cluster("eu"), cluster("us")];
        let got = members(
            &both,
            &clusters,
            &[
                copies("a", vec![item("eu", true, ""), item("us", true, "")]),
                copies("b", vec![item("eu", true, ""), item("us", false, "conflict")]),
            ],
        );
        assert!(got[0].synced && !got[1].synced);
        assert_eq!(got[1].problem, Some(Problem::Failed("namespace b: conflict".into())));
        let got = members(&both, &clusters, &[copies("a", vec![item("eu", true, "")])]);
        assert_eq!(got[0].problem, Some(Problem::Pending("namespace b: the plane has not propagated it yet".into())));

        let everywhere = binding(json!(["*"]), Value::Null);
        let got =
            members(&everywhere, &clusters[..1], &[Copies { namespace: None, clusters: vec![item("eu", true, "")] }]);
        assert!(got[0].synced);
    }

    #[test]
    fn conditions_tell_how_far_it_is() {
        let good = || MemberState { name: "eu".into(), synced: true, problem: None };
        let bad = |problem: Problem| MemberState { name: "us".into(), synced: false, problem: Some(problem) };
        let missing = || Err(InstanceError::Missing("team/two".into()));
        let round = |served, left| Round { served, left, ..Round::default() };
        let cases = [
            ("all", round(vec![(key("one"), Ok(served(vec![], vec![good()])))], vec![]), "True", "Synced", "2/2"),
            (
                "pending",
                round(vec![(key("one"), Ok(served(vec![], vec![good(), bad(Problem::Pending("p".into()))])))], vec![]),
                "Unknown",
                "Syncing",
                "2/3",
            ),
            (
                "failed",
                round(vec![(key("one"), Ok(served(vec![], vec![bad(Problem::Failed("p".into()))])))], vec![]),
                "False",
                "NotSynced",
                "1/2",
            ),
            (
                "one instance broken, the other served",
                round(vec![(key("one"), Ok(served(vec![], vec![good()]))), (key("two"), missing())], vec![]),
                "False",
                "InstanceMissing",
                "2/3",
            ),
            (
                "not removed yet",
                round(vec![], vec![(key("two"), Err(InstanceError::Silent(1)))]),
                "False",
                "PlaneUnreachable",
                "0/1",
            ),
            (
                "expired",
                Round { expired: Some(Timestamp::UNIX_EPOCH), left: vec![(key("one"), Ok(()))], ..Round::default() },
                "False",
                "Expired",
                "0/0",
            ),
            (
                "nothing meant",
                Round { problem: Some(Error::NoInstance { namespace: "team".into() }), ..Round::default() },
                "False",
                "NoInstance",
                "0/0",
            ),
        ];
        for (name, round, ready, reason, synced) in cases {
            let status = status(&binding(json!(["a"]), Value::Null), &round, Timestamp::UNIX_EPOCH);
            let condition = find(&status.conditions, READY).unwrap();
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), (ready, reason), "{name}");
            assert_eq!(status.targets_synced.as_deref(), Some(synced), "{name}");
            assert_eq!(find(&status.conditions, RECONCILING).is_some(), ready == "Unknown", "{name}");
            assert_eq!(status.observed_generation, Some(2));
        }
    }

    #[test]
    fn a_repair_is_dated_and_a_changed_spec_is_none() {
        let known = |generation: i64| {
            binding(
                json!(["a"]),
                json!({"observedGeneration": generation, "inventory": [{"namespace": "team", "name": "one", "objects": [entry("x")]}]}),
            )
        };
        let at = |binding: &PermissionBinding, changed: Vec<(InventoryEntry, Change)>| {
            let round = Round { served: vec![(key("one"), Ok(served(changed, vec![])))], ..Round::default() };
            status(binding, &round, Timestamp::UNIX_EPOCH).targets[0].repaired_at.clone()
        };
        let epoch = Some("1970-01-01T00:00:00Z".to_owned());
        assert_eq!(at(&known(2), vec![(entry("x"), Change::Updated)]), epoch);
        assert_eq!(at(&known(2), vec![(entry("x"), Change::Created)]), epoch, "it had been deleted");
        assert_eq!(at(&known(2), vec![(entry("new"), Change::Created)]), None, "it had not been there");
        assert_eq!(at(&known(1), vec![(entry("x"), Change::Updated)]), None, "the spec changed");
        assert_eq!(at(&known(2), vec![]), None);
    }

    #[test]
    fn what_a_silent_plane_holds_is_remembered() {
        let before = binding(
            json!(["a"]),
            json!({"inventory": [{"namespace": "team", "name": "one", "objects": [entry("x")]}],
                "targets": [{"instance": "team/one", "synced": true}, {"instance": "team/one", "cluster": "eu", "synced": true}]}),
        );
        let round = Round { served: vec![(key("one"), Err(InstanceError::Silent(1)))], ..Round::default() };
        let after = status(&before, &round, Timestamp::UNIX_EPOCH);
        assert_eq!(after.inventory.len(), 1);
        assert_eq!(after.targets_synced.as_deref(), Some("0/2"));

        let refused = InstanceError::NotAllowed { instance: "team/one".into(), namespace: "x".into() };
        let round =
            Round { served: vec![(key("one"), Err(refused))], left: vec![(key("one"), Ok(()))], ..Round::default() };
        let after = status(&before, &round, Timestamp::UNIX_EPOCH);
        assert!(after.inventory.is_empty(), "consent was withdrawn, and the role is gone there");
        assert_eq!(after.targets_synced.as_deref(), Some("0/1"));
    }

    #[test]
    fn planes_are_listed_before_they_are_written() {
        let fresh = binding(json!(["a"]), Value::Null);
        let status = announcing(&fresh, &[key("one")]).unwrap();
        assert_eq!(status.inventory.len(), 1);
        let again = PermissionBinding { status: Some(status), ..fresh };
        assert!(announcing(&again, &[key("one")]).is_none());
        assert_eq!(announcing(&again, &[key("one"), key("two")]).unwrap().inventory.len(), 2);
    }
}
