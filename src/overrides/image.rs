//! Changes of images.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::containers_pointer;
use super::patch::holds_identity;
use crate::karmada::policy::{ImageComponent, ImageOverrider, OverriderOperator};

/// The parts of an image reference: `[registry[:port]/]repository[:tag][@digest]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageReference {
    /// Host and port; nothing when the reference has none (and a runtime's default applies).
    pub registry: Option<String>,
    /// Path between registry and tag.
    pub repository: String,
    /// Tag.
    pub tag: Option<String>,
    /// Digest, with its algorithm.
    pub digest: Option<String>,
}

/// A text that is no image reference.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{0:?} is not an image reference")]
pub struct ImageReferenceError(pub String);

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ImageReferenceError(text.to_owned());
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it a port.
        let name_begins = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match rest[name_begins..].find(':') {
            Some(colon) => (&rest[..name_begins + colon], Some(&rest[name_begins + colon + 1..])),
            None => (rest, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), rest),
            _ => (None, path),
        };
        let reference = Self {
            registry: registry.map(str::to_owned),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        };
        if reference.is_valid() { Ok(reference) } else { Err(error()) }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl ImageReference {
    fn is_valid(&self) -> bool {
        let word = |text: &str, extra: &[char]| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(&c))
        };
        self.registry.as_deref().is_none_or(|host| word(host, &['.', '-', ':', '[', ']', '_']))
            && self.repository.split('/').all(|part| word(part, &['.', '-', '_']) && !part.contains(char::is_uppercase))
            && self.tag.as_deref().is_none_or(is_tag)
            && self.digest.as_deref().is_none_or(is_digest)
    }

    fn change(&mut self, component: ImageComponent, operator: OverriderOperator, value: &str) {
        let join = |old: Option<&str>| match operator {
            OverriderOperator::Add => Some(format!("{}{value}", old.unwrap_or_default())),
            OverriderOperator::Replace => Some(value.to_owned()),
            OverriderOperator::Remove => None,
        };
        match component {
            ImageComponent::Registry => self.registry = join(self.registry.as_deref()),
            ImageComponent::Repository => self.repository = join(Some(&self.repository)).unwrap_or_default(),
            ImageComponent::Tag => {
                // A digest names one image: beside another tag it would still pull the old one.
                let new = join(self.tag.as_deref().or(self.digest.as_deref()));
                self.digest = new.clone().filter(|new| is_digest(new));
                self.tag = new.filter(|new| !is_digest(new));
            }
        }
    }
}

fn is_tag(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
            && algorithm.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-' | '_'))
            && hex.len() >= 32
            && hex.chars().all(|c| c.is_ascii_hexdigit())
    })
}

pub(super) fn apply(object: &mut Value, overrider: &ImageOverrider) -> Result<(), String> {
    let value = overrider.value.clone().unwrap_or_default();
    if value.is_empty() && overrider.operator != OverriderOperator::Remove {
        return Err("a value is needed".to_owned());
    }
    for pointer in pointers(object, overrider)? {
        let Some(image) = object.pointer_mut(&pointer) else { return Err(format!("{pointer:?}: there is no image")) };
        let Some(text) = image.as_str() else { return Err(format!("{pointer:?}: the image is not a text")) };
        // What is there may be anything, a password even: it is not told.
        let Ok(mut reference) = text.parse::<ImageReference>() else {
            return Err(format!("{pointer:?}: what is there is not an image reference"));
        };
        reference.change(overrider.component, overrider.operator, &value);
        // The text counts, not the parts: a registry may be replaced by one with a path, such as a proxy's.
        let changed = reference.to_string();
        if changed.parse::<ImageReference>().is_err() {
            let component = overrider.component;
            return Err(format!("{pointer:?}: with this {component:?} it would not be an image reference any more"));
        }
        *image = Value::String(changed);
    }
    Ok(())
}

/// Where the images are that an overrider means. Kinds without containers have none.
fn pointers(object: &Value, overrider: &ImageOverrider) -> Result<Vec<String>, String> {
    if let Some(predicate) = &overrider.predicate {
        if holds_identity(&predicate.path) {
            let path = &predicate.path;
            return Err(format!("predicate.path {path:?}: the identity of an object cannot be overridden"));
        }
        return match object.pointer(&predicate.path) {
            Some(Value::String(_)) => Ok(vec![predicate.path.clone()]),
            Some(_) => Err(format!("predicate.path {:?}: the value there is not a text", predicate.path)),
            None => Err(format!("predicate.path {:?}: there is nothing at this path", predicate.path)),
        };
    }
    let Some(list) = containers_pointer(object) else { return Ok(Vec::new()) };
    let containers = object.pointer(&list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    // A container without an image is for admission in the member to fill in.
    let with_image = containers.iter().enumerate().filter(|(_, container)| container.get("image").is_some());
    Ok(with_image.map(|(index, _)| format!("{list}/{index}/image")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    const DIGEST: &str = "sha256:50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c";

    #[test]
    fn parses_and_prints() {
        let with_digest = format!("r.io:5000/a/b:v1@{DIGEST}");
        for (text, registry, repository, tag, digest) in [
            ("nginx", None, "nginx", None, None),
            ("nginx:1.25", None, "nginx", Some("1.25"), None),
            ("library/nginx", None, "library/nginx", None, None),
            ("localhost/nginx", Some("localhost"), "nginx", None, None),
            ("localhost:5000/nginx", Some("localhost:5000"), "nginx", None, None),
            ("registry.k8s.io/pause:3.10", Some("registry.k8s.io"), "pause", Some("3.10"), None),
            ("r.io:5000/team/app/web:v1", Some("r.io:5000"), "team/app/web", Some("v1"), None),
            (with_digest.as_str(), Some("r.io:5000"), "a/b", Some("v1"), Some(DIGEST)),
            ("[::1]:5000/web", Some("[::1]:5000"), "web", None, None),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            let expected = ImageReference {
                registry: registry.map(str::to_owned),
                repository: repository.to_owned(),
                tag: tag.map(str::to_owned),
                digest: digest.map(str::to_owned),
            };
            assert_eq!(reference, expected, "{text}");
            assert_eq!(reference.to_string(), text);
        }
        for text in ["", ":v1", "a//b", "Upper/case", "a:", "a@sha256:short", "a b", "a:b:c", "r.io/"] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }

    #[test]
    fn changes() {
        let other = DIGEST.replace("50d8", "aaaa");
        for (image, component, operator, value, expected) in [
            ("nginx:1", "Registry", "add", "r.cn", "r.cn/nginx:1"),
            ("r.io/nginx:1", "Registry", "add", ".cn", "r.io.cn/nginx:1"),
            ("r.io:5000/nginx:1", "Registry", "replace", "localhost:6000", "localhost:6000/nginx:1"),
            ("r.io/nginx:1", "Registry", "remove", "", "nginx:1"),
            ("r.io/a/b:1", "Repository", "replace", "mirror/b", "r.io/mirror/b:1"),
            ("r.io/a/b:1", "Repository", "add", "-arm", "r.io/a/b-arm:1"),
            ("r.io/a/b:1", "Tag", "replace", "2", "r.io/a/b:2"),
            ("r.io/a/b:1", "Tag", "add", "-alpine", "r.io/a/b:1-alpine"),
            ("r.io/a/b", "Tag", "add", "v1", "r.io/a/b:v1"),
            ("r.io/a/b:1", "Tag", "remove", "", "r.io/a/b"),
            ("r.io/a/b:1", "Tag", "replace", DIGEST, &format!("r.io/a/b@{DIGEST}")),
            (&format!("r.io/a/b:1@{DIGEST}"), "Tag", "replace", "2", "r.io/a/b:2"),
            (&format!("r.io/a/b@{DIGEST}"), "Tag", "replace", &other, &format!("r.io/a/b@{other}")),
            (&format!("r.io/a/b:1@{DIGEST}"), "Registry", "replace", "s.io", &format!("s.io/a/b:1@{DIGEST}")),
            ("docker.io/library/a:1", "Registry", "replace", "s.io/proxy", "s.io/proxy/library/a:1"),
        ] {
            let overrider = from_value(json!({"component": component, "operator": operator, "value": value})).unwrap();
            let mut pod = json!({"kind": "Pod", "apiVersion": "v1", "spec": {"containers": [{"image": image}]}});
            apply(&mut pod, &overrider).unwrap();
            assert_eq!(pod["spec"]["containers"][0]["image"], expected, "{image} {component} {operator} {value}");
        }
    }

    #[test]
    fn containers_of_the_workloads_that_karmada_reaches() {
        let overrider: ImageOverrider =
            from_value(json!({"component": "Registry", "operator": "replace", "value": "m.io"})).unwrap();
        let spec = || json!({"initContainers": [{"image": "i"}], "containers": [{"image": "a"}, {"name": "none"}, {"image": "b"}]});
        let template = || json!({"template": {"spec": spec()}});
        for (api_version, kind, body, pointer) in [
            ("v1", "Pod", spec(), "/spec"),
            ("apps/v1", "Deployment", template(), "/spec/template/spec"),
            ("apps/v1", "ReplicaSet", template(), "/spec/template/spec"),
            ("apps/v1", "StatefulSet", template(), "/spec/template/spec"),
            ("apps/v1", "DaemonSet", template(), "/spec/template/spec"),
            ("batch/v1", "Job", template(), "/spec/template/spec"),
        ] {
            let mut object = json!({"apiVersion": api_version, "kind": kind, "spec": body});
            apply(&mut object, &overrider).unwrap();
            let pod = object.pointer(pointer).unwrap();
            assert_eq!(pod["initContainers"][0]["image"], "i", "{kind}");
            assert_eq!(pod["containers"][2]["image"], "m.io/b", "{kind}");
        }
        for other in [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": template()}}}),
        ] {
            let mut object = other.clone();
            apply(&mut object, &overrider).unwrap();
            assert_eq!(object, other);
        }
    }

    #[test]
    fn predicate_and_errors() {
        let object = json!({"apiVersion": "x/v1", "kind": "Special", "metadata": {"name": "x"}, "spec": {"image": "r.io/a:1", "count": 1,
            "password": "hunter2 Secret", "passphrase": "hunter2"}});
        let overrider = |path: &str, component: &str, operator: &str, value: &str| {
            from_value::<ImageOverrider>(
                json!({"predicate": {"path": path}, "component": component, "operator": operator, "value": value}),
            )
            .unwrap()
        };
        let mut changed = object.clone();
        apply(&mut changed, &overrider("/spec/image", "Tag", "replace", "2")).unwrap();
        assert_eq!(changed["spec"]["image"], "r.io/a:2");
        for (overrider, words) in [
            (overrider("/spec/none", "Tag", "replace", "2"), "nothing at this path"),
            (overrider("/spec/count", "Tag", "replace", "2"), "not a text"),
            (overrider("/metadata/name", "Tag", "add", "2"), "identity"),
            (overrider("/kind", "Repository", "replace", "other"), "identity"),
            (overrider("/spec/image", "Repository", "remove", ""), "with this Repository it would not be"),
            (overrider("/spec/image", "Tag", "replace", "a b"), "with this Tag it would not be"),
            (overrider("/spec/image", "Registry", "add", ""), "a value is needed"),
            (overrider("/spec/password", "Tag", "add", "x"), "\"/spec/password\": what is there is not an image"),
            (overrider("/spec/passphrase", "Repository", "remove", ""), "with this Repository it would not be"),
        ] {
            let message = apply(&mut object.clone(), &overrider).unwrap_err();
            assert!(message.contains(words), "{message}");
            assert!(!message.contains("hunter2"), "a value is told: {message}");
        }
    }
}
