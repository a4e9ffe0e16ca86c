//! What a permission says of itself. Pure.

mod members;

use k8s_openapi::jiff::Timestamp;

pub use self::members::{MemberState, Problem, Served, members};
use super::apply::Applied;
use super::error::{Error, InstanceError};
use super::summary;
use crate::api::common::condition::SELECTORS_MATCHED;
use crate::api::permission::{PermissionBinding, PermissionBindingStatus, PermissionTarget, PlaneInventory};
use crate::application::selectors::{NOTHING_SELECTED, UnmatchedSelector, render_unmatched};
use crate::machinery::conditions::{Verdict, set_false_or_remove};
use crate::machinery::error::{Class, Classified, chain};
use crate::machinery::plural::pluralize;
use crate::runtime::apply::Change;
use crate::runtime::planes::InstanceKey;

/// What came of all planes of one reconcile.
#[derive(Debug, Default)]
pub struct PlaneResults {
    /// Instances that are meant.
    pub served: Vec<(InstanceKey, Result<Served, InstanceError>)>,
    /// Planes that are meant no longer.
    pub left: Vec<(InstanceKey, Result<(), InstanceError>)>,
    /// When the role ended, if it did.
    pub expired: Option<Timestamp>,
    /// Why no instance is meant.
    pub problem: Option<Error>,
}

impl PlaneResults {
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
            let of_all = pluralize(self.served.len() + self.left.len(), "instance", "instances");
            message = format!("{message} (and {} more of {of_all})", all.len() - 1);
        }
        Some(Error::Instances { class: first.class(), reason: first.reason(), message })
    }
}

/// The status after a reconcile.
#[must_use]
pub fn status(binding: &PermissionBinding, results: &PlaneResults, now: Timestamp) -> PermissionBindingStatus {
    let before = binding.status.clone().unwrap_or_default();
    let generation = binding.metadata.generation;
    // Writing what a changed spec asks for is no repair.
    let settled = generation.is_some() && before.observed_generation == generation;
    let mut status = PermissionBindingStatus {
        observed_generation: generation,
        conditions: before.conditions.clone(),
        ..PermissionBindingStatus::default()
    };
    summary::summarize(binding, &mut status);
    let mut failed_members = Vec::new();
    let mut pending_members = Vec::new();
    for (key, result) in &results.served {
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
                let left = results.left.iter().find(|(other, _)| other == key);
                status.targets.push(failed_target(&before, key, &chain(error)));
                if !matches!(left, Some((_, Ok(())))) {
                    status.targets.extend(unknown_members(&before, key));
                    status.inventory.extend(known_inventory(&before, key));
                }
            }
        }
    }
    for (key, result) in &results.left {
        if let Err(error) = result
            && !results.served.iter().any(|(other, _)| other == key)
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
    verdict(results, synced, status.targets.len(), &failed_members, &pending_members).write(
        &mut status.conditions,
        generation,
        Timestamp::now(),
    );
    if let Some(unmatched) = unmatched_everywhere(results) {
        let message = (!unmatched.is_empty()).then(|| render_unmatched(&unmatched));
        let problem = message.as_deref().map(|message| (NOTHING_SELECTED, message));
        set_false_or_remove(&mut status.conditions, SELECTORS_MATCHED, problem, generation, Timestamp::now());
    }
    status
}

/// Entries of the scope that select nothing in any of the planes. Nothing is known while a plane was not looked at.
fn unmatched_everywhere(results: &PlaneResults) -> Option<Vec<UnmatchedSelector>> {
    let mut planes = results.served.iter().map(|(_, result)| result.as_ref().ok().map(|served| &served.unmatched));
    let first = planes.next().unwrap_or_default()?.clone();
    planes.try_fold(first, |left, plane| {
        let here = plane?;
        Some(left.into_iter().filter(|entry| here.iter().any(|other| other.field == entry.field)).collect())
    })
}

fn verdict(results: &PlaneResults, synced: usize, all: usize, failed: &[String], pending: &[String]) -> Verdict {
    if let Some(end) = results.expired {
        let still =
            results.failure().map(|error| format!("; still to be removed: {}", chain(&error))).unwrap_or_default();
        return Verdict::NotReady { reason: "Expired", message: format!("the role expired at {}{still}", time(end)) };
    }
    if let Some(error) = &results.problem {
        return Verdict::of_error(error);
    }
    if let Some(error) = results.failure() {
        return Verdict::NotReady { reason: error.reason(), message: chain(&error) };
    }
    if let Some(first) = failed.first() {
        return Verdict::NotReady { reason: "NotSynced", message: format!("{}; {first}", render_synced(synced, all)) };
    }
    match pending.first() {
        Some(first) => Verdict::Progressing {
            reason: "Syncing",
            message: format!("{}; waiting for {first}", render_synced(synced, all)),
        },
        None => Verdict::Ready { reason: "Synced", message: render_synced(all, all) },
    }
}

fn render_synced(synced: usize, all: usize) -> String {
    format!("the role holds in {synced} of {}", pluralize(all, "target", "targets"))
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
pub fn planes(binding: &PermissionBinding) -> Vec<InstanceKey> {
    let inventory = binding.status.as_ref().map(|status| status.inventory.as_slice()).unwrap_or_default();
    inventory.iter().map(|known| InstanceKey { namespace: known.namespace.clone(), name: known.name.clone() }).collect()
}

/// The status that lists these planes, too, before anything is written in them: should the process end right after,
/// they are known to hold something. `None`, when they are listed already.
#[must_use]
pub fn announcing(binding: &PermissionBinding, planes: &[InstanceKey]) -> Option<PermissionBindingStatus> {
    let known = self::planes(binding);
    let new: Vec<&InstanceKey> = planes.iter().filter(|key| !known.contains(key)).collect();
    if new.is_empty() {
        return None;
    }
    let mut status = binding.status.clone().unwrap_or_default();
    summary::summarize(binding, &mut status);
    status.inventory.extend(new.into_iter().map(|key| inventory(key, Vec::new())));
    let of_all = pluralize(planes.len(), "plane", "planes");
    let message = format!("writing the role into {} of {of_all}", planes.len() - known.len().min(planes.len()));
    Verdict::Progressing { reason: "Syncing", message }.write(
        &mut status.conditions,
        binding.metadata.generation,
        Timestamp::now(),
    );
    Some(status)
}

/// The status of a binding that cannot be carried out at all.
#[must_use]
pub fn refused(binding: &PermissionBinding, error: &Error) -> PermissionBindingStatus {
    let mut status = binding.status.clone().unwrap_or_default();
    status.observed_generation = binding.metadata.generation;
    summary::summarize(binding, &mut status);
    Verdict::of_error(error).write(&mut status.conditions, binding.metadata.generation, Timestamp::now());
    status
}

/// The status of a binding that is going, and cannot yet.
#[must_use]
pub fn leaving(binding: &PermissionBinding, results: &PlaneResults) -> PermissionBindingStatus {
    let mut status = binding.status.clone().unwrap_or_default();
    status.observed_generation = binding.metadata.generation;
    let gone = |key: &PlaneInventory| {
        results
            .left
            .iter()
            .any(|(left, result)| result.is_ok() && left.namespace == key.namespace && left.name == key.name)
    };
    status.inventory.retain(|known| !gone(known));
    let waiting = results.failure().map_or_else(String::new, |error| chain(&error));
    let message = format!("the role is still to be removed from {} of its planes: {waiting}", status.inventory.len());
    Verdict::NotReady { reason: "Removing", message }.write(
        &mut status.conditions,
        binding.metadata.generation,
        Timestamp::now(),
    );
    status
}

fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests;
