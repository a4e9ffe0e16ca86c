//! What tests of several files start from.

use serde_json::{Value, json};

use crate::api::app::MultiCloudApp;
use crate::karmada::Cluster;

/// A cluster with this spec, in mode Push.
pub fn cluster(name: &str, mut spec: Value) -> Cluster {
    spec["syncMode"] = json!("Push");
    serde_json::from_value(json!({
        "apiVersion": "cluster.karmada.io/v1alpha1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec,
    }))
    .unwrap()
}

/// The application `shop` of namespace `team`, with one component.
pub fn app(manifests: Value, placement: Value, differences: Value) -> MultiCloudApp {
    serde_json::from_value(json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": "shop", "namespace": "team"},
        "spec": {
            "instanceRef": {"name": "fleet"},
            "components": [{"name": "web", "manifests": manifests}],
            "placement": placement,
            "differences": differences,
        },
    }))
    .unwrap()
}
