//! What differs where: override policies turn an object into the one that a certain cluster gets. Pure.
//!
//! ClusterOverridePolicies go first, then the OverridePolicies of the object's namespace; within each, the wider
//! selector before the closer one, then by name, so that what is most specific has the last word. In a rule the
//! order is Karmada's: images, commands, arguments, labels, annotations, documents in fields, plaintext. Either all of it works, or the object is not changed and the error names policy and path.

mod command;
mod document;
mod image;
mod labels;
mod patch;

use std::io;

use serde_json::Value;

pub use image::{ImageReference, ImageReferenceError};

use crate::interpret::{Kind, pod_spec_pointer};
use crate::karmada::policy::{OverrideSpec, Overriders, PolicyRef};
use crate::limits::MAX_BYTES;
use crate::placement::{ClusterView, affinity_matches, selected_by};

/// An override policy of either kind.
pub type Override<'a> = PolicyRef<'a, OverrideSpec>;

impl<'a> Override<'a> {
    /// The rules for a cluster, each with its path in the policy's spec.
    fn rules_for(self, cluster: &ClusterView) -> impl Iterator<Item = (String, &'a Overriders)> {
        let rules = self.spec.rules();
        rules
            .filter(|(_, target, _)| target.is_none_or(|affinity| affinity_matches(affinity, cluster)))
            .map(|(path, _, overriders)| (path, overriders))
    }

    /// Whether it has a rule for a cluster.
    #[must_use]
    pub fn concerns(self, cluster: &ClusterView) -> bool {
        self.rules_for(cluster).next().is_some()
    }
}

/// Why an override could not be carried out.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{policy}: {field}: {problem}")]
pub struct OverrideError {
    /// Kind and name of the policy.
    pub policy: String,
    /// Path of the overrider in the policy's spec.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The policies that have a say about an object, in the order in which they are carried out.
#[must_use]
pub fn applicable<'a>(object: &Value, policies: impl IntoIterator<Item = Override<'a>>) -> Vec<Override<'a>> {
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    let mut ranked: Vec<_> = policies
        .into_iter()
        .filter(|policy| policy.namespace.is_none() || policy.namespace == namespace)
        .filter_map(|policy| Some((selected_by(object, &policy.spec.resource_selectors)?, policy)))
        .collect();
    ranked.sort_by(|(rank_a, a), (rank_b, b)| {
        (a.namespace.is_some().cmp(&b.namespace.is_some()))
            .then_with(|| rank_a.cmp(rank_b))
            .then_with(|| a.name.cmp(b.name))
    });
    ranked.into_iter().map(|(_, policy)| policy).collect()
}

/// Turns an object into the one that a cluster gets. `policies` are those that [`applicable`] found.
pub fn apply(mut object: Value, policies: &[Override<'_>], cluster: &ClusterView) -> Result<Value, OverrideError> {
    for policy in policies {
        let error = |(field, problem): (String, String)| OverrideError { policy: policy.to_string(), field, problem };
        // Without its differences an object would land as nobody wants it.
        if let Some(problem) = &policy.spec.unreadable {
            return Err(error(("spec".to_owned(), format!("it is not understood: {problem}"))));
        }
        for (path, overriders) in policy.rules_for(cluster) {
            carry_out(&mut object, overriders)
                .map_err(|(field, problem)| error((format!("{path}overriders.{field}"), problem)))?;
            check_size(&object).map_err(|problem| error((format!("{path}overriders"), problem)))?;
        }
    }
    Ok(object)
}

/// Refuses an object that no API server would store: trying to write it could only fail, time and again.
fn check_size(object: &Value) -> Result<(), String> {
    let mut size = Size::default();
    match serde_json::to_writer(&mut size, object) {
        Ok(()) if size.0 <= MAX_BYTES => Ok(()),
        Ok(()) => Err(format!("the object would have {} bytes; at most {MAX_BYTES} can be stored", size.0)),
        Err(error) => Err(format!("the object cannot be written: {error}")),
    }
}

/// Counts bytes.
#[derive(Default)]
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Carries out one rule. An error comes with the overrider that it is about.
fn carry_out(object: &mut Value, overriders: &Overriders) -> Result<(), (String, String)> {
    each(object, "imageOverrider", &overriders.image_overrider, image::apply)?;
    each(object, "commandOverrider", &overriders.command_overrider, |o, c| command::apply(o, "command", c))?;
    each(object, "argsOverrider", &overriders.args_overrider, |o, c| command::apply(o, "args", c))?;
    each(object, "labelsOverrider", &overriders.labels_overrider, |o, c| labels::apply(o, "labels", c))?;
    each(object, "annotationsOverrider", &overriders.annotations_overrider, |o, c| labels::apply(o, "annotations", c))?;
    each(object, "fieldOverrider", &overriders.field_overrider, document::apply)?;
    each(object, "plaintext", &overriders.plaintext, patch::apply)
}

/// JSON pointer to the containers that overriders of images, commands and arguments reach. As in Karmada these are
/// neither init containers nor those of a CronJob; a predicate's path and plaintext overriders reach everything.
fn containers_pointer(object: &Value) -> Option<String> {
    let spec = pod_spec_pointer(object).filter(|_| Kind::of(object) != Some(Kind::CronJob))?;
    Some(format!("{spec}/containers"))
}

fn each<T>(
    object: &mut Value,
    field: &str,
    overriders: &[T],
    apply: impl Fn(&mut Value, &T) -> Result<(), String>,
) -> Result<(), (String, String)> {
    let mut numbered = overriders.iter().enumerate();
    numbered.try_for_each(|(n, overrider)| apply(object, overrider).map_err(|e| (format!("{field}[{n}]"), e)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn spec(selectors: Value, target: Value, value: &str) -> OverrideSpec {
        let mut rule = json!({"overriders": {"plaintext": [{"path": "/data/x", "operator": "add", "value": value}]}});
        if !target.is_null() {
            rule["targetCluster"] = target;
        }
        from_value(json!({"resourceSelectors": selectors, "overrideRules": [rule]})).unwrap()
    }

    fn object() -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {},
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}})
    }

    #[test]
    fn order() {
        let everything = spec(json!([]), Value::Null, "everything");
        let by_kind = spec(json!([{"apiVersion": "v1", "kind": "ConfigMap"}]), Value::Null, "kind");
        let by_label = spec(
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "labelSelector": {"matchLabels": {"app": "web"}}}]),
            Value::Null,
            "label",
        );
        let by_name = spec(json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "web"}]), Value::Null, "name");
        let other = spec(json!([{"apiVersion": "v1", "kind": "Secret"}]), Value::Null, "other");
        let of = |namespace, name, spec| Override { namespace, name, spec };
        let found = applicable(
            &object(),
            [
                of(Some("shop"), "z-name", &by_name),
                of(Some("shop"), "b-kind", &by_kind),
                of(Some("shop"), "a-all", &everything),
                of(Some("shop"), "label", &by_label),
                of(Some("shop"), "other", &other),
                of(Some("elsewhere"), "foreign", &everything),
                of(None, "cluster-name", &by_name),
                of(None, "cluster-all", &everything),
            ],
        );
        let names: Vec<_> = found.iter().map(|policy| policy.name).collect();
        assert_eq!(names, ["cluster-all", "cluster-name", "a-all", "b-kind", "label", "z-name"]);
        let result = apply(object(), &found, &ClusterView::default()).unwrap();
        assert_eq!(result["data"]["x"], "name", "the most specific has the last word");
    }

    #[test]
    fn only_in_the_clusters_that_are_meant() {
        let spec = spec(json!([]), json!({"clusterNames": ["a"]}), "1");
        let policy = [Override { namespace: None, name: "p", spec: &spec }];
        let view = |name: &str| ClusterView { name: name.into(), ..ClusterView::default() };
        assert!(policy[0].concerns(&view("a")) && !policy[0].concerns(&view("b")));
        assert_eq!(apply(object(), &policy, &view("a")).unwrap()["data"]["x"], "1");
        assert_eq!(apply(object(), &policy, &view("b")).unwrap(), object());
    }

    #[test]
    fn the_order_within_a_rule_is_karmadas() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "labels": {"a": "1"}},
            "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}});
        let container = json!({"containerName": "c", "operator": "add", "value": ["w"]});
        let overriders = json!({
            "plaintext": [
                {"path": "/metadata/labels/a", "operator": "replace", "value": "plaintext"},
                {"path": "/metadata/annotations/doc", "operator": "add", "value": "plaintext"},
                {"path": "/spec/containers/0/args/-", "operator": "add", "value": "plaintext"},
                {"path": "/spec/containers/0/command/-", "operator": "add", "value": "plaintext"},
            ],
            "fieldOverrider": [{"fieldPath": "/metadata/annotations/text", "json": [{"subPath": "/x", "operator": "add", "value": 1}]}],
            "annotationsOverrider": [{"operator": "add", "value": {"text": "{}", "doc": "label"}}],
            "labelsOverrider": [{"operator": "add", "value": {"a": "label", "b": "label"}}],
            "argsOverrider": [container], "commandOverrider": [container],
            "imageOverrider": [{"component": "Tag", "operator": "replace", "value": "2"}],
        });
        let wanted = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "x", "labels": {"a": "plaintext", "b": "label"},
                "annotations": {"text": "{\"x\":1}", "doc": "plaintext"}},
            "spec": {"containers": [{"name": "c", "image": "nginx:2", "args": ["w", "plaintext"], "command": ["w", "plaintext"]}]}});
        // The deprecated form of a policy with one rule says the same.
        for spec in [json!({"overrideRules": [{"overriders": overriders}]}), json!({"overriders": overriders})] {
            let spec: OverrideSpec = from_value(spec).unwrap();
            let policy = [Override { namespace: None, name: "p", spec: &spec }];
            assert_eq!(apply(object.clone(), &policy, &ClusterView::default()).unwrap(), wanted);
        }
        let elsewhere = json!({"overriders": overriders, "targetCluster": {"clusterNames": ["elsewhere"]}});
        let spec: OverrideSpec = from_value(elsewhere).unwrap();
        let policy = [Override { namespace: None, name: "p", spec: &spec }];
        assert_eq!(apply(object.clone(), &policy, &ClusterView::default()).unwrap(), object);
    }

    #[test]
    fn no_object_is_made_larger_than_can_be_stored() {
        let add = |bytes: usize| {
            let value = "x".repeat(bytes);
            let overriders = json!({"plaintext": [{"path": "/data/x", "operator": "add", "value": value}]});
            from_value::<OverrideSpec>(json!({"overrideRules": [{"overriders": overriders}]})).unwrap()
        };
        let (fits, too_large) = (add(MAX_BYTES - 1024), add(MAX_BYTES));
        let carry_out =
            |spec| apply(object(), &[Override { namespace: None, name: "p", spec }], &ClusterView::default());
        assert!(carry_out(&fits).is_ok());
        let message = carry_out(&too_large).unwrap_err().to_string();
        assert!(
            message.starts_with("ClusterOverridePolicy p: overrideRules[0].overriders: the object would have 1572"),
            "{message}"
        );
    }

    #[test]
    fn nothing_is_written_without_differences_that_are_not_understood() {
        let spec = OverrideSpec { unreadable: Some("unknown variant `swap`".to_owned()), ..OverrideSpec::default() };
        let policy = [Override { namespace: Some("shop"), name: "p", spec: &spec }];
        let error = apply(object(), &policy, &ClusterView::default()).unwrap_err();
        assert_eq!(error.to_string(), "OverridePolicy shop/p: spec: it is not understood: unknown variant `swap`");
    }

    #[test]
    fn errors_name_policy_and_place() {
        let spec: OverrideSpec = from_value(json!({"overrideRules": [
            {"overriders": {}},
            {"overriders": {"plaintext": [{"path": "/data/missing", "operator": "remove"}]}}
        ]}))
        .unwrap();
        let policy = [Override { namespace: Some("shop"), name: "p", spec: &spec }];
        assert_eq!(
            apply(object(), &policy, &ClusterView::default()).unwrap_err().to_string(),
            "OverridePolicy shop/p: overrideRules[1].overriders.plaintext[0]: \
             remove at \"/data/missing\": there is nothing at this path"
        );
    }
}
