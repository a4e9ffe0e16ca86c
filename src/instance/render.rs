//! What would be applied for an instance, with no cluster at all. Pure.

use std::collections::BTreeMap;

use crate::api::KarmadaInstance;
use crate::chart::{self, Component, Inputs, Manifest};

use super::plane::{self, Definitions};
use super::{ManifestError, keys};

/// Stands for what only an installation makes.
const LATER: &str = "(made by the controller)";

/// What an instance consists of.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Objects in the host cluster. Secrets show which keys they have, never a value.
    pub host: Vec<Manifest>,
    /// Objects inside the plane. The definitions of profile Full are not among them: they come from the bundle.
    pub plane: Vec<Manifest>,
}

/// Renders an instance by the functions that the controller uses.
pub fn render(instance: &KarmadaInstance, engine_image: &str) -> Result<Rendered, ManifestError> {
    let secret_digests = BTreeMap::new();
    let inputs = Inputs { instance, engine_image, secret_digests: &secret_digests, ca: LATER, etcd_addresses: &[] };
    let workloads = chart::host(&inputs)?;
    let mut host: Vec<Manifest> = keys::entries(instance, &[])?
        .iter()
        .map(|entry| {
            let redacted = |key: &&str| ((*key).to_owned(), LATER.as_bytes().to_vec());
            keys::secret(instance, entry, &keys::data_keys(entry).iter().map(redacted).collect()).into()
        })
        .collect();
    host.extend(workloads);
    let definitions = if Component::Engine.is_enabled(instance) { Definitions::BuiltIn } else { Definitions::Kept };
    Ok(Rendered { host, plane: plane::manifests(&inputs, &definitions)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::instance;

    #[test]
    fn shows_everything_and_no_secret() {
        for profile in ["Compact", "Full"] {
            let rendered = render(&instance(profile), "airdock:test").unwrap();
            assert!(rendered.host.iter().any(|manifest| manifest.id() == "Secret east-ca"));
            let text: String = rendered.host.iter().map(|manifest| manifest.to_value().unwrap().to_string()).collect();
            assert!(!text.contains("PRIVATE KEY") && !text.contains("BEGIN"));
            let has_definitions = rendered.plane.iter().any(|m| matches!(m, Manifest::CustomResourceDefinition(_)));
            assert_eq!(has_definitions, profile == "Compact");
        }
        assert_eq!(render(&instance("Full"), "a").unwrap(), render(&instance("Full"), "a").unwrap());
    }
}
