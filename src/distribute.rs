//! From a template to what every cluster gets: the one function that the engine, `airdock plan` and the tests share.
//! Pure.
//!
//! [`bind`] answers *where*, [`manifest`] answers *what* for one cluster, [`distribute`] is both. The engine calls the
//! two halves on their own, because between them the answer to the first becomes a binding in the plane.

use serde_json::{Map, Value};

use crate::interpret;
use crate::karmada::binding::{BindingSpec, ObjectReference, TargetCluster};
use crate::karmada::policy::ReplicaSchedulingType;
use crate::karmada::shared::Shared;
use crate::overrides::{self, Override, OverrideError};
use crate::placement::{self, Claim, ClusterView, Excluded, FitError, Previous, Request, divide};

/// Everything that has a say in where an object goes and what it becomes there.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Policies that may claim the object.
    pub policies: &'a [placement::Policy<'a>],
    /// Policies that may change it.
    pub overrides: &'a [Override<'a>],
    /// The clusters.
    pub clusters: &'a [ClusterView],
}

/// Where an object goes.
#[derive(Clone, Debug)]
pub struct ScheduleResult {
    /// As it is written into the plane; no clusters when it was refused.
    pub spec: BindingSpec,
    /// Clusters that it does not go to.
    pub excluded: Vec<Excluded>,
    /// Why it goes nowhere.
    pub fit_error: Option<FitError>,
}

/// Where an object goes, and what it becomes there.
#[derive(Clone, Debug)]
pub struct Distribution<'a> {
    /// The policy that claims it.
    pub claim: Claim<'a>,
    /// Where it goes.
    pub binding: ScheduleResult,
    /// What each cluster gets, in the order of the binding's clusters.
    pub manifests: Vec<(String, Result<Value, OverrideError>)>,
}

/// Distributes a template; nothing when no policy claims it. `previous` is where it is now.
#[must_use]
pub fn distribute<'a>(template: &Value, rules: &Rules<'a>, previous: &[TargetCluster]) -> Option<Distribution<'a>> {
    let claim = placement::claim(template, rules.policies.iter().copied(), None)?;
    let previous = Previous { targets: previous, placement: None };
    let binding = bind(template, &claim, rules.clusters, previous);
    let policies = overrides::applicable(template, rules.overrides.iter().copied());
    let manifests = binding
        .spec
        .clusters
        .iter()
        .filter_map(|target| rules.clusters.iter().find(|cluster| cluster.name == target.name))
        .map(|cluster| (cluster.name.clone(), manifest(template, &binding.spec, &policies, cluster)))
        .collect();
    Some(Distribution { claim, binding, manifests })
}

/// Where a template goes.
#[must_use]
pub fn bind<'c>(
    template: &Value,
    claim: &Claim<'_>,
    clusters: impl IntoIterator<Item = &'c ClusterView>,
    previous: Previous<'_>,
) -> ScheduleResult {
    let text = |pointer: &str| template.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let resource = ObjectReference {
        api_version: text("/apiVersion").unwrap_or_default(),
        kind: text("/kind").unwrap_or_default(),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name").unwrap_or_default(),
        uid: text("/metadata/uid"),
        // The version changes with every status; a binding that named it would be written as often.
        resource_version: None,
    };
    let spec = BindingSpec {
        resource,
        replicas: interpret::replicas(template).map(|replicas| i32::try_from(replicas).unwrap_or(i32::MAX)),
        clusters: Shared::default(),
        placement: Some(claim.spec.placement.clone().into()),
        conflict_resolution: Some(claim.spec.conflict_resolution),
        preserve_resources_on_deletion: claim.spec.preserve_resources_on_deletion,
    };
    schedule(spec, clusters, previous)
}

/// Where a binding goes that no policy claims any more: by the rules that it was made with.
#[must_use]
pub fn rebind<'c>(before: &BindingSpec, clusters: impl IntoIterator<Item = &'c ClusterView>) -> ScheduleResult {
    schedule(before.clone(), clusters, Previous::from(before))
}

fn schedule<'c>(
    mut spec: BindingSpec,
    clusters: impl IntoIterator<Item = &'c ClusterView>,
    previous: Previous<'_>,
) -> ScheduleResult {
    let request = Request::of(&spec, previous);
    let (targets, excluded, fit_error) = match placement::place(&request, clusters) {
        Ok(placed) => (placed.targets, placed.excluded, None),
        Err(FitError::NoClusterFit(excluded)) => (Vec::new(), excluded.clone(), Some(FitError::NoClusterFit(excluded))),
    };
    spec.clusters = targets.into();
    ScheduleResult { spec, excluded, fit_error }
}

/// What a template becomes in one cluster of its binding. `policies` are those that [`overrides::applicable`] found for
/// the template. Overrides come before pruning, as with upstream: they see the template as it is in the plane.
pub fn manifest(
    template: &Value,
    binding: &BindingSpec,
    policies: &[Override<'_>],
    cluster: &ClusterView,
) -> Result<Value, OverrideError> {
    let mut object = template.clone();
    if let Some(target) = binding.clusters.iter().find(|target| target.name == cluster.name) {
        if let Some(replicas) = target.replicas {
            interpret::set_replicas(&mut object, replicas.into());
        }
        if let Some(completions) = completions(template, binding, &target.name) {
            interpret::set_completions(&mut object, completions);
        }
    }
    ensure_labels_and_annotations(&mut object);
    let object = overrides::apply(object, policies, cluster)?;
    Ok(interpret::prune(object, template))
}

/// Upstream marks each template that it claims, so that overrides always find both maps and may add to them.
fn ensure_labels_and_annotations(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for map in ["labels", "annotations"] {
        let found = metadata.entry(map).or_insert(Value::Null);
        if found.is_null() {
            *found = Value::Object(Map::new());
        }
    }
}

/// A cluster's share of a Job's completions: where pods are divided, so is the work, in the same proportion.
fn completions(template: &Value, binding: &BindingSpec, cluster: &str) -> Option<i64> {
    let completions = interpret::completions(template)?;
    let scheduling = binding.placement.as_ref()?.replica_scheduling.as_ref()?;
    if scheduling.replica_scheduling_type != ReplicaSchedulingType::Divided || binding.replicas.unwrap_or(0) == 0 {
        return None;
    }
    let weights: Vec<(&str, i64)> =
        binding.clusters.iter().map(|target| (target.name.as_str(), target.replicas.unwrap_or(0).into())).collect();
    let shares = divide(completions, &weights, binding.resource.uid.as_deref());
    shares.into_iter().find(|(name, _)| name == cluster).map(|(_, share)| share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::karmada::policy::{OverrideSpec, PropagationSpec};
    use serde_json::{from_value, json};

    fn clusters() -> Vec<ClusterView> {
        [("a", "eu"), ("b", "us")]
            .map(|(name, region)| ClusterView {
                name: name.into(),
                region: Some(region.into()),
                ..ClusterView::default()
            })
            .into()
    }

    fn policy() -> PropagationSpec {
        from_value(json!({
            "resourceSelectors": [
                {"apiVersion": "apps/v1", "kind": "Deployment"}, {"apiVersion": "batch/v1", "kind": "Job"}],
            "placement": {"replicaScheduling": {"replicaSchedulingType": "Divided", "weightPreference": {"staticWeightList": [
                {"targetCluster": {"clusterNames": ["a"]}, "weight": 2}, {"targetCluster": {"clusterNames": ["b"]}, "weight": 1}]}}}
        }))
        .unwrap()
    }

    #[test]
    fn replicas_then_overrides() {
        let template = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"replicas": 6, "template": {"spec": {"containers": [{"image": "nginx"}]}}}, "status": {"replicas": 6}
        });
        let spec = policy();
        let only_us: OverrideSpec = from_value(json!({"overrideRules": [{
            "targetCluster": {"fieldSelector": {"matchExpressions": [{"key": "region", "operator": "In", "values": ["us"]}]}},
            "overriders": {
                "imageOverrider": [{"component": "Registry", "operator": "replace", "value": "us.io"}],
                "plaintext": [{"path": "/spec/replicas", "operator": "replace", "value": 9}]}
        }]}))
        .unwrap();
        let clusters = clusters();
        let rules = Rules {
            policies: &[placement::Policy { namespace: Some("shop"), name: "p", spec: &spec }],
            overrides: &[Override { namespace: None, name: "o", spec: &only_us }],
            clusters: &clusters,
        };
        let result = distribute(&template, &rules, &[]).unwrap();
        assert_eq!(result.claim.name, "p");
        assert_eq!(result.binding.spec.replicas, Some(6));
        assert_eq!(result.binding.spec.clusters[0].replicas, Some(4));
        let get = |n: usize, pointer: &str| result.manifests[n].1.as_ref().unwrap().pointer(pointer).cloned();
        assert_eq!(get(0, "/spec/replicas"), Some(json!(4)));
        assert_eq!(get(0, "/spec/template/spec/containers/0/image"), Some(json!("nginx")));
        assert_eq!(get(0, "/status"), None);
        assert_eq!(get(1, "/spec/replicas"), Some(json!(9)), "overrides have the last word");
        assert_eq!(get(1, "/spec/template/spec/containers/0/image"), Some(json!("us.io/nginx")));
    }

    #[test]
    fn overrides_see_the_template_before_it_is_pruned() {
        let overridden = |template: Value, overriders: Value| {
            let spec: OverrideSpec =
                from_value(json!({"overrideRules": [{"overriders": {"plaintext": overriders}}]})).unwrap();
            let policies = [Override { namespace: None, name: "o", spec: &spec }];
            manifest(&template, &BindingSpec::default(), &policies, &ClusterView::default()).map_err(|e| e.to_string())
        };
        let config = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        let add = |path: &str, value: Value| json!([{"path": path, "operator": "add", "value": value}]);
        for (name, metadata, overriders, expected) in [
            (
                "the first annotation",
                json!({"name": "x"}),
                add("/metadata/annotations/team", json!("a")),
                json!({"name": "x", "annotations": {"team": "a"}}),
            ),
            (
                "the first label beside an annotation that is pruned",
                json!({"name": "x", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}),
                add("/metadata/labels/team", json!("a")),
                json!({"name": "x", "labels": {"team": "a"}}),
            ),
            (
                "an annotation that is pruned anyway is there to remove",
                json!({"name": "x", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}}),
                json!([{"path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration", "operator": "remove"}]),
                json!({"name": "x"}),
            ),
            (
                "identity and owners do not reach members",
                json!({"name": "x", "uid": "u"}),
                json!([
                    {"path": "/metadata/uid", "operator": "replace", "value": "v"},
                    {"path": "/metadata/ownerReferences", "operator": "add", "value": [{"uid": "v"}]},
                    {"path": "/metadata/finalizers", "operator": "add", "value": ["f"]},
                    {"path": "/metadata/managedFields", "operator": "add", "value": [{}]},
                    {"path": "/metadata/resourceVersion", "operator": "add", "value": "1"}]),
                json!({"name": "x"}),
            ),
            ("no map is left behind", json!({"name": "x"}), json!([]), json!({"name": "x"})),
        ] {
            assert_eq!(overridden(config(metadata), overriders), Ok(config(expected)), "{name}");
        }
    }

    #[test]
    fn a_job_divides_its_work_as_its_pods() {
        let template = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "shop"},
            "spec": {"parallelism": 3, "completions": 9}});
        let spec = policy();
        let clusters = clusters();
        let rules = Rules {
            policies: &[placement::Policy { namespace: None, name: "p", spec: &spec }],
            overrides: &[],
            clusters: &clusters,
        };
        let result = distribute(&template, &rules, &[]).unwrap();
        let specs: Vec<_> = result.manifests.iter().map(|(_, m)| m.as_ref().unwrap()["spec"].clone()).collect();
        assert_eq!(specs, [json!({"parallelism": 2, "completions": 6}), json!({"parallelism": 1, "completions": 3})]);
    }

    #[test]
    fn refused_or_not_claimed() {
        let template = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {}});
        let spec = policy();
        let policies = [placement::Policy { namespace: None, name: "p", spec: &spec }];
        let nowhere = Rules { policies: &policies, overrides: &[], clusters: &[] };
        let result = distribute(&template, &nowhere, &[]).unwrap();
        assert!(
            result.binding.fit_error.is_some()
                && result.binding.spec.clusters.is_empty()
                && result.manifests.is_empty()
        );
        assert!(distribute(&template, &Rules { policies: &[], ..nowhere }, &[]).is_none());
    }
}
