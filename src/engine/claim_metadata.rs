//! What tells on an object which policy claims it: labels and annotations, the same on a template and on its binding. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use super::key::{KindKey, Uid};
use crate::karmada::{CLAIM_ANNOTATIONS, CLAIM_LABELS};

/// What tells on an object which policy claims it. That of an object that no policy claims has no values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClaimMetadata {
    labels: [Option<String>; 2],
    annotations: [Option<String>; 3],
}

/// A merge patch of a template.
#[derive(Debug, PartialEq)]
pub enum ClaimPatch {
    /// Of the object.
    Object(Value),
    /// Of its subresource `status`.
    Status(Value),
}

impl ClaimMetadata {
    /// Of an object that a policy claims: by namespace (nothing for a ClusterPropagationPolicy), name and permanent id.
    #[must_use]
    pub fn of_policy(namespace: Option<&str>, name: &str, id: Option<&str>) -> Self {
        let (name, id) = (Some(name.to_owned()), id.map(str::to_owned));
        match namespace {
            Some(namespace) => Self { labels: [id, None], annotations: [Some(namespace.to_owned()), name, None] },
            None => Self { labels: [None, id], annotations: [None, None, name] },
        }
    }

    /// What an object tells, whoever wrote it there.
    #[must_use]
    pub fn of_object(object: &Value) -> Self {
        let given = |map: &str, key: &str| {
            let value = object.get("metadata")?.get(map)?.get(key)?;
            value.as_str().map(str::to_owned)
        };
        Self {
            labels: CLAIM_LABELS.map(|key| given("labels", key)),
            annotations: CLAIM_ANNOTATIONS.map(|key| given("annotations", key)),
        }
    }

    /// The labels, each with its value if the object is to have it.
    pub fn labels(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        CLAIM_LABELS.into_iter().zip(self.labels.iter().map(Option::as_deref))
    }

    /// The annotations, each with its value if the object is to have it.
    pub fn annotations(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        CLAIM_ANNOTATIONS.into_iter().zip(self.annotations.iter().map(Option::as_deref))
    }

    /// Identifies it within a process.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// What is sent so that a template tells it.
    ///
    /// The API server counts a change of a Deployment's annotations as a new generation, unless it comes with the status.
    /// A new generation would be sent to every member, and look like a change of the template by its author.
    #[must_use]
    pub fn patches(&self, kind: &KindKey, uid: &Uid) -> Vec<ClaimPatch> {
        let labels = ("labels", merge(self.labels()));
        let annotations = ("annotations", merge(self.annotations()));
        if kind.group() == "apps" && kind.kind == "Deployment" {
            return vec![ClaimPatch::Object(patch(uid, [labels])), ClaimPatch::Status(patch(uid, [annotations]))];
        }
        vec![ClaimPatch::Object(patch(uid, [labels, annotations]))]
    }
}

fn merge<'a>(values: impl Iterator<Item = (&'static str, Option<&'a str>)>) -> Value {
    values.map(|(key, value)| (key.to_owned(), json!(value))).collect::<Map<_, _>>().into()
}

/// A merge patch of metadata. The uid keeps it from hitting a namesake.
fn patch<const N: usize>(uid: &Uid, maps: [(&str, Value); N]) -> Value {
    let mut metadata = json!({"uid": uid.as_str()});
    for (map, values) in maps {
        metadata[map] = values;
    }
    json!({ "metadata": metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "propagationpolicy.karmada.io/permanent-id";
    const CLUSTER_LABEL: &str = "clusterpropagationpolicy.karmada.io/permanent-id";
    const NAMESPACE: &str = "propagationpolicy.karmada.io/namespace";
    const NAME: &str = "propagationpolicy.karmada.io/name";
    const CLUSTER_NAME: &str = "clusterpropagationpolicy.karmada.io/name";

    fn claims() -> [(ClaimMetadata, Value, Value); 4] {
        [
            (
                ClaimMetadata::of_policy(Some("shop"), "p", Some("i")),
                json!({LABEL: "i", CLUSTER_LABEL: null}),
                json!({NAMESPACE: "shop", NAME: "p", CLUSTER_NAME: null}),
            ),
            (
                ClaimMetadata::of_policy(None, "p", Some("i")),
                json!({LABEL: null, CLUSTER_LABEL: "i"}),
                json!({NAMESPACE: null, NAME: null, CLUSTER_NAME: "p"}),
            ),
            (
                ClaimMetadata::of_policy(None, "p", None),
                json!({LABEL: null, CLUSTER_LABEL: null}),
                json!({NAMESPACE: null, NAME: null, CLUSTER_NAME: "p"}),
            ),
            (
                ClaimMetadata::default(),
                json!({LABEL: null, CLUSTER_LABEL: null}),
                json!({NAMESPACE: null, NAME: null, CLUSTER_NAME: null}),
            ),
        ]
    }

    #[test]
    fn a_patch_brings_any_template_to_what_is_true() {
        let kind = KindKey::new("v1", "ConfigMap");
        let before = [
            json!({"metadata": {"uid": "u"}}),
            json!({"metadata": {"uid": "u", "labels": {"app": "web"}, "annotations": {"team": "a"}}}),
            json!({"metadata": {"uid": "u", "labels": {LABEL: "", CLUSTER_LABEL: "false"},
                "annotations": {NAMESPACE: "other", NAME: "p", CLUSTER_NAME: "p", "team": "a"}}}),
        ];
        for (claim, labels, annotations) in claims() {
            let patches = claim.patches(&kind, &"u".into());
            let wanted = json!({"metadata": {"uid": "u", "labels": labels, "annotations": annotations}});
            assert_eq!(patches, [ClaimPatch::Object(wanted.clone())]);
            for object in &before {
                let mut after = object.clone();
                json_patch::merge(&mut after, &wanted);
                assert_eq!(ClaimMetadata::of_object(&after), claim, "{object}");
                assert_eq!(after["metadata"]["annotations"].get("team"), object["metadata"]["annotations"].get("team"));
            }
        }
    }

    #[test]
    fn claims_are_told_apart() {
        let all: Vec<_> = claims().into_iter().map(|(claim, ..)| claim.fingerprint()).collect();
        let unlike: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(unlike.len(), all.len());
        // A value that is there and empty is not one that is missing.
        let empty = ClaimMetadata::of_object(&json!({"metadata": {"labels": {LABEL: ""}}}));
        assert_ne!(empty.fingerprint(), ClaimMetadata::default().fingerprint());
        assert_eq!(
            ClaimMetadata::of_object(&json!({"metadata": {"labels": {"app": "web"}}})),
            ClaimMetadata::default()
        );
    }

    #[test]
    fn annotations_of_a_deployment_are_written_with_its_status() {
        let (claim, labels, annotations) = claims().into_iter().next().unwrap();
        assert_eq!(
            claim.patches(&KindKey::new("apps/v1", "Deployment"), &"u".into()),
            [
                ClaimPatch::Object(json!({"metadata": {"uid": "u", "labels": labels}})),
                ClaimPatch::Status(json!({"metadata": {"uid": "u", "annotations": annotations}})),
            ]
        );
    }
}
