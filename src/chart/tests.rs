use std::collections::BTreeMap;

use serde_json::json;

use super::*;

pub(crate) fn instance(profile: &str) -> KarmadaInstance {
    let mut value = json!({
        "apiVersion": "airdock.dev/v1alpha1",
        "kind": "KarmadaInstance",
        "metadata": { "name": "east", "namespace": "fleet", "uid": "7d7c1a2e-0000-4000-8000-000000000001" },
        "spec": { "profile": profile },
    });
    if profile == "Full" {
        value["spec"]["crds"] = json!({ "source": { "configMapRef": { "name": "karmada-crds" } } });
    }
    serde_json::from_value(value).unwrap()
}

fn digests() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn rendered(instance: &KarmadaInstance) -> Result<Vec<Manifest>, ChartError> {
    let secret_digests = digests();
    let inputs = Inputs {
        instance,
        engine_image: "airdock:test",
        secret_digests: &secret_digests,
        ca: "CA",
        etcd_addresses: &[],
    };
    let mut manifests = host(&inputs)?;
    manifests.append(&mut plane(&inputs)?);
    Ok(manifests)
}

fn everything() -> KarmadaInstance {
    let mut i = instance("Full");
    for name in ["descheduler", "search", "metrics-adapter"] {
        i.spec.components.entry(name.into()).or_default().enabled = Some(true);
    }
    i.spec.etcd.managed.replicas = 3;
    i.spec.api_server.replicas = 2;
    i.spec.components.entry("webhook".into()).or_default().replicas = Some(2);
    i
}

fn ids(manifests: &[Manifest]) -> Vec<String> {
    manifests.iter().map(Manifest::id).collect()
}

fn arguments(manifests: &[Manifest], name: &str) -> Vec<String> {
    let manifest = manifests.iter().find(|m| m.name() == name && pod_spec(m).is_some()).unwrap();
    pod_spec(manifest).unwrap().containers[0].args.clone().unwrap()
}

#[test]
fn compact_has_these_objects() {
    assert_eq!(
        ids(&rendered(&instance("Compact")).unwrap()),
        [
            "Service east-etcd",
            "Service east-etcd-client",
            "StatefulSet east-etcd",
            "Deployment east-apiserver",
            "Service east-apiserver",
            "Deployment east-kube-controller-manager",
            "Deployment east-engine",
            "Namespace karmada-system",
            "Namespace karmada-cluster",
            "ClusterRole karmada-view",
            "ClusterRole karmada-edit",
            "ValidatingAdmissionPolicy selector-namespaces.airdock.dev",
            "ValidatingAdmissionPolicyBinding selector-namespaces.airdock.dev",
            "ValidatingAdmissionPolicy deletion-protection.airdock.dev",
            "ValidatingAdmissionPolicyBinding deletion-protection.airdock.dev",
            "ValidatingAdmissionPolicy evictions.airdock.dev",
            "ValidatingAdmissionPolicyBinding evictions.airdock.dev",
            "ValidatingAdmissionPolicy permanent-ids.airdock.dev",
            "ValidatingAdmissionPolicyBinding permanent-ids.airdock.dev",
            "ClusterRole airdock:engine",
            "ClusterRoleBinding airdock:engine",
        ]
    );
}

#[test]
fn full_has_what_upstream_has_and_what_registration_needs() {
    let ids = ids(&rendered(&everything()).unwrap());
    for id in [
        "Deployment east-aggregated-apiserver",
        "Service east-aggregated-apiserver",
        "Deployment east-controller-manager",
        "Deployment east-scheduler",
        "Deployment east-webhook",
        "Service east-webhook",
        "PodDisruptionBudget east-webhook",
        "PodDisruptionBudget east-etcd",
        "PodDisruptionBudget east-apiserver",
        "Deployment east-descheduler",
        "Deployment east-search",
        "Deployment east-metrics-adapter",
        "Service karmada-aggregated-apiserver",
        "APIService v1alpha1.cluster.karmada.io",
        "APIService v1alpha1.search.karmada.io",
        "APIService v1beta1.metrics.k8s.io",
        "APIService v1beta2.custom.metrics.k8s.io",
        "MutatingWebhookConfiguration mutating-config",
        "ValidatingWebhookConfiguration validating-config",
        "ConfigMap cluster-info",
        "ClusterRoleBinding system:karmada:agent-bootstrap",
        "ClusterRoleBinding cluster-proxy-admin",
    ] {
        assert!(ids.iter().any(|found| found == id), "{id} is missing from {ids:#?}");
    }
    assert!(!ids.iter().any(|id| id.contains("engine")), "{ids:?}");
    let plain = super::tests::ids(&rendered(&instance("Full")).unwrap());
    assert!(!plain.iter().any(|id| id.contains("search") || id.contains("metrics") || id.contains("Disruption")));
}

/// A misspelt field would be dropped by the typed objects, and nobody would know.
#[test]
fn no_field_of_a_template_is_lost() {
    for instance in [instance("Compact"), everything()] {
        let secret_digests = digests();
        let inputs = Inputs {
            instance: &instance,
            engine_image: "airdock:test",
            secret_digests: &secret_digests,
            ca: "CA",
            etcd_addresses: &["10.0.0.7".to_owned()],
        };
        let values = Values::new(&inputs);
        let mut folders: Vec<(String, Value)> =
            enabled(&instance).map(|c| (c.name().to_owned(), values.of(c))).collect();
        let plane = match instance.spec.profile {
            Profile::Compact => vec!["plane/compact"],
            Profile::Full => vec!["plane/full", "plane/search", "plane/metrics-adapter"],
        };
        folders.extend(plane.into_iter().chain(["plane/common"]).map(|f| (f.to_owned(), values.plane())));
        for (folder, values) in folders {
            for file in files(TEMPLATES.get_dir(&folder).unwrap()) {
                let template = file.path().to_str().unwrap();
                for document in render_template(template, &values).unwrap() {
                    let typed = Manifest::from_value(document.clone()).unwrap().to_value().unwrap();
                    assert!(
                        crate::machinery::contains::contains(&typed, &document),
                        "{template} has a field that its kind does not:\n{document:#}\n{typed:#}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_workload_is_restricted_and_selects_only_its_own() {
    for instance in [instance("Compact"), everything()] {
        let manifests = rendered(&instance).unwrap();
        for manifest in manifests.iter().filter(|m| pod_spec(m).is_some()) {
            let spec = pod_spec(manifest).unwrap();
            let pod = spec.security_context.as_ref().unwrap();
            assert_eq!(pod.run_as_non_root, Some(true));
            assert_eq!(pod.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
            assert_eq!(spec.automount_service_account_token, Some(false));
            let container = &spec.containers[0];
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(security.read_only_root_filesystem, Some(true));
            assert_eq!(security.capabilities.as_ref().unwrap().drop.as_deref(), Some(&["ALL".to_owned()][..]));
            assert!(container.readiness_probe.is_some() && container.liveness_probe.is_some());
            let selector = manifest.to_value().unwrap().pointer("/spec/selector/matchLabels").unwrap().clone();
            assert_eq!(selector["app.kubernetes.io/instance"], "east");
            assert_eq!(selector["app.kubernetes.io/component"], container.name.as_str());
            assert_eq!(manifest.label(crate::api::INSTANCE_LABEL), Some("east"));
        }
    }
}

#[test]
fn settings_reach_the_pods() {
    let mut i = everything();
    i.spec.images.pull_secrets = vec![crate::api::common::LocalRef { name: "pull".into() }];
    let scheduler = i.spec.components.entry("scheduler".into()).or_default();
    scheduler.extra_args.insert("v".into(), "4".into());
    scheduler.node_selector.insert("disk".into(), "fast".into());
    scheduler.priority_class_name = Some("high".into());
    scheduler.resources = Some(serde_json::from_value(json!({ "limits": { "cpu": "1" } })).unwrap());
    scheduler.tolerations = serde_json::from_value(json!([{ "key": "k", "operator": "Exists" }])).unwrap();
    i.spec.etcd.managed.storage.storage_class_name = Some("ssd".into());
    let manifests = rendered(&i).unwrap();
    let pods = |name: &str| pod_spec(manifests.iter().find(|m| m.name() == name && pod_spec(m).is_some()).unwrap());
    let spec = pods("east-scheduler").unwrap();
    assert_eq!(spec.image_pull_secrets.as_ref().unwrap()[0].name, "pull");
    assert_eq!(spec.priority_class_name.as_deref(), Some("high"));
    assert_eq!(spec.node_selector.as_ref().unwrap()["disk"], "fast");
    assert_eq!(spec.tolerations.as_ref().unwrap()[0].key.as_deref(), Some("k"));
    assert_eq!(spec.containers[0].resources.as_ref().unwrap().limits.as_ref().unwrap()["cpu"].0, "1");
    assert!(arguments(&manifests, "east-scheduler").contains(&"--v=4".to_owned()));
    assert!(arguments(&manifests, "east-scheduler").contains(&"--enable-scheduler-estimator=true".to_owned()));
    let Some(Manifest::StatefulSet(etcd)) = manifests.iter().find(|m| matches!(m, Manifest::StatefulSet(_))) else {
        panic!("no StatefulSet")
    };
    let claim = &etcd.spec.as_ref().unwrap().volume_claim_templates.as_ref().unwrap()[0];
    assert_eq!(claim.spec.as_ref().unwrap().storage_class_name.as_deref(), Some("ssd"));
    let initial = "--initial-cluster=east-etcd-0=https://east-etcd-0.east-etcd.fleet.svc.cluster.local:2380,\
                   east-etcd-1=https://east-etcd-1.east-etcd.fleet.svc.cluster.local:2380,\
                   east-etcd-2=https://east-etcd-2.east-etcd.fleet.svc.cluster.local:2380";
    assert!(arguments(&manifests, "east-etcd").contains(&initial.to_owned()));
}

#[test]
fn flags_that_airdock_sets_are_refused() {
    let mut i = instance("Full");
    i.spec.components.entry("scheduler".into()).or_default().extra_args.insert("kubeconfig".into(), "/x".into());
    let message = rendered(&i).unwrap_err().to_string();
    assert!(
        message.contains("spec.components.scheduler.extraArgs.kubeconfig") && message.contains("\"/x\""),
        "{message}"
    );
    let mut i = instance("Compact");
    i.spec.api_server.extra_args.insert("etcd-servers".into(), "http://evil".into());
    let message = rendered(&i).unwrap_err().to_string();
    assert!(message.contains("spec.apiServer.extraArgs.etcd-servers"), "{message}");
}

/// DNS may still answer with the address of an earlier Service of the same name.
#[test]
fn clients_of_etcd_are_told_its_address() {
    let i = everything();
    let secret_digests = digests();
    let addresses = ["10.0.0.7".to_owned(), "fd00::7".to_owned()];
    let inputs = Inputs {
        instance: &i,
        engine_image: "a:1",
        secret_digests: &secret_digests,
        ca: "CA",
        etcd_addresses: &addresses,
    };
    let manifests = host(&inputs).unwrap();
    assert!(
        arguments(&manifests, "east-apiserver")
            .contains(&"--etcd-servers=https://east-etcd-client.fleet.svc:2379".to_owned())
    );
    let told = manifests.iter().filter_map(|manifest| {
        let aliases = pod_spec(manifest)?.host_aliases.as_ref()?;
        let entry = |alias: &k8s_openapi::api::core::v1::HostAlias| {
            format!("{} {}", alias.ip, alias.hostnames.clone().unwrap_or_default().join(" "))
        };
        Some((manifest.id(), aliases.iter().map(entry).collect::<Vec<_>>()))
    });
    let told: BTreeMap<String, Vec<String>> = told.collect();
    let clients: Vec<&str> = told.keys().map(String::as_str).collect();
    assert_eq!(
        clients,
        ["Deployment east-aggregated-apiserver", "Deployment east-apiserver", "Deployment east-search"]
    );
    for entries in told.values() {
        assert_eq!(entries, &["10.0.0.7 east-etcd-client.fleet.svc", "fd00::7 east-etcd-client.fleet.svc"]);
    }
}

#[test]
fn a_changed_secret_or_a_removed_field_shows() {
    let i = instance("Compact");
    let (none, some) = (digests(), BTreeMap::from([("east-apiserver".to_owned(), "x".to_owned())]));
    let render = |digests| {
        let inputs =
            Inputs { instance: &i, engine_image: "a:1", secret_digests: digests, ca: "CA", etcd_addresses: &[] };
        host(&inputs).unwrap()
    };
    let changed: Vec<String> =
        render(&none).iter().zip(render(&some).iter()).filter(|(a, b)| a != b).map(|(a, _)| a.id()).collect();
    assert_eq!(changed, ["Deployment east-apiserver"]);
    let mut with_selector = i.clone();
    with_selector.spec.components.entry("engine".into()).or_default().node_selector.insert("a".into(), "b".into());
    let annotation = |instance: &KarmadaInstance| {
        let manifests = rendered(instance).unwrap();
        let engine = manifests.iter().find(|m| m.name() == "east-engine").unwrap();
        engine.metadata().annotations.as_ref().unwrap()[RENDERED_ANNOTATION].clone()
    };
    assert_ne!(annotation(&i), annotation(&with_selector));
    assert_eq!(annotation(&i), annotation(&instance("Compact")));
}

/// Whatever a user writes into a string stays that string.
#[test]
fn strings_never_become_structure() {
    for evil in [
        "{{ namespace }}",
        "{% for x in y %}",
        "a\nb: c",
        "x\n---\napiVersion: v1\nkind: Secret",
        "\"}, {\"kind\": \"Secret",
        "'; - --anonymous-auth=true",
        "# comment",
        "&a *a !!binary",
        "\u{2028}\u{85}<>&'\u{7f}",
        "Größe 🚢",
        "- x",
        "null",
        "~",
        "0x10",
        "yes",
    ] {
        let mut i = everything();
        i.spec.networking.dns_domain = evil.into();
        i.spec.images.registry = Some(evil.into());
        i.spec.images.pull_secrets = vec![crate::api::common::LocalRef { name: evil.into() }];
        i.spec.api_server.service.annotations = BTreeMap::from([(evil.to_owned(), evil.to_owned())]);
        i.spec.api_server.extra_args.insert("v".into(), evil.into());
        i.spec.etcd.managed.storage.storage_class_name = Some(evil.into());
        i.spec.etcd.managed.storage.size = evil.into();
        let webhook = i.spec.components.entry("webhook".into()).or_default();
        webhook.extra_args.insert("v".into(), evil.into());
        webhook.node_selector = BTreeMap::from([(evil.to_owned(), evil.to_owned())]);
        webhook.priority_class_name = Some(evil.into());
        let manifests = rendered(&i).unwrap();
        assert_eq!(ids(&manifests), ids(&rendered(&everything()).unwrap()), "{evil:?}");
        let webhook = manifests.iter().find(|m| m.name() == "east-webhook" && pod_spec(m).is_some()).unwrap();
        let spec = pod_spec(webhook).unwrap();
        assert_eq!(spec.containers[0].args.as_ref().unwrap().last().unwrap(), &format!("--v={evil}"));
        assert_eq!(spec.containers[0].image.as_ref().unwrap(), &format!("{evil}/karmada-webhook:{KARMADA_VERSION}"));
        assert_eq!(spec.priority_class_name.as_deref(), Some(evil));
        assert_eq!(spec.node_selector.as_ref().unwrap(), &BTreeMap::from([(evil.to_owned(), evil.to_owned())]));
        assert_eq!(spec.image_pull_secrets.as_ref().unwrap()[0].name, evil);
        let Some(Manifest::Service(service)) = manifests.iter().find(|m| m.id() == "Service east-apiserver") else {
            panic!("no Service")
        };
        assert_eq!(service.metadata.annotations.as_ref().unwrap()[evil], evil);
    }
}
