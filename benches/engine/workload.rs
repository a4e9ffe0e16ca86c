//! Templates as users have them, none of them large.

use serde_json::{Value, json};

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn metadata(namespace: &str, name: &str) -> Value {
    json!({"name": name, "namespace": namespace, "labels": {"bench": "engine", "app": name}})
}

pub fn deployment(namespace: &str, name: &str) -> Value {
    let container = json!({"name": "web", "image": "registry.example.com/team/web:1.2.3", "ports": [{"containerPort": 8080}],
        "env": [{"name": "REGION", "value": "eu"}, {"name": "LOG", "value": "info"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}}});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(namespace, name), "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}}})
}

pub fn service(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(namespace, name),
        "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

/// Half a kilobyte of settings.
pub fn config_map(namespace: &str, name: &str) -> Value {
    let lines: String = (0..16).map(|n| format!("server.setting.number{n:02}=value of {name}\n")).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(namespace, name), "data": {"settings": lines}})
}

/// Half a kilobyte of key.
pub fn secret(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(namespace, name), "type": "Opaque",
        "stringData": {"key": format!("{name:0>512}")}})
}

pub fn network_policy(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata(namespace, name), "spec": {
        "podSelector": {"matchLabels": {"app": name}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "web"}}}], "ports": [{"protocol": "TCP", "port": 8080}]}]}})
}

pub fn widget(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "bench.airdock.dev/v1", "kind": "Widget", "metadata": metadata(namespace, name),
        "spec": {"size": 3, "color": "blue", "parts": [{"name": "wheel", "count": 4}, {"name": "door", "count": 2}]}})
}

/// The definition of [`widget`].
pub fn widgets() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.bench.airdock.dev"},
        "spec": {"group": "bench.airdock.dev", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}
