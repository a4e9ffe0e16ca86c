//! `KarmadaInstance`: one Karmada control plane.

mod status;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::status::{CertificateStatus, ClusterAttention, ComponentStatus, KarmadaInstanceStatus, Overview, Phase};
use super::common::LocalRef;

/// A Karmada control plane, run in this cluster and namespace.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "airdock.dev",
    version = "v1alpha1",
    kind = "KarmadaInstance",
    doc = "A Karmada control plane, run in this cluster and namespace.",
    plural = "karmadainstances",
    shortname = "ki",
    category = "airdock",
    namespaced,
    status = "KarmadaInstanceStatus",
    derive = "PartialEq",
    printcolumn(name = "Profile", type_ = "string", json_path = ".spec.profile"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Clusters", type_ = "string", json_path = ".status.overview.clustersReady"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message"),
    printcolumn(name = "Kubernetes", type_ = "string", json_path = ".status.kubernetesVersion", priority = 1),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("size(self.metadata.name) <= 32", "metadata.name: at most 32 characters, since the names of the components are built from it"),
    validation = ("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')", "metadata.name: must be a DNS label that starts with a letter (lower-case letters, digits, '-'), since Services are named after it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.profile != 'Full' || has(self.crds)", "spec.crds: required with profile Full: name the source of Karmada's CRD bundle (url with sha256, or configMapRef)"),
    validation = ("self.profile != 'Compact' || !has(self.crds)", "spec.crds: not used with profile Compact, whose CRDs are built in; remove it"),
    validation = ("self.profile != 'Compact' || !has(self.version)", "spec.version: not used with profile Compact, whose engine has Airdock's own version; remove it")
)]
pub struct KarmadaInstanceSpec {
    /// `Compact`: etcd, kube-apiserver, kube-controller-manager and Airdock's engine; small and fast.
    /// `Full`: upstream Karmada's own components. Cannot be changed later.
    #[serde(default)]
    #[x_kube(validation = ("self == oldSelf", "spec.profile: cannot be changed; create a new instance and move its members"))]
    pub profile: Profile,
    /// Version of the Karmada components of profile Full, as `vX.Y.Z`. Defaults to the newest that Airdock was
    /// tested with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$"))]
    pub version: Option<String>,
    /// Version of kube-apiserver and kube-controller-manager, as `vX.Y.Z`. Defaults to the newest that Airdock
    /// was tested with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$"))]
    pub kubernetes_version: Option<String>,
    /// Where the images of the components come from.
    #[serde(default)]
    pub images: Images,
    /// Where Karmada's CRD bundle comes from; profile Full only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crds: Option<CrdBundle>,
    /// Addresses and names inside the plane.
    #[serde(default)]
    pub networking: Networking,
    /// The plane's database.
    #[serde(default)]
    pub etcd: Etcd,
    /// The plane's kube-apiserver.
    #[serde(default)]
    pub api_server: ApiServer,
    /// Settings of single components, by component name: etcd, apiserver, kube-controller-manager, engine (Compact);
    /// aggregated-apiserver, controller-manager, scheduler, webhook, descheduler, search, metrics-adapter (Full).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[x_kube(validation = ("self.all(k, k in ['etcd','apiserver','kube-controller-manager','engine','aggregated-apiserver','controller-manager','scheduler','webhook','descheduler','search','metrics-adapter'])", "spec.components: unknown component; known are etcd, apiserver, kube-controller-manager, engine (Compact), aggregated-apiserver, controller-manager, scheduler, webhook, descheduler, search, metrics-adapter (Full)"))]
    pub components: BTreeMap<String, Component>,
    /// Lifetimes of the certificates that Airdock issues to servers and clients (leaf certificates).
    #[serde(default)]
    pub certificates: Certificates,
    /// Which other namespaces may refer to this instance.
    #[serde(default)]
    pub tenancy: Tenancy,
    /// While true, Airdock changes nothing of this instance; what runs goes on running.
    #[serde(default)]
    pub suspend: bool,
    /// What becomes of etcd's volumes when this object is deleted. `Delete`: they are deleted with the data of the plane.
    /// `Retain`: they stay, with the keys of the certificate authorities, and an instance of the same name and namespace
    /// takes them up again.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What kind of control plane runs.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
pub enum Profile {
    /// Airdock's own engine in place of all Karmada components.
    #[default]
    Compact,
    /// Upstream Karmada's components.
    Full,
}

/// Where the images of the components come from.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Images {
    /// Registry (and path) that replaces `registry.k8s.io`, `docker.io/karmada` and `ghcr.io/airdock-dev` in
    /// every image, for example `registry.example.com/mirror`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9.:_/-]*[a-zA-Z0-9]$"), length(max = 255))]
    pub registry: Option<String>,
    /// Secrets of type kubernetes.io/dockerconfigjson, in the instance's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub pull_secrets: Vec<LocalRef>,
    /// Complete image references (registry, path and tag) by component name, as in `spec.components`; they win over
    /// everything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, String>,
}

/// Where Karmada's CRD bundle (`crds.tar.gz` of a Karmada release) comes from.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrdBundle {
    /// Exactly one source.
    pub source: CrdSource,
}

/// Exactly one of `url` (with `sha256`) and `configMapRef`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.url) != has(self.configMapRef)", "spec.crds.source: give exactly one of url and configMapRef"),
    validation = ("has(self.url) == has(self.sha256)", "spec.crds.source.sha256: required with url, and only with url")
)]
pub struct CrdSource {
    /// Address of the bundle, http or https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https?://[^@\s]+$"), length(max = 2048))]
    pub url: Option<String>,
    /// SHA-256 of the bundle at `url`, 64 hexadecimal digits; nothing is unpacked unless it is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
    /// A ConfigMap in the instance's namespace whose `binaryData` holds the bundle under the key `crds.tar.gz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<LocalRef>,
}

/// Addresses and names.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Networking {
    /// Range of the plane's own Service addresses. Cannot be changed later.
    #[serde(default = "default_service_cidr")]
    #[schemars(regex(pattern = r"^[0-9a-fA-F.:]+/\d{1,3}$"))]
    #[x_kube(validation = ("self == oldSelf", "spec.networking.serviceCidr: cannot be changed"))]
    #[x_kube(validation = ("isCIDR(self)", "spec.networking.serviceCidr: must be a CIDR such as 10.96.0.0/12"))]
    pub service_cidr: String,
    /// DNS domain of the host cluster, in which the components find each other.
    #[serde(default = "default_dns_domain")]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"), length(max = 253))]
    pub dns_domain: String,
}

fn default_service_cidr() -> String {
    "10.96.0.0/12".to_owned()
}

fn default_dns_domain() -> String {
    "cluster.local".to_owned()
}

impl Default for Networking {
    fn default() -> Self {
        Self { service_cidr: default_service_cidr(), dns_domain: default_dns_domain() }
    }
}

/// The plane's database.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Etcd {
    /// An etcd that Airdock runs beside the instance.
    #[serde(default)]
    pub managed: ManagedEtcd,
}

/// An etcd that Airdock runs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedEtcd {
    /// How many etcd run, as one etcd cluster: 1, 3 or 5. Cannot be changed later.
    #[serde(default = "one")]
    #[x_kube(validation = ("self in [1, 3, 5]", "spec.etcd.managed.replicas: must be 1, 3 or 5"))]
    #[x_kube(validation = ("self == oldSelf", "spec.etcd.managed.replicas: cannot be changed"))]
    pub replicas: i32,
    /// The volume of each etcd.
    #[serde(default)]
    pub storage: Storage,
}

impl Default for ManagedEtcd {
    fn default() -> Self {
        Self { replicas: 1, storage: Storage::default() }
    }
}

fn one() -> i32 {
    1
}

/// A volume.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "spec.etcd.managed.storage: cannot be changed"))]
pub struct Storage {
    /// `PersistentVolume`: each etcd has a PersistentVolumeClaim. `Ephemeral`: the data is lost with the pod; for tests
    /// only.
    #[serde(default, rename = "type")]
    pub type_: StorageType,
    /// Size of the volume as a Kubernetes quantity.
    #[serde(default = "default_storage_size")]
    #[schemars(regex(pattern = r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti)?$"))]
    pub size: String,
    /// StorageClass of the claim; the cluster's default class when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
}

fn default_storage_size() -> String {
    "5Gi".to_owned()
}

impl Default for Storage {
    fn default() -> Self {
        Self { type_: StorageType::default(), size: default_storage_size(), storage_class_name: None }
    }
}

/// Where a volume's bytes are.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum StorageType {
    /// A PersistentVolumeClaim.
    #[default]
    PersistentVolume,
    /// An emptyDir, lost with the pod.
    Ephemeral,
}

/// The plane's kube-apiserver.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServer {
    /// How many run.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: i32,
    /// How it is reached.
    #[serde(default)]
    pub service: ApiServerService,
    /// Further DNS names and IP addresses for its certificate.
    #[serde(default, rename = "certSANs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub cert_sans: Vec<String>,
    /// Further flags, name (without dashes) to value. Flags that Airdock sets itself are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_args: BTreeMap<String, String>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self { replicas: 1, service: ApiServerService::default(), cert_sans: Vec::new(), extra_args: BTreeMap::new() }
    }
}

/// How the plane's kube-apiserver is reached.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServerService {
    /// Type of the Service.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Annotations of the Service, for example for a cloud's load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Type of a Service.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ServiceType {
    /// Reached from within the host cluster.
    #[default]
    ClusterIP,
    /// Reached at a port of every node.
    NodePort,
    /// Reached at a load balancer's address.
    LoadBalancer,
}

/// Settings of one component.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// Whether it runs. Only for the optional ones (descheduler, search, metrics-adapter), which are off unless
    /// set to true here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How many run; etcd and apiserver have fields of their own for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    pub replicas: Option<i32>,
    /// Requests and limits of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Further flags, name (without dashes) to value. Flags that Airdock sets itself are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra_args: BTreeMap<String, String>,
    /// Labels of the nodes it may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints it tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// PriorityClass of its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// Lifetimes of the certificates that Airdock issues; CAs live ten years.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.renewBeforeHours < self.leafLifetimeHours", "spec.certificates.renewBeforeHours: must be less than leafLifetimeHours, or certificates would be replaced all the time"))]
pub struct Certificates {
    /// How long a leaf certificate is valid, in hours.
    #[serde(default = "default_leaf_lifetime_hours")]
    #[schemars(range(min = 1, max = 87600))]
    pub leaf_lifetime_hours: i64,
    /// How long before its end a leaf certificate is replaced, in hours.
    #[serde(default = "default_renew_before_hours")]
    #[schemars(range(min = 0, max = 87600))]
    pub renew_before_hours: i64,
}

fn default_leaf_lifetime_hours() -> i64 {
    24 * 365
}

fn default_renew_before_hours() -> i64 {
    24 * 30
}

impl Default for Certificates {
    fn default() -> Self {
        Self { leaf_lifetime_hours: default_leaf_lifetime_hours(), renew_before_hours: default_renew_before_hours() }
    }
}

/// Which other namespaces may refer to the instance.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tenancy {
    /// Namespaces of this cluster whose MemberClusterJoins, MultiCloudApps and PermissionBindings may refer to
    /// this instance. Apps and bindings from such a namespace reach only the plane's namespace of the same name.
    /// The instance's own namespace may always, and everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub allowed_namespaces: Vec<String>,
}

/// What becomes of data at the end.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum DeletionPolicy {
    /// The volumes are deleted with the instance.
    #[default]
    Delete,
    /// The volumes stay, and an instance of the same name takes them up again.
    Retain,
}

impl KarmadaInstance {
    /// Whether objects of a namespace may refer to the instance: those of its own, and of those that it allows.
    #[must_use]
    pub fn admits(&self, namespace: &str) -> bool {
        self.metadata.namespace.as_deref() == Some(namespace)
            || self.spec.tenancy.allowed_namespaces.iter().any(|allowed| allowed == namespace)
    }
}
