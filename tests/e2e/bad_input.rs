//! Specs that cannot work: refused at admission or named in a condition, and recovered from.

use airdock::api::KarmadaInstance;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};

use crate::lab;

#[tokio::test]
async fn admission_names_field_value_and_remedy() {
    let _lab = lab::shared().await;
    for (manifest, words) in [
        ("kind: KarmadaInstance\nmetadata: {name: x}\nspec: {profile: Full}", "spec.crds: required with profile Full"),
        ("kind: KarmadaInstance\nmetadata: {name: x}\nspec: {etcd: {managed: {replicas: 2}}}", "must be 1, 3 or 5"),
        (
            "kind: KarmadaInstance\nmetadata: {name: x}\nspec: {networking: {serviceCidr: 10.0.0.0/99}}",
            "must be a CIDR",
        ),
        ("kind: KarmadaInstance\nmetadata: {name: x}\nspec: {components: {bogus: {}}}", "unknown component"),
        ("kind: KarmadaInstance\nmetadata: {name: x}\nspec: {version: v1.18.2}", "not used with profile Compact"),
        ("kind: MultiCloudApp\nmetadata: {name: x}\nspec: {instanceRef: {name: i}, components: []}", "at least 1"),
        (
            "kind: PermissionBinding\nmetadata: {name: x}\nspec: {subjects: [{kind: Group, name: 'system:masters'}], role: Admin, scope: {namespaces: [a]}}",
            "belong to Kubernetes",
        ),
        (
            "kind: MemberClusterJoin\nmetadata: {name: x}\nspec: {instanceRef: {name: i}, clusterName: Bad_Name, kubeconfigSecretRef: {name: s}}",
            "clusterName",
        ),
    ] {
        let (ok, text) = lab::kubectl_with(
            &lab::folder().join("host.kubeconfig"),
            &["apply", "-f", "-"],
            Some(&format!("apiVersion: airdock.dev/v1alpha1\n{manifest}\n")),
        );
        assert!(!ok && text.contains(words), "{manifest}\n{text}");
    }
}

#[tokio::test]
async fn a_wrong_image_is_named_and_a_corrected_spec_recovers() {
    let _lab = lab::shared().await;
    let host = lab::host().await;
    let namespace = "e2e-image";
    lab::namespace(&host, namespace).await;
    let instances: Api<KarmadaInstance> = Api::namespaced(host, namespace);
    let wrong = "  images: {overrides: {kube-controller-manager: 'registry.invalid/nothing:v0'}}\n";
    lab::apply(&crate::fleet::manifest(namespace, "picky", wrong));
    lab::until_condition(&instances, "picky", "Ready", "False", "registry.invalid/nothing:v0", 90).await;
    lab::apply(&crate::fleet::manifest(
        namespace,
        "picky",
        "  apiServer: {extraArgs: {etcd-servers: 'https://elsewhere'}}\n",
    ));
    lab::until_condition(&instances, "picky", "Stalled", "True", "etcd-servers", 30).await;
    lab::apply(&crate::fleet::manifest(namespace, "picky", ""));
    lab::until_ready(&instances, "picky", 90).await;
    lab::delete(&instances, "picky", 90).await;
}

#[tokio::test]
async fn a_foreign_object_in_the_way_is_named_and_left_alone() {
    let _lab = lab::shared().await;
    let host = lab::host().await;
    let namespace = "e2e-collision";
    lab::namespace(&host, namespace).await;
    lab::apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: mine-apiserver, namespace: {namespace}}}\nspec: {{ports: [{{port: 80}}]}}\n"
    ));
    let instances: Api<KarmadaInstance> = Api::namespaced(host, namespace);
    lab::apply(&crate::fleet::manifest(namespace, "mine", ""));
    lab::until_condition(&instances, "mine", "Ready", "False", "mine-apiserver", 60).await;
    let (_, text) =
        lab::kubectl(&["-n", namespace, "get", "service", "mine-apiserver", "-o", "jsonpath={.spec.ports[0].port}"]);
    assert_eq!(text, "80");
    let (ok, text) = lab::kubectl(&["-n", namespace, "delete", "service", "mine-apiserver"]);
    assert!(ok, "{text}");
    lab::until_ready(&instances, "mine", 120).await;
    lab::delete(&instances, "mine", 90).await;
}

/// A packed bundle with one entry, whose path leads out of it.
fn escaping_bundle() -> Vec<u8> {
    let body = b"kind: CustomResourceDefinition\n";
    let mut header = tar::Header::new_gnu();
    let path = b"crds/bases/../../../etc/x.yaml";
    // The library's own setter refuses such a path.
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path);
    header.set_mode(0o644);
    header.set_size(body.len() as u64);
    header.set_cksum();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(&mut gzip);
    builder.append(&header, &body[..]).unwrap();
    builder.finish().unwrap();
    drop(builder);
    gzip.finish().unwrap()
}

#[tokio::test]
async fn a_bundle_that_is_missing_or_leads_out_of_its_folder_is_named() {
    let _lab = lab::shared().await;
    let host = lab::host().await;
    let namespace = "e2e-bundle";
    lab::namespace(&host, namespace).await;
    lab::forget_bundle(namespace);
    let instances: Api<KarmadaInstance> = Api::namespaced(host.clone(), namespace);
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: KarmadaInstance\nmetadata: {{name: picky, namespace: {namespace}}}\n\
         spec: {{profile: Full, crds: {{source: {{configMapRef: {{name: bundle}}}}}}}}\n"
    ));
    lab::until_condition(&instances, "picky", "Ready", "False", "create it with the key crds.tar.gz", 90).await;
    let bundle = ConfigMap {
        metadata: ObjectMeta { name: Some("bundle".into()), ..ObjectMeta::default() },
        binary_data: Some([("crds.tar.gz".to_owned(), ByteString(escaping_bundle()))].into()),
        ..ConfigMap::default()
    };
    let maps: Api<ConfigMap> = Api::namespaced(host, namespace);
    let _ = maps.create(&PostParams::default(), &bundle).await.unwrap();
    lab::until_condition(&instances, "picky", "Ready", "False", "leads out of the bundle", 90).await;
    lab::delete(&instances, "picky", 90).await;
}
