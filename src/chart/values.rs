//! What the templates see. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::instance::{KarmadaInstance, Profile, StorageType};
use crate::api::{INSTANCE_LABEL, MANAGED_BY, MANAGED_BY_LABEL};

use super::{
    ADMIN_USER, API_PORT, COMPONENT_LABEL, Component, ENGINE_USER, ETCD_CLIENT_SERVICE, Inputs, Names, digest,
    image_version,
};

/// Volume with the key by which a component reaches etcd.
const ETCD_CLIENT_VOLUME: &str = "etcd-client";

/// A Secret in a component's pods.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Name of the volume.
    pub volume: &'static str,
    /// What the Secret's name says after the instance's.
    #[serde(skip)]
    pub secret: String,
    /// Where it is.
    pub path: &'static str,
    /// Keys that are mounted; all of them when empty.
    pub keys: &'static [&'static str],
}

/// The Secrets in a component's pods.
#[must_use]
pub fn mounts(component: Component, profile: Profile) -> Vec<Mount> {
    let mount = |volume, secret: &str, path, keys| Mount { volume, secret: secret.to_owned(), path, keys };
    let server = |secret: &str| mount("server", secret, "/etc/airdock/pki/server", &[]);
    let etcd_client = |secret: &str| mount(ETCD_CLIENT_VOLUME, secret, "/etc/airdock/pki/etcd-client", &[]);
    let kubeconfig =
        || mount("kubeconfig", &format!("{}-kubeconfig", component.name()), "/etc/airdock/kubeconfig", &[]);
    let estimator_client =
        || mount("estimator-client", "scheduler-estimator-client", "/etc/airdock/pki/estimator-client", &[]);
    match component {
        Component::Etcd => {
            vec![server("etcd-server"), mount("peer", "etcd-peer", "/etc/airdock/pki/peer", &[])]
        }
        Component::ApiServer => vec![
            server("apiserver"),
            etcd_client("apiserver-etcd-client"),
            mount("front-proxy-client", "front-proxy-client", "/etc/airdock/pki/front-proxy-client", &[]),
            mount("service-account", "service-account", "/etc/airdock/pki/service-account", &[]),
        ],
        Component::KubeControllerManager => {
            // Compact signs no certificates, so the CA's key stays out of its pods.
            let keys: &[&str] = if profile == Profile::Full { &["tls.crt", "tls.key"] } else { &["tls.crt"] };
            vec![
                kubeconfig(),
                mount("ca", "ca", "/etc/airdock/pki/ca", keys),
                mount("service-account", "service-account", "/etc/airdock/pki/service-account", &["sa.key"]),
            ]
        }
        Component::Engine | Component::ControllerManager => vec![kubeconfig()],
        Component::Scheduler | Component::Descheduler => vec![kubeconfig(), estimator_client()],
        Component::AggregatedApiServer => {
            vec![kubeconfig(), server("aggregated-apiserver"), etcd_client("aggregated-apiserver-etcd-client")]
        }
        Component::Search => vec![kubeconfig(), server("search"), etcd_client("search-etcd-client")],
        Component::Webhook => vec![kubeconfig(), server("webhook")],
        Component::MetricsAdapter => vec![kubeconfig(), server("metrics-adapter")],
    }
}

/// Requests of a component when the spec gives no resources: what it uses at rest, so that pods are spread sensibly.
fn default_resources(component: Component) -> ResourceRequirements {
    let (cpu, memory) = match component {
        Component::Etcd => ("50m", "96Mi"),
        Component::ApiServer => ("100m", "256Mi"),
        Component::KubeControllerManager => ("20m", "64Mi"),
        Component::Engine => ("20m", "32Mi"),
        Component::AggregatedApiServer | Component::ControllerManager => ("30m", "96Mi"),
        _ => ("20m", "64Mi"),
    };
    let quantity = |text: &str| k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some(BTreeMap::from([("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))])),
        ..ResourceRequirements::default()
    }
}

/// What templates see.
pub struct Values<'a> {
    inputs: &'a Inputs<'a>,
    names: Names<'a>,
}

impl<'a> Values<'a> {
    pub fn new(inputs: &'a Inputs<'a>) -> Self {
        Self { inputs, names: Names::of(inputs.instance) }
    }

    /// What the templates of one component see: the common values, and its own under `c`.
    pub fn of(&self, component: Component) -> Value {
        let mut values = self.common();
        values["c"] = self.component(component);
        values
    }

    /// What the templates of objects inside the plane see.
    pub fn plane(&self) -> Value {
        let mut values = self.common();
        values["labels"] = json!({ MANAGED_BY_LABEL: MANAGED_BY });
        values["engineUser"] = json!(ENGINE_USER);
        values["adminUser"] = json!(ADMIN_USER);
        values["clusterInfo"] = json!(self.cluster_info());
        values["clusterNamespace"] = json!(crate::karmada::CLUSTER_NAMESPACE);
        values["caBase64"] = json!(STANDARD.encode(self.inputs.ca));
        values["webhookUrl"] = json!(format!("https://{}:443", self.names.host("webhook")));
        values
    }

    fn common(&self) -> Value {
        let instance = self.inputs.instance;
        let spec = &instance.spec;
        let storage = &spec.etcd.managed.storage;
        json!({
            "instance": self.names.instance,
            "namespace": self.names.namespace,
            "dnsDomain": spec.networking.dns_domain,
            "serviceCidr": spec.networking.service_cidr,
            "profile": spec.profile,
            "systemNamespace": crate::karmada::SYSTEM_NAMESPACE,
            "apiPort": API_PORT,
            "apiUrl": self.names.api_url(),
            "apiService": { "type": spec.api_server.service.type_, "annotations": spec.api_server.service.annotations },
            "pullSecrets": spec.images.pull_secrets.iter().map(|secret| json!({ "name": secret.name })).collect::<Vec<_>>(),
            "estimators": Component::Descheduler.is_enabled(instance),
            "etcd": {
                "url": format!("https://{}:2379", self.names.host(ETCD_CLIENT_SERVICE)),
                "service": self.names.object("etcd"),
                "clientService": self.names.object(ETCD_CLIENT_SERVICE),
                "initialCluster": self.initial_cluster(),
                "caDigest": self.inputs.secret_digests.get(&self.names.object("etcd-ca")).map_or("", String::as_str),
                "ephemeral": storage.type_ == StorageType::Ephemeral,
                "size": storage.size,
                "storageClass": storage.storage_class_name,
            },
        })
    }

    /// Where the plane is, as members learn it before they have credentials.
    fn cluster_info(&self) -> String {
        let ca = STANDARD.encode(self.inputs.ca);
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {ca}\n    server: {}\n  \
             name: \"\"\ncontexts: []\ncurrent-context: \"\"\nkind: Config\npreferences: {{}}\nusers: []\n",
            self.names.api_url()
        )
    }

    fn initial_cluster(&self) -> String {
        let members: Vec<String> = (0..Component::Etcd.replicas(self.inputs.instance))
            .map(|ordinal| {
                let pod = format!("{}-{ordinal}", self.names.object("etcd"));
                format!("{pod}=https://{pod}.{}.{}:2380", self.names.host("etcd"), self.names.dns_domain)
            })
            .collect();
        members.join(",")
    }

    fn component(&self, component: Component) -> Value {
        let KarmadaInstance { spec, .. } = self.inputs.instance;
        let settings = spec.components.get(component.name()).cloned().unwrap_or_default();
        let image = component.image(self.inputs.instance, self.inputs.engine_image);
        let selector = BTreeMap::from([
            ("app.kubernetes.io/instance", self.names.instance),
            (COMPONENT_LABEL, component.name()),
            (INSTANCE_LABEL, self.names.instance),
        ]);
        let mut labels: BTreeMap<&str, String> = selector.iter().map(|(&k, &v)| (k, v.to_owned())).collect();
        labels.insert("app.kubernetes.io/name", component.name().to_owned());
        labels.insert("app.kubernetes.io/part-of", "karmada".to_owned());
        labels.insert(MANAGED_BY_LABEL, MANAGED_BY.to_owned());
        if let Some(version) = image_version(&image).map(label_value).filter(|version| !version.is_empty()) {
            labels.insert("app.kubernetes.io/version", version);
        }
        let mounts = mounts(component, spec.profile);
        let mut arguments = settings.extra_args.clone();
        if component == Component::ApiServer {
            arguments.extend(spec.api_server.extra_args.clone());
        }
        json!({
            "component": component.name(),
            "name": self.names.component(component),
            "image": image,
            "replicas": component.replicas(self.inputs.instance),
            "labels": labels,
            "selector": selector,
            "secretsDigest": self.secrets_digest(&mounts),
            "mounts": mounts.iter().map(|mount| self.mount(mount)).collect::<Vec<_>>(),
            "extraArgs": arguments.iter().map(|(name, value)| format!("--{name}={value}")).collect::<Vec<_>>(),
            "resources": settings.resources.unwrap_or_else(|| default_resources(component)),
            "nodeSelector": settings.node_selector,
            "tolerations": settings.tolerations,
            "priorityClassName": settings.priority_class_name,
            "hostAliases": self.host_aliases(&mounts),
        })
    }

    /// Clients of etcd are told its address. DNS would answer with that of an instance of the same name for some
    /// seconds after its deletion, and a connection to an address that nobody answers from takes twenty to fail.
    fn host_aliases(&self, mounts: &[Mount]) -> Vec<Value> {
        if mounts.iter().all(|mount| mount.volume != ETCD_CLIENT_VOLUME) {
            return Vec::new();
        }
        let host = self.names.host(ETCD_CLIENT_SERVICE);
        self.inputs.etcd_addresses.iter().map(|ip| json!({ "ip": ip, "hostnames": [host] })).collect()
    }

    fn mount(&self, mount: &Mount) -> Value {
        let items: Vec<Value> = mount.keys.iter().map(|key| json!({ "key": key, "path": key })).collect();
        json!({
            "volume": mount.volume,
            "path": mount.path,
            "secret": { "secretName": self.names.object(&mount.secret), "items": items, "defaultMode": 0o440 },
        })
    }

    fn secrets_digest(&self, mounts: &[Mount]) -> String {
        let digests = mounts.iter().map(|mount| {
            self.inputs.secret_digests.get(&self.names.object(&mount.secret)).map_or(&[][..], String::as_bytes)
        });
        digest(digests)
    }
}

/// A version as the value of a label.
fn label_value(version: &str) -> String {
    let mut value: String = version
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .take(63)
        .collect();
    value.truncate(value.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len());
    value.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}
