//! `airdock crds`: the custom resource definitions as YAML, made from the Rust types.

use std::path::{Path, PathBuf};

use clap::Args;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, ResourceExt};

use super::output::{self, OutputError};
use crate::api::{KarmadaInstance, MemberClusterJoin, MultiCloudApp, PermissionBinding};

/// Flags of `airdock crds`.
#[derive(Args, Clone, Debug)]
pub struct CrdsArgs {
    /// Write one file each into this folder, instead of all to standard output.
    #[arg(long)]
    pub output: Option<PathBuf>,
}

/// Why the definitions were not written.
#[derive(thiserror::Error, Debug)]
pub enum CrdsError {
    /// They could not be put into YAML.
    #[error("serialize {0}")]
    Serialize(String, #[source] serde_saphyr::ser_error::Error),
    /// They could not be written.
    #[error("write {0}")]
    Write(String, #[source] std::io::Error),
    /// They could not be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Airdock's own definitions, in the order in which they are documented.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![KarmadaInstance::crd(), MemberClusterJoin::crd(), MultiCloudApp::crd(), PermissionBinding::crd()]
}

/// Prints or writes them.
pub fn run(args: &CrdsArgs) -> Result<(), CrdsError> {
    let mut printed = String::new();
    for crd in definitions() {
        let name = crd.name_any();
        let yaml = serde_saphyr::to_string(&crd).map_err(|e| CrdsError::Serialize(name.clone(), e))?;
        match &args.output {
            Some(folder) => write_file(&folder.join(format!("{name}.yaml")), &yaml)?,
            None => printed.extend(["---\n", yaml.as_str()]),
        }
    }
    Ok(output::print(&printed)?)
}

fn write_file(path: &Path, text: &str) -> Result<(), CrdsError> {
    std::fs::write(path, text).map_err(|e| CrdsError::Write(path.display().to_string(), e))
}
