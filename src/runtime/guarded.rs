//! Reading objects one by one, so that one that cannot be read stops nobody else's.
//!
//! API servers take objects that are nested 10,000 deep; `serde_json` reads 128 levels, and whatever walks through a
//! parsed value needs stack for each of them. A list or a watch line with one such object would fail as a whole. The
//! text of each item is therefore cut out first, which needs no depth, and then read by itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, DynamicObject, ListParams};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::limits::{OMITTED, check_depth, shorten};

/// Objects in one page of a list: what a burst of them takes in memory is bounded.
pub const PAGE: u32 = 50;

/// The longest text about what is wrong with an object.
const MAX_PROBLEM: usize = 512;

/// An object, or what is known of one that could not be read.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, InvalidObject>);

/// An object that could not be read as what it should be.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidObject {
    /// What is wrong with it.
    pub problem: String,
    /// Its metadata, without `managedFields`.
    pub metadata: ObjectMeta,
    /// Those fields of its spec that can be read.
    pub spec: Value,
    /// Its status, if that can be read.
    pub status: Value,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of_json(Box::<RawValue>::deserialize(deserializer)?.get()))
    }
}

impl<K: DeserializeOwned> Guarded<K> {
    /// Reads an object from its JSON text.
    #[must_use]
    pub fn of_json(json: &str) -> Self {
        let read = match check_depth(json) {
            Ok(()) => serde_json::from_str(json).map_err(|error| error.to_string()),
            Err(problem) => Err(problem),
        };
        Self(read.map_err(|problem| InvalidObject::of_json(json, &problem)))
    }
}

impl Guarded<DynamicObject> {
    /// What is known of the object. Of one that cannot be read that is its metadata, and [`omitted`] tells why.
    #[must_use]
    pub fn known(self) -> DynamicObject {
        match self.0 {
            Ok(mut object) => {
                forget_notes(&mut object.data);
                object
            }
            Err(invalid) => {
                DynamicObject { types: None, data: json!({OMITTED: invalid.problem}), metadata: invalid.metadata }
            }
        }
    }
}

impl InvalidObject {
    fn of_json(json: &str, problem: &str) -> Self {
        let fields = Fields::of_json(json);
        Self {
            problem: shorten(problem, MAX_PROBLEM),
            metadata: fields.nested("metadata").metadata(),
            spec: fields.nested("spec").all_readable(),
            status: fields.readable("status"),
        }
    }

    /// The object with these fields of its spec alone, beside the `required` ones, and with its metadata and status. Nothing
    /// when one of them is not what it should be.
    #[must_use]
    pub fn stand_in<K: DeserializeOwned>(&self, fields: &[&str], required: Value) -> Option<K> {
        let mut spec = required;
        for field in fields {
            if let Some(value) = self.spec.get(field) {
                spec[*field] = value.clone();
            }
        }
        serde_json::from_value(json!({"metadata": self.metadata, "spec": spec, "status": self.status})).ok()
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dyntype: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dyntype)
    }

    fn group(dyntype: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dyntype)
    }

    fn version(dyntype: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dyntype)
    }

    fn plural(dyntype: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dyntype)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

/// All objects of an API that can be read, page by page. Those that cannot are passed over, and logged.
pub async fn list<K>(api: &Api<Guarded<K>>, params: &ListParams) -> Result<Vec<K>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let read = |object: Guarded<K>| match object.0 {
        Ok(object) => Some(object),
        Err(invalid) => {
            let InvalidObject { problem, metadata, .. } = &invalid;
            tracing::warn!(
                problem,
                namespace = metadata.namespace,
                name = metadata.name,
                path = api.resource_url(),
                "object cannot be read and is passed over"
            );
            None
        }
    };
    Ok(list_all(api, params).await?.into_iter().filter_map(read).collect())
}

/// All objects of an API, page by page, as far as they are [known](Guarded::known): for whoever needs their metadata.
pub async fn list_known(
    api: &Api<Guarded<DynamicObject>>,
    params: &ListParams,
) -> Result<Vec<DynamicObject>, kube::Error> {
    Ok(list_all(api, params).await?.into_iter().map(Guarded::known).collect())
}

/// All objects of an API, page by page, with those that cannot be read.
pub async fn list_all<K>(api: &Api<Guarded<K>>, params: &ListParams) -> Result<Vec<Guarded<K>>, kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut params = params.clone().limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let page = api.list(&params).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

/// Reads an object of any kind, without what of it is nested too deep. Where a status or another field is left out,
/// [`OMITTED`] tells so: in the status, or beside the other fields. Without the latter nobody knows what the object asks
/// for.
pub fn read_any(json: &str) -> Result<Value, serde_json::Error> {
    let Err(problem) = check_depth(json) else {
        let mut object = serde_json::from_str(json)?;
        forget_notes(&mut object);
        return Ok(object);
    };
    let fields = Fields(serde_json::from_str(json)?);
    let (mut object, mut left_out) = (Map::new(), Vec::new());
    for (field, text) in fields.0.iter().filter(|(field, _)| *field != OMITTED) {
        let mut value = match (field.as_str(), check_depth(text.get())) {
            (_, Ok(())) => serde_json::from_str(text.get())?,
            // Who set which fields is nested as deep as the object.
            ("metadata", Err(_)) => fields.nested(field).all_readable(),
            ("status", Err(problem)) => json!({OMITTED: problem}),
            (_, Err(_)) => {
                left_out.push(field.as_str());
                continue;
            }
        };
        if field == "status" && check_depth(text.get()).is_ok() {
            forget_note(&mut value);
        }
        object.insert(field.clone(), value);
    }
    if !left_out.is_empty() {
        object.insert(OMITTED.to_owned(), json!(format!("{} {problem}", left_out.join(", "))));
    }
    Ok(Value::Object(object))
}

/// Takes out of an object what its author says about what is left out of it: that is for the reader to say, and is
/// believed.
fn forget_notes(object: &mut Value) {
    forget_note(object);
    if let Some(status) = object.get_mut("status") {
        forget_note(status);
    }
}

fn forget_note(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.remove(OMITTED);
    }
}

/// What is left out of an object that [`read_any`] or [`Guarded::known`] has read, other than a status.
#[must_use]
pub fn omitted(object: &Value) -> Option<&str> {
    object.get(OMITTED).and_then(Value::as_str)
}

/// The fields of a JSON object, each one unread.
struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    /// What is not an object has no fields.
    fn of_json(json: &str) -> Self {
        Self(serde_json::from_str(json).unwrap_or_default())
    }

    fn nested(&self, field: &str) -> Self {
        self.0.get(field).map_or_else(|| Self(BTreeMap::new()), |text| Self::of_json(text.get()))
    }

    fn get<T: DeserializeOwned>(&self, field: &str) -> Option<T> {
        serde_json::from_str(self.0.get(field)?.get()).ok()
    }

    /// A field that is not nested too deep; else null.
    fn readable(&self, field: &str) -> Value {
        let text = self.0.get(field).filter(|text| check_depth(text.get()).is_ok());
        text.and_then(|text| serde_json::from_str(text.get()).ok()).unwrap_or_default()
    }

    /// The object with those of its fields that are not nested too deep.
    fn all_readable(&self) -> Value {
        let read = self.0.keys().map(|field| (field.clone(), self.readable(field)));
        Value::Object(read.filter(|(_, value)| !value.is_null()).collect())
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            name: self.get("name"),
            namespace: self.get("namespace"),
            uid: self.get("uid"),
            resource_version: self.get("resourceVersion"),
            generation: self.get("generation"),
            creation_timestamp: self.get("creationTimestamp"),
            deletion_timestamp: self.get("deletionTimestamp"),
            labels: self.get("labels"),
            annotations: self.get("annotations"),
            finalizers: self.get("finalizers"),
            owner_references: self.get("ownerReferences"),
            ..ObjectMeta::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use kube::core::{ObjectList, WatchEvent};

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    fn object(name: &str, fields: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"u","resourceVersion":"7","labels":{{"l":"v"}},
            "managedFields":[{{"fieldsV1":{}}}]}},{fields}}}"#,
            nested(150)
        )
    }

    #[test]
    fn one_bad_item_does_not_fail_a_list() {
        // Deep in a field that the type does not even have, in the metadata, and far deeper than any stack.
        let deep = object("deep", &format!(r#""extra":{},"status":{{"phase":"Old"}}"#, nested(5000)));
        let list = format!(
            r#"{{"kind":"ConfigMapList","apiVersion":"v1","metadata":{{"resourceVersion":"9"}},"items":[
            {{"metadata":{{"name":"good"}},"data":{{"k":"v"}}}},{deep},{{"metadata":{{"name":"wrong"}},"data":7}}]}}"#
        );
        let list: ObjectList<Guarded<ConfigMap>> = serde_json::from_str(&list).unwrap();
        let read: Vec<_> = list.items.iter().map(|item| (item.name_any(), item.0.is_ok())).collect();
        assert_eq!(read, [("good".into(), true), ("deep".into(), false), ("wrong".into(), false)]);
        let invalid = list.items[1].0.as_ref().unwrap_err();
        assert_eq!(invalid.problem, "is nested 5001 levels deep; at most 100 are read");
        let meta = &invalid.metadata;
        assert_eq!((meta.uid.as_deref(), meta.resource_version.as_deref()), (Some("u"), Some("7")));
        assert_eq!((&meta.labels.as_ref().unwrap()["l"], &invalid.status["phase"]), (&"v".to_owned(), &json!("Old")));
        assert!(list.items[2].0.as_ref().unwrap_err().problem.contains("invalid type"));
    }

    #[test]
    fn one_bad_line_does_not_fail_a_watch() {
        let line =
            format!(r#"{{"type":"MODIFIED","object":{}}}"#, object("deep", &format!(r#""data":{}"#, nested(200))));
        let WatchEvent::Modified(event) = serde_json::from_str::<WatchEvent<Guarded<ConfigMap>>>(&line).unwrap() else {
            panic!("not a change");
        };
        assert_eq!(event.name_any(), "deep");
        assert!(event.0.is_err());
    }

    #[test]
    fn what_is_too_deep_is_left_out() {
        let read = |fields: String| read_any(&object("x", &fields)).unwrap();
        let status = read(format!(r#""spec":{{"a":1}},"status":{}"#, nested(200)));
        assert_eq!(status["status"][OMITTED], "is nested 200 levels deep; at most 100 are read");
        assert_eq!((&status["spec"]["a"], &status["metadata"]["uid"]), (&json!(1), &json!("u")));
        assert_eq!((status["metadata"].get("managedFields"), omitted(&status)), (None, None));

        // What an object says of itself does not count.
        let note = format!(r#"{{"{OMITTED}":{},"phase":"Running"}}"#, nested(90));
        for fields in [r#""spec":{"a":1}"#.to_owned(), format!(r#""spec":{}"#, nested(200))] {
            let fields = format!(r#"{fields},"status":{note},"{OMITTED}":"nothing""#);
            let said = read(fields.clone());
            assert_eq!(said["status"], json!({"phase": "Running"}));
            assert_ne!(omitted(&said), Some("nothing"));
            let plain = format!(r#"{{"metadata":{{"name":"x"}},{fields}}}"#);
            assert_eq!(read_any(&plain).unwrap()["status"], json!({"phase": "Running"}));
            assert_ne!(omitted(&Guarded::<DynamicObject>::of_json(&plain).known().data), Some("nothing"));
        }

        let spec = read(format!(r#""spec":{}"#, nested(200)));
        assert_eq!(omitted(&spec), Some("spec is nested 201 levels deep; at most 100 are read"));
        assert_eq!((spec.get("spec"), &spec["metadata"]["name"]), (None, &json!("x")));

        assert_eq!(read_any(r#"{"spec":{"a":1}}"#).unwrap(), json!({"spec": {"a": 1}}));
    }

    #[test]
    fn what_cannot_be_read_is_known_by_its_metadata() {
        let deep = Guarded::<DynamicObject>::of_json(&object("deep", &format!(r#""spec":{}"#, nested(200)))).known();
        assert_eq!(omitted(&deep.data), Some("is nested 201 levels deep; at most 100 are read"));
        assert_eq!((deep.labels()["l"].as_str(), deep.uid().as_deref()), ("v", Some("u")));
        let flat = Guarded::<DynamicObject>::of_json(r#"{"metadata":{"name":"x"},"spec":{"a":1}}"#).known();
        assert_eq!((omitted(&flat.data), &flat.data["spec"]["a"]), (None, &json!(1)));
    }

    #[test]
    fn metadata_alone_is_requested_where_nothing_more_is_read() {
        use kube::core::PartialObjectMeta;
        assert!(Guarded::<PartialObjectMeta<ConfigMap>>::metadata_api() && !Guarded::<ConfigMap>::metadata_api());
    }

    #[test]
    fn parsed_json_is_read_as_well() {
        let object: Guarded<ConfigMap> = serde_json::from_value(json!({"metadata": {"name": "x"}})).unwrap();
        assert_eq!(object.0.unwrap().name_any(), "x");
    }
}
