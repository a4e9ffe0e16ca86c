//! What differs where: each template as one cluster gets it, and the override rules that make Karmada do the
//! same. Pure.
//!
//! What a cluster gets is defined by [`in_cluster`] alone: the differences that match it, in order, each working
//! on the result of those before. Karmada's rules are written down before the clusters are known, so each
//! difference becomes one rule in the difference's own terms (labels, regions …), which a cluster that joins
//! later falls under at once. Where such rules together do not give a known cluster what [`in_cluster`] says (two
//! differences that both add variables to one list, for example), a further rule for that cluster, by name, makes
//! up for it.

use serde_json::Value;

use crate::api::app::{Difference, MultiCloudApp, PatchOp, PatchOperation};
use crate::karmada::Cluster;
use crate::karmada::policy::{
    ClusterAffinity, ImageComponent, ImageOverrider, OverrideRule, OverriderOperator, Overriders, PlaintextOverrider,
};

use super::affinity::{affinity, selects};
use super::model::{FieldError, Template};
use super::workload;

/// The clusters that a placement selects, whether or not their taints are tolerated.
pub(super) fn placed<'a>(app: &'a MultiCloudApp, clusters: &'a [Cluster]) -> impl Iterator<Item = &'a Cluster> {
    let placement = &app.spec.placement;
    clusters.iter().filter(|cluster| {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        selects(&placement.matches, cluster) && !placement.exclude.iter().any(|excluded| excluded == name)
    })
}

/// A template as a cluster gets it, but for the division of replicas.
///
/// # Errors
/// The first operation that does not fit the object.
pub fn in_cluster(template: &Template, differences: &[Difference], cluster: &Cluster) -> Result<Value, FieldError> {
    let matching = differences.iter().enumerate().filter(|(_, difference)| selects(&difference.matches, cluster));
    changed(template, matching).map_err(|error| {
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        FieldError::new(error.field, format!("{} (in cluster {name})", error.problem))
    })
}

fn changed<'a>(
    template: &Template,
    differences: impl Iterator<Item = (usize, &'a Difference)>,
) -> Result<Value, FieldError> {
    let mut object = template.object.clone();
    let mut images = Images::default();
    for (d, difference) in differences.filter(|(_, difference)| template.is_meant_by(difference)) {
        for (source, operation) in operations(template, d, difference, &object, &mut images) {
            apply(&mut object, &operation).map_err(|problem| {
                let verb = match operation.op {
                    PatchOp::Add => "add",
                    PatchOp::Remove => "remove",
                    PatchOp::Replace => "replace",
                };
                FieldError::new(source, format!("{verb} {} of {template}: {problem}", operation.path))
            })?;
        }
    }
    Ok(object)
}

/// The images of a template's containers before a registry was put in their place, so that of two registries the
/// later one holds alone, instead of one before the other.
#[derive(Default)]
struct Images(Vec<(String, String, String)>);

impl Images {
    fn original<'a>(&'a self, pointer: &str, image: &'a str) -> &'a str {
        let made = self.0.iter().rev().find(|(at, _, made)| at == pointer && made == image);
        made.map_or(image, |(_, original, _)| original)
    }
}

/// What one difference does to an object as it is, each operation with the field that asks for it.
fn operations(
    template: &Template,
    index: usize,
    difference: &Difference,
    object: &Value,
    images: &mut Images,
) -> Vec<(String, PatchOperation)> {
    let Difference { matches: _, components: _, image_registry, replicas, env, patches } = difference;
    let Template { api_version, kind, name, .. } = template;
    let field = |rest: String| format!("spec.differences[{index}].{rest}");
    let set = |op: PatchOp, path: String, value: Value| PatchOperation { op, path, value: Some(value) };
    let mut operations = Vec::new();
    for (pointer, container) in workload::containers(object, api_version, kind) {
        if let (Some(registry), Some(image)) = (image_registry, container.get("image").and_then(Value::as_str)) {
            let original = images.original(&pointer, image).to_owned();
            let made = workload::with_registry(&original, registry);
            let operation = set(PatchOp::Replace, format!("{pointer}/image"), Value::from(made.clone()));
            operations.push((field("imageRegistry".into()), operation));
            images.0.push((pointer.clone(), original, made));
        }
        if !env.is_empty() {
            let operation = set(PatchOp::Add, format!("{pointer}/env"), workload::with_env(container, env));
            operations.push((field("env".into()), operation));
        }
    }
    if let (Some(replicas), true) = (replicas, workload::has_replicas(api_version, kind)) {
        operations.push((field("replicas".into()), set(PatchOp::Add, "/spec/replicas".into(), Value::from(*replicas))));
    }
    for (p, patch) in patches.iter().enumerate().filter(|(_, patch)| patch.kind == *kind && patch.name == *name) {
        for (o, operation) in patch.operations.iter().enumerate() {
            operations.push((field(format!("patches[{p}].operations[{o}]")), operation.clone()));
        }
    }
    operations
}

fn apply(object: &mut Value, operation: &PatchOperation) -> Result<(), String> {
    let PatchOperation { op, path, value } = operation;
    let path = json_patch::jsonptr::PointerBuf::parse(path.clone()).map_err(|_| "not a JSON pointer".to_owned())?;
    let value = value.clone().unwrap_or_default();
    let operation = match op {
        PatchOp::Add => json_patch::PatchOperation::Add(json_patch::AddOperation { path, value }),
        PatchOp::Remove => json_patch::PatchOperation::Remove(json_patch::RemoveOperation { path }),
        PatchOp::Replace => json_patch::PatchOperation::Replace(json_patch::ReplaceOperation { path, value }),
    };
    json_patch::patch(object, &[operation]).map_err(|error| match error.kind {
        json_patch::PatchErrorKind::InvalidPointer => "there is no such place in the object".to_owned(),
        other => other.to_string(),
    })
}

/// The override rules that make Karmada give each cluster what [`in_cluster`] says.
///
/// # Errors
/// The first operation that does not fit the object, in any of the clusters where the app is placed, or on its
/// own when the difference matches none of them.
pub fn rules(app: &MultiCloudApp, template: &Template, clusters: &[Cluster]) -> Result<Vec<OverrideRule>, FieldError> {
    let differences = &app.spec.differences;
    let known: Vec<&Cluster> = placed(app, clusters).collect();
    for (d, difference) in differences.iter().enumerate() {
        if !known.iter().any(|cluster| selects(&difference.matches, cluster)) {
            changed(template, std::iter::once((d, difference)))?;
        }
    }
    let mut wanted = Vec::new();
    for cluster in &known {
        wanted.push((*cluster, in_cluster(template, differences, cluster)?));
    }
    let general = general_rules(template, differences);
    let mut rules: Vec<OverrideRule> = general.iter().map(|(_, rule)| rule.clone()).collect();
    let mut corrections = Corrections::default();
    for (cluster, want) in &wanted {
        match overridden(template, &general, cluster) {
            Ok(got) => corrections.add(cluster, json_patch::diff(&got, want)),
            // The rules cannot even be applied one after the other, so each cluster gets its own.
            Err(_) => return Ok(by_name(template, &wanted)),
        }
    }
    rules.extend(corrections.into_rules());
    Ok(rules)
}

/// One rule per difference, made from the template alone.
fn general_rules<'a>(template: &Template, differences: &'a [Difference]) -> Vec<(&'a Difference, OverrideRule)> {
    let meant = || differences.iter().enumerate().filter(|(_, difference)| template.is_meant_by(difference));
    // A registry with a path cannot be told from the image's own path once it is in place, so where one is used,
    // every image is written out.
    let registries = || meant().filter_map(|(_, difference)| difference.image_registry.as_deref());
    let image_overrider = workload::image_overrider_suffices(&template.api_version, &template.kind, &template.object)
        && !registries().any(|registry| registry.contains('/'));
    let mut rules = Vec::new();
    for (d, difference) in meant() {
        let mut overriders = Overriders::default();
        if let (Some(registry), true) = (&difference.image_registry, image_overrider) {
            overriders.image_overrider.push(ImageOverrider {
                predicate: None,
                component: ImageComponent::Registry,
                operator: OverriderOperator::Replace,
                value: Some(registry.clone()),
            });
        }
        let operations = operations(template, d, difference, &template.object, &mut Images::default());
        overriders.plaintext = operations
            .into_iter()
            .filter(|(source, _)| !(image_overrider && source.ends_with("].imageRegistry")))
            .map(|(_, operation)| plaintext(operation))
            .collect();
        if overriders != Overriders::default() {
            rules.push((difference, OverrideRule { target_cluster: affinity(&difference.matches, &[]), overriders }));
        }
    }
    rules
}

fn plaintext(operation: PatchOperation) -> PlaintextOverrider {
    let PatchOperation { op, path, value } = operation;
    let operator = match op {
        PatchOp::Add => OverriderOperator::Add,
        PatchOp::Remove => OverriderOperator::Remove,
        PatchOp::Replace => OverriderOperator::Replace,
    };
    PlaintextOverrider { path, operator, value }
}

/// What Karmada makes of a template in a cluster by the rules whose differences match.
fn overridden(template: &Template, rules: &[(&Difference, OverrideRule)], cluster: &Cluster) -> Result<Value, String> {
    let mut object = template.object.clone();
    for (_, rule) in rules.iter().filter(|(difference, _)| selects(&difference.matches, cluster)) {
        for registry in rule.overriders.image_overrider.iter().filter_map(|overrider| overrider.value.as_deref()) {
            let images: Vec<(String, String)> = workload::containers(&object, &template.api_version, &template.kind)
                .filter(|(pointer, _)| !pointer.contains("/initContainers/"))
                .filter_map(|(pointer, container)| {
                    let image = container.get("image")?.as_str()?;
                    Some((format!("{pointer}/image"), workload::with_registry(image, registry)))
                })
                .collect();
            for (path, image) in images {
                if let Some(found) = object.pointer_mut(&path) {
                    *found = Value::from(image);
                }
            }
        }
        for PlaintextOverrider { path, operator, value } in &rule.overriders.plaintext {
            let op = match operator {
                OverriderOperator::Add => PatchOp::Add,
                OverriderOperator::Remove => PatchOp::Remove,
                OverriderOperator::Replace => PatchOp::Replace,
            };
            apply(&mut object, &PatchOperation { op, path: path.clone(), value: value.clone() })?;
        }
    }
    Ok(object)
}

fn by_name(template: &Template, wanted: &[(&Cluster, Value)]) -> Vec<OverrideRule> {
    let mut rules = Corrections::default();
    for (cluster, want) in wanted {
        rules.add(cluster, json_patch::diff(&template.object, want));
    }
    rules.into_rules()
}

/// Changes by the names of the clusters that need them, clusters with the same changes together.
#[derive(Default)]
struct Corrections(Vec<(Vec<PlaintextOverrider>, Vec<String>)>);

impl Corrections {
    fn add(&mut self, cluster: &Cluster, patch: json_patch::Patch) {
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let changes: Vec<PlaintextOverrider> = patch.0.into_iter().filter_map(from_diff).collect();
        if changes.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == changes) {
            Some((_, names)) => names.push(name),
            None => self.0.push((changes, vec![name])),
        }
    }

    fn into_rules(self) -> Vec<OverrideRule> {
        let rule = |(plaintext, cluster_names)| OverrideRule {
            target_cluster: Some(ClusterAffinity { cluster_names, ..ClusterAffinity::default() }),
            overriders: Overriders { image_overrider: Vec::new(), plaintext },
        };
        self.0.into_iter().map(rule).collect()
    }
}

fn from_diff(operation: json_patch::PatchOperation) -> Option<PlaintextOverrider> {
    use json_patch::PatchOperation as Op;
    let (path, operator, value) = match operation {
        Op::Add(add) => (add.path, OverriderOperator::Add, Some(add.value)),
        Op::Remove(remove) => (remove.path, OverriderOperator::Remove, None),
        Op::Replace(replace) => (replace.path, OverriderOperator::Replace, Some(replace.value)),
        // A difference of two values is made of these three alone.
        Op::Move(_) | Op::Copy(_) | Op::Test(_) => return None,
    };
    Some(PlaintextOverrider { path: path.to_string(), operator, value })
}

#[cfg(test)]
mod tests;
