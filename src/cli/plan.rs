//! `airdock plan`: where each part of an app would land, and what each member would get, with no cluster at all.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use kube::ResourceExt as _;
use serde_json::Value;

use super::input::{self, InputError, namespace_of};
use super::output::{self, Form, OutputError, or_dash, table};
use crate::api::member::{MemberClusterJoin, TaintEffect};
use crate::api::{KarmadaInstance, MultiCloudApp};
use crate::application::model::{FieldError, Plan, Tenancy, render_field_errors};
use crate::application::preview::{Preview, preview};
use crate::application::selectors::{render_unmatched, unmatched_by_placement};
use crate::application::validate::validate;
use crate::karmada::Cluster;
use crate::karmada::cluster::{ClusterSpec, SyncMode, Taint};
use crate::runtime::instance_ref::{INSTANCE_REF, InstanceRefError, resolve};
use crate::runtime::planes::InstanceKey;

/// Flags of `airdock plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// File with MultiCloudApps, or folder with such files (.yaml, .yml and .json, without subfolders); `-` is standard
    /// input. May be given several times.
    #[arg(short = 'f', long = "filename", required = true)]
    pub files: Vec<PathBuf>,
    /// File or folder with the instance's clusters: MemberClusterJoins, or Clusters as `kubectl get clusters -o yaml`
    /// prints them. May be given several times.
    #[arg(long, required = true)]
    pub clusters: Vec<PathBuf>,
    /// Print the objects that would be written into the plane instead.
    #[arg(long)]
    pub plane: bool,
    /// Form of the output; a table when absent, and YAML with --plane. Without --plane, yaml and json hold every
    /// member's final manifests.
    #[arg(short, long, value_enum)]
    pub output: Option<Form>,
}

/// Why there is no plan.
#[derive(thiserror::Error, Debug)]
pub enum PlanError {
    /// The input could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// There is nothing to plan.
    #[error("there is no MultiCloudApp in the files")]
    NoApp,
    /// An app cannot be carried out.
    #[error("MultiCloudApp {0}")]
    App(String, #[source] AppError),
    /// Apps would run nowhere.
    #[error("MultiCloudApp {} would run in no cluster", .0.join(", "))]
    Nowhere(Vec<String>),
    /// The plan could not be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Why one app cannot be carried out.
#[derive(thiserror::Error, Debug)]
pub enum AppError {
    /// Its spec cannot be carried out.
    #[error("{}", render_field_errors(.0))]
    Invalid(Vec<FieldError>),
    /// It may not use its instance.
    #[error(transparent)]
    Instance(#[from] InstanceRefError),
}

/// Prints the plans.
pub fn run(args: &PlanArgs) -> Result<(), PlanError> {
    let files = input::read(&args.files)?;
    let mut fleet = input::read(&args.clusters)?;
    let apps: Vec<MultiCloudApp> = files.of()?;
    if apps.is_empty() {
        return Err(PlanError::NoApp);
    }
    let instances: Vec<KarmadaInstance> = [files.of()?, fleet.of()?].concat();
    fleet.extend(files);
    let (mut planned, mut failed) = (Vec::new(), Vec::new());
    for mut app in apps {
        app.metadata.namespace.get_or_insert_with(|| "default".to_owned());
        let name = app.metadata.name.clone().unwrap_or_default();
        let of_app = plan_of(&app, &fleet, &instances).map_err(|error| match error {
            Failed::Input(error) => PlanError::Input(error),
            Failed::App(error) => PlanError::App(name.clone(), error),
        })?;
        failed.extend(of_app.nowhere.as_ref().map(|nowhere| nowhere.failure(name)));
        planned.push(of_app);
    }
    output::print(&print(args, &planned)?)?;
    if failed.is_empty() { Ok(()) } else { Err(PlanError::Nowhere(failed)) }
}

/// What is printed of one app.
struct Planned {
    plan: Plan,
    preview: Preview,
    nowhere: Option<Nowhere>,
}

/// Why an app would run in no cluster.
enum Nowhere {
    /// No member of its instance is known: most often the files are another instance's.
    NoMember(InstanceKey),
    /// Entries of its placement select no cluster.
    Unmatched(String),
    /// Each cluster has a reason of its own.
    LeftOut,
}

impl Nowhere {
    fn failure(&self, name: String) -> String {
        match self {
            Self::NoMember(key) => {
                format!("{name} (--clusters has no member of KarmadaInstance {}/{})", key.namespace, key.name)
            }
            Self::Unmatched(_) | Self::LeftOut => name,
        }
    }
}

impl fmt::Display for Nowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMember(key) => write!(
                f,
                "It would run in no cluster: --clusters has no member of KarmadaInstance {}/{}.",
                key.namespace, key.name
            ),
            Self::Unmatched(unmatched) => write!(f, "It would run in no cluster: {unmatched}."),
            Self::LeftOut => f.write_str("It would run in no cluster, for these reasons:"),
        }
    }
}

fn nowhere(app: &MultiCloudApp, key: InstanceKey, clusters: &[Cluster], preview: &Preview) -> Option<Nowhere> {
    if !preview.clusters.is_empty() {
        return None;
    }
    if clusters.is_empty() {
        return Some(Nowhere::NoMember(key));
    }
    let unmatched = unmatched_by_placement(app, clusters);
    Some(if unmatched.is_empty() { Nowhere::LeftOut } else { Nowhere::Unmatched(render_unmatched(&unmatched)) })
}

enum Failed {
    Input(InputError),
    App(AppError),
}

fn plan_of(app: &MultiCloudApp, fleet: &input::Documents, instances: &[KarmadaInstance]) -> Result<Planned, Failed> {
    let namespace = namespace_of(app);
    let key = InstanceKey::of(&app.spec.instance_ref, &namespace);
    // Whether an instance consents is known only when it is in the files; an app that names one is taken at its word.
    let instance = instances.iter().find(|instance| {
        namespace_of(*instance) == key.namespace && instance.metadata.name.as_deref() == Some(&key.name)
    });
    if instance.is_some() {
        resolve(instance, &key, &namespace, INSTANCE_REF).map_err(|error| Failed::App(error.into()))?;
    }
    let invalid = |errors| Failed::App(AppError::Invalid(errors));
    let application = validate(app, Tenancy::of(&key.namespace, &namespace)).map_err(invalid)?;
    let clusters = clusters(fleet, &key).map_err(Failed::Input)?;
    let (plan, preview) = preview(app, &application, &clusters).map_err(|error| invalid(vec![error]))?;
    let nowhere = nowhere(app, key, &clusters, &preview);
    Ok(Planned { plan, preview, nowhere })
}

/// Clusters, and those that are to join the instance. A Cluster says more than the join that it came from.
fn clusters(fleet: &input::Documents, key: &InstanceKey) -> Result<Vec<Cluster>, InputError> {
    let mut clusters: Vec<Cluster> = Vec::new();
    let is_known = |clusters: &[Cluster], name: &str| clusters.iter().any(|cluster| cluster.name_any() == name);
    // One folder may be both what is planned and the clusters: what is in it is read twice.
    for cluster in fleet.of_any::<Cluster>()? {
        if !is_known(&clusters, &cluster.name_any()) {
            clusters.push(cluster);
        }
    }
    for join in fleet.of::<MemberClusterJoin>()? {
        let meant = InstanceKey::of(&join.spec.instance_ref, &namespace_of(&join)) == *key;
        if meant && !is_known(&clusters, &join.spec.cluster_name) {
            clusters.push(joined(&join));
        }
    }
    Ok(clusters)
}

/// The cluster that a join leads to, as far as placement looks at it.
#[must_use]
pub fn joined(join: &MemberClusterJoin) -> Cluster {
    let spec = &join.spec;
    let mut cluster = Cluster::new(
        &spec.cluster_name,
        ClusterSpec {
            sync_mode: SyncMode::Push,
            provider: spec.provider.clone(),
            region: spec.region.clone(),
            zones: spec.zones.clone(),
            taints: spec
                .taints
                .iter()
                .map(|taint| Taint {
                    key: taint.key.clone(),
                    value: taint.value.clone(),
                    effect: match taint.effect {
                        TaintEffect::NoSchedule => "NoSchedule".to_owned(),
                    },
                })
                .collect(),
            ..ClusterSpec::default()
        },
    );
    cluster.metadata.labels = Some(spec.labels.clone());
    cluster
}

fn print(args: &PlanArgs, planned: &[Planned]) -> Result<String, OutputError> {
    if args.plane {
        let objects: Vec<Value> = planned.iter().flat_map(|planned| plane_objects(&planned.plan)).collect();
        return match args.output.unwrap_or(Form::Yaml) {
            Form::Json => output::json(&objects),
            Form::Yaml => output::yaml_stream(objects),
            Form::Table => Ok(output::render_list(&objects)),
        };
    }
    let previews = planned.iter().map(|planned| &planned.preview);
    match args.output.unwrap_or_default() {
        Form::Json => output::json(&previews.collect::<Vec<_>>()),
        Form::Yaml => output::yaml_stream(previews),
        Form::Table => Ok(planned.iter().map(render_planned).collect::<Vec<_>>().join("\n")),
    }
}

/// What the controller would write, in its order.
fn plane_objects(plan: &Plan) -> Vec<Value> {
    let policies = plan.overrides.iter().map(|policy| serde_json::to_value(policy).unwrap_or_default());
    let propagation = serde_json::to_value(&plan.propagation).unwrap_or_default();
    let templates = plan.templates.iter().map(|template| template.object.clone());
    std::iter::once(plan.namespace.clone()).chain(policies).chain([propagation]).chain(templates).collect()
}

const PLACE_HEADINGS: [&str; 7] = ["CLUSTER", "PROVIDER", "REGION", "COMPONENT", "OBJECT", "REPLICAS", "DIFFERENCES"];

fn render_planned(Planned { preview, nowhere, plan: _ }: &Planned) -> String {
    let mut text =
        format!("MultiCloudApp {}, in the namespace {} of plane and members\n\n", preview.app, preview.namespace);
    let rows = preview.clusters.iter().flat_map(|place| {
        place.objects.iter().map(|object| {
            [
                place.name.clone(),
                or_dash(place.provider.as_deref()),
                or_dash(place.region.as_deref()),
                object.component.clone(),
                format!("{}/{}", object.kind, object.name),
                object.replicas.map_or_else(|| "-".to_owned(), |replicas| replicas.to_string()),
                or_dash(Some(&object.differences.join(", "))),
            ]
        })
    });
    match nowhere {
        Some(nowhere) => text.push_str(&format!("{nowhere}\n")),
        None => text.push_str(&table(PLACE_HEADINGS, rows)),
    }
    if !preview.left_out.is_empty() {
        let rows = preview
            .left_out
            .iter()
            .map(|left| [left.cluster.clone(), or_dash(left.object.as_deref()), left.why.clone()]);
        text.push('\n');
        text.push_str(&table(["LEFT OUT", "OBJECT", "REASON"], rows));
    }
    if !preview.unmatched.is_empty() {
        let rows = preview
            .unmatched
            .iter()
            .map(|entry| [entry.field.clone(), or_dash(entry.value.as_deref()), or_dash(entry.nearest.as_deref())]);
        text.push('\n');
        text.push_str(&table(["SELECTS NO CLUSTER", "VALUE", "NEAREST"], rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> input::Documents {
        input::parse("f.yaml".into(), text).unwrap()
    }

    const APP: &str = "
apiVersion: airdock.dev/v1alpha1
kind: MultiCloudApp
metadata: {name: shop, namespace: team}
spec:
  instanceRef: {name: fleet}
  components:
  - name: web
    manifests:
    - {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2}}
  placement: {regions: [eu, us]}
  differences: [{match: {regions: [us]}, replicas: 5}]
";

    const FLEET: &str = "
apiVersion: airdock.dev/v1alpha1
kind: MemberClusterJoin
metadata: {name: eu, namespace: team}
spec: {instanceRef: {name: fleet}, clusterName: eu, region: eu, provider: aurora, kubeconfigSecretRef: {name: eu}}
---
apiVersion: airdock.dev/v1alpha1
kind: MemberClusterJoin
metadata: {name: other, namespace: team}
spec: {instanceRef: {name: another}, clusterName: other, region: eu, kubeconfigSecretRef: {name: eu}}
---
apiVersion: v1
kind: List
items:
- apiVersion: cluster.karmada.io/v1alpha1
  kind: Cluster
  metadata: {name: us}
  spec: {syncMode: Push, region: us, resourceModels: [{grade: 0}]}
- apiVersion: cluster.karmada.io/v1alpha1
  kind: Cluster
  metadata: {name: moon}
  spec: {syncMode: Push, region: moon}
";

    #[test]
    fn a_plan_is_a_table() {
        let app: MultiCloudApp = documents(APP).of().unwrap().remove(0);
        let Ok(planned) = plan_of(&app, &documents(FLEET), &[]) else { panic!("no plan") };
        let want = "\
MultiCloudApp shop, in the namespace team of plane and members

CLUSTER   PROVIDER   REGION   COMPONENT   OBJECT           REPLICAS   DIFFERENCES
eu        aurora     eu       web         Deployment/web   2          -
us        -          us       web         Deployment/web   5          5 replicas

LEFT OUT   OBJECT   REASON
moon       -        region \"moon\" is not in spec.placement.regions; add it to run there
";
        assert_eq!(render_planned(&planned), want);

        let mut twice = documents(FLEET);
        twice.extend(documents(FLEET));
        let Ok(planned) = plan_of(&app, &twice, &[]) else { panic!("no plan") };
        assert_eq!(render_planned(&planned), want, "a cluster that is given twice is one");

        let mut app = app;
        app.spec.placement.matches.regions.push("mon".to_owned());
        let Ok(planned) = plan_of(&app, &documents(FLEET), &[]) else { panic!("no plan") };
        let more = "
SELECTS NO CLUSTER          VALUE   NEAREST
spec.placement.regions[2]   mon     moon
";
        assert_eq!(render_planned(&planned), format!("{want}{more}"));
    }

    #[test]
    fn a_plan_without_clusters_says_why() {
        let tainted = "
apiVersion: cluster.karmada.io/v1alpha1
kind: Cluster
metadata: {name: us}
spec: {syncMode: Push, region: us, taints: [{key: gpu, effect: NoSchedule}]}
";
        for (regions, fleet, want) in [
            (
                "mon",
                FLEET,
                "It would run in no cluster: no cluster is selected by spec.placement.regions[0]: \"mon\" (is \"moon\" \
                 meant?); correct or remove it.\n\nLEFT OUT",
            ),
            ("us", tainted, "It would run in no cluster, for these reasons:\n\nLEFT OUT"),
            ("us", "", "It would run in no cluster: --clusters has no member of KarmadaInstance team/fleet.\n"),
        ] {
            let mut app: MultiCloudApp = documents(APP).of().unwrap().remove(0);
            app.spec.placement.matches.regions = vec![regions.to_owned()];
            let Ok(planned) = plan_of(&app, &documents(fleet), &[]) else { panic!("no plan for {regions}") };
            let text = render_planned(&planned);
            assert!(text.contains(want) && !text.contains("COMPONENT"), "{regions}: {text}");
        }
    }

    #[test]
    fn a_tenant_needs_consent() {
        let mut app: MultiCloudApp = documents(APP).of().unwrap().remove(0);
        app.spec.instance_ref.namespace = Some("platform".into());
        let instance = |allowed: &str| {
            documents(&format!(
                "apiVersion: airdock.dev/v1alpha1\nkind: KarmadaInstance\nmetadata: {{name: fleet, namespace: platform}}\n\
                 spec: {{tenancy: {{allowedNamespaces: [{allowed}]}}}}\n"
            ))
            .of::<KarmadaInstance>()
            .unwrap()
        };
        assert!(plan_of(&app, &documents(FLEET), &instance("team")).is_ok());
        let Err(Failed::App(error)) = plan_of(&app, &documents(FLEET), &instance("other")) else { panic!("planned") };
        assert!(error.to_string().contains("allowedNamespaces"), "{error}");
    }
}
