//! From what was observed and done to what people read. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::api::ADMIN_KUBECONFIG;
use crate::api::common::{ConditionedStatus as _, LocalRef};
use crate::api::instance::{
    CertificateStatus, ComponentStatus, KarmadaInstance, KarmadaInstanceStatus, Overview, Phase, Profile,
};
use crate::chart::{Component, KARMADA_VERSION, Names, component_of, enabled, image_version};
use crate::machinery::conditions::Verdict;
use crate::machinery::error::Class;
use crate::machinery::error::Classified as _;
use crate::pki::CertificateInfo;

use super::caches::Host;
use super::error::InstanceError;
use super::install::ReconcileState;
use super::install_steps::Step;
use super::observe::Api;
use super::removal_steps::{Removal, render_names};
use super::rollout::rollout_status;

/// What a status is made of.
pub struct StatusInputs<'a> {
    /// The instance, with its former status.
    pub instance: &'a KarmadaInstance,
    /// What there is of it now.
    pub host: &'a Host,
    /// What the round did.
    pub state: &'a ReconcileState,
    /// How the round ended.
    pub error: Option<&'a InstanceError>,
    /// Image of Airdock itself.
    pub engine_image: &'a str,
    /// What the fleet looks like, where that is known.
    pub overview: Option<Overview>,
}

/// The status after a round.
#[must_use]
pub fn after_round(inputs: &StatusInputs<'_>) -> KarmadaInstanceStatus {
    let StatusInputs { instance, host, state, error, engine_image, overview } = inputs;
    let mut status = instance.status.clone().unwrap_or_default();
    let names = Names::of(instance);
    let was_ready = status.version.is_some();
    status.components = components(instance, host, engine_image);
    if !state.keyring.certificates.is_empty() {
        status.certificates = state.keyring.certificates.iter().map(certificate).collect();
        status.admin_kubeconfig_secret_ref = Some(LocalRef { name: names.object(ADMIN_KUBECONFIG) });
    }
    status.endpoint = Some(names.api_url());
    if overview.is_some() {
        status.overview.clone_from(overview);
    }
    if state.kubernetes_version.is_some() {
        status.kubernetes_version.clone_from(&state.kubernetes_version);
    }
    let verdict = match error {
        Some(error) => error.verdict(),
        None => verdict(state, &status.components, was_ready),
    };
    if matches!(verdict, Verdict::Ready { .. }) {
        status.version = Some(components_version(instance));
    }
    status.phase = Some(phase(&verdict, was_ready, error.is_some_and(|error| error.class() == Class::Invalid)));
    verdict.write(&mut status.conditions, instance.metadata.generation, Timestamp::now());
    status.set_observed_generation(instance.metadata.generation);
    status
}

/// The status of an instance that is left alone by `spec.suspend`.
#[must_use]
pub fn suspended(instance: &KarmadaInstance) -> KarmadaInstanceStatus {
    let mut status = instance.status.clone().unwrap_or_default();
    status.phase = Some(Phase::Suspended);
    let message = "nothing is changed while spec.suspend is true; what runs goes on running".to_owned();
    Verdict::NotReady { reason: "Suspended", message }.write(
        &mut status.conditions,
        instance.metadata.generation,
        Timestamp::now(),
    );
    status.set_observed_generation(instance.metadata.generation);
    status
}

/// The status of an instance that is being taken down.
#[must_use]
pub fn removing(instance: &KarmadaInstance, outcome: Result<&Removal, &InstanceError>) -> KarmadaInstanceStatus {
    let mut status = instance.status.clone().unwrap_or_default();
    status.phase = Some(Phase::Deleting);
    let verdict = match outcome {
        Ok(Removal::InUse(users)) => Verdict::NotReady {
            reason: "InUse",
            message: format!("is deleted once nothing refers to it any more; delete {}", render_names(users)),
        },
        Ok(Removal::Delete(targets)) => {
            let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
            Verdict::NotReady { reason: "Deleting", message: format!("removing {}", render_names(&names)) }
        }
        Ok(Removal::Await(names)) => {
            Verdict::NotReady { reason: "Deleting", message: format!("waits for {} to end", render_names(names)) }
        }
        Ok(Removal::Finished) => Verdict::NotReady { reason: "Deleting", message: "everything is removed".into() },
        Err(error) => error.verdict(),
    };
    verdict.write(&mut status.conditions, instance.metadata.generation, Timestamp::now());
    status.set_observed_generation(instance.metadata.generation);
    status
}

/// Version of the components that an instance runs once it is as its spec asks.
#[must_use]
pub fn components_version(instance: &KarmadaInstance) -> String {
    match instance.spec.profile {
        Profile::Compact => concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
        Profile::Full => instance.spec.version.clone().unwrap_or_else(|| KARMADA_VERSION.to_owned()),
    }
}

fn phase(verdict: &Verdict, was_ready: bool, invalid: bool) -> Phase {
    match (verdict, was_ready) {
        (Verdict::Ready { .. }, _) => Phase::Running,
        _ if invalid => Phase::Failed,
        (Verdict::Progressing { .. }, true) => Phase::Updating,
        (Verdict::Progressing { .. }, false) => Phase::Installing,
        (Verdict::NotReady { .. } | Verdict::Stalled { .. }, true) => Phase::Degraded,
        (Verdict::NotReady { .. }, false) => Phase::Installing,
        (Verdict::Stalled { .. }, false) => Phase::Failed,
    }
}

fn verdict(state: &ReconcileState, components: &[ComponentStatus], was_ready: bool) -> Verdict {
    let reason = if was_ready { "Updating" } else { "Installing" };
    let waiting: Vec<String> = components.iter().filter_map(waits).collect();
    let trouble: Vec<String> = components.iter().filter(|c| c.message.is_some()).filter_map(waits).collect();
    match state.step {
        Step::Settled => {
            Verdict::Ready { reason: "Ready", message: "the plane answers, and every component is available".into() }
        }
        Step::AwaitKinds => Verdict::Progressing {
            reason,
            message: format!("waits for the plane to serve {}", render_names(&state.progress.unserved)),
        },
        _ if !trouble.is_empty() => Verdict::NotReady { reason: "ComponentNotAvailable", message: trouble.join("; ") },
        Step::AwaitApi => match &state.progress.api {
            Api::Unreachable(problem) if was_ready => Verdict::NotReady {
                reason: "PlaneUnreachable",
                message: format!("the plane does not answer through its Service: {problem}"),
            },
            Api::Unreachable(problem) => Verdict::Progressing {
                reason,
                message: format!("waits for the plane to answer through its Service: {problem}"),
            },
            Api::Starting | Api::Ready => {
                let starting = |c: &&ComponentStatus| matches!(c.name.as_str(), "etcd" | "apiserver");
                let waiting: Vec<String> = components.iter().filter(starting).filter_map(waits).collect();
                Verdict::Progressing { reason, message: format!("waits for {}", join(&waiting, "the API server")) }
            }
        },
        _ if !state.progress.unserved.is_empty() => Verdict::Progressing {
            reason,
            message: format!("waits for the plane to serve {}", render_names(&state.progress.unserved)),
        },
        _ => Verdict::Progressing { reason, message: format!("waits for {}", join(&waiting, "the components")) },
    }
}

fn join(parts: &[String], otherwise: &str) -> String {
    if parts.is_empty() { otherwise.to_owned() } else { parts.join("; ") }
}

fn waits(component: &ComponentStatus) -> Option<String> {
    let ComponentStatus { name, ready, desired, message, .. } = component;
    match message {
        Some(message) => Some(format!("{name} ({ready}/{desired}): {message}")),
        None if ready < desired => Some(format!("{name} ({ready}/{desired})")),
        None => None,
    }
}

fn certificate(info: &CertificateInfo) -> CertificateStatus {
    CertificateStatus {
        name: info.purpose.clone(),
        secret_name: info.secret_name.clone(),
        not_after: info.not_after.to_string(),
    }
}

fn components(instance: &KarmadaInstance, host: &Host, engine_image: &str) -> Vec<ComponentStatus> {
    enabled(instance)
        .map(|component| {
            let rollout_status = rollout_status(component, instance, host);
            let image = component.image(instance, engine_image);
            let message = if rollout_status.is_available(&image) {
                None
            } else {
                trouble(component, host).or(rollout_status.failure.clone())
            };
            ComponentStatus {
                name: component.name().to_owned(),
                ready: rollout_status.ready,
                desired: rollout_status.desired,
                version: image_version(&image).map(ToOwned::to_owned),
                message,
            }
        })
        .collect()
}

/// What keeps a component's pods from running, in the words of the kubelet or the scheduler.
fn trouble(component: Component, host: &Host) -> Option<String> {
    let mut pods: Vec<_> = host
        .pods
        .values()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && component_of(pod.as_ref()) == Some(component))
        .collect();
    // The newest pod shows what is wrong with what is wanted now.
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.metadata.creation_timestamp.clone().map(|time| time.0)));
    pods.into_iter().find_map(|pod| pod_trouble(pod).map(|trouble| format!("pod {}: {trouble}", pod.name_any())))
}

fn pod_trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    if let Some(trouble) = containers.filter_map(container_trouble).next() {
        return Some(trouble);
    }
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        return Some(format!("Unschedulable: {}", short(condition.message.as_deref().unwrap_or("no node fits"), 250)));
    }
    (status.phase.as_deref() == Some("Failed")).then(|| {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        format!("{reason}: {}", short(status.message.as_deref().unwrap_or("the pod has failed"), 250))
    })
}

fn container_trouble(status: &ContainerStatus) -> Option<String> {
    let state = status.state.as_ref()?;
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    match reason {
        "ContainerCreating" | "PodInitializing" => None,
        "CrashLoopBackOff" => {
            let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            let how = last.map_or_else(String::new, |last| {
                let reason = last.reason.as_deref().unwrap_or("Error");
                format!(": the container ended with code {} ({reason}); see its log", last.exit_code)
            });
            Some(format!("CrashLoopBackOff{how}"))
        }
        _ => Some(format!("{reason}: {}", short(waiting.message.as_deref().unwrap_or("no further message"), 250))),
    }
}

/// The first line of somebody else's message, cut at so many characters.
pub(super) fn short(message: &str, limit: usize) -> String {
    let line = message.lines().next().unwrap_or_default();
    if line.chars().count() <= limit { line.to_owned() } else { line.chars().take(limit - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests;
