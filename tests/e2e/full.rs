//! Profile Full with upstream's own binaries, where `KARMADA_BIN` names them.

use airdock::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;

use crate::{fleet, lab};

#[tokio::test]
async fn upstreams_components_install_join_and_propagate() {
    let _lab = lab::shared().await;
    let Some(folder) = std::env::var_os("KARMADA_BIN") else {
        println!("SKIPPED: profile Full was not tested, since KARMADA_BIN does not name upstream's binaries");
        return;
    };
    let sha256 = fleet::bundle_sha256().unwrap();
    let host = lab::host().await;
    let namespace = "e2e-full";
    lab::namespace(&host, namespace).await;
    lab::forget_bundle(namespace);
    let instances: Api<KarmadaInstance> = Api::namespaced(host.clone(), namespace);

    // A wrong checksum is named; nothing of the bundle is used.
    lab::apply(&fleet::full_manifest(namespace, &fleet::served_bundle(&"0".repeat(64))));
    lab::until_condition(&instances, "full", "Stalled", "True", "sha256", 120).await;
    // From a ConfigMap it installs; the same from the URL changes nothing.
    let file = std::path::Path::new(&folder).join("crds.tar.gz");
    let (ok, text) = lab::kubectl(&[
        "-n",
        namespace,
        "create",
        "configmap",
        "bundle",
        &format!("--from-file=crds.tar.gz={}", file.display()),
    ]);
    assert!(ok, "{text}");
    lab::apply(&fleet::full_manifest(namespace, "configMapRef: {name: bundle}"));
    lab::until_ready(&instances, "full", 240).await;
    lab::apply(&fleet::full_manifest(namespace, &fleet::served_bundle(&sha256)));
    let instance = lab::until_ready(&instances, "full", 240).await;
    assert_eq!(instance.status.unwrap().version, Some(fleet::karmada_version()));

    fleet::join(&host, namespace, "full", "us", "us-east", "borealis").await;
    let members: Api<MemberClusterJoin> = Api::namespaced(host.clone(), namespace);
    lab::until_ready(&members, "us", 120).await;

    // An upstream PropagationPolicy, as anybody would write it.
    let plane = lab::folder().join("instances").join(format!("{namespace}.full.kubeconfig"));
    let (ok, text) = lab::kubectl_with(
        &plane,
        &["apply", "-f", "-"],
        Some(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: upstream}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: upstream}\ndata: {a: b}\n---\n\
             apiVersion: policy.karmada.io/v1alpha1\nkind: PropagationPolicy\nmetadata: {name: settings, namespace: upstream}\n\
             spec:\n  resourceSelectors: [{apiVersion: v1, kind: ConfigMap, name: settings}]\n  \
             placement: {clusterAffinity: {clusterNames: [us]}}\n",
        ),
    );
    assert!(ok, "{text}");
    let maps: Api<ConfigMap> = Api::namespaced(lab::member("us").await, "upstream");
    lab::eventually("upstream propagates", 60, async || maps.get_opt("settings").await.unwrap()).await;

    // Our own application, on upstream's components.
    lab::apply(&format!(
        "apiVersion: airdock.dev/v1alpha1\nkind: MultiCloudApp\nmetadata: {{name: app, namespace: {namespace}}}\n\
         spec:\n  instanceRef: {{name: full}}\n  namespace: full-app\n  components:\n  - name: a\n    manifests:\n    \
         - {{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}, data: {{a: b}}}}\n  \
         differences: [{{match: {{regions: [us-east]}}, patches: [{{kind: ConfigMap, name: x, operations: [{{op: replace, path: /data/a, value: c}}]}}]}}]\n"
    ));
    let apps: Api<MultiCloudApp> = Api::namespaced(host.clone(), namespace);
    lab::until_ready(&apps, "app", 90).await;
    let maps: Api<ConfigMap> = Api::namespaced(lab::member("us").await, "full-app");
    assert_eq!(maps.get("x").await.unwrap().data.unwrap()["a"], "c");
    lab::delete(&apps, "app", 90).await;
    lab::delete(&members, "us", 120).await;
    lab::delete(&instances, "full", 120).await;
}
