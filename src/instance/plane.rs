//! The objects inside a plane. Pure.

use base64::Engine as _;

use crate::api::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::chart::{self, Component, Inputs, Manifest, Names};

use super::ManifestError;
use super::bundle::Sourced;

/// Label on what belongs to the plane's installation itself; value `true`.
pub const INSTALLATION_LABEL: &str = "airdock.dev/installation";

/// Annotation on definitions with the bundle that they come from.
pub const BUNDLE_ANNOTATION: &str = "airdock.dev/bundle";

/// Where Karmada's definitions come from.
pub enum Definitions {
    /// Those of profile Compact.
    BuiltIn,
    /// Those of a bundle.
    Bundle(Sourced),
    /// The plane goes on with those that it has.
    Kept,
}

/// The objects inside the plane.
pub fn manifests(inputs: &Inputs<'_>, definitions: &Definitions) -> Result<Vec<Manifest>, ManifestError> {
    let mut manifests = match definitions {
        Definitions::BuiltIn => crate::karmada::definitions().into_iter().map(Manifest::from).collect(),
        Definitions::Bundle(sourced) => bundled(inputs, sourced)?,
        Definitions::Kept => Vec::new(),
    };
    manifests.append(&mut chart::plane(inputs)?);
    mark(&mut manifests);
    chart::seal(&mut manifests)?;
    Ok(manifests)
}

/// The definitions of a bundle, each with the version of the bundle.
fn bundled(inputs: &Inputs<'_>, sourced: &Sourced) -> Result<Vec<Manifest>, ManifestError> {
    let names = Names::of(inputs.instance);
    let webhook = names.component(Component::Webhook);
    let ca = base64::engine::general_purpose::STANDARD.encode(inputs.ca);
    let definitions = sourced.bundle.definitions(&webhook, names.namespace, &ca)?;
    let mut manifests: Vec<Manifest> = definitions.into_iter().map(Manifest::from).collect();
    for manifest in &mut manifests {
        manifest.annotate(BUNDLE_ANNOTATION, sourced.version.clone());
    }
    Ok(manifests)
}

/// Marks objects as part of a plane's installation.
fn mark(manifests: &mut [Manifest]) {
    for manifest in manifests {
        let labels = manifest.metadata_mut().labels.get_or_insert_default();
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        labels.insert(INSTALLATION_LABEL.to_owned(), "true".to_owned());
    }
}
