//! From an app to the objects of the plane that carry it out: its templates, the policy that places them, and
//! the policies that make them differ. Pure, and the same for both profiles.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::api::app::{MultiCloudApp, ReplicaMode, TolerationOperator};
use crate::api::{
    APP_LABEL, APP_NAMESPACE_LABEL, COMPONENT_LABEL, CREATED_FOR_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL,
};
use crate::karmada::policy::{
    ClusterAffinity, ConflictResolution, OverridePolicySpec, OverrideSpec, Placement, PropagationPolicySpec,
    PropagationSpec, ReplicaDivisionPreference, ReplicaScheduling, ReplicaSchedulingType, ResourceSelector,
    StaticClusterWeight, Toleration, WeightPreference,
};
use crate::karmada::{Cluster, OverridePolicy, PropagationPolicy};
use crate::machinery::hash::sha256_hex;
use crate::machinery::names;

use super::affinity::{affinity, selects};
use super::differences::{placed, rules};
use super::model::{Application, FieldError, Plan, Template};

/// Plans an app for the clusters that its plane has now.
///
/// # Errors
/// What cannot be carried out in these clusters.
pub fn plan(app: &MultiCloudApp, application: &Application, clusters: &[Cluster]) -> Result<Plan, FieldError> {
    let mut overrides = Vec::new();
    for template in &application.templates {
        let rules = rules(app, template, clusters)?;
        if !rules.is_empty() {
            let name = override_name(application, template);
            let mut metadata = metadata(application, name);
            metadata.labels.get_or_insert_default().insert(COMPONENT_LABEL.into(), template.component.clone());
            let overriding = OverrideSpec {
                resource_selectors: vec![selector(application, template)],
                override_rules: rules,
                ..OverrideSpec::default()
            };
            overrides.push(OverridePolicy { metadata, spec: OverridePolicySpec { overriding } });
        }
    }
    let propagation = PropagationSpec {
        resource_selectors: application.templates.iter().map(|template| selector(application, template)).collect(),
        placement: placement(app, clusters)?,
        priority: 0,
        conflict_resolution: ConflictResolution::Abort,
        preserve_resources_on_deletion: None,
    };
    Ok(Plan {
        namespace: json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": application.namespace,
                "labels": { MANAGED_BY_LABEL: MANAGED_BY },
                "annotations": { CREATED_FOR_ANNOTATION: "applications" },
            },
        }),
        overrides,
        propagation: PropagationPolicy {
            metadata: metadata(application, policy_name(application)),
            spec: PropagationPolicySpec { propagation },
        },
        templates: application.templates.clone(),
    })
}

fn metadata(application: &Application, name: String) -> ObjectMeta {
    let labels = [
        (APP_LABEL, application.name.as_str()),
        (APP_NAMESPACE_LABEL, application.host_namespace.as_str()),
        (MANAGED_BY_LABEL, MANAGED_BY),
    ];
    ObjectMeta {
        name: Some(name),
        namespace: Some(application.namespace.clone()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        ..ObjectMeta::default()
    }
}

fn selector(application: &Application, template: &Template) -> ResourceSelector {
    ResourceSelector {
        api_version: template.api_version.clone(),
        kind: template.kind.clone(),
        namespace: Some(application.namespace.clone()),
        name: Some(template.name.clone()),
        label_selector: None,
    }
}

/// The policy has the app's name. Apps of other namespaces of the host cluster may use the same namespace of the
/// plane, and the same name, so theirs carries a hash of where they come from.
#[must_use]
pub fn policy_name(application: &Application) -> String {
    let Application { name, host_namespace, namespace, templates: _ } = application;
    let host_namespace = host_namespace.as_str();
    if host_namespace == namespace { name.clone() } else { format!("{name}-{}", hash(&[host_namespace])) }
}

/// Readable as far as it goes, and unique by its hash.
fn override_name(application: &Application, template: &Template) -> String {
    let group = names::group(&template.api_version);
    let hash = hash(&[application.host_namespace.as_str(), &application.name, group, &template.kind, &template.name]);
    let readable: String = format!("{}-{}", application.name, template.name)
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(54)
        .collect();
    format!("{}-{hash}", readable.trim_end_matches('-'))
}

fn hash(parts: &[&str]) -> String {
    sha256_hex(parts.iter().flat_map(|part| [part, "\0"]), 8)
}

fn placement(app: &MultiCloudApp, clusters: &[Cluster]) -> Result<Placement, FieldError> {
    let placement = &app.spec.placement;
    let tolerations = placement.tolerations.iter().map(|toleration| Toleration {
        key: Some(toleration.key.clone()),
        operator: Some(
            match toleration.operator {
                TolerationOperator::Equal => "Equal",
                TolerationOperator::Exists => "Exists",
            }
            .to_owned(),
        ),
        value: toleration.value.clone(),
        effect: None,
    });
    let scheduling = match placement.replicas.mode {
        ReplicaMode::Duplicated => ReplicaScheduling {
            replica_scheduling_type: ReplicaSchedulingType::Duplicated,
            ..ReplicaScheduling::default()
        },
        ReplicaMode::Weighted => ReplicaScheduling {
            replica_scheduling_type: ReplicaSchedulingType::Divided,
            replica_division_preference: Some(ReplicaDivisionPreference::Weighted),
            weight_preference: weights(app, clusters)?,
        },
    };
    Ok(Placement {
        cluster_affinity: affinity(&placement.matches, &placement.exclude),
        cluster_tolerations: tolerations.collect(),
        replica_scheduling: Some(scheduling),
    })
}

/// Airdock gives a cluster the first weight that matches, Karmada the highest. The entries are passed on as they
/// are while that is the same for every cluster there is, and by the names of the clusters otherwise.
fn weights(app: &MultiCloudApp, clusters: &[Cluster]) -> Result<Option<WeightPreference>, FieldError> {
    let weights = &app.spec.placement.replicas.weights;
    if weights.is_empty() {
        return Ok(None);
    }
    let of = |cluster: &Cluster| -> Vec<i64> {
        weights.iter().filter(|entry| selects(&entry.matches, cluster)).map(|entry| entry.weight).collect()
    };
    let known: Vec<(&Cluster, Vec<i64>)> = placed(app, clusters).map(|cluster| (cluster, of(cluster))).collect();
    if !known.is_empty() && known.iter().all(|(_, weights)| weights.is_empty()) {
        let problem = "matches none of the clusters that the placement selects, so none would get a replica; \
                       add a weight for them";
        return Err(FieldError::new("spec.placement.replicas.weights", problem));
    }
    let agree = known.iter().all(|(_, weights)| weights.first() == weights.iter().max());
    let static_weight_list = if agree {
        weights
            .iter()
            .map(|entry| StaticClusterWeight {
                target_cluster: affinity(&entry.matches, &[]).unwrap_or_default(),
                weight: entry.weight,
            })
            .collect()
    } else {
        let mut by_weight: Vec<(i64, Vec<String>)> = Vec::new();
        for (cluster, weights) in known {
            let (Some(weight), Some(name)) = (weights.first(), cluster.metadata.name.clone()) else { continue };
            match by_weight.iter_mut().find(|(known, _)| known == weight) {
                Some((_, names)) => names.push(name),
                None => by_weight.push((*weight, vec![name])),
            }
        }
        by_weight
            .into_iter()
            .map(|(weight, cluster_names)| StaticClusterWeight {
                target_cluster: ClusterAffinity { cluster_names, ..ClusterAffinity::default() },
                weight,
            })
            .collect()
    };
    Ok(Some(WeightPreference { static_weight_list }))
}

#[cfg(test)]
mod tests;
