//! Instances: installed, repaired, apart from each other, taken down.

use std::time::Instant;

use airdock::api::KarmadaInstance;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret, Service};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::{fleet, lab};

#[tokio::test]
async fn two_instances_of_a_namespace_are_installed_repaired_and_removed_apart() {
    let _lab = lab::shared().await;
    let host = lab::host().await;
    let (namespace, instances) = ("e2e-pair", Api::<KarmadaInstance>::namespaced(lab::host().await, "e2e-pair"));
    lab::namespace(&host, namespace).await;
    let started = Instant::now();
    lab::apply(&(fleet::manifest(namespace, "one", "") + "---\n" + &fleet::manifest(namespace, "two", "")));
    let one = lab::until_ready(&instances, "one", 120).await;
    lab::until_ready(&instances, "two", 120).await;
    println!("two instances Ready after {:?}", started.elapsed());

    let status = one.status.clone().unwrap();
    assert_eq!(status.kubernetes_version.as_deref(), Some("v1.36.3"));
    assert!(status.components.iter().all(|c| c.ready == c.desired && c.desired > 0), "{:?}", status.components);
    assert!(status.certificates.len() >= 8 && status.overview.is_some(), "{status:?}");
    assert_eq!(status.admin_kubeconfig_secret_ref.unwrap().name, "one-admin-kubeconfig");

    // Deleting and editing any owned object is repaired, and the sibling does not notice.
    let deployments: Api<Deployment> = Api::namespaced(host.clone(), namespace);
    let services: Api<Service> = Api::namespaced(host.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(host.clone(), namespace);
    let sibling = deployments.get("two-engine").await.unwrap();
    for name in ["one-engine", "one-kube-controller-manager"] {
        let uid = deployments.get(name).await.unwrap().uid();
        deployments.delete(name, &DeleteParams::default()).await.unwrap();
        lab::eventually(&format!("Deployment {name} is back"), 10, async || {
            deployments.get_opt(name).await.unwrap().filter(|d| d.uid() != uid)
        })
        .await;
    }
    let replicas = json!({"spec": {"replicas": 0}});
    deployments.patch("one-engine", &PatchParams::default(), &Patch::Merge(&replicas)).await.unwrap();
    lab::eventually("edited replicas are set back", 10, async || {
        let spec = deployments.get("one-engine").await.unwrap().spec.unwrap();
        (spec.replicas == Some(1)).then_some(())
    })
    .await;
    services.delete("one-etcd-client", &DeleteParams::default()).await.unwrap();
    lab::eventually("Service is back", 10, async || services.get_opt("one-etcd-client").await.unwrap()).await;
    let before = secrets.get("one-admin-kubeconfig").await.unwrap();
    secrets.delete("one-admin-kubeconfig", &DeleteParams::default()).await.unwrap();
    lab::eventually("kubeconfig is back", 10, async || {
        secrets.get_opt("one-admin-kubeconfig").await.unwrap().filter(|s| s.uid() != before.uid())
    })
    .await;
    lab::until_ready(&instances, "one", 90).await;
    let untouched = deployments.get("two-engine").await.unwrap();
    assert_eq!(untouched.metadata.generation, sibling.metadata.generation);
    assert_eq!(untouched.uid(), sibling.uid());

    // One goes, the other stays.
    lab::delete(&instances, "one", 90).await;
    let left = children(&host, namespace, "one").await;
    assert!(left.is_empty(), "left behind: {left:?}");
    lab::until_ready(&instances, "two", 10).await;
    assert!(deployments.get_opt("two-apiserver").await.unwrap().is_some());
    lab::delete(&instances, "two", 90).await;
}

/// Kind and name of everything of an instance in its namespace.
pub async fn children(host: &kube::Client, namespace: &str, instance: &str) -> Vec<String> {
    let params = ListParams::default().labels(&format!("airdock.dev/instance={instance}"));
    let mut found = Vec::new();
    macro_rules! list {
        ($($kind:ty),*) => {$(
            for object in Api::<$kind>::namespaced(host.clone(), namespace).list(&params).await.unwrap() {
                found.push(format!("{} {}", stringify!($kind), object.name_any()));
            }
        )*};
    }
    list!(Deployment, StatefulSet, Service, Secret, PersistentVolumeClaim);
    found.sort();
    found
}

#[tokio::test]
async fn volumes_follow_the_deletion_policy() {
    let _lab = lab::shared().await;
    let host = lab::host().await;
    let namespace = "e2e-volumes";
    lab::namespace(&host, namespace).await;
    let instances: Api<KarmadaInstance> = Api::namespaced(host.clone(), namespace);
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(host.clone(), namespace);
    let manifest = |policy: &str| {
        format!(
            "apiVersion: airdock.dev/v1alpha1\nkind: KarmadaInstance\nmetadata: {{name: kept, namespace: {namespace}}}\n\
             spec: {{deletionPolicy: {policy}, etcd: {{managed: {{storage: {{size: 1Gi}}}}}}}}\n"
        )
    };
    lab::apply(&manifest("Retain"));
    lab::until_ready(&instances, "kept", 120).await;
    let plane = lab::plane(namespace, "kept").await;
    lab::namespace(&plane, "survivor").await;
    lab::delete(&instances, "kept", 90).await;
    let left = claims.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(left.len(), 1, "the volume stays with Retain");

    lab::apply(&manifest("Delete"));
    lab::until_ready(&instances, "kept", 120).await;
    let plane = lab::plane(namespace, "kept").await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(plane);
    lab::eventually("the plane's data came back with the volume", 20, async || {
        namespaces.get_opt("survivor").await.ok().flatten()
    })
    .await;
    lab::delete(&instances, "kept", 90).await;
    lab::eventually("the volume goes with Delete", 30, async || {
        claims.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
}
