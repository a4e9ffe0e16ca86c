//! `airdock render`: the objects of an instance, with no cluster at all.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::input::{self, InputError};
use super::output::{self, Form, OutputError};
use crate::api::KarmadaInstance;
use crate::chart::Manifest;
use crate::instance::{ManifestError, render};

/// Flags of `airdock render`.
#[derive(Args, Clone, Debug)]
pub struct RenderArgs {
    /// File with KarmadaInstances, or folder with such files (.yaml, .yml and .json, without subfolders); `-` is standard
    /// input. May be given several times.
    #[arg(short = 'f', long = "filename", required = true)]
    pub files: Vec<PathBuf>,
    /// Print the objects inside the plane, instead of those in the host cluster.
    #[arg(long)]
    pub plane: bool,
    /// Image of the engine of Compact instances.
    #[arg(long, env = "AIRDOCK_IMAGE", default_value = super::DEFAULT_IMAGE)]
    pub image: String,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub output: Form,
}

/// Why nothing was rendered.
#[derive(thiserror::Error, Debug)]
pub enum RenderError {
    /// The input could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// There is nothing to render.
    #[error("there is no KarmadaInstance in the files")]
    NoInstance,
    /// An instance cannot be rendered.
    #[error("KarmadaInstance {0}")]
    Instance(String, #[source] ManifestError),
    /// The objects could not be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Prints the objects. Secrets show which keys they have, and no value: those are made at installation.
pub fn run(args: &RenderArgs) -> Result<(), RenderError> {
    let instances: Vec<KarmadaInstance> = input::read(&args.files)?.of()?;
    if instances.is_empty() {
        return Err(RenderError::NoInstance);
    }
    let mut objects = Vec::new();
    for mut instance in instances {
        instance.metadata.namespace.get_or_insert_with(|| "default".to_owned());
        let name = instance.metadata.name.clone().unwrap_or_default();
        objects.extend(rendered(args, &instance).map_err(|error| RenderError::Instance(name, error))?);
    }
    output::print(&match args.output {
        Form::Json => output::json(&objects)?,
        Form::Yaml => output::yaml_stream(objects)?,
        Form::Table => output::render_list(&objects),
    })?;
    Ok(())
}

fn rendered(args: &RenderArgs, instance: &KarmadaInstance) -> Result<Vec<Value>, ManifestError> {
    let rendered = render(instance, &args.image)?;
    let manifests = if args.plane { rendered.plane } else { rendered.host };
    Ok(manifests.iter().map(Manifest::to_value).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_rendered_without_a_cluster() {
        let text = "apiVersion: airdock.dev/v1alpha1\nkind: KarmadaInstance\nmetadata: {name: fleet, namespace: team}\nspec: {}\n";
        let instance: KarmadaInstance = input::parse("f.yaml".into(), text).unwrap().of().unwrap().remove(0);
        let args = |plane| RenderArgs { files: Vec::new(), plane, image: "airdock:test".into(), output: Form::Yaml };
        for plane in [false, true] {
            let objects = rendered(&args(plane), &instance).unwrap();
            assert!(!objects.is_empty());
            assert!(objects.iter().all(|object| object["kind"].is_string() && object["metadata"]["name"].is_string()));
        }
        let host = rendered(&args(false), &instance).unwrap();
        assert!(host.iter().any(|object| object.to_string().contains("airdock:test")), "the engine has its image");
    }
}
