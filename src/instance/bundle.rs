//! Karmada's CRD bundle: unpacked in memory, with everything checked before it is believed. Pure.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Component, Path};
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use crate::machinery::error::{Class, Classified};
use crate::machinery::hash::sha256_hex;

/// The largest bundle that is fetched; upstream's has less than 100 KiB.
pub const MAX_PACKED: usize = 4 << 20;

/// How much it may hold once unpacked; upstream's has about 1 MiB.
const MAX_UNPACKED: u64 = 32 << 20;

/// How many entries it may have; upstream's has about 40.
const MAX_ENTRIES: usize = 500;

/// Key of the bundle in a ConfigMap's `binaryData`.
pub const CONFIG_MAP_KEY: &str = "crds.tar.gz";

/// Why a bundle cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum BundleError {
    /// It was not to be had.
    #[error("fetch the CRD bundle from {from}: {problem}")]
    Fetch {
        /// Where from.
        from: String,
        /// What went wrong.
        problem: String,
    },
    /// The ConfigMap is not there, or lacks the key.
    #[error("spec.crds.source.configMapRef: {problem}")]
    ConfigMap {
        /// What is missing.
        problem: String,
    },
    /// What the ConfigMap holds is refused.
    #[error("spec.crds.source.configMapRef: ConfigMap {name}")]
    InConfigMap {
        /// Its name.
        name: String,
        /// What is wrong with the bundle.
        #[source]
        source: Box<BundleError>,
    },
    /// It is not the one that was asked for.
    #[error(
        "the CRD bundle from {from} has SHA-256 {found}, but spec.crds.source.sha256 says {wanted}: nothing was \
         unpacked; check where the bundle comes from, or correct the checksum"
    )]
    Checksum {
        /// Where from.
        from: String,
        /// The one that was asked for.
        wanted: String,
        /// Its checksum.
        found: String,
    },
    /// Something in it is not as it should be.
    #[error("the CRD bundle is refused: {entry}: {problem}")]
    Entry {
        /// Path within the bundle.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It is no archive, or holds no definitions.
    #[error("the CRD bundle is refused: {problem}")]
    Archive {
        /// What is wrong.
        problem: String,
    },
}

impl Classified for BundleError {
    fn class(&self) -> Class {
        match self {
            Self::Fetch { .. } => Class::Retry,
            // A corrected ConfigMap does not touch the instance, so it is looked at again soon.
            Self::ConfigMap { .. } | Self::InConfigMap { .. } => Class::Blocked,
            Self::Checksum { .. } | Self::Entry { .. } | Self::Archive { .. } => Class::Invalid,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "BundleNotFetched",
            Self::ConfigMap { .. } => "BundleNotFound",
            Self::InConfigMap { source, .. } => source.reason(),
            Self::Checksum { .. } => "BundleChecksumMismatch",
            Self::Entry { .. } | Self::Archive { .. } => "BundleRefused",
        }
    }
}

/// The definitions of a bundle, with the patches that come with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    definitions: BTreeMap<String, Value>,
    patches: BTreeMap<String, Value>,
}

/// A bundle, and the name of exactly this content.
#[derive(Clone, Debug)]
pub struct Sourced {
    /// Changes whenever the content does.
    pub version: String,
    /// The content.
    pub bundle: Arc<Bundle>,
}

/// SHA-256 of a bundle, in hexadecimal digits.
#[must_use]
pub fn checksum(packed: &[u8]) -> String {
    sha256_hex([packed], 64)
}

impl Bundle {
    /// Unpacks a gzipped tar archive laid out as `crds/bases/**` and `crds/patches/*`.
    pub fn unpack(packed: &[u8]) -> Result<Self, BundleError> {
        let limited = flate2::read::GzDecoder::new(packed).take(MAX_UNPACKED + 1);
        let mut archive = tar::Archive::new(limited);
        let broken = |error: std::io::Error| BundleError::Archive { problem: format!("it cannot be read: {error}") };
        let mut bundle = Self::default();
        let mut unpacked = 0_u64;
        for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
            let mut entry = entry.map_err(broken)?;
            if count >= MAX_ENTRIES {
                return Err(BundleError::Archive { problem: format!("it has more than {MAX_ENTRIES} entries") });
            }
            let path = entry.path().map_err(broken)?.into_owned();
            let refuse =
                |problem: &str| BundleError::Entry { entry: path.display().to_string(), problem: problem.to_owned() };
            if !stays_inside(&path) {
                return Err(refuse("its path leads out of the bundle"));
            }
            let kind = entry.header().entry_type();
            if kind.is_dir() || kind.is_pax_global_extensions() {
                continue;
            }
            if !kind.is_file() {
                return Err(refuse("it is neither a file nor a folder"));
            }
            unpacked = unpacked.saturating_add(entry.size());
            if unpacked > MAX_UNPACKED {
                return Err(refuse("the bundle grows too large with it"));
            }
            if path.extension().is_none_or(|extension| extension != "yaml" && extension != "yml") {
                continue;
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).map_err(|error| refuse(&format!("it cannot be read: {error}")))?;
            bundle.add(&path, &text)?;
        }
        if bundle.definitions.is_empty() {
            return Err(BundleError::Archive {
                problem: "it holds no definitions under crds/bases; use crds.tar.gz of a Karmada release".into(),
            });
        }
        Ok(bundle)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), BundleError> {
        let refuse = |problem: String| BundleError::Entry { entry: path.display().to_string(), problem };
        let is_under = |folder: &str| path.components().any(|part| part.as_os_str() == folder);
        let target = match (is_under("bases"), is_under("patches")) {
            (true, false) => &mut self.definitions,
            (false, true) => &mut self.patches,
            _ => return Ok(()),
        };
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(text).map_err(|error| refuse(format!("it is not YAML: {error}")))?;
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            if document.get("kind").and_then(Value::as_str) != Some("CustomResourceDefinition") {
                return Err(refuse("it is not a CustomResourceDefinition".into()));
            }
            let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if !is_karmadas(&name) {
                return Err(refuse(format!("{name:?} is not one of Karmada's definitions")));
            }
            if target.insert(name.clone(), document).is_some() {
                return Err(refuse(format!("{name} is there twice")));
            }
        }
        Ok(())
    }

    /// The definitions with their patches, whose placeholders mean the webhook of an instance.
    pub fn definitions(
        &self,
        webhook: &str,
        namespace: &str,
        ca_base64: &str,
    ) -> Result<Vec<CustomResourceDefinition>, BundleError> {
        let fill = |text: &str| {
            text.replace("{{name}}", webhook).replace("{{namespace}}", namespace).replace("{{caBundle}}", ca_base64)
        };
        let mut definitions = Vec::with_capacity(self.definitions.len());
        for (name, definition) in &self.definitions {
            let mut definition = definition.clone();
            if let Some(patch) = self.patches.get(name) {
                merge(&mut definition, filled(patch, &fill));
            }
            let typed: CustomResourceDefinition = serde_json::from_value(definition).map_err(|error| {
                BundleError::Entry { entry: name.clone(), problem: format!("it does not fit its kind: {error}") }
            })?;
            definitions.push(typed);
        }
        Ok(definitions)
    }
}

/// Whether a path, once joined to a folder, is certain to stay in it.
fn stays_inside(path: &Path) -> bool {
    !path.as_os_str().is_empty()
        && path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// A bundle may define Karmada's kinds and nothing else of the plane.
fn is_karmadas(definition: &str) -> bool {
    let Some((_, group)) = definition.split_once('.') else { return false };
    group.ends_with(".karmada.io") || group == "multicluster.x-k8s.io"
}

fn filled(value: &Value, fill: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text)),
        Value::Array(list) => list.iter().map(|value| filled(value, fill)).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), filled(value, fill))).collect(),
        other => other.clone(),
    }
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const CRD: &str = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
        metadata: {name: works.work.karmada.io}\n\
        spec:\n  group: work.karmada.io\n  scope: Namespaced\n  names: {kind: Work, plural: works}\n  versions: []\n";
    const PATCH: &str = "kind: CustomResourceDefinition\nmetadata: {name: works.work.karmada.io}\n\
        spec:\n  conversion:\n    strategy: Webhook\n    webhook:\n      clientConfig:\n\
        \x20       url: \"https://{{name}}.{{namespace}}.svc:443/convert\"\n        caBundle: \"{{caBundle}}\"\n\
        \x20     conversionReviewVersions: [v1]\n";

    enum Item<'a> {
        File(&'a str, &'a str),
        Link(&'a str, &'a str),
        HardLink(&'a str, &'a str),
        Sparse(&'a str, u64),
    }

    fn pack(items: &[Item<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for item in items {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            let (path, body): (&str, &[u8]) = match item {
                Item::File(path, body) => (path, body.as_bytes()),
                Item::Link(path, to) | Item::HardLink(path, to) => {
                    let hard = matches!(item, Item::HardLink(..));
                    header.set_entry_type(if hard { tar::EntryType::Link } else { tar::EntryType::Symlink });
                    header.set_link_name_literal(to).unwrap();
                    (path, b"")
                }
                Item::Sparse(path, _) => (path, b""),
            };
            // The library's own setter refuses the very paths that are to be tried here.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(if let Item::Sparse(_, size) = item { *size } else { body.len() as u64 });
            header.set_cksum();
            builder.append(&header, body).unwrap();
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&builder.into_inner().unwrap()).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn unpacks_definitions_and_their_patches() {
        let packed = pack(&[
            Item::File("crds/README.md", "x"),
            Item::File("crds/kustomization.yaml", "resources: []"),
            Item::File("crds/bases/work/works.yaml", CRD),
            Item::File("crds/patches/webhook.yaml", PATCH),
        ]);
        let definitions = Bundle::unpack(&packed).unwrap().definitions("east-webhook", "fleet", "Q0E=").unwrap();
        assert_eq!(definitions.len(), 1);
        let conversion = definitions[0].spec.conversion.as_ref().unwrap();
        let client = conversion.webhook.as_ref().unwrap().client_config.as_ref().unwrap();
        assert_eq!(client.url.as_deref(), Some("https://east-webhook.fleet.svc:443/convert"));
        assert_eq!(client.ca_bundle.as_ref().unwrap().0, b"CA");
    }

    #[test]
    fn refuses_what_could_do_harm() {
        let other = CRD.replace("works.work.karmada.io", "secrets.example.com");
        let long = "x".repeat(90);
        let many: Vec<String> = (0..=MAX_ENTRIES).map(|n| format!("crds/{n}.txt")).collect();
        let many: Vec<Item<'_>> = many.iter().map(|path| Item::File(path, "")).collect();
        for (packed, words) in [
            (pack(&[Item::File("crds/bases/../../../etc/x.yaml", CRD)]), "leads out of the bundle"),
            (pack(&[Item::File("/etc/x.yaml", CRD)]), "leads out of the bundle"),
            (pack(&[Item::Link("crds/bases/x.yaml", "/etc/passwd")]), "neither a file nor a folder"),
            (pack(&[Item::HardLink("crds/bases/x.yaml", "/etc/passwd")]), "neither a file nor a folder"),
            (pack(&[Item::Sparse("crds/bases/x.yaml", 1 << 40)]), "too large"),
            (pack(&many), "more than"),
            (pack(&[Item::File("crds/bases/a.yaml", CRD), Item::File("crds/bases/b.yaml", CRD)]), "twice"),
            (pack(&[Item::File("crds/bases/a.yaml", &other)]), "not one of Karmada's"),
            (pack(&[Item::File("crds/bases/a.yaml", "kind: Secret")]), "not a CustomResourceDefinition"),
            (pack(&[Item::File("crds/bases/a.yaml", "{")]), "not YAML"),
            (pack(&[Item::File(&long, "")]), "no definitions"),
            (b"not gzip".to_vec(), "cannot be read"),
            (Vec::new(), "cannot be read"),
        ] {
            let message = Bundle::unpack(&packed).unwrap_err().to_string();
            assert!(message.contains(words), "{message} lacks {words}");
        }
    }

    #[test]
    fn a_bomb_is_stopped() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0_u8; 1 << 20];
        let mut header = tar::Header::new_gnu();
        header.set_path("crds/bases/x.yaml").unwrap();
        header.set_size(64 << 20);
        header.set_cksum();
        gzip.write_all(header.as_bytes()).unwrap();
        for _ in 0..64 {
            gzip.write_all(&zeros).unwrap();
        }
        assert!(Bundle::unpack(&gzip.finish().unwrap()).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn upstreams_bundle_fits_when_at_hand() {
        let Some(path) = std::env::var_os("KARMADA_BIN").map(|dir| Path::new(&dir).join("crds.tar.gz")) else {
            eprintln!("skipped: KARMADA_BIN is not set");
            return;
        };
        let definitions = Bundle::unpack(&std::fs::read(path).unwrap()).unwrap().definitions("w", "n", "Q0E=").unwrap();
        assert!(definitions.len() >= 19, "{}", definitions.len());
        assert_eq!(definitions.iter().filter(|d| d.spec.conversion.is_some()).count(), 2);
    }
}
