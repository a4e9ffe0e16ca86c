use super::*;

fn app(spec: Value) -> MultiCloudApp {
    serde_json::from_value(json!({
        "apiVersion": "airdock.dev/v1alpha1", "kind": "MultiCloudApp",
        "metadata": {"name": "shop", "namespace": "team-a"},
        "spec": spec,
    }))
    .unwrap()
}

fn with_manifests(manifests: Value) -> MultiCloudApp {
    app(json!({"instanceRef": {"name": "fleet"}, "components": [{"name": "web", "manifests": manifests}]}))
}

fn errors(app: &MultiCloudApp, tenancy: Tenancy) -> Vec<String> {
    validate(app, tenancy).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn an_app_is_brought_into_form() {
    let application = validate(
        &with_manifests(json!([{
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "labels": {"tier": "front"}, "uid": "1", "resourceVersion": "2", "generation": 3,
                "creationTimestamp": null, "managedFields": [],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
            },
            "spec": {"replicas": 2, "paused": null, "template": {"spec": {"containers": [{"name": "c", "tty": null}]}}},
            "status": {"replicas": 2},
        }])),
        Tenancy::Owner,
    )
    .unwrap();
    assert_eq!((application.name.as_str(), application.namespace.as_str()), ("shop", "team-a"));
    let want = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "team-a", "annotations": {"a": "b"},
            "labels": {
                "tier": "front", "airdock.dev/app": "shop", "airdock.dev/app-namespace": "team-a",
                "airdock.dev/component": "web", "app.kubernetes.io/managed-by": "airdock",
            },
        },
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c"}]}}},
    });
    assert_eq!(application.templates[0].object, want);
}

#[test]
fn bad_manifests_are_named() {
    let deep = |metadata: Value| json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}]);
    let kind =
        |api_version: &str, kind: &str| json!([{"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}]);
    let at = "spec.components[0].manifests[0]";
    for (manifests, want) in [
        (json!([{"kind": "ConfigMap", "metadata": {"name": "x"}}]), ".apiVersion: missing"),
        (json!([{"apiVersion": "v1", "metadata": {"name": "x"}}]), ".kind: missing"),
        (deep(json!({})), ".metadata.name: missing"),
        (deep(json!({"name": "a/b"})), ".metadata.name: not a name that Kubernetes accepts"),
        (
            deep(json!({"generateName": "x-"})),
            ".metadata.generateName: not supported; give metadata.name, so that the object is always the same",
        ),
        (
            deep(json!({"name": "x", "namespace": "kube-system"})),
            ".metadata.namespace: kube-system is not the app's namespace team-a; remove it, or set spec.namespace",
        ),
        (
            deep(json!({"name": "x", "finalizers": ["f"]})),
            ".metadata.finalizers: means nothing outside the cluster it comes from; remove it",
        ),
        (deep(json!({"name": "x", "labels": {"a": 1}})), ".metadata.labels[a]: must be a string; put it in quotes"),
        (deep(json!({"name": "x", "labels": ["a"]})), ".metadata.labels: must be a map of strings"),
        (
            deep(json!({"name": "x", "labels": {"airdock.dev/app": "other"}})),
            ".metadata.labels[airdock.dev/app]: belongs to Airdock or Karmada; remove it",
        ),
        (
            deep(json!({"name": "x", "annotations": {"propagationpolicy.karmada.io/name": "p"}})),
            ".metadata.annotations[propagationpolicy.karmada.io/name]: belongs to Airdock or Karmada; remove it",
        ),
        (kind("v1", "Namespace"), ".kind: Namespace is cluster-scoped; an app holds namespaced objects only"),
        (
            kind("rbac.authorization.k8s.io/v1", "ClusterRole"),
            ".kind: ClusterRole is cluster-scoped; an app holds namespaced objects only",
        ),
        (
            kind("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
            ".kind: MutatingWebhookConfiguration is cluster-scoped; an app holds namespaced objects only",
        ),
        (
            kind("policy.karmada.io/v1alpha1", "PropagationPolicy"),
            ".kind: PropagationPolicy of policy.karmada.io steers the fleet itself and cannot be part of an app",
        ),
        (
            kind("airdock.dev/v1alpha1", "MultiCloudApp"),
            ".kind: MultiCloudApp of airdock.dev steers the fleet itself and cannot be part of an app",
        ),
        (kind("v1", "List"), ".kind: a List is not an object; give its items one by one"),
        (kind("v1", "Event"), ".kind: Event is made by the clusters themselves and cannot be part of an app"),
    ] {
        assert_eq!(errors(&with_manifests(manifests), Tenancy::Owner), [format!("{at}{want}")]);
    }
}

#[test]
fn what_looks_odd_but_is_fine_passes() {
    for manifests in [
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "team-a"}}]),
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "x", "annotations": {"work.karmada.io/conflict-resolution": "overwrite"}}}]),
        json!([{"apiVersion": "notkarmada.io/v1", "kind": "Widget", "metadata": {
            "name": "x", "labels": {"notairdock.dev/app": "y"}}}]),
        json!([
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}},
            {"apiVersion": "serving.example/v1", "kind": "Service", "metadata": {"name": "x"}},
        ]),
    ] {
        assert_eq!(errors(&with_manifests(manifests), Tenancy::Owner), [""; 0]);
    }
}

#[test]
fn an_object_is_given_once() {
    let twice = json!([
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}},
        {"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "x"}},
    ]);
    let want = "spec.components[0].manifests[1]: Deployment x is given twice; keep one of them";
    assert_eq!(errors(&with_manifests(twice), Tenancy::Owner), [want]);
}

#[test]
fn an_app_has_a_size() {
    let big = json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"k": "x".repeat(MANIFESTS_LIMIT)}}]);
    let errors = errors(&with_manifests(big), Tenancy::Owner);
    assert!(errors[0].starts_with("spec.components: the manifests are 10486") && errors.len() == 1, "{errors:?}");
}

#[test]
fn tenants_stay_in_their_namespace() {
    let manifests = json!([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}]);
    let mut app = with_manifests(manifests);
    assert_eq!(errors(&app, Tenancy::CrossNamespace), [""; 0]);
    app.spec.namespace = Some("team-b".into());
    assert_eq!(errors(&app, Tenancy::Owner), [""; 0]);
    let tenant = errors(&app, Tenancy::CrossNamespace);
    assert!(tenant.len() == 1 && tenant[0].starts_with("spec.namespace: team-b is not this object's namespace team-a"));
    app.spec.namespace = Some("kube-system".into());
    let system = errors(&app, Tenancy::Owner);
    assert_eq!(system, ["spec.namespace: kube-system belongs to the system and is never propagated; choose another"]);
}

#[test]
fn tenants_hand_out_no_rights() {
    let binding = |role: &str, subjects: Value| {
        json!([{
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "x"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": "r"}, "subjects": subjects,
        }])
    };
    let own = json!([{"kind": "ServiceAccount", "name": "s"}, {"kind": "ServiceAccount", "name": "t", "namespace": "team-a"}]);
    let user = json!([{"kind": "User", "name": "eve"}]);
    let other = json!([{"kind": "ServiceAccount", "name": "s", "namespace": "team-b"}]);
    for (role, subjects, allowed) in [
        ("Role", &own, true),
        ("ClusterRole", &own, false),
        ("Role", &user, false),
        ("Role", &other, false),
        ("Role", &json!(null), true),
    ] {
        let app = with_manifests(binding(role, subjects.clone()));
        assert_eq!(errors(&app, Tenancy::CrossNamespace).is_empty(), allowed, "{role} {subjects}");
        assert!(errors(&app, Tenancy::Owner).is_empty());
    }
    // What is harmless in the manifest must not become something else in a member.
    let mut app = with_manifests(binding("Role", own));
    let patch = json!([{"patches": [{"kind": "RoleBinding", "name": "x", "operations": [
        {"op": "replace", "path": "/roleRef/kind", "value": "ClusterRole"}]}]}]);
    app.spec.differences = serde_json::from_value(patch).unwrap();
    let told = errors(&app, Tenancy::CrossNamespace);
    assert!(told.len() == 1 && told[0].starts_with("spec.differences[0].patches[0].kind: a RoleBinding"), "{told:?}");
    assert!(errors(&app, Tenancy::Owner).is_empty());
}

fn with_differences(mode: &str, differences: Value) -> MultiCloudApp {
    app(json!({
        "instanceRef": {"name": "fleet"},
        "components": [
            {"name": "web", "manifests": [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}]},
            {"name": "agent", "manifests": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}}]},
            {"name": "config", "manifests": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}}]},
        ],
        "placement": {"replicas": {"mode": mode}},
        "differences": differences,
    }))
}

#[test]
fn differences_that_change_nothing_are_named() {
    let patch = |kind: &str, name: &str, path: &str| json!([{"patches": [{"kind": kind, "name": name, "operations": [{"op": "add", "path": path, "value": 1}]}]}]);
    let at = "spec.differences[0]";
    for (mode, differences, want) in [
        ("Duplicated", json!([{"replicas": 2}]), ""),
        (
            "Weighted",
            json!([{"replicas": 2}]),
            ".replicas: cannot be set where placement.replicas.mode is Weighted, which divides the replicas",
        ),
        (
            "Duplicated",
            json!([{"components": ["agent"], "replicas": 2}]),
            ".replicas: none of the components has a workload with replicas; remove it",
        ),
        (
            "Duplicated",
            json!([{"components": ["config"], "imageRegistry": "r"}]),
            ".imageRegistry: none of the components has a workload; remove it",
        ),
        (
            "Duplicated",
            json!([{"components": ["config"], "env": {"A": "b"}}]),
            ".env: none of the components has a workload; remove it",
        ),
        ("Duplicated", json!([{"components": ["nope"], "replicas": 1}]), ".components: there is no component nope"),
        ("Duplicated", patch("ConfigMap", "web", "/data/a"), ""),
        (
            "Duplicated",
            patch("ConfigMap", "other", "/data/a"),
            ".patches[0]: there is no ConfigMap other in the components that it is for",
        ),
        (
            "Duplicated",
            patch("ConfigMap", "web", "/metadata/namespace"),
            ".patches[0].operations[0].path: /metadata/namespace: would make it another object; change single labels, annotations or what is below spec",
        ),
        (
            "Duplicated",
            patch("ConfigMap", "web", "/metadata/finalizers"),
            ".patches[0].operations[0].path: /metadata/finalizers: would make it another object; change single labels, annotations or what is below spec",
        ),
        ("Duplicated", patch("ConfigMap", "web", "/metadata/annotations/example.com~1a"), ""),
        (
            "Duplicated",
            json!([{"patches": [{"kind": "ConfigMap", "name": "web", "operations": [
                {"op": "add", "path": "/metadata/annotations", "value": {"work.karmada.io/x": "y"}}]}]}]),
            ".patches[0].operations[0].path: /metadata/annotations: belongs to Airdock or Karmada",
        ),
        (
            "Duplicated",
            patch("ConfigMap", "web", "/metadata/labels/airdock.dev~1app"),
            ".patches[0].operations[0].path: /metadata/labels/airdock.dev~1app: belongs to Airdock or Karmada",
        ),
        (
            "Duplicated",
            json!([{"patches": [{"kind": "ConfigMap", "name": "web", "operations": [{"op": "replace", "path": "/data/a"}]}]}]),
            ".patches[0].operations[0].value: missing; add and replace need a value that is not null",
        ),
        (
            "Duplicated",
            json!([{"patches": [{"kind": "ConfigMap", "name": "web", "operations": [{"op": "remove", "path": "/data/a", "value": 1}]}]}]),
            ".patches[0].operations[0].value: must be absent for remove",
        ),
        (
            "Weighted",
            patch("Deployment", "web", "/spec/replicas"),
            ".patches[0].operations[0].path: /spec/replicas: is divided by placement.replicas.mode Weighted",
        ),
    ] {
        let got = errors(&with_differences(mode, differences.clone()), Tenancy::Owner);
        let first = got.first().map(|error| error.strip_prefix(at).unwrap_or(error).to_owned()).unwrap_or_default();
        assert_eq!(first, want, "{differences}");
    }
}

#[test]
fn discovery_has_the_last_word_on_kinds() {
    let application = validate(
        &with_manifests(json!([{"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "x"}}])),
        Tenancy::Owner,
    )
    .unwrap();
    let served = |namespaced| Served::from([(("example.org/v1".to_owned(), "Widget".to_owned()), namespaced)]);
    use super::super::kinds::{check_served, missing_kind};
    use super::super::model::Served;
    assert!(check_served(&application, &served(Some(true))).is_ok());
    assert_eq!(
        check_served(&application, &served(Some(false))).unwrap_err().to_string(),
        "spec.components (Widget x): Widget is cluster-scoped; an app holds namespaced objects only"
    );
    assert_eq!(missing_kind(&application, &served(None)), Some(("example.org/v1", "Widget")));
    assert_eq!(missing_kind(&application, &served(Some(true))), None);
}

#[test]
fn a_variable_is_given_once() {
    let manifests = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {
        "spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}]}}}}]);
    let want = "spec.components[0].manifests[0].spec.template.spec.containers[0].env[1]: variable A is given twice; \
                keep one of them";
    assert_eq!(errors(&with_manifests(manifests), Tenancy::Owner), [want]);
}
