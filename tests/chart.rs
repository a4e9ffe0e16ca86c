//! The operator's Helm chart: what it renders, what it refuses, and that `manifests/kustomize` says the same.
//!
//! Needs `helm` and `kubectl`.

#![allow(clippy::expect_used, clippy::panic)]

mod files;

use std::fs;
use std::path::Path;
use std::process::Output;

use files::{documents, root, tool};
use serde_json::Value;

fn helm(settings: &[&str]) -> Output {
    let mut helm = tool("helm");
    helm.args(["template", "airdock", "manifests/chart", "--namespace", "airdock-system"]);
    for setting in settings {
        helm.args(["--set-json", setting]);
    }
    helm.output().expect("run helm")
}

fn rendered(settings: &[&str]) -> String {
    let output = helm(settings);
    assert!(output.status.success(), "{settings:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn objects(settings: &[&str]) -> Vec<Value> {
    documents(&rendered(settings))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

fn the_deployment(objects: &[Value]) -> &Value {
    let found = of_kind(objects, "Deployment");
    assert_eq!(found.len(), 1);
    found[0]
}

const EVERYTHING: &[&str] = &[
    "replicas=2",
    "networkPolicy.enabled=true",
    "metrics.serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "grafana.dashboards.enabled=true",
];

#[test]
fn it_lints() {
    let output = tool("helm").args(["lint", "--strict", "manifests/chart"]).output().expect("run helm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn no_role_has_a_wildcard_or_may_change_roles() {
    let objects = objects(EVERYTHING);
    let roles: Vec<_> = [of_kind(&objects, "ClusterRole"), of_kind(&objects, "Role")].concat();
    assert!(roles.len() >= 5, "expected the operator's and the users' roles, found {}", roles.len());
    for role in roles {
        for rule in role["rules"].as_array().expect("rules") {
            for list in ["apiGroups", "resources", "verbs", "resourceNames", "nonResourceURLs"] {
                for entry in rule[list].as_array().into_iter().flatten() {
                    let entry = entry.as_str().expect("a string");
                    assert!(!entry.contains('*'), "{} has a wildcard: {rule}", role["metadata"]["name"]);
                    assert!(
                        !["escalate", "bind", "impersonate"].contains(&entry),
                        "{} may {entry}: {rule}",
                        role["metadata"]["name"]
                    );
                }
            }
            assert_ne!(rule["apiGroups"][0], "rbac.authorization.k8s.io", "{rule}");
        }
    }
}

#[test]
fn every_rule_of_the_operator_says_why() {
    let text = fs::read_to_string(root().join("manifests/chart/templates/rbac.yaml")).expect("read rbac.yaml");
    let lines: Vec<_> = text.lines().collect();
    for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("- apiGroups:")) {
        // A rule for one name may share the reason of the rule above it.
        let shares = lines[i + 2].contains("resourceNames");
        assert!(shares || lines[i - 1].trim_start().starts_with('#'), "line {} has no reason: {line}", i + 1);
    }
}

#[test]
fn the_operator_meets_the_restricted_pod_security_standard() {
    let objects = objects(EVERYTHING);
    let pod = &the_deployment(&objects)["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for field in ["hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"] {
        assert!(pod[field].is_null(), "{field}");
    }
    let containers = pod["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1);
    let security = &containers[0]["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert!(security["capabilities"]["add"].is_null() && security["privileged"].is_null());
}

#[test]
fn bad_values_are_refused_and_named() {
    let two = ["metrics.serviceMonitor.enabled=true", "metrics.service.enabled=false"];
    refused(&two, "/metrics/service/enabled");
    for (bad, field) in [
        ("replicas=0", "replicas"),
        ("replicas=\"two\"", "replicas"),
        ("nosuchvalue=1", "nosuchvalue"),
        ("image.tag=\"a b\"", "tag"),
        ("image.digest=\"sha256:xyz\"", "digest"),
        ("image.pullPolicy=\"Sometimes\"", "pullPolicy"),
        ("global.imageRegistry=\"http://registry.example\"", "imageRegistry"),
        ("log.format=\"xml\"", "format"),
        ("extraArgs=[\"listen\"]", "extraArgs"),
        ("extraEnv=[{\"name\":\"POD_NAME\",\"value\":\"x\"}]", "extraEnv"),
        ("resources.requests.cpu=\"lots\"", "cpu"),
        ("crds.keep=\"yes\"", "keep"),
        ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable"),
        ("metrics.serviceMonitor.interval=\"often\"", "interval"),
    ] {
        refused(&[bad], field);
    }
}

fn refused(bad: &[&str], field: &str) {
    let output = helm(bad);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{bad:?} was accepted");
    assert!(said.contains(field), "{bad:?}: the message does not name {field}: {said}");
}

#[test]
fn the_image_comes_from_where_it_is_told() {
    let image = |settings: &[&str]| {
        let objects = objects(settings);
        let container = &the_deployment(&objects)["spec"]["template"]["spec"]["containers"][0];
        let image = container["image"].as_str().expect("an image").to_owned();
        let env = container["env"].as_array().expect("env");
        let told = env.iter().find(|e| e["name"] == "AIRDOCK_IMAGE").expect("AIRDOCK_IMAGE");
        assert_eq!(told["value"], image.as_str(), "engines must run the operator's own image");
        image
    };
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    assert_eq!(image(&[]), format!("ghcr.io/airdock-dev/airdock:{version}"));
    assert_eq!(image(&["image.tag=\"v9\""]), "ghcr.io/airdock-dev/airdock:v9");
    assert_eq!(
        image(&["global.imageRegistry=\"mirror.example:5000/hub\""]),
        format!("mirror.example:5000/hub/airdock-dev/airdock:{version}")
    );
    assert_eq!(
        image(&["image.tag=\"v9\"", &format!("image.digest=\"{digest}\"")]),
        format!("ghcr.io/airdock-dev/airdock@{digest}")
    );
}

#[test]
fn one_version_everywhere() {
    let chart: Value =
        serde_saphyr::from_str(&fs::read_to_string(root().join("manifests/chart/Chart.yaml")).expect("read"))
            .expect("YAML");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], concat!("v", env!("CARGO_PKG_VERSION")));
}

#[test]
fn definitions_stay_unless_told_otherwise() {
    let policies = |settings: &[&str]| -> Vec<Value> {
        of_kind(&objects(settings), "CustomResourceDefinition")
            .iter()
            .map(|crd| crd["metadata"]["annotations"]["helm.sh/resource-policy"].clone())
            .collect()
    };
    let wanted = airdock::cli::crds::definitions().len();
    assert_eq!(policies(&[]), vec![Value::from("keep"); wanted]);
    assert_eq!(policies(&["crds.keep=false"]), vec![Value::Null; wanted]);
    assert!(policies(&["crds.enabled=false"]).is_empty());
}

#[test]
fn definitions_arrive_unchanged() {
    let rendered = objects(&[]);
    for crd in airdock::cli::crds::definitions() {
        let crd = serde_json::to_value(crd).expect("serialize");
        let found = of_kind(&rendered, "CustomResourceDefinition")
            .into_iter()
            .find(|o| o["metadata"]["name"] == crd["metadata"]["name"])
            .expect("the definition is in the chart");
        // Helm reads every number as a float; compare them as such.
        assert_eq!(as_floats(&found["spec"]), as_floats(&crd["spec"]), "{}", crd["metadata"]["name"]);
    }
}

fn as_floats(value: &Value) -> Value {
    match value {
        Value::Number(n) => Value::from(n.as_f64()),
        Value::Array(items) => items.iter().map(as_floats).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), as_floats(v))).collect(),
        other => other.clone(),
    }
}

#[test]
fn what_is_optional_is_off_by_default_and_comes_when_asked_for() {
    let optional = ["PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PrometheusRule", "ConfigMap"];
    let without = objects(&[]);
    let with = objects(EVERYTHING);
    for kind in optional {
        assert!(of_kind(&without, kind).is_empty(), "{kind} without being asked for");
        assert_eq!(of_kind(&with, kind).len(), 1, "{kind}");
    }
    let dashboard = of_kind(&with, "ConfigMap")[0]["data"]["airdock.json"].as_str().expect("the dashboard").to_owned();
    let dashboard: Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    assert_eq!(dashboard["uid"], "airdock");
}

#[test]
fn alerts_have_a_place_in_the_operations_guide() {
    let guide = fs::read_to_string(root().join("docs/operations.md")).expect("read docs/operations.md");
    let objects = objects(EVERYTHING);
    let mut seen = 0;
    for rule in of_kind(&objects, "PrometheusRule")[0]["spec"]["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|group| group["rules"].as_array().into_iter().flatten())
    {
        let name = rule["alert"].as_str().expect("an alert");
        let url = rule["annotations"]["runbook_url"].as_str().expect("a runbook");
        assert!(url.ends_with(&format!("docs/operations.md#{}", name.to_lowercase())), "{url}");
        assert!(guide.lines().any(|line| line.starts_with('#') && line.ends_with(&format!(" {name}"))), "no {name}");
        seen += 1;
    }
    assert!(seen >= 5);
}

#[test]
fn kustomize_has_what_helm_renders() {
    let base = root().join("manifests/kustomize/base");
    let wanted = format!(
        "# Made by `make crds` from manifests/chart. Do not edit.\n{}",
        rendered(&[]).lines().filter(|l| !l.trim().is_empty()).map(|l| format!("{l}\n")).collect::<String>()
    );
    let path = base.join("airdock.yaml");
    if std::env::var_os("AIRDOCK_REGENERATE").is_some() {
        fs::write(&path, &wanted).expect("write the base");
    }
    let found = fs::read_to_string(&path).expect("read the base");
    assert!(found == wanted, "{} is out of date; run `make crds` and commit the result", path.display());
}

#[test]
fn kustomize_builds_its_base_and_overlays() {
    let build = |folder: &str| {
        let output = tool("kubectl").args(["kustomize", folder]).output().expect("run kubectl");
        assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
        documents(&String::from_utf8(output.stdout).expect("UTF-8"))
    };
    let base = build("manifests/kustomize/base");
    assert_eq!(of_kind(&base, "Namespace").len(), 1);
    assert_eq!(the_deployment(&base)["spec"]["replicas"], 1);
    let overlays = fs::read_dir(root().join("manifests/kustomize/overlays")).expect("read overlays");
    for overlay in overlays {
        let overlay = overlay.expect("entry").file_name().into_string().expect("UTF-8");
        let objects = build(&format!("manifests/kustomize/overlays/{overlay}"));
        assert!(objects.len() >= base.len(), "{overlay}");
        if overlay == "ha" {
            assert_eq!(the_deployment(&objects)["spec"]["replicas"], 2);
            assert_eq!(of_kind(&objects, "PodDisruptionBudget").len(), 1);
        }
    }
}

/// The chart as people get it: packed, with everything it needs inside.
#[test]
fn the_package_is_complete() {
    let folder = root().join("target/chart-package");
    fs::create_dir_all(&folder).expect("create the folder");
    let output =
        tool("helm").args(["package", "manifests/chart", "--destination"]).arg(&folder).output().expect("run helm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = folder.join(concat!("airdock-", env!("CARGO_PKG_VERSION"), ".tgz"));
    let from_package = template(&package);
    assert_eq!(from_package, template(Path::new("manifests/chart")));
}

fn template(chart: &Path) -> Vec<Value> {
    let output = tool("helm").args(["template", "airdock"]).arg(chart).output().expect("run helm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).expect("UTF-8"))
}
