//! The plane of an engine: a real etcd and kube-apiserver that know Karmada's kinds.

#![allow(dead_code)]

use airdock::karmada::definitions;
use futures::{StreamExt, stream};
use kube::Client;
use kube::api::{DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::harness::{ApiServer, Etcd, objects};

/// Requests under way at once when many objects are created.
const CONNECTIONS: usize = 12;

/// A plane that ends with this, and an etcd that has room for members as well.
pub struct Plane {
    pub server: ApiServer,
    pub client: Client,
    pub etcd: Etcd,
}

impl Plane {
    pub async fn start() -> Self {
        let etcd = Etcd::start();
        let mut server = ApiServer::start(&etcd, "plane");
        server.ready().await;
        let client = server.client();
        objects::define(&client, &definitions()).await;
        Self { server, client, etcd }
    }

    /// Host and port, as the engine's metrics name them.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// Sends these kinds to all members, where they carry the label `bench: engine`.
    pub async fn propagate(&self, kinds: &[(&str, &str)]) {
        let selector = |(api_version, kind): &(&str, &str)| json!({"apiVersion": api_version, "kind": kind, "labelSelector": {"matchLabels": {"bench": "engine"}}});
        let selectors: Vec<Value> = kinds.iter().map(selector).collect();
        objects::apply(
            &self.client,
            json!({"apiVersion": "policy.karmada.io/v1alpha1", "kind": "ClusterPropagationPolicy",
                "metadata": {"name": "bench"}, "spec": {"resourceSelectors": selectors, "placement": {}}}),
        )
        .await;
    }
}

/// Creates objects in clusters over twelve connections.
pub async fn create_all(objects: impl Iterator<Item = (&Client, Value)>) {
    stream::iter(objects)
        .for_each_concurrent(CONNECTIONS, async |(client, object)| {
            let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let api = objects::api(client, &text("/apiVersion"), &text("/kind"), &text("/metadata/namespace"));
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        })
        .await;
}
