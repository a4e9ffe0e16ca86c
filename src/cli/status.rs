//! `airdock status`: instances, members, apps and permissions of the host cluster on one page.

mod page;
mod table;

use std::path::PathBuf;

use clap::Args;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde::de::DeserializeOwned;

use self::page::page;
use self::table::render_page;
use super::output::{self, Format, OutputError};
use crate::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp, PermissionBinding};
use crate::runtime::guarded::{self, Guarded};

/// Flags of `airdock status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Only what is in this namespace; all namespaces when absent.
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Kubeconfig of the host cluster; KUBECONFIG or ~/.kube/config when absent.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; its current one when absent.
    #[arg(long)]
    pub context: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// Why there is no status.
#[derive(thiserror::Error, Debug)]
pub enum StatusError {
    /// There is no usable kubeconfig.
    #[error("read the kubeconfig")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// The host cluster cannot be connected.
    #[error("connect to the host cluster")]
    Connect(#[source] kube::Error),
    /// A kind could not be listed.
    #[error("list {0}; is Airdock installed in this cluster?")]
    List(String, #[source] kube::Error),
    /// The status could not be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Prints the status.
pub async fn run(args: &StatusArgs) -> Result<(), StatusError> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = match &args.kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).map_err(StatusError::Kubeconfig)?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None => Config::from_kubeconfig(&options).await,
    };
    let client = Client::try_from(config.map_err(StatusError::Kubeconfig)?).map_err(StatusError::Connect)?;
    let namespace = args.namespace.as_deref();
    let (instances, joins, apps, permissions) = tokio::try_join!(
        list::<KarmadaInstance>(&client, namespace),
        list::<MemberClusterJoin>(&client, namespace),
        list::<MultiCloudApp>(&client, namespace),
        list::<PermissionBinding>(&client, namespace),
    )?;
    let page = page(&instances, &joins, &apps, &permissions);
    output::print(&match args.output {
        Format::Json => output::json(&page)?,
        Format::Yaml => output::yaml(&page)?,
        Format::Table => render_page(&page, false),
        Format::Wide => render_page(&page, true),
    })?;
    Ok(())
}

async fn list<K>(client: &Client, namespace: Option<&str>) -> Result<Vec<K>, StatusError>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<Guarded<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let list = guarded::list(&api, &ListParams::default()).await;
    list.map_err(|error| StatusError::List(K::plural(&()).into_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::page::Page;
    use super::*;
    use serde_json::{Value, json};

    fn typed<K: DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).unwrap()
    }

    fn condition(status: &str, message: &str) -> Value {
        json!([{"type": "Ready", "status": status, "reason": "X", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    }

    fn sample() -> Page {
        let meta = |name: &str| json!({"name": name, "namespace": "team"});
        let reference = json!({"name": "fleet"});
        let api = "airdock.dev/v1alpha1";
        let join = |name: &str, region: &str| {
            typed::<MemberClusterJoin>(json!({
                "apiVersion": api, "kind": "MemberClusterJoin", "metadata": meta(name),
                "spec": {"instanceRef": reference, "clusterName": name, "region": region, "kubeconfigSecretRef": {"name": name}},
                "status": {"nodesReady": "2/2", "kubernetesVersion": "v1.36.3", "conditions": condition("True", "joined")},
            }))
        };
        let instance = typed(json!({
            "apiVersion": api, "kind": "KarmadaInstance", "metadata": meta("fleet"), "spec": {},
            "status": {"phase": "Running", "version": "v0.1.0", "conditions": condition("True", "all is well")},
        }));
        let app = typed(json!({
            "apiVersion": api, "kind": "MultiCloudApp", "metadata": meta("shop"),
            "spec": {
                "instanceRef": reference, "components": [{"name": "web", "manifests": [{}]}],
                "differences": [{"match": {"regions": ["us"]}, "replicas": 3, "imageRegistry": "us.example"}],
            },
            "status": {
                "conditions": condition("False", "us: Deployment web: 1 of 3 replicas are ready"),
                "clusters": [
                    {"name": "eu", "applied": true, "health": "Healthy", "replicas": {"ready": 2, "total": 2}},
                    {"name": "us", "applied": true, "health": "Unhealthy", "replicas": {"ready": 1, "total": 3},
                     "message": "Deployment web: 1 of 3 replicas are ready"},
                ],
            },
        }));
        let permission = typed(json!({
            "apiVersion": api, "kind": "PermissionBinding", "metadata": meta("devs"),
            "spec": {
                "role": "Editor", "subjects": [{"kind": "Group", "name": "devs"}],
                "scope": {"namespaces": ["shop"], "clusters": {"regions": ["eu", "us"]}},
            },
        }));
        page(&[instance], &[join("eu", "eu"), join("us", "us")], &[app], &[permission])
    }

    #[test]
    fn the_page_answers_the_obvious_questions() {
        let want = "\
INSTANCES
NAMESPACE   NAME    PROFILE   READY   PHASE     VERSION   CLUSTERS   MESSAGE
team        fleet   Compact   True    Running   v0.1.0    -

MEMBERS
NAMESPACE   CLUSTER   INSTANCE   REGION   PROVIDER   READY   VERSION   NODES   MESSAGE
team        eu        fleet      eu       -          True    v1.36.3   2/2
team        us        fleet      us       -          True    v1.36.3   2/2

APPLICATIONS
NAMESPACE   NAME   INSTANCE   READY   CLUSTER   HEALTH      REPLICAS   DIFFERENCES                          MESSAGE
team        shop   fleet      False   eu        Healthy     2/2        -
                                      us        Unhealthy   1/3        images from us.example, 3 replicas   Deployment web: 1 of 3 replicas are ready

PERMISSIONS
NAMESPACE   NAME   ROLE     SUBJECTS     NAMESPACES   CLUSTERS   READY     SYNCED   MESSAGE
team        devs   Editor   group devs   shop         eu|us      Unknown   -        not reconciled yet
";
        assert_eq!(render_page(&sample(), false), want);
    }

    #[test]
    fn each_wide_table_says_what_is_well_under_its_heading() {
        let text = render_page(&sample(), true);
        let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("NAMESPACE")).collect();
        assert_eq!(headings.len(), 4, "{text}");
        assert!(headings.iter().all(|heading| heading.ends_with("   MESSAGE")), "{text}");
        let column = headings[0].find("MESSAGE").unwrap();
        let instance = text.lines().find(|line| line.contains("all is well")).unwrap();
        assert_eq!(instance.find("all is well"), Some(column), "{text}");
    }

    #[test]
    fn programs_get_the_same() {
        let page = serde_json::to_value(sample()).unwrap();
        assert_eq!(page["apps"][0]["clusters"][1]["differences"], json!(["images from us.example", "3 replicas"]));
        assert_eq!(page["members"][0]["name"], "eu");
        assert_eq!(page["instances"][0]["ready"], "True");
    }
}
