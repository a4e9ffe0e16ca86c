//! Rendered objects, each of its own type.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::core::ApiResource;
use kube::{Resource, ResourceExt as _};
use serde_json::Value;

use super::ChartError;

macro_rules! manifests {
    ($($kind:ident),* $(,)?) => {
        /// An object that the chart renders.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)]
        pub enum Manifest {
            $($kind(Box<$kind>)),*
        }

        impl Manifest {
            /// Reads an object of one of the known kinds.
            pub fn from_value(value: Value) -> Result<Self, ChartError> {
                let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let (version, kind) = (field("apiVersion"), field("kind"));
                $(if kind == $kind::kind(&()) && version == $kind::api_version(&()) {
                    return serde_json::from_value(value)
                        .map(|object| Self::$kind(Box::new(object)))
                        .map_err(|source| ChartError::Object { kind, source });
                })*
                Err(ChartError::UnknownKind { version, kind })
            }

            /// What kind it is.
            #[must_use]
            pub fn resource(&self) -> ApiResource {
                match self { $(Self::$kind(_) => ApiResource::erase::<$kind>(&())),* }
            }

            /// Its metadata.
            #[must_use]
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => object.meta()),* }
            }

            /// Its metadata, to change.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$kind(object) => object.meta_mut()),* }
            }

            /// The whole object as JSON, with `apiVersion` and `kind`.
            pub fn to_value(&self) -> Result<Value, ChartError> {
                match self {
                    $(Self::$kind(object) => serde_json::to_value(object)
                        .map_err(|source| ChartError::Object { kind: $kind::kind(&()).into_owned(), source })),*
                }
            }
        }

        $(impl From<$kind> for Manifest {
            fn from(object: $kind) -> Self {
                Self::$kind(Box::new(object))
            }
        })*
    };
}

manifests!(
    Namespace,
    Secret,
    ConfigMap,
    Service,
    StatefulSet,
    Deployment,
    PodDisruptionBudget,
    CustomResourceDefinition,
    APIService,
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
    Role,
    RoleBinding,
    ClusterRole,
    ClusterRoleBinding,
);

impl Manifest {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Kind and name, as people write them.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{} {}", self.resource().kind, self.name())
    }

    /// The same object with a label or annotation more.
    pub fn annotate(&mut self, key: &str, value: String) {
        self.metadata_mut().annotations.get_or_insert_default().insert(key.to_owned(), value);
    }

    /// The value of one of its labels.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(key).map(String::as_str)
    }
}

/// Whether a workload is one of an instance's components, and which.
#[must_use]
pub fn component_of<K: Resource>(object: &K) -> Option<super::Component> {
    object.labels().get(super::COMPONENT_LABEL).and_then(|name| super::Component::named(name))
}
