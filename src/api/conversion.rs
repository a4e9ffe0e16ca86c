//! Between the served versions of a kind. Pure.
//!
//! The types of this folder are the internal model: one for each kind, which is what is stored and what controllers, the
//! command line and the pure modules work with. A further served version is a type of its own that is made from the internal
//! one and into it ([`ServedVersion`]), is known to nobody else, and is converted as the API server asks for it ([`convert`]).
//!
//! What a version cannot say goes with the object in an annotation, so that who reads and writes the object in that version
//! takes nothing from it. Every object can be read in every version. A list of which a version cannot say everything cannot be
//! changed in it, since nobody can tell which item is which when the list comes back.

use std::collections::BTreeMap;

use kube::Resource;
use kube::core::conversion::{ConversionRequest, ConversionResponse};
use kube::core::response::{Status, StatusSummary};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Annotation with what the object's version cannot say: by JSON pointer, what is there and what the version makes of it.
pub const UNCONVERTED_ANNOTATION: &str = "airdock.dev/unconverted";

/// A served version of a kind, beside the internal one.
pub trait ServedVersion: Resource<DynamicType = ()> + Serialize + DeserializeOwned {
    /// The internal model.
    type Internal: Resource<DynamicType = ()> + Serialize + DeserializeOwned;

    /// Makes the internal object, as far as this version goes.
    fn into_internal(self) -> Self::Internal;

    /// Shows an internal object, as far as this version goes.
    fn from_internal(internal: Self::Internal) -> Self;
}

/// Why an object is not converted.
#[derive(thiserror::Error, Debug)]
pub enum ConversionError {
    /// Nobody converts objects like this.
    #[error("{kind} of {api_version} is not converted: ask for a served version")]
    Unknown {
        /// API version.
        api_version: String,
        /// Kind.
        kind: String,
    },
    /// The object is not what its version says.
    #[error("{kind} cannot be read as {api_version}")]
    Unreadable {
        /// API version.
        api_version: String,
        /// Kind.
        kind: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A list was changed in a version that cannot say what it held.
    #[error("{field} holds what {api_version} cannot say: change it in the version in which it was written")]
    LossyChange {
        /// JSON pointer to the list.
        field: String,
        /// API version.
        api_version: String,
    },
}

/// Converts objects of one served version.
#[derive(Clone, Debug)]
pub struct Converter {
    kind: String,
    api_version: String,
    internal_version: String,
    into_internal: fn(Value) -> Result<Value, ConversionError>,
    from_internal: fn(Value) -> Result<Value, ConversionError>,
}

impl Converter {
    /// The converter of a version.
    #[must_use]
    pub fn of<V: ServedVersion>() -> Self {
        Self {
            kind: V::kind(&()).into_owned(),
            api_version: V::api_version(&()).into_owned(),
            internal_version: V::Internal::api_version(&()).into_owned(),
            into_internal: into_internal::<V>,
            from_internal: from_internal::<V>,
        }
    }
}

/// Answers a request of the API server. Either all objects are converted, or the reason is told why one is not.
#[must_use]
pub fn convert(request: ConversionRequest, converters: &[Converter]) -> ConversionResponse {
    let (objects, wanted) = (request.objects.clone(), request.desired_api_version.clone());
    let converted: Result<Vec<Value>, ConversionError> =
        objects.into_iter().map(|object| convert_one(object, &wanted, converters)).collect();
    let response = ConversionResponse::for_request(request);
    match converted {
        Ok(objects) => response.success(objects),
        Err(error) => response.failure(Status {
            status: Some(StatusSummary::Failure),
            message: crate::machinery::error::chain(&error),
            ..Status::default()
        }),
    }
}

fn convert_one(object: Value, wanted: &str, converters: &[Converter]) -> Result<Value, ConversionError> {
    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version == wanted {
        return Ok(object);
    }
    let of = |version: &str| converters.iter().find(|one| one.kind == kind && one.api_version == version);
    let is_internal = |version: &str| converters.iter().any(|one| one.kind == kind && one.internal_version == version);
    let unknown =
        |api_version: &str| ConversionError::Unknown { api_version: api_version.to_owned(), kind: kind.clone() };
    let internal = match of(&api_version) {
        Some(converter) => (converter.into_internal)(object)?,
        None if is_internal(&api_version) => object,
        None => return Err(unknown(&api_version)),
    };
    match of(wanted) {
        Some(converter) => (converter.from_internal)(internal),
        None if is_internal(wanted) => Ok(internal),
        None => Err(unknown(wanted)),
    }
}

fn read<K: Resource<DynamicType = ()> + DeserializeOwned>(object: Value) -> Result<K, ConversionError> {
    serde_json::from_value(object).map_err(|source| ConversionError::Unreadable {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        source,
    })
}

fn write<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Value, ConversionError> {
    serde_json::to_value(object).map_err(|source| ConversionError::Unreadable {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        source,
    })
}

fn into_internal<V: ServedVersion>(mut object: Value) -> Result<Value, ConversionError> {
    let unconverted = take_unconverted(&mut object);
    let mut internal = write(&read::<V>(object)?.into_internal())?;
    for (pointer, Unconverted { is, shown }) in unconverted {
        restore(&mut internal, &pointer, is, shown.as_ref())
            .map_err(|field| ConversionError::LossyChange { field, api_version: V::api_version(&()).into_owned() })?;
    }
    Ok(internal)
}

fn from_internal<V: ServedVersion>(object: Value) -> Result<Value, ConversionError> {
    let internal = write(&read::<V::Internal>(object)?)?;
    let mut shown = write(&V::from_internal(read(internal.clone())?))?;
    let back = write(&read::<V>(shown.clone())?.into_internal())?;
    let mut unconverted = BTreeMap::new();
    compare(&internal, &back, String::new(), &mut unconverted);
    if !unconverted.is_empty() {
        let text = serde_json::to_string(&unconverted).unwrap_or_default();
        shown["metadata"]["annotations"][UNCONVERTED_ANNOTATION] = Value::String(text);
    }
    Ok(shown)
}

/// What a version cannot say of a field.
#[derive(Serialize, Deserialize, Debug)]
struct Unconverted {
    is: Value,
    /// What the version makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shown: Option<Value>,
}

/// Takes the annotation off. What cannot be read, somebody else wrote.
fn take_unconverted(object: &mut Value) -> BTreeMap<String, Unconverted> {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return BTreeMap::new() };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
        return BTreeMap::new();
    };
    let found = annotations.remove(UNCONVERTED_ANNOTATION);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    found.and_then(|text| serde_json::from_str(text.as_str()?).ok()).unwrap_or_default()
}

/// Notes what of an object is another after a version has shown it and taken it back.
fn compare(is: &Value, shown: &Value, pointer: String, into: &mut BTreeMap<String, Unconverted>) {
    let (Value::Object(fields), Value::Object(back)) = (is, shown) else {
        if is != shown {
            into.insert(pointer, Unconverted { is: is.clone(), shown: Some(shown.clone()) });
        }
        return;
    };
    for (field, value) in fields {
        let pointer = format!("{pointer}/{}", field.replace('~', "~0").replace('/', "~1"));
        match back.get(field) {
            Some(back) => compare(value, back, pointer, into),
            None => {
                into.insert(pointer, Unconverted { is: value.clone(), shown: None });
            }
        }
    }
}

/// Puts back what a version could not say, unless the field was changed in that version since. Fails with the path of a
/// changed list.
fn restore(object: &mut Value, pointer: &str, is: Value, shown: Option<&Value>) -> Result<(), String> {
    let now = object.pointer(pointer);
    if now != shown {
        return if is.is_array() && now.is_some() { Err(pointer.to_owned()) } else { Ok(()) };
    }
    let Some((parent, field)) = pointer.rsplit_once('/') else { return Ok(()) };
    // Where what it was part of is gone, it is gone as well.
    if let Some(parent) = object.pointer_mut(parent).and_then(Value::as_object_mut) {
        parent.insert(field.replace("~1", "/").replace("~0", "~"), is);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
