//! Reading Kubernetes objects from files, for commands that need no cluster.

use std::io::Read;
use std::path::{Path, PathBuf};

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The largest file that is read.
const SIZE_LIMIT: u64 = 16 << 20;

/// How the files of a folder end that are read, as for kubectl.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Why objects could not be read.
#[derive(thiserror::Error, Debug)]
pub enum InputError {
    /// The file could not be read.
    #[error("read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// A folder has no file that is read.
    #[error("folder {} has no file that ends in .{}; name a file, or a folder that has one", .0.display(), EXTENSIONS.join(", ."))]
    EmptyFolder(PathBuf),
    /// The file is larger than anything that belongs into it.
    #[error("{} is larger than {} MiB", .0.display(), SIZE_LIMIT >> 20)]
    Size(PathBuf),
    /// The file is not YAML.
    #[error("parse {}", .0.display())]
    Yaml(PathBuf, #[source] serde_saphyr::Error),
    /// An object is not what its kind says.
    #[error("{kind} {name} in {file}")]
    Object {
        /// The file.
        file: String,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// A field means nothing.
    #[error("{kind} {name} in {file}: unknown field {field}")]
    Unknown {
        /// The file.
        file: String,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// The field.
        field: String,
    },
}

/// Objects as they stand in a file.
#[derive(Debug, Default)]
pub struct Documents(Vec<(PathBuf, Value)>);

/// Reads files, and of folders the files in them; `-` is standard input. Lists, as kubectl prints them, are taken apart.
pub fn read(paths: &[PathBuf]) -> Result<Documents, InputError> {
    let mut documents = Documents::default();
    for path in paths {
        for file in files(path)? {
            documents.extend(parse(file.clone(), &text(&file)?)?);
        }
    }
    Ok(documents)
}

/// The files that a path stands for: itself, or those of a folder, by name and without those of its subfolders.
fn files(path: &Path) -> Result<Vec<PathBuf>, InputError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |source| InputError::Read(path.to_owned(), source);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let is_read = file.extension().is_some_and(|extension| EXTENSIONS.iter().any(|read| extension == *read));
        if is_read && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(InputError::EmptyFolder(path.to_owned()));
    }
    files.sort();
    Ok(files)
}

/// Reads the text of a file.
pub fn parse(file: PathBuf, text: &str) -> Result<Documents, InputError> {
    // The parser's own budget bounds depth, aliases and nodes.
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|source| InputError::Yaml(file.clone(), source))?;
    let mut documents = Vec::new();
    for value in values {
        let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
        match value.get("items").and_then(Value::as_array) {
            Some(items) if is_list => documents.extend(items.iter().map(|item| (file.clone(), item.clone()))),
            _ if value.is_null() => {}
            _ => documents.push((file.clone(), value)),
        }
    }
    Ok(Documents(documents))
}

fn text(file: &Path) -> Result<String, InputError> {
    let failed = |source| InputError::Read(file.to_owned(), source);
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().take(SIZE_LIMIT + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).map_err(failed)?.take(SIZE_LIMIT + 1).read_to_string(&mut text)
    };
    read.map_err(failed)?;
    if text.len() as u64 > SIZE_LIMIT { Err(InputError::Size(file.to_owned())) } else { Ok(text) }
}

impl Documents {
    /// Adds those of other files.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Everything of one of Airdock's kinds. A field that the kind does not have is an error, as it is for the API
    /// server.
    pub fn of<K>(&self) -> Result<Vec<K>, InputError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Serialize,
    {
        let mut found = Vec::new();
        for (object, given, file) in self.typed::<K>()? {
            let known = serde_json::to_value(&object).unwrap_or_default();
            if let Some(field) = unknown_field(&given["spec"], &known["spec"], "spec") {
                return Err(InputError::Unknown { file, kind: K::kind(&()).into(), name: object.name_any(), field });
            }
            found.push(object);
        }
        Ok(found)
    }

    /// Everything of a kind of which Airdock knows but a part.
    pub fn of_any<K>(&self) -> Result<Vec<K>, InputError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        Ok(self.typed::<K>()?.into_iter().map(|(object, ..)| object).collect())
    }

    fn typed<K>(&self) -> Result<Vec<(K, &Value, String)>, InputError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let (api_version, kind) = (K::api_version(&()), K::kind(&()));
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let of_kind = |value: &Value| text(value, "kind") == kind && text(value, "apiVersion") == api_version;
        let mut found = Vec::new();
        for (file, value) in self.0.iter().filter(|(_, value)| of_kind(value)) {
            let file = file.display().to_string();
            match serde_json::from_value(value.clone()) {
                Ok(object) => found.push((object, value, file)),
                Err(source) => {
                    let name = text(&value["metadata"], "name");
                    return Err(InputError::Object { file, kind: kind.into(), name, source });
                }
            }
        }
        Ok(found)
    }
}

/// The namespace of an object, as kubectl would fill it in.
pub fn namespace_of<K: Resource>(object: &K) -> String {
    object.namespace().unwrap_or_else(|| "default".to_owned())
}

/// The first field that was given but not understood: it is not there when the object is written down again.
fn unknown_field(given: &Value, known: &Value, path: &str) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => given.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match known.get(key) {
                Some(known) => unknown_field(value, known, &path),
                None => (!is_empty(value)).then_some(path),
            }
        }),
        (Value::Array(given), Value::Array(known)) => given
            .iter()
            .zip(known)
            .enumerate()
            .find_map(|(index, (given, known))| unknown_field(given, known, &format!("{path}[{index}]"))),
        _ => None,
    }
}

/// What is empty may be left out when it is written down.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MultiCloudApp;

    fn read_text(text: &str) -> Result<Vec<MultiCloudApp>, InputError> {
        parse(PathBuf::from("f.yaml"), text)?.of()
    }

    const APP: &str = "apiVersion: airdock.dev/v1alpha1\nkind: MultiCloudApp\nmetadata: {name: a}\nspec:\n  \
                       instanceRef: {name: i}\n  components: [{name: c, manifests: [{kind: X, anything: 1}]}]\n";

    #[test]
    fn only_the_kind_that_is_asked_for_is_read() {
        let other =
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\napiVersion: x/v1\nkind: MultiCloudApp\n";
        assert_eq!(read_text(&format!("{APP}{other}")).unwrap().len(), 1);
    }

    #[test]
    fn unknown_fields_are_named() {
        for (more, want) in [
            ("  placment: {}\n", None),
            ("  placment: {clusters: [a]}\n", Some("spec.placment")),
            ("  differences: [{replicas: 1}, {repilcas: 2, replicas: 1}]\n", Some("spec.differences[1].repilcas")),
            ("  placement: {regions: [], exclude: []}\n", None),
            ("  placement: {region: [eu]}\n", Some("spec.placement.region")),
        ] {
            match read_text(&format!("{APP}{more}")) {
                Ok(_) => assert_eq!(want, None, "{more}"),
                Err(InputError::Unknown { field, .. }) => assert_eq!(Some(field.as_str()), want, "{more}"),
                Err(error) => panic!("{more}: {error}"),
            }
        }
    }
}
