//! What the page says, in one form for people and programs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::api::common::condition::{READY, SELECTORS_MATCHED};
use crate::api::permission::{ClusterScope, SubjectKind};
use crate::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp, PermissionBinding};
use crate::application::preview::differences_in;
use crate::cli::plan::joined;
use crate::karmada::Cluster;
use crate::machinery::conditions::find;
use crate::runtime::planes::InstanceKey;

/// Everything on one page.
#[derive(Debug, PartialEq, Serialize)]
pub struct Page {
    pub instances: Vec<InstanceRow>,
    pub members: Vec<MemberRow>,
    pub apps: Vec<AppRow>,
    pub permissions: Vec<PermissionRow>,
}

/// What every object says of itself.
#[derive(Debug, PartialEq, Serialize)]
pub struct Summary {
    pub namespace: String,
    pub name: String,
    pub ready: String,
    pub message: String,
    /// Entries of selectors that select no cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct InstanceRow {
    #[serde(flatten)]
    pub summary: Summary,
    pub profile: String,
    pub phase: Option<String>,
    pub version: Option<String>,
    pub kubernetes: Option<String>,
    pub clusters: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct MemberRow {
    #[serde(flatten)]
    pub summary: Summary,
    pub instance: String,
    pub cluster: String,
    pub region: Option<String>,
    pub provider: Option<String>,
    pub version: Option<String>,
    pub nodes: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct AppRow {
    #[serde(flatten)]
    pub summary: Summary,
    pub instance: String,
    pub clusters: Vec<AppClusterRow>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct AppClusterRow {
    pub cluster: String,
    pub health: String,
    pub replicas: String,
    pub differences: Vec<String>,
    pub message: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct PermissionRow {
    #[serde(flatten)]
    pub summary: Summary,
    pub role: String,
    pub subjects: Vec<String>,
    pub namespaces: Vec<String>,
    pub clusters: String,
    pub synced: Option<String>,
    pub expires: Option<String>,
}

fn summary<K: Resource>(object: &K, conditions: Option<&[Condition]>) -> Summary {
    let ready = conditions.and_then(|conditions| find(conditions, READY));
    Summary {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        ready: ready.map_or_else(|| "Unknown".to_owned(), |ready| ready.status.clone()),
        message: ready.map_or_else(|| "not reconciled yet".to_owned(), |ready| ready.message.clone()),
        unmatched: conditions
            .and_then(|conditions| find(conditions, SELECTORS_MATCHED))
            .map(|condition| condition.message.clone()),
    }
}

pub fn page(
    instances: &[KarmadaInstance],
    joins: &[MemberClusterJoin],
    apps: &[MultiCloudApp],
    permissions: &[PermissionBinding],
) -> Page {
    let mut clusters: BTreeMap<(InstanceKey, &str), Cluster> = BTreeMap::new();
    for join in joins {
        let key = InstanceKey::of(&join.spec.instance_ref, &join.namespace().unwrap_or_default());
        clusters.insert((key, &join.spec.cluster_name), joined(join));
    }
    Page {
        instances: instances.iter().map(instance_row).collect(),
        members: joins.iter().map(member_row).collect(),
        apps: apps.iter().map(|app| app_row(app, &clusters)).collect(),
        permissions: permissions.iter().map(permission_row).collect(),
    }
}

fn instance_row(instance: &KarmadaInstance) -> InstanceRow {
    let status = instance.status.as_ref();
    InstanceRow {
        summary: summary(instance, status.map(|status| status.conditions.as_slice())),
        profile: format!("{:?}", instance.spec.profile),
        phase: status.and_then(|status| status.phase).map(|phase| format!("{phase:?}")),
        version: status.and_then(|status| status.version.clone()),
        kubernetes: status.and_then(|status| status.kubernetes_version.clone()),
        clusters: status.and_then(|status| status.overview.as_ref()).map(|overview| overview.clusters_ready.clone()),
    }
}

fn member_row(join: &MemberClusterJoin) -> MemberRow {
    let status = join.status.as_ref();
    MemberRow {
        summary: summary(join, status.map(|status| status.conditions.as_slice())),
        instance: InstanceKey::of(&join.spec.instance_ref, &join.namespace().unwrap_or_default()).name,
        cluster: join.spec.cluster_name.clone(),
        region: join.spec.region.clone(),
        provider: join.spec.provider.clone(),
        version: status.and_then(|status| status.kubernetes_version.clone()),
        nodes: status.and_then(|status| status.nodes_ready.clone()),
    }
}

fn app_row(app: &MultiCloudApp, clusters: &BTreeMap<(InstanceKey, &str), Cluster>) -> AppRow {
    let key = InstanceKey::of(&app.spec.instance_ref, &app.namespace().unwrap_or_default());
    let status = app.status.as_ref();
    let placed = status.map(|status| status.clusters.as_slice()).unwrap_or_default();
    AppRow {
        summary: summary(app, status.map(|status| status.conditions.as_slice())),
        instance: key.name.clone(),
        clusters: placed
            .iter()
            .map(|place| AppClusterRow {
                cluster: place.name.clone(),
                health: format!("{:?}", place.health),
                replicas: format!("{}/{}", place.replicas.ready, place.replicas.total),
                differences: clusters
                    .get(&(key.clone(), place.name.as_str()))
                    .map(|cluster| differences_in(app, cluster))
                    .unwrap_or_default(),
                message: place.message.clone(),
            })
            .collect(),
    }
}

fn permission_row(permission: &PermissionBinding) -> PermissionRow {
    let status = permission.status.as_ref();
    let subjects = permission.spec.subjects.iter().map(|subject| match subject.kind {
        SubjectKind::User => format!("user {}", subject.name),
        SubjectKind::Group => format!("group {}", subject.name),
        SubjectKind::ServiceAccount => {
            format!("service account {}/{}", subject.namespace.as_deref().unwrap_or_default(), subject.name)
        }
    });
    PermissionRow {
        summary: summary(permission, status.map(|status| status.conditions.as_slice())),
        role: format!("{:?}", permission.spec.role),
        subjects: subjects.collect(),
        namespaces: permission.spec.scope.namespaces.clone(),
        clusters: scope(&permission.spec.scope.clusters),
        synced: status.and_then(|status| status.targets_synced.clone()),
        expires: permission.spec.expires_at.clone(),
    }
}

fn scope(scope: &ClusterScope) -> String {
    if scope.none {
        return "none".to_owned();
    }
    let matches = &scope.matches;
    let mut parts: Vec<String> = matches.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    for values in [&matches.clusters, &matches.regions, &matches.zones, &matches.providers] {
        if !values.is_empty() {
            parts.push(values.join("|"));
        }
    }
    if parts.is_empty() { "all".to_owned() } else { parts.join(" & ") }
}
