//! `airdock status`: instances, members, apps and permissions of the host cluster on one page.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::output::{self, Format, OutputError, or_dash, table};
use super::plan::joined;
use crate::api::common::condition::READY;
use crate::api::permission::{ClusterScope, SubjectKind};
use crate::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp, PermissionBinding};
use crate::controllers::app::preview::differences_in;
use crate::karmada::Cluster;
use crate::runtime::conditions::find;
use crate::runtime::planes::InstanceKey;

/// Flags of `airdock status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only what is in this namespace; all namespaces when absent.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Kubeconfig of the host cluster; KUBECONFIG or ~/.kube/config when absent.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; its current one when absent.
    #[arg(long)]
    pub context: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Why there is no status.
#[derive(thiserror::Error, Debug)]
pub enum StatusError {
    /// There is no usable kubeconfig.
    #[error("read the kubeconfig")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// The host cluster cannot be connected.
    #[error("connect to the host cluster")]
    Connect(#[source] kube::Error),
    /// A kind could not be listed.
    #[error("list {0}; is Airdock installed in this cluster?")]
    List(String, #[source] kube::Error),
    /// The status could not be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Prints the status.
pub async fn run(args: &StatusArgs) -> Result<(), StatusError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = match &args.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(StatusError::Kubeconfig)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None => Config::from_kubeconfig(&options).await,
    };
    let client = Client::try_from(config.map_err(StatusError::Kubeconfig)?).map_err(StatusError::Connect)?;
    let namespace = args.namespace.as_deref();
    let (instances, joins, apps, permissions) = tokio::try_join!(
        list::<KarmadaInstance>(&client, namespace),
        list::<MemberClusterJoin>(&client, namespace),
        list::<MultiCloudApp>(&client, namespace),
        list::<PermissionBinding>(&client, namespace),
    )?;
    let page = page(&instances, &joins, &apps, &permissions);
    output::print(&match args.output {
        Format::Json => output::json(&page)?,
        Format::Yaml => output::yaml(&page)?,
        Format::Table => told(&page, false),
        Format::Wide => told(&page, true),
    })?;
    Ok(())
}

async fn list<K>(client: &Client, namespace: Option<&str>) -> Result<Vec<K>, StatusError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let list = api.list(&ListParams::default()).await;
    list.map(|list| list.items).map_err(|error| StatusError::List(K::plural(&()).into_owned(), error))
}

/// Everything on one page.
#[derive(Debug, PartialEq, Serialize)]
struct Page {
    instances: Vec<InstanceRow>,
    members: Vec<MemberRow>,
    apps: Vec<AppRow>,
    permissions: Vec<PermissionRow>,
}

/// What every object says of itself.
#[derive(Debug, PartialEq, Serialize)]
struct Summary {
    namespace: String,
    name: String,
    ready: String,
    message: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct InstanceRow {
    #[serde(flatten)]
    summary: Summary,
    profile: String,
    phase: Option<String>,
    version: Option<String>,
    kubernetes: Option<String>,
    clusters: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct MemberRow {
    #[serde(flatten)]
    summary: Summary,
    instance: String,
    cluster: String,
    region: Option<String>,
    provider: Option<String>,
    version: Option<String>,
    nodes: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct AppRow {
    #[serde(flatten)]
    summary: Summary,
    instance: String,
    clusters: Vec<AppClusterRow>,
}

#[derive(Debug, PartialEq, Serialize)]
struct AppClusterRow {
    cluster: String,
    health: String,
    replicas: String,
    differences: Vec<String>,
    message: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct PermissionRow {
    #[serde(flatten)]
    summary: Summary,
    role: String,
    subjects: Vec<String>,
    namespaces: Vec<String>,
    clusters: String,
    synced: Option<String>,
    expires: Option<String>,
}

fn summary<K: Resource>(object: &K, conditions: Option<&[Condition]>) -> Summary {
    let ready = conditions.and_then(|conditions| find(conditions, READY));
    Summary {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        ready: ready.map_or_else(|| "Unknown".to_owned(), |ready| ready.status.clone()),
        message: ready.map_or_else(|| "not reconciled yet".to_owned(), |ready| ready.message.clone()),
    }
}

fn page(
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
    let mut told: Vec<String> = matches.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    for values in [&matches.clusters, &matches.regions, &matches.zones, &matches.providers] {
        if !values.is_empty() {
            told.push(values.join("|"));
        }
    }
    if told.is_empty() { "all".to_owned() } else { told.join(" & ") }
}

fn told(page: &Page, wide: bool) -> String {
    let sections = [
        ("INSTANCES", page.instances.is_empty(), instances(&page.instances, wide)),
        ("MEMBERS", page.members.is_empty(), members(&page.members, wide)),
        ("APPLICATIONS", page.apps.is_empty(), apps(&page.apps, wide)),
        ("PERMISSIONS", page.permissions.is_empty(), permissions(&page.permissions, wide)),
    ];
    let text = |(title, is_empty, text): (&str, bool, String)| {
        let text = if is_empty { "none\n".to_owned() } else { text };
        format!("{title}\n{text}")
    };
    sections.map(text).join("\n")
}

/// A message is worth a line only when something is not as it should be.
fn remark(summary: &Summary, wide: bool) -> String {
    if summary.ready == "True" && !wide { String::new() } else { summary.message.clone() }
}

fn instances(rows: &[InstanceRow], wide: bool) -> String {
    let rows = rows.iter().map(|row| {
        let version = if wide {
            [row.version.clone(), row.kubernetes.clone()].map(|v| or_dash(v.as_deref())).join(" on Kubernetes ")
        } else {
            or_dash(row.version.as_deref())
        };
        [
            row.summary.namespace.clone(),
            row.summary.name.clone(),
            row.profile.clone(),
            row.summary.ready.clone(),
            or_dash(row.phase.as_deref()),
            version,
            or_dash(row.clusters.as_deref()),
            remark(&row.summary, wide),
        ]
    });
    table(["NAMESPACE", "NAME", "PROFILE", "READY", "PHASE", "VERSION", "CLUSTERS", ""], rows)
}

fn members(rows: &[MemberRow], wide: bool) -> String {
    let rows = rows.iter().map(|row| {
        [
            row.summary.namespace.clone(),
            row.cluster.clone(),
            row.instance.clone(),
            or_dash(row.region.as_deref()),
            or_dash(row.provider.as_deref()),
            row.summary.ready.clone(),
            or_dash(row.version.as_deref()),
            or_dash(row.nodes.as_deref()),
            remark(&row.summary, wide),
        ]
    });
    table(["NAMESPACE", "CLUSTER", "INSTANCE", "REGION", "PROVIDER", "READY", "VERSION", "NODES", ""], rows)
}

fn apps(rows: &[AppRow], wide: bool) -> String {
    let rows = rows.iter().flat_map(|row| {
        let head = |cells: [String; 4], note: String| {
            let [cluster, health, replicas, differences] = cells;
            let Summary { namespace, name, ready, .. } = &row.summary;
            [namespace, name, &row.instance, ready]
                .map(Clone::clone)
                .into_iter()
                .chain([cluster, health, replicas, differences, note])
                .collect::<Vec<_>>()
        };
        let none = || "-".to_owned();
        let mut lines: Vec<Vec<String>> = row
            .clusters
            .iter()
            .map(|place| {
                let differences = or_dash(Some(&place.differences.join(", ")));
                let cells = [place.cluster.clone(), place.health.clone(), place.replicas.clone(), differences];
                head(cells, place.message.clone().unwrap_or_default())
            })
            .collect();
        if lines.is_empty() {
            lines.push(head([none(), none(), none(), none()], remark(&row.summary, true)));
        } else if wide || (row.summary.ready != "True" && row.clusters.iter().all(|place| place.message.is_none())) {
            lines.push(head([String::new(), String::new(), String::new(), String::new()], row.summary.message.clone()));
        }
        // An app is named once, and below it one line for each cluster.
        for line in lines.iter_mut().skip(1) {
            line.iter_mut().take(4).for_each(String::clear);
        }
        lines.into_iter().filter_map(|line| <[String; 9]>::try_from(line).ok())
    });
    table(["NAMESPACE", "NAME", "INSTANCE", "READY", "CLUSTER", "HEALTH", "REPLICAS", "DIFFERENCES", ""], rows)
}

fn permissions(rows: &[PermissionRow], wide: bool) -> String {
    let rows = rows.iter().map(|row| {
        let until = row.expires.as_deref().map(|expires| format!(" until {expires}")).unwrap_or_default();
        [
            row.summary.namespace.clone(),
            row.summary.name.clone(),
            format!("{}{until}", row.role),
            row.subjects.join(", "),
            row.namespaces.join(", "),
            row.clusters.clone(),
            row.summary.ready.clone(),
            or_dash(row.synced.as_deref()),
            remark(&row.summary, wide),
        ]
    });
    table(["NAMESPACE", "NAME", "ROLE", "SUBJECTS", "NAMESPACES", "CLUSTERS", "READY", "SYNCED", ""], rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn typed<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    fn condition(status: &str, message: &str) -> Value {
        json!([{"type": "Ready", "status": status, "reason": "X", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn sample() -> Page {
        let meta = |name: &str| json!({"name": name, "namespace": "team"});
        let reference = json!({"name": "fleet"});
        let api = "airdock.dev/v1alpha1";
        let join = |name: &str, region: &str| {
            typed::<MemberClusterJoin>(json!({
                "apiVersion": api, "kind": "MemberClusterJoin", "metadata": meta(name),
                "spec": {"instanceRef": reference, "clusterName": name, "region": region, "kubeconfigSecretRef": {"name": name}},
                "status": {"nodesReady": "2/2", "kubernetesVersion": "v1.36.3", "conditions": condition("True", "joined")},
            }))
        };
        let instance = typed(json!({
            "apiVersion": api, "kind": "KarmadaInstance", "metadata": meta("fleet"), "spec": {},
            "status": {"phase": "Running", "version": "v0.1.0", "conditions": condition("True", "all is well")},
        }));
        let app = typed(json!({
            "apiVersion": api, "kind": "MultiCloudApp", "metadata": meta("shop"),
            "spec": {
                "instanceRef": reference, "components": [{"name": "web", "manifests": [{}]}],
                "differences": [{"match": {"regions": ["us"]}, "replicas": 3, "imageRegistry": "us.example"}],
            },
            "status": {
                "conditions": condition("False", "us: Deployment web: 1 of 3 replicas are ready"),
                "clusters": [
                    {"name": "eu", "applied": true, "health": "Healthy", "replicas": {"ready": 2, "total": 2}},
                    {"name": "us", "applied": true, "health": "Unhealthy", "replicas": {"ready": 1, "total": 3},
                     "message": "Deployment web: 1 of 3 replicas are ready"},
                ],
            },
        }));
        let permission = typed(json!({
            "apiVersion": api, "kind": "PermissionBinding", "metadata": meta("devs"),
            "spec": {
                "role": "Editor", "subjects": [{"kind": "Group", "name": "devs"}],
                "scope": {"namespaces": ["shop"], "clusters": {"regions": ["eu", "us"]}},
            },
        }));
        page(&[instance], &[join("eu", "eu"), join("us", "us")], &[app], &[permission])
    }

    #[test]
    fn the_page_answers_the_obvious_questions() {
        let want = "\
INSTANCES
NAMESPACE   NAME    PROFILE   READY   PHASE     VERSION   CLUSTERS
team        fleet   Compact   True    Running   v0.1.0    -

MEMBERS
NAMESPACE   CLUSTER   INSTANCE   REGION   PROVIDER   READY   VERSION   NODES
team        eu        fleet      eu       -          True    v1.36.3   2/2
team        us        fleet      us       -          True    v1.36.3   2/2

APPLICATIONS
NAMESPACE   NAME   INSTANCE   READY   CLUSTER   HEALTH      REPLICAS   DIFFERENCES
team        shop   fleet      False   eu        Healthy     2/2        -
                                      us        Unhealthy   1/3        images from us.example, 3 replicas   Deployment web: 1 of 3 replicas are ready

PERMISSIONS
NAMESPACE   NAME   ROLE     SUBJECTS     NAMESPACES   CLUSTERS   READY     SYNCED
team        devs   Editor   group devs   shop         eu|us      Unknown   -        not reconciled yet
";
        assert_eq!(told(&sample(), false), want);
    }

    #[test]
    fn programs_get_the_same() {
        let page = serde_json::to_value(sample()).unwrap();
        assert_eq!(page["apps"][0]["clusters"][1]["differences"], json!(["images from us.example", "3 replicas"]));
        assert_eq!(page["members"][0]["name"], "eu");
        assert_eq!(page["instances"][0]["ready"], "True");
    }
}
