//! What a kind of workload looks like: where its pods are described, and what can differ in them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// JSON pointer to the pod spec within objects of a kind, for the kinds that Kubernetes itself runs as pods.
#[must_use]
pub fn pod_spec(api_version: &str, kind: &str) -> Option<&'static str> {
    match (api_version, kind) {
        ("v1", "Pod") => Some("/spec"),
        ("apps/v1", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch/v1", "Job")
        | ("v1", "ReplicationController") => Some("/spec/template/spec"),
        ("batch/v1", "CronJob") => Some("/spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

/// Whether `/spec/replicas` of a kind says how many pods run.
#[must_use]
pub fn has_replicas(api_version: &str, kind: &str) -> bool {
    matches!(
        (api_version, kind),
        ("apps/v1", "Deployment" | "ReplicaSet" | "StatefulSet") | ("v1", "ReplicationController")
    )
}

/// How many replicas an object asks for; one when it does not say, and nothing for kinds without replicas.
#[must_use]
pub fn replicas(object: &Value) -> Option<i32> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    has_replicas(text("apiVersion"), text("kind")).then(|| {
        object.pointer("/spec/replicas").and_then(Value::as_i64).map_or(1, |n| i32::try_from(n).unwrap_or(i32::MAX))
    })
}

/// Whether Karmada's image overrider reaches every image of the object, and leaves their digests alone. It knows
/// containers only, not init containers, not CronJobs, and drops the digest of an image that has a tag as well.
#[must_use]
pub fn image_overrider_suffices(api_version: &str, kind: &str, object: &Value) -> bool {
    if kind == "CronJob" || kind == "ReplicationController" {
        return false;
    }
    let Some(spec) = pod_spec(api_version, kind).and_then(|pointer| object.pointer(pointer)) else { return false };
    let no_more = spec.get("initContainers").and_then(Value::as_array).is_none_or(Vec::is_empty);
    let images = spec.get("containers").and_then(Value::as_array).into_iter().flatten();
    let plain = |container: &Value| {
        container.get("image").and_then(Value::as_str).is_some_and(|image| !image.is_empty() && !image.contains('@'))
    };
    no_more && images.clone().next().is_some() && images.clone().all(plain)
}

/// JSON pointers to the containers below a pod spec, with the containers: init containers as well when `all`.
pub fn containers<'a>(
    object: &'a Value,
    api_version: &str,
    kind: &str,
) -> impl Iterator<Item = (String, &'a Value)> + use<'a> {
    let pointer = pod_spec(api_version, kind);
    let spec = pointer.and_then(|pointer| object.pointer(pointer));
    ["containers", "initContainers"].into_iter().flat_map(move |list| {
        let items = spec.and_then(|spec| spec.get(list)).and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .enumerate()
            .map(move |(index, container)| (format!("{}/{list}/{index}", pointer.unwrap_or_default()), container))
    })
}

/// Entries of containers that are given twice under what tells them apart, each with the path of the second. A cluster
/// would create such an object, and could never apply it again.
#[must_use]
pub fn duplicates(object: &Value, api_version: &str, kind: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (pointer, container) in containers(object, api_version, kind) {
        let list = |name: &str| container.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
        let env = list("env").map(|(index, entry)| ("env", index, format!("variable {}", text(entry, "name"))));
        let ports = list("ports").map(|(index, port)| {
            let protocol = Some(text(port, "protocol")).filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
            let number = port.get("containerPort").and_then(Value::as_i64).unwrap_or_default();
            ("ports", index, format!("port {number}/{protocol}"))
        });
        let mut seen = BTreeSet::new();
        for (name, index, called) in env.chain(ports) {
            if !seen.insert(called.clone()) {
                found.push((path_of(&format!("{pointer}/{name}/{index}")), called));
            }
        }
    }
    found
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A JSON pointer as people write paths: `/containers/0/env` as `.containers[0].env`.
fn path_of(pointer: &str) -> String {
    let parts = pointer.split('/').filter(|part| !part.is_empty());
    parts.map(|part| if part.parse::<usize>().is_ok() { format!("[{part}]") } else { format!(".{part}") }).collect()
}

/// The image, taken from another registry. What counts as the registry is what container runtimes take for it: a
/// first segment with a dot or a port, or `localhost`.
#[must_use]
pub fn with_registry(image: &str, registry: &str) -> String {
    let repository = match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => image,
    };
    format!("{}/{repository}", registry.trim_end_matches('/'))
}

/// The environment of a container with some variables added, each in place of the one of the same name, and new
/// ones at the end. Variables that take their value from elsewhere stay unless one of the same name is given.
#[must_use]
pub fn with_env(container: &Value, more: &BTreeMap<String, String>) -> Value {
    let mut env: Vec<Value> = container.get("env").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, value) in more {
        let entry = json!({ "name": name, "value": value });
        match env.iter_mut().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name)) {
            Some(found) => *found = entry,
            None => env.push(entry),
        }
    }
    Value::Array(env)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_replaced() {
        for (image, registry, want) in [
            ("nginx", "mirror.example", "mirror.example/nginx"),
            ("nginx:1.27", "mirror.example:5000", "mirror.example:5000/nginx:1.27"),
            ("library/nginx:1", "mirror.example", "mirror.example/library/nginx:1"),
            ("docker.io/library/nginx:1", "mirror.example", "mirror.example/library/nginx:1"),
            ("docker.io/library/nginx:1", "mirror.example/proxy", "mirror.example/proxy/library/nginx:1"),
            ("localhost/app", "mirror.example/", "mirror.example/app"),
            ("host:5000/a/b@sha256:0f", "mirror.example", "mirror.example/a/b@sha256:0f"),
        ] {
            assert_eq!(with_registry(image, registry), want, "{image}");
        }
    }

    #[test]
    fn variables_keep_their_places() {
        let container = json!({"env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]});
        let more = [("C", "3"), ("A", "2"), ("Z", "26"), ("D", "4")];
        let more = more.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let want = json!([
            {"name": "A", "value": "2"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "value": "3"},
            {"name": "D", "value": "4"},
            {"name": "Z", "value": "26"},
        ]);
        assert_eq!(with_env(&container, &more), want);
        assert_eq!(with_env(&json!({}), &BTreeMap::new()), json!([]));
    }

    #[test]
    fn containers_of_every_kind_are_found() {
        let pods = json!({"containers": [{"image": "a"}, {"image": "b"}], "initContainers": [{"image": "c"}]});
        for (api_version, kind, object, prefix) in [
            ("v1", "Pod", json!({"spec": pods}), "/spec"),
            ("apps/v1", "Deployment", json!({"spec": {"template": {"spec": pods}}}), "/spec/template/spec"),
            (
                "batch/v1",
                "CronJob",
                json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": pods}}}}}),
                "/spec/jobTemplate/spec/template/spec",
            ),
        ] {
            let found: Vec<String> = containers(&object, api_version, kind).map(|(pointer, _)| pointer).collect();
            let want = ["containers/0", "containers/1", "initContainers/0"].map(|rest| format!("{prefix}/{rest}"));
            assert_eq!(found, want, "{kind}");
        }
        assert_eq!(containers(&json!({"spec": pods}), "v1", "ConfigMap").count(), 0);
    }

    #[test]
    fn what_is_given_twice_is_found() {
        let duplicates = |container: Value| {
            let pod = json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}, container]}}}});
            duplicates(&pod, "apps/v1", "Deployment")
        };
        let at = |path: &str, called: &str| (format!(".spec.template.spec.containers[1].{path}"), called.to_owned());
        for (container, want) in [
            (
                json!({"env": [{"name": "A"}, {"name": "B"}], "ports": [{"containerPort": 1}, {"containerPort": 2}]}),
                vec![],
            ),
            (json!({"env": [{"name": "A"}, {"name": "B"}, {"name": "A"}]}), vec![at("env[2]", "variable A")]),
            (
                json!({"ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}, {"containerPort": 53, "protocol": "TCP"}]}),
                vec![at("ports[2]", "port 53/TCP")],
            ),
        ] {
            assert_eq!(duplicates(container.clone()), want, "{container}");
        }
    }

    #[test]
    fn the_image_overrider_is_used_where_it_reaches() {
        let deployment = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
        let plain = deployment(json!({"containers": [{"image": "nginx:1"}]}));
        assert!(image_overrider_suffices("apps/v1", "Deployment", &plain));
        assert!(!image_overrider_suffices("apps/v1", "Widget", &plain));
        for (name, spec) in [
            ("a digest", json!({"containers": [{"image": "nginx:1@sha256:00"}]})),
            ("an init container", json!({"containers": [{"image": "a"}], "initContainers": [{"image": "b"}]})),
            ("no image", json!({"containers": [{"name": "a"}]})),
            ("no container", json!({})),
        ] {
            assert!(!image_overrider_suffices("apps/v1", "Deployment", &deployment(spec)), "{name}");
        }
    }
}
