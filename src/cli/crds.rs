//! `airdock crds`: the custom resource definitions as YAML, made from the Rust types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp, PermissionBinding};

/// Airdock's own definitions, in the order in which they are documented.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![KarmadaInstance::crd(), MemberClusterJoin::crd(), MultiCloudApp::crd(), PermissionBinding::crd()]
}
