//! What profile Compact makes of each field of Karmada's API.
//!
//! The types beside this module have the fields that the engine carries out. The other fields of upstream's types are
//! listed in [`fields`]: they are in the schemas all the same, so that the API server does not prune them, and those that
//! would change where or how an object lands are refused. A client that is told "created" gets what it asked for.

mod fields;
mod schema;

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

pub use fields::{Kind, Neutral, Shape, Support};
pub use schema::paths;

/// A field of Karmada's API that the engine does not simply carry out.
#[derive(Clone, Debug)]
pub struct Field {
    /// Path from the object's root; `[]` stands for each element of a list.
    pub path: String,
    /// Its schema; nothing where the type beside this module has the field.
    pub shape: Shape,
    /// What becomes of it.
    pub support: Support,
    /// What it means, for `kubectl explain`.
    pub description: &'static str,
}

impl Field {
    /// What the API server answers when a refused field is set.
    #[must_use]
    pub fn refusal(&self) -> String {
        let accepted = match self.support {
            Support::Refused(Neutral::Value(value)) => format!(" (other than {value})"),
            _ => String::new(),
        };
        let path = &self.path;
        format!("profile Compact does not carry out {path}{accepted}: remove it, or use an instance of profile Full")
    }

    /// The value of this field that asks for something, if it is refused and any is there.
    fn is_asked_for(&self, object: &Value) -> bool {
        let Support::Refused(neutral) = self.support else { return false };
        values(object, &self.path).iter().any(|value| !value.is_null() && !neutral.covers(value))
    }
}

impl Neutral {
    /// Whether a value asks for nothing.
    fn covers(self, value: &Value) -> bool {
        match self {
            Self::Nothing => false,
            Self::False => *value == Value::Bool(false),
            Self::Value(neutral) => value.as_str().is_some_and(|text| text.is_empty() || text == neutral),
            Self::Empty => match value {
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            },
        }
    }

    /// The same as a rule of the API server.
    fn rule(self) -> String {
        match self {
            Self::Nothing => "false".to_owned(),
            Self::False => "!self".to_owned(),
            Self::Empty => "size(self) == 0".to_owned(),
            Self::Value(value) => format!("self in ['', '{value}']"),
        }
    }
}

/// Everything at a path of an object.
fn values<'a>(object: &'a Value, path: &str) -> Vec<&'a Value> {
    path.split('.').fold(vec![object], |found, segment| {
        let name = segment.trim_end_matches("[]");
        let fields = found.into_iter().filter_map(|value| value.get(name));
        if segment.ends_with("[]") { fields.filter_map(Value::as_array).flatten().collect() } else { fields.collect() }
    })
}

/// Why the engine must not act on an object: the first field that it would have to carry out and cannot.
#[must_use]
pub fn refusal(kind: Kind, object: &Value) -> Option<String> {
    fields::of(kind).iter().find(|field| field.is_asked_for(object)).map(Field::refusal)
}

/// The same, among some fields of the kind.
#[must_use]
pub fn refusal_among(kind: Kind, paths: &[&str], object: &Value) -> Option<String> {
    let mut fields = fields::of(kind).iter().filter(|field| paths.contains(&field.path.as_str()));
    fields.find(|field| field.is_asked_for(object)).map(Field::refusal)
}

/// A definition with all of upstream's fields, and rules that refuse what is not carried out.
#[must_use]
pub fn completed(kind: Kind, mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        for field in fields::of(kind) {
            schema::add(root, field);
        }
        for rule in fields::rules(kind) {
            schema::add_rule(root, "spec", rule.rule, rule.message, None);
        }
    }
    definition
}

/// What becomes of a field of the schemas, as the documentation tells it: in a word, and how or why.
#[must_use]
pub fn fate(kind: Kind, path: &str) -> (&'static str, String) {
    let all = fields::of(kind);
    // The field that holds it decides, where that one is refused or harmless as a whole.
    let whole = |field: &&Field| matches!(field.support, Support::Refused(_) | Support::Harmless(_));
    let holds = |field: &&Field| path.strip_prefix(&field.path).is_some_and(|rest| rest.starts_with(['.', '[']));
    if let Some(above) = all.iter().filter(holds).find(whole) {
        let fate = if matches!(above.support, Support::Refused(_)) { "refused" } else { "harmless" };
        return (fate, format!("with `{}`", above.path));
    }
    match all.iter().find(|field| field.path == path) {
        None => ("carried out", String::new()),
        Some(field) => match field.support {
            Support::CarriedOut(how) => ("carried out", how.to_owned()),
            Support::Harmless(why) => ("harmless", why.to_owned()),
            Support::Refused(_) => ("refused", field.refusal()),
            Support::ByFields => ("as its fields", String::new()),
        },
    }
}

/// The fields of a kind that the engine does not simply carry out. A field comes after the one that holds it.
#[must_use]
pub fn fields(kind: Kind) -> &'static [Field] {
    fields::of(kind)
}

/// What becomes of each field of Karmada's API, as Markdown.
#[must_use]
pub fn table() -> String {
    let mut out = String::new();
    let mut last = None;
    for (kind, definition) in super::kinds() {
        // Kinds of one name have the same fields.
        if last.replace(kind) == Some(kind) {
            continue;
        }
        let same = super::kinds().into_iter().filter(|(other, _)| *other == kind);
        let names: Vec<String> = same.map(|(_, definition)| definition.spec.names.kind).collect();
        // Formatting into a String cannot fail.
        let _ = writeln!(out, "\n## {}\n\n| field | Compact | |\n|---|---|---|", names.join(", "));
        for path in paths(&definition) {
            let (fate, why) = fate(kind, &path);
            let _ = writeln!(out, "| `{path}` | {fate} | {why} |");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_asks_for_something_is_named() {
        for (spec, field) in [
            (json!({}), None),
            (
                json!({"preemption": "Never", "schedulerName": "default-scheduler", "propagateDeps": false,
                "suspension": {}, "failover": {}, "dependentOverrides": [], "activationPreference": "",
                "association": true}),
                None,
            ),
            (
                json!({"placement": {"clusterTolerations": [{"key": "k", "tolerationSeconds": 300}],
                "spreadConstraints": [], "workloadAffinity": {}, "clusterAffinities": []}}),
                None,
            ),
            (json!({"preemption": "Always"}), Some("spec.preemption (other than Never)")),
            (json!({"propagateDeps": true}), Some("spec.propagateDeps:")),
            (json!({"suspension": {"dispatching": true}}), Some("spec.suspension.dispatching:")),
            (
                json!({"suspension": {"dispatchingOnClusters": {"clusterNames": ["a"]}}}),
                Some("spec.suspension.dispatchingOnClusters.clusterNames:"),
            ),
            (
                json!({"placement": {"clusterAffinities": [{"affinityName": "a"}]}}),
                Some("spec.placement.clusterAffinities:"),
            ),
            (
                json!({"placement": {"spreadConstraints": [{"minGroups": 1}]}}),
                Some("spec.placement.spreadConstraints:"),
            ),
            (
                json!({"placement": {"replicaScheduling": {"weightPreference": {"dynamicWeight": "AvailableReplicas"}}}}),
                Some("spec.placement.replicaScheduling.weightPreference.dynamicWeight:"),
            ),
            (json!({"failover": {"cluster": {}}}), Some("spec.failover.cluster:")),
        ] {
            let found = refusal(Kind::PropagationPolicy, &json!({"spec": spec}));
            assert_eq!(found.is_some(), field.is_some(), "{spec}: {found:?}");
            assert!(field.is_none_or(|field| found.unwrap().contains(field)), "{spec}");
        }
    }

    #[test]
    fn lists_are_looked_into() {
        let object = json!({"a": [{"b": 1}, {"c": 2}, {"b": 3}]});
        assert_eq!(values(&object, "a[].b"), [&json!(1), &json!(3)]);
        assert!(values(&object, "a.b").is_empty() && values(&object, "x[].b").is_empty());
    }

    #[test]
    fn every_field_of_the_table_is_in_its_schema() {
        for (kind, definition) in super::super::kinds() {
            let paths = paths(&definition);
            for field in fields::of(kind) {
                assert!(paths.contains(&field.path), "{kind:?} has no {}", field.path);
            }
        }
    }
}
