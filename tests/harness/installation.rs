//! Installed instances without their pods: the test plays the kubelets, and one real kube-apiserver is their plane.
//!
//! The host's Services get loopback addresses, so that the operator reaches the planes as it would in a real cluster, by
//! the Services' addresses and with the certificates that it made itself.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, ListParams};
use kube::core::ApiResource;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{ApiServer, Etcd, eventually, objects};

const SOON: Duration = Duration::from_secs(60);

/// The port of every plane.
const PLANE_PORT: u16 = 5443;

/// A host cluster whose Services have loopback addresses. Those of two processes are most likely others.
pub fn host(etcd: &Etcd) -> ApiServer {
    let network = format!("127.{}.0.0/16", 100 + std::process::id() % 100);
    ApiServer::start_with(etcd, "host", &[format!("--service-cluster-ip-range={network}")])
}

/// The API server of these instances, by namespace and name, once their keys are there. It is one for all of them: each
/// reaches it at the address of its own Service, finds the certificate of its own there, and is known by its own authority.
pub async fn plane(host: &Client, etcd: &Etcd, instances: &[(String, String)]) -> ApiServer {
    let mut addresses = Vec::new();
    let mut authorities = String::new();
    let mut certificates = Vec::new();
    for (namespace, name) in instances {
        let service = format!("{name}-apiserver");
        addresses.push(cluster_ip(host, namespace, &service).await);
        let ca = secret(host, namespace, &format!("{name}-ca")).await;
        authorities.push_str(&ca("tls.crt"));
        let leaf = secret(host, namespace, &service).await;
        certificates.push((format!("{service}.{namespace}.svc"), leaf("tls.crt"), leaf("tls.key")));
    }
    let address = match addresses.as_slice() {
        [address] => address.as_str(),
        _ => "0.0.0.0",
    };
    ApiServer::start_in(etcd, "plane", (address, PLANE_PORT), |folder| {
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let mut arguments = vec![
            format!("--client-ca-file={}", file("clients.crt", &authorities)),
            "--advertise-address=192.0.2.1".to_owned(),
        ];
        for (index, (host, certificate, key)) in certificates.iter().enumerate() {
            let certificate = file(&format!("{index}.crt"), certificate);
            let key = file(&format!("{index}.key"), key);
            arguments.push(format!("--tls-sni-cert-key={certificate},{key}:{host}"));
        }
        arguments
    })
}

async fn cluster_ip(host: &Client, namespace: &str, name: &str) -> String {
    let services = Api::<Service>::namespaced(host.clone(), namespace);
    eventually(&format!("Service {namespace}/{name}"), SOON, async || {
        let service = services.get_opt(name).await.unwrap().ok_or("is not there")?;
        service.spec.and_then(|spec| spec.cluster_ip).ok_or_else(|| "has no address".to_owned())
    })
    .await
}

/// The texts of a Secret, by key.
async fn secret(host: &Client, namespace: &str, name: &str) -> impl Fn(&str) -> String + use<> {
    let secrets = Api::<Secret>::namespaced(host.clone(), namespace);
    let data = eventually(&format!("Secret {namespace}/{name}"), SOON, async || {
        let secret = secrets.get_opt(name).await.unwrap().ok_or("is not there")?;
        secret.data.ok_or_else(|| "is empty".to_owned())
    })
    .await;
    move |key| String::from_utf8(data[key].0.clone()).unwrap()
}

/// Does what controllers and kubelets would do: every Deployment and StatefulSet is rolled out and runs.
pub async fn roll_out(host: &Client) {
    for deployment in Api::<Deployment>::all(host.clone()).list(&ListParams::default()).await.unwrap() {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
        let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
        report(host, &ApiResource::erase::<Deployment>(&()), &deployment, replicas, seen).await;
    }
    for set in Api::<StatefulSet>::all(host.clone()).list(&ListParams::default()).await.unwrap() {
        let replicas = set.spec.as_ref().and_then(|spec| spec.replicas);
        let seen = set.status.as_ref().and_then(|status| status.observed_generation);
        report(host, &ApiResource::erase::<StatefulSet>(&()), &set, replicas, seen).await;
    }
}

async fn report<K: ResourceExt>(
    host: &Client,
    kind: &ApiResource,
    object: &K,
    replicas: Option<i32>,
    seen: Option<i64>,
) {
    let generation = object.meta().generation;
    if seen == generation {
        return;
    }
    let replicas = replicas.unwrap_or(1);
    let status: Value = json!({
        "observedGeneration": generation, "replicas": replicas, "readyReplicas": replicas, "updatedReplicas": replicas,
        "availableReplicas": replicas,
    });
    let namespace = object.namespace().unwrap();
    objects::merge_status(host, &kind.api_version, &kind.kind, &namespace, &object.name_any(), status).await;
}

/// Plays the kubelets until the instances are Ready.
pub async fn until_ready(host: &Client, instances: &[(String, String)]) {
    for (namespace, name) in instances {
        eventually(&format!("instance {namespace}/{name} is Ready"), SOON * 5, async || {
            roll_out(host).await;
            let instance =
                objects::get(host, "airdock.dev/v1alpha1", "KarmadaInstance", namespace, name).await.unwrap();
            let conditions = instance["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is_ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
            if is_ready { Ok(()) } else { Err(format!("{conditions:?}")) }
        })
        .await;
    }
}
