//! Talking to the clusters: clients, health, and manifests applied whole.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::{Client, Config};

/// Whose fields the lab's objects are.
pub const FIELD_MANAGER: &str = "airdock-lab";

/// A client for a kubeconfig file. The lab polls and reports on its own, so
/// the client neither retries nor waits long for a connection.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("using {}", kubeconfig.display()))?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    Client::try_from(config).with_context(|| format!("using {}", kubeconfig.display()))
}

/// Whether an API server says it is ready, within a second.
pub async fn ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    let answer = tokio::time::timeout(Duration::from_secs(1), client.request_text(request)).await;
    matches!(answer, Ok(Ok(text)) if text == "ok")
}

/// How many nodes are Ready, and how many there are.
pub async fn nodes_ready(client: &Client) -> std::result::Result<(usize, usize), kube::Error> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let ready = nodes.items.iter().filter(|node| node_ready(node)).count();
    Ok((ready, nodes.items.len()))
}

/// Whether one node is Ready.
pub fn node_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Fills a template's `{{ names }}`; an unknown name is an error.
pub fn render(template: &str, values: impl Into<minijinja::Value>) -> Result<String> {
    let mut environment = minijinja::Environment::new();
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    environment.render_str(template, values).context("filling a template")
}

/// Applies every document of a YAML text, server-side.
pub async fn apply(client: &Client, yaml: &str) -> Result<()> {
    let objects: Vec<DynamicObject> = documents(yaml)?;
    for object in objects {
        let types =
            object.types.clone().unwrap_or_else(|| TypeMeta { api_version: String::new(), kind: String::new() });
        let kind = GroupVersionKind::try_from(&types).with_context(|| format!("understanding {types:?}"))?;
        let resource = ApiResource::from_gvk(&kind);
        let name = object.metadata.name.clone().unwrap_or_default();
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object))
            .await
            .with_context(|| format!("applying {} {name}", types.kind))?;
    }
    Ok(())
}

fn documents(yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in yaml.split("\n---\n") {
        let object: DynamicObject = serde_saphyr::from_str(document).context("reading a manifest")?;
        if object.types.is_none() {
            bail!("a manifest lacks apiVersion and kind");
        }
        objects.push(object);
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_strict() {
        assert_eq!(render("a: {{ x }}", minijinja::context! { x => 1 }).unwrap(), "a: 1");
        assert!(render("{{ y }}", minijinja::context! { x => 1 }).is_err());
    }

    #[test]
    fn every_document_needs_a_kind() {
        let two = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n";
        assert_eq!(documents(two).unwrap().len(), 2);
        assert!(documents("metadata: {name: a}").is_err());
    }
}
