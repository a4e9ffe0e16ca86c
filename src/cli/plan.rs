//! `airdock plan`: where each part of an app would land, and what each member would get, with no cluster at all.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::input::{self, InputError, namespace_of};
use super::output::{self, Form, OutputError, or_dash, table};
use crate::api::member::{MemberClusterJoin, TaintEffect};
use crate::api::{KarmadaInstance, MultiCloudApp};
use crate::application::model::{FieldError, Plan, Tenancy, render_field_errors};
use crate::application::preview::{Preview, preview};
use crate::application::validate::validate;
use crate::karmada::Cluster;
use crate::karmada::cluster::{ClusterSpec, SyncMode, Taint};
use crate::runtime::instance_ref::{INSTANCE_REF, InstanceRefError, resolve};
use crate::runtime::planes::InstanceKey;

/// Flags of `airdock plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// File with MultiCloudApps; `-` is standard input. May be given several times.
    #[arg(short = 'f', long = "filename", required = true)]
    pub files: Vec<PathBuf>,
    /// File with the instance's clusters: MemberClusterJoins, or Clusters as `kubectl get clusters -o yaml` prints them.
    /// May be given several times.
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
    let (mut planned, mut nowhere) = (Vec::new(), Vec::new());
    for mut app in apps {
        app.metadata.namespace.get_or_insert_with(|| "default".to_owned());
        let name = app.metadata.name.clone().unwrap_or_default();
        let (plan, preview) = plan_of(&app, &fleet, &instances).map_err(|error| match error {
            Failed::Input(error) => PlanError::Input(error),
            Failed::App(error) => PlanError::App(name.clone(), error),
        })?;
        if preview.clusters.is_empty() {
            // A cluster that is known, and not selected, is among those that are left out.
            nowhere.push(if preview.left_out.is_empty() { without_members(&app) } else { name });
        }
        planned.push((plan, preview));
    }
    output::print(&print(args, &planned)?)?;
    if nowhere.is_empty() { Ok(()) } else { Err(PlanError::Nowhere(nowhere)) }
}

/// An app of whose instance no member is known: most often the files are another instance's.
fn without_members(app: &MultiCloudApp) -> String {
    let key = InstanceKey::of(&app.spec.instance_ref, &namespace_of(app));
    let name = app.metadata.name.as_deref().unwrap_or_default();
    format!("{name} (--clusters has no member of KarmadaInstance {}/{})", key.namespace, key.name)
}

enum Failed {
    Input(InputError),
    App(AppError),
}

fn plan_of(
    app: &MultiCloudApp,
    fleet: &input::Documents,
    instances: &[KarmadaInstance],
) -> Result<(Plan, Preview), Failed> {
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
    preview(app, &application, &clusters).map_err(|error| invalid(vec![error]))
}

/// Clusters, and those that are to join the instance. A Cluster says more than the join that it came from.
fn clusters(fleet: &input::Documents, key: &InstanceKey) -> Result<Vec<Cluster>, InputError> {
    let mut clusters: Vec<Cluster> = fleet.of_any()?;
    for join in fleet.of::<MemberClusterJoin>()? {
        let meant = InstanceKey::of(&join.spec.instance_ref, &namespace_of(&join)) == *key;
        let known = clusters.iter().any(|cluster| cluster.metadata.name.as_ref() == Some(&join.spec.cluster_name));
        if meant && !known {
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

fn print(args: &PlanArgs, planned: &[(Plan, Preview)]) -> Result<String, OutputError> {
    if args.plane {
        let objects: Vec<Value> = planned.iter().flat_map(|(plan, _)| plane_objects(plan)).collect();
        return match args.output.unwrap_or(Form::Yaml) {
            Form::Json => output::json(&objects),
            Form::Yaml => output::yaml_stream(objects),
            Form::Table => Ok(output::render_list(&objects)),
        };
    }
    let previews = planned.iter().map(|(_, preview)| preview);
    match args.output.unwrap_or_default() {
        Form::Json => output::json(&previews.collect::<Vec<_>>()),
        Form::Yaml => output::yaml_stream(previews),
        Form::Table => Ok(previews.map(render_preview).collect::<Vec<_>>().join("\n")),
    }
}

/// What the controller would write, in its order.
fn plane_objects(plan: &Plan) -> Vec<Value> {
    let policies = plan.overrides.iter().map(|policy| serde_json::to_value(policy).unwrap_or_default());
    let propagation = serde_json::to_value(&plan.propagation).unwrap_or_default();
    let templates = plan.templates.iter().map(|template| template.object.clone());
    std::iter::once(plan.namespace.clone()).chain(policies).chain([propagation]).chain(templates).collect()
}

fn render_preview(preview: &Preview) -> String {
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
    text.push_str(&table(["CLUSTER", "PROVIDER", "REGION", "COMPONENT", "OBJECT", "REPLICAS", "DIFFERENCES"], rows));
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
        let Ok((_, preview)) = plan_of(&app, &documents(FLEET), &[]) else { panic!("no plan") };
        let want = "\
MultiCloudApp shop, in the namespace team of plane and members

CLUSTER   PROVIDER   REGION   COMPONENT   OBJECT           REPLICAS   DIFFERENCES
eu        aurora     eu       web         Deployment/web   2          -
us        -          us       web         Deployment/web   5          5 replicas

LEFT OUT   OBJECT   REASON
moon       -        did not match the placement's cluster affinity
";
        assert_eq!(render_preview(&preview), want);

        let mut app = app;
        app.spec.placement.matches.regions.push("mon".to_owned());
        let Ok((_, preview)) = plan_of(&app, &documents(FLEET), &[]) else { panic!("no plan") };
        let more = "
SELECTS NO CLUSTER          VALUE   NEAREST
spec.placement.regions[2]   mon     moon
";
        assert_eq!(render_preview(&preview), format!("{want}{more}"));
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
