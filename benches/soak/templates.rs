//! Templates whose content is one value, wherever the kind has place for it.

use serde_json::{Value, json};

/// A kind, and where its objects keep the value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub api_version: &'static str,
    pub kind: &'static str,
    pointer: &'static str,
}

pub const KINDS: [Kind; 2] = [
    Kind { api_version: "v1", kind: "ConfigMap", pointer: "/data/value" },
    Kind { api_version: "apps/v1", kind: "Deployment", pointer: "/spec/template/metadata/annotations/value" },
];

impl Kind {
    /// The value of an object.
    pub fn value<'a>(&self, object: &'a Value) -> Option<&'a str> {
        object.pointer(self.pointer).and_then(Value::as_str)
    }

    /// An object that changes the value, as a merge patch.
    pub fn patch(&self, value: &str) -> Value {
        let words: Vec<&str> = self.pointer.split('/').skip(1).collect();
        words.iter().rev().fold(json!(value), |below, word| json!({ *word: below }))
    }

    /// A template.
    pub fn template(&self, namespace: &str, name: &str, value: &str) -> Value {
        let mut object = json!({"apiVersion": self.api_version, "kind": self.kind,
            "metadata": {"name": name, "namespace": namespace, "labels": {"bench": "engine"}}});
        if self.kind == "Deployment" {
            object["spec"] = json!({"replicas": 1, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}},
                    "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1"}]}}});
        }
        json_patch::merge(&mut object, &self.patch(value));
        object
    }
}
