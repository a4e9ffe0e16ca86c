use super::*;

fn entry(manager: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
}

/// A Deployment with the engine's container and what is added to it, by whom.
fn deployment(containers: &Value, spec: Value, managers: &[Value]) -> Value {
    let mut pod = json!({"containers": containers});
    pod.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "status": {"replicas": 1},
        "metadata": {"name": "web", "uid": "u", "resourceVersion": "7", "managedFields": managers},
        "spec": {"template": {"spec": pod}}})
}

fn pod_fields(fields: &Value) -> Value {
    json!({"f:spec": {"f:template": {"f:spec": fields}}})
}

fn ours() -> Value {
    let env = json!({".": {}, "k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}});
    let fields = json!({"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:env": env}}});
    entry(FIELD_MANAGER, &pod_fields(&fields))
}

fn container(changes: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i", "args": ["-v"], "env": [{"name": "A", "value": "1"}]});
    container.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    container
}

#[test]
fn what_others_add_goes_and_what_nobody_set_stays() {
    let wanted = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [container(json!({}))]}}}});
    let added = |fields: Value| entry("kubectl-edit", &pod_fields(&fields));
    let in_container = |fields: Value| added(json!({"f:containers": {"k:{\"name\":\"c\"}": fields}}));
    let two = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
    let side = json!([{"name": "side"}, container(json!({}))]);
    let plain = json!([container(json!({}))]);
    // What is there, who set it, and what stays of it; nothing when that is what is there.
    type Row = (&'static str, Value, Value, Vec<Value>, Option<(Value, Value)>);
    let rows: Vec<Row> = vec![
        ("as wanted", plain.clone(), json!({}), vec![], None),
        (
            "a variable",
            json!([container(json!({"env": two}))]),
            json!({}),
            vec![in_container(json!({"f:env": {"k:{\"name\":\"B\"}": {".": {}, "f:name": {}, "f:value": {}}}}))],
            Some((plain.clone(), json!({}))),
        ),
        (
            "an argument",
            json!([container(json!({"args": ["-v", "-x"]}))]),
            json!({}),
            vec![in_container(json!({"f:args": {}}))],
            Some((plain.clone(), json!({}))),
        ),
        (
            "a port where there was none",
            json!([container(json!({"ports": [{"containerPort": 80, "protocol": "TCP"}]}))]),
            json!({}),
            vec![in_container(
                json!({"f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}}}}),
            )],
            Some((plain.clone(), json!({}))),
        ),
        (
            "a container",
            side.clone(),
            json!({}),
            vec![added(json!({"f:containers": {"k:{\"name\":\"side\"}": {".": {}, "f:name": {}}}}))],
            Some((plain.clone(), json!({}))),
        ),
        (
            "a field",
            plain.clone(),
            json!({"hostNetwork": true, "dnsPolicy": "ClusterFirst"}),
            vec![added(json!({"f:hostNetwork": {}}))],
            Some((plain.clone(), json!({"dnsPolicy": "ClusterFirst"}))),
        ),
        (
            "one of a webhook's fields, changed",
            plain.clone(),
            json!({"securityContext": {"fsGroup": 1, "runAsUser": 2}}),
            vec![added(json!({"f:securityContext": {"f:runAsUser": {}}}))],
            Some((plain.clone(), json!({"securityContext": {"fsGroup": 1}}))),
        ),
        ("defaults", json!([container(json!({"tty": false}))]), json!({"dnsPolicy": "ClusterFirst"}), vec![], None),
        ("a webhook's container", side, json!({}), vec![], None),
        (
            "replicas, by an autoscaler",
            plain.clone(),
            json!({"x": 1}),
            vec![{
                let mut scale = added(json!({"f:x": {}}));
                scale["subresource"] = json!("scale");
                scale
            }],
            None,
        ),
    ];
    for (name, containers, spec, others, expected) in rows {
        let managers: Vec<Value> = [ours()].into_iter().chain(others).collect();
        let live = deployment(&containers, spec.clone(), &managers);
        let update = update(&live, &wanted);
        assert_eq!(update.differs, expected.is_some(), "{name}: {}", update.object);
        let (containers, spec) = expected.unwrap_or((containers, spec));
        let mut result = deployment(&containers, spec, &[]);
        result["metadata"] =
            json!({"name": "web", "uid": "u", "resourceVersion": "7", "labels": {}, "annotations": {}});
        assert_eq!(update.object, result, "{name}");
        let mut written = update.object;
        written["metadata"]["managedFields"] = json!([ours()]);
        assert!(!super::update(&written, &wanted).differs, "{name} does not settle");
    }
}

#[test]
fn a_list_with_an_item_twice_is_taken_as_it_is() {
    let twice = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    let mut wanted = deployment(&json!([container(json!({"env": twice}))]), json!({}), &[]);
    wanted["metadata"] = json!({"name": "web"});
    let live = deployment(&json!([container(json!({}))]), json!({}), &[ours()]);
    let first = update(&live, &wanted);
    assert!(first.differs);
    assert_eq!(first.object.pointer("/spec/template/spec/containers/0/env"), Some(&twice));
    let live = deployment(&json!([container(json!({"env": twice}))]), json!({}), &[ours()]);
    assert!(!update(&live, &wanted).differs);
}

#[test]
fn what_the_template_lost_goes() {
    let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "b": "2", "c": "3"},
        "metadata": {"resourceVersion": "7", "finalizers": ["f"], "ownerReferences": [{"uid": "o"}],
            "labels": {"ours": "1", "lost": "1", "theirs": "1"}, "annotations": {ADOPTED_ANNOTATION: "true", "theirs": "1"},
            "managedFields": [
                {"manager": FIELD_MANAGER, "operation": "Update", "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}},
                    "f:metadata": {"f:labels": {"f:ours": {}, "f:lost": {}},
                        "f:annotations": {format!("f:{ADOPTED_ANNOTATION}"): {}}}}},
                {"manager": "kubectl", "operation": "Update", "apiVersion": "v1beta1", "fieldsV1": {"f:data": {"f:c": {}}}}]}});
    let wanted =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}, "metadata": {"labels": {"ours": "1"}}});
    assert_eq!(
        update(&live, &wanted).object,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "c": "3"},
            "metadata": {"resourceVersion": "7", "finalizers": ["f"], "ownerReferences": [{"uid": "o"}],
                "labels": {"ours": "1", "theirs": "1"}, "annotations": {ADOPTED_ANNOTATION: "true", "theirs": "1"}}}),
        "fields in terms of another version are nobody's"
    );
}

#[test]
fn who_set_what() {
    let object = |entry: Value| json!({"apiVersion": "apps/v1", "metadata": {"managedFields": [entry]}});
    for (name, changes, expected) in [
        ("a field", json!({}), true),
        ("the engine", json!({"manager": FIELD_MANAGER}), false),
        ("a controller's status", json!({"subresource": "status"}), false),
        ("metadata", json!({"fieldsV1": {"f:metadata": {}, "f:status": {}}}), false),
        ("another version", json!({"apiVersion": "apps/v2"}), false),
    ] {
        let mut entry = entry("kubectl", &json!({"f:spec": {"f:x": {}}}));
        entry.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        assert_eq!(has_foreign_fields(&object(entry)), expected, "{name}");
    }
}

#[test]
fn an_apply_becomes_an_update() {
    let entry = |manager: &str, operation: &str, fields: Value| json!({"manager": manager, "operation": operation, "fieldsV1": fields});
    let managers = |managers: Value| {
        let live = json!({"metadata": {"resourceVersion": "7", "managedFields": managers}, "data": {}});
        update(&live, &json!({"data": {}})).object["metadata"].get("managedFields").cloned()
    };
    let kubectl = entry("kubectl", "Apply", json!({"f:x": {}}));
    assert_eq!(managers(json!([kubectl, entry(FIELD_MANAGER, "Update", json!({}))])), None);
    assert_eq!(
        managers(json!([
            entry(FIELD_MANAGER, "Apply", json!({"f:spec": {"f:a": {}}})),
            entry(FIELD_MANAGER, "Update", json!({"f:spec": {"f:b": {}}, "f:data": {}})),
            kubectl,
        ])),
        Some(json!([kubectl, entry(FIELD_MANAGER, "Update", json!({"f:spec": {"f:a": {}, "f:b": {}}, "f:data": {}}))]))
    );
}
