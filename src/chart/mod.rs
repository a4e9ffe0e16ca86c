//! Renders `manifests/instance` into typed objects. Pure: no cluster, no clock, no randomness.
//!
//! Every interpolation is written as JSON, which is also YAML, so that no string of a spec can become structure;
//! an undefined name is an error. What comes out is parsed into the type of its kind before anybody sees it.

mod component;
mod manifest;
mod validate;
mod values;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use include_dir::{Dir, include_dir};
use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

pub use component::{
    ADMIN_USER, API_PORT, Component, ENGINE_USER, ETCD_CLIENT_SERVICE, ETCD_VERSION, KARMADA_VERSION,
    KUBERNETES_VERSION, Names, Stage, claim_names, enabled, image_version,
};
pub use manifest::{Manifest, component_of};
pub use validate::{MIN_STREAMS_PER_CONNECTION, service_address, validate};
pub use values::{Mount, mounts};

use crate::api::instance::{KarmadaInstance, Profile};
use crate::machinery::hash::sha256_hex;
use values::Values;

/// Label that names the component of an object.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";

/// Annotation with a digest of an object as it was rendered: a field that is no longer wanted changes it too.
pub const RENDERED_ANNOTATION: &str = "airdock.dev/rendered";

/// Annotation on pods with a digest of the Secrets they mount, so that they roll when one changes.
pub const SECRETS_ANNOTATION: &str = "airdock.dev/secrets";

/// Annotation on etcd's pods with a digest of their CA: members under different CAs shut each other out.
pub const CA_ANNOTATION: &str = "airdock.dev/authority";

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/manifests/instance");

/// Why there are no manifests.
#[derive(thiserror::Error, Debug)]
pub enum ChartError {
    /// Something in the spec cannot be carried out.
    #[error("{field}: {value:?} is not possible: {remedy}")]
    Invalid {
        /// Path of the field.
        field: String,
        /// What it says.
        value: String,
        /// What to write instead.
        remedy: String,
    },
    /// A template is broken.
    #[error("render {template}")]
    Template {
        /// Path of the template.
        template: String,
        /// What is wrong with it.
        #[source]
        source: minijinja::Error,
    },
    /// A template did not become YAML.
    #[error("parse what {template} became")]
    Yaml {
        /// Path of the template.
        template: String,
        /// What is wrong with it.
        #[source]
        source: serde_saphyr::Error,
    },
    /// An object does not fit its kind.
    #[error("read {kind}")]
    Object {
        /// Its kind.
        kind: String,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// A kind that the chart does not know.
    #[error("unknown kind {kind:?} of {version:?}")]
    UnknownKind {
        /// `apiVersion`.
        version: String,
        /// `kind`.
        kind: String,
    },
}

/// What rendering needs besides the spec.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// The instance.
    pub instance: &'a KarmadaInstance,
    /// Image of Airdock itself.
    pub engine_image: &'a str,
    /// Digest of each Secret's data, by name.
    pub secret_digests: &'a BTreeMap<String, String>,
    /// Certificate of the main CA, PEM.
    pub ca: &'a str,
    /// Addresses of the Service by which clients reach etcd, once it is there.
    pub etcd_addresses: &'a [String],
}

/// The objects of the host cluster, apart from Secrets with keys: Services, workloads, disruption budgets.
pub fn host(inputs: &Inputs<'_>) -> Result<Vec<Manifest>, ChartError> {
    let instance = inputs.instance;
    validate(instance)?;
    let values = Values::new(inputs);
    let mut manifests = Vec::new();
    for component in enabled(instance) {
        let values = values.of(component);
        let mut rendered = render_folder(component.name(), &values)?;
        refuse_own_flags(instance, component, &rendered)?;
        manifests.append(&mut rendered);
    }
    seal(&mut manifests)?;
    Ok(manifests)
}

/// The objects inside the plane, apart from the definitions.
pub fn plane(inputs: &Inputs<'_>) -> Result<Vec<Manifest>, ChartError> {
    let values = Values::new(inputs).plane();
    let profile = match inputs.instance.spec.profile {
        Profile::Compact => "plane/compact",
        Profile::Full => "plane/full",
    };
    let mut manifests = render_folder("plane/common", &values)?;
    manifests.append(&mut render_folder(profile, &values)?);
    for component in [Component::Search, Component::MetricsAdapter] {
        if component.is_enabled(inputs.instance) {
            manifests.append(&mut render_folder(&format!("plane/{}", component.name()), &values)?);
        }
    }
    seal(&mut manifests)?;
    Ok(manifests)
}

/// Marks each object with the digest of what it is.
pub fn seal(manifests: &mut [Manifest]) -> Result<(), ChartError> {
    for manifest in manifests {
        let text = manifest.to_value()?.to_string();
        manifest.annotate(RENDERED_ANNOTATION, digest([text.as_bytes()]));
    }
    Ok(())
}

/// A short digest, for annotations.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let length = |part: &[u8]| u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes().to_vec();
    sha256_hex(parts.into_iter().flat_map(|part| [Cow::Owned(length(part)), Cow::Borrowed(part)]), 20)
}

static ENVIRONMENT: LazyLock<Result<Environment<'static>, (String, minijinja::Error)>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, _, value| write_quoted(out, value));
    let syntax = minijinja::syntax::SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| (String::new(), error))?;
    environment.set_syntax(syntax);
    for file in files(&TEMPLATES) {
        let path = file.path().to_string_lossy().into_owned();
        let source = file.contents_utf8().unwrap_or_default();
        environment.add_template_owned(path.clone(), source).map_err(|error| (path, error))?;
    }
    Ok(environment)
});

/// Writes a value as JSON that is also YAML. Nothing switches this off: not even values marked as safe are exempt.
fn write_quoted(out: &mut minijinja::Output, value: &minijinja::Value) -> Result<(), minijinja::Error> {
    let json = serde_json::to_string(value)
        .map_err(|error| minijinja::Error::new(minijinja::ErrorKind::BadSerialization, error.to_string()))?;
    for c in json.chars() {
        match c {
            ' '..='~' => out.write_char(c)?,
            // Only strings have such characters, and YAML knows this escape within their quotes.
            _ => write!(out, "\\U{:08X}", u32::from(c))?,
        }
    }
    Ok(())
}

fn files(dir: &'static Dir<'static>) -> Vec<&'static include_dir::File<'static>> {
    let mut files: Vec<_> = dir.files().collect();
    files.extend(dir.dirs().flat_map(files_of));
    files.sort_by_key(|file| file.path());
    files
}

fn files_of(dir: &'static Dir<'static>) -> Vec<&'static include_dir::File<'static>> {
    files(dir)
}

/// Renders every template of a folder, in the order of their names.
fn render_folder(folder: &str, values: &Value) -> Result<Vec<Manifest>, ChartError> {
    let mut manifests = Vec::new();
    let templates = TEMPLATES.get_dir(folder).map(|dir| files(dir)).unwrap_or_default();
    for file in templates {
        let template = file.path().to_string_lossy().into_owned();
        for value in render_template(&template, values)? {
            manifests.push(Manifest::from_value(value)?);
        }
    }
    Ok(manifests)
}

fn render_template(template: &str, values: &Value) -> Result<Vec<Value>, ChartError> {
    let broken = |source: minijinja::Error| ChartError::Template { template: template.to_owned(), source };
    let environment = ENVIRONMENT.as_ref().map_err(|(path, error)| ChartError::Template {
        template: path.clone(),
        source: minijinja::Error::new(error.kind(), error.to_string()),
    })?;
    let text =
        environment.get_template(template).and_then(|t| t.render(minijinja::value::Serde(values))).map_err(broken)?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
        .map_err(|source| ChartError::Yaml { template: template.to_owned(), source })?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// A flag that the chart sets cannot be set again: the binary would silently take the last.
fn refuse_own_flags(
    instance: &KarmadaInstance,
    component: Component,
    manifests: &[Manifest],
) -> Result<(), ChartError> {
    let arguments = manifests.iter().filter_map(pod_spec).flat_map(|spec| &spec.containers);
    let mut seen = BTreeSet::new();
    for argument in arguments.flat_map(|container| container.args.iter().flatten()) {
        let (flag, value) = argument.split_once('=').unwrap_or((argument, ""));
        if !seen.insert(flag) {
            let name = flag.trim_start_matches('-');
            let parent = if instance.spec.api_server.extra_args.contains_key(name) && component == Component::ApiServer
            {
                "spec.apiServer.extraArgs".to_owned()
            } else {
                format!("spec.components.{}.extraArgs", component.name())
            };
            return Err(ChartError::Invalid {
                field: format!("{parent}.{name}"),
                value: value.to_owned(),
                remedy: "remove it: Airdock sets this flag itself".into(),
            });
        }
    }
    Ok(())
}

/// The pods of a workload.
#[must_use]
pub fn pod_spec(manifest: &Manifest) -> Option<&k8s_openapi::api::core::v1::PodSpec> {
    match manifest {
        Manifest::Deployment(object) => object.spec.as_ref()?.template.spec.as_ref(),
        Manifest::StatefulSet(object) => object.spec.as_ref()?.template.spec.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
