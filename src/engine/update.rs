//! What an update of a live object sends. Pure.
//!
//! An update replaces the object, as upstream's does: what a member's users added to it goes, be it a container, an
//! environment variable or a key. Kept are labels and annotations of others, finalizers and owners, and every field that
//! nobody set: defaults, values that the API server allocated, and what admission webhooks put in. `managedFields` tells
//! these apart: defaults, allocations and webhooks have no manager there.

use serde_json::{Map, Value, json};

use super::marks::ADOPTED_ANNOTATION;
use super::model::text;
use super::rest::FIELD_MANAGER;
use crate::machinery::contains::contains;

/// What an update of a live object sends.
#[derive(Debug)]
pub struct Update {
    /// The whole object, with the live one's version.
    pub object: Value,
    /// Whether it differs from what is there. Fields that only the engine set count as no difference: the manifest's
    /// fingerprint tells whether they changed.
    pub differs: bool,
}

/// Brings a live object to what is wanted of it.
#[must_use]
pub fn update(live: &Value, wanted: &Value) -> Update {
    let entries = entries(live);
    let mut fields = FieldTrees::default();
    for entry in &entries {
        let Some(tree) = entry.get("fieldsV1").and_then(Value::as_object) else { continue };
        unite(&mut fields.any, tree);
        if !is_engine(entry) {
            unite(&mut fields.others, tree);
        }
    }
    let (any, others) = (Value::Object(fields.any), Value::Object(fields.others));
    let owners = Owners { any: Some(&any), others: Some(&others) };
    let mut merge = Merge::default();
    let mut object = Map::new();
    let none = Map::new();
    let (live_map, wanted_map) = (live.as_object().unwrap_or(&none), wanted.as_object().unwrap_or(&none));
    for (key, value) in wanted_map {
        if !matches!(key.as_str(), "metadata" | "status") {
            let merged = match live_map.get(key) {
                Some(found) => merge.value(found, value, owners.field(key)),
                None => value.clone(),
            };
            object.insert(key.clone(), merged);
        }
    }
    for (key, value) in live_map {
        if key == "status" {
            object.insert(key.clone(), value.clone());
        } else if key != "metadata"
            && !wanted_map.contains_key(key)
            && let Some(kept) = merge.unset(value, owners.field(key))
        {
            object.insert(key.clone(), kept);
        }
    }
    object.insert("metadata".to_owned(), metadata(live, wanted, &entries));
    let mut object = Value::Object(object);
    let differs = merge.dropped || !contains(live, &object);
    if let Some(managers) = as_updated(live)
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("managedFields".to_owned(), managers);
    }
    Update { object, differs }
}

/// Whether somebody else set fields of an object besides its metadata and its status.
#[must_use]
pub fn has_foreign_fields(object: &Value) -> bool {
    entries(object).into_iter().filter(|entry| !is_engine(entry)).any(|entry| {
        let fields = entry.get("fieldsV1").and_then(Value::as_object);
        fields.is_some_and(|fields| fields.keys().any(|field| !matches!(field.as_str(), "f:metadata" | "f:status")))
    })
}

/// Entries of `managedFields` that tell who set what. Subresources (`scale`, `status`) are written by controllers, and an
/// entry of another version speaks of other fields.
fn entries(object: &Value) -> Vec<&Value> {
    let api_version = object.get("apiVersion").and_then(Value::as_str);
    let all = object.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
    all.filter(|entry| {
        let version = entry.get("apiVersion").and_then(Value::as_str);
        text(entry, "/subresource").is_empty() && (version.is_none() || version == api_version)
    })
    .collect()
}

fn is_engine(entry: &Value) -> bool {
    entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)
}

/// The live object's metadata, with the wanted labels and annotations beside those of others.
fn metadata(live: &Value, wanted: &Value, entries: &[&Value]) -> Value {
    let mut metadata = live.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    metadata.remove("managedFields");
    for map in ["labels", "annotations"] {
        let set_by_engine = |key: &str| {
            entries.iter().filter(|entry| is_engine(entry)).any(|entry| {
                let fields = entry.pointer(&format!("/fieldsV1/f:metadata/f:{map}"));
                fields.is_some_and(|fields| fields.get(format!("f:{key}")).is_some())
            })
        };
        let mut merged = metadata.get(map).and_then(Value::as_object).cloned().unwrap_or_default();
        merged.retain(|key, _| key == ADOPTED_ANNOTATION || !set_by_engine(key));
        let wanted = wanted.pointer(&format!("/metadata/{map}")).and_then(Value::as_object);
        merged.extend(wanted.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        metadata.insert(map.to_owned(), Value::Object(merged));
    }
    Value::Object(metadata)
}

/// Sets of fields as `managedFields` has them: of any manager, and of others than the engine.
#[derive(Default)]
struct FieldTrees {
    any: Map<String, Value>,
    others: Map<String, Value>,
}

/// Who set a field and those below it.
#[derive(Clone, Copy, Debug)]
struct Owners<'a> {
    any: Option<&'a Value>,
    others: Option<&'a Value>,
}

impl<'a> Owners<'a> {
    fn below(self, find: impl Fn(&'a Value) -> Option<&'a Value>) -> Self {
        Self { any: self.any.and_then(&find), others: self.others.and_then(&find) }
    }

    fn field(self, name: &str) -> Self {
        let key = format!("f:{name}");
        self.below(|tree| tree.get(&key))
    }

    fn item(self, item: &Value) -> Self {
        self.below(|tree| tree.as_object()?.iter().find(|(key, _)| is_item(key, item)).map(|(_, below)| below))
    }

    /// Whether a value is set as one: nothing below it has an owner of its own.
    fn is_atomic(self) -> bool {
        self.any.and_then(Value::as_object).is_some_and(Map::is_empty)
    }

    /// Whether somebody set a container itself, and not just something in it.
    fn is_whole(self) -> bool {
        self.any.and_then(Value::as_object).is_some_and(|tree| tree.is_empty() || tree.contains_key("."))
    }

    /// Names of the fields that tell the items of a list apart; none when it is a set of plain values. Nothing when the
    /// list is not merged by item.
    fn item_keys(self) -> Option<Vec<String>> {
        let tree = self.any?.as_object()?;
        if let Some(key) = tree.keys().find_map(|key| key.strip_prefix("k:")) {
            return Some(
                serde_json::from_str::<Map<String, Value>>(key).ok()?.into_iter().map(|(name, _)| name).collect(),
            );
        }
        tree.keys().any(|key| key.starts_with("v:")).then(Vec::new)
    }
}

/// Whether a key of `managedFields` (`k:{"port":80,"protocol":"TCP"}`, `v:"a"`) means this item of a list.
fn is_item(key: &str, item: &Value) -> bool {
    if let Some(value) = key.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    let keys = key.strip_prefix("k:").and_then(|json| serde_json::from_str::<Map<String, Value>>(json).ok());
    keys.is_some_and(|keys| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
}

/// Merges a live value with a wanted one.
#[derive(Default)]
struct Merge {
    /// Whether a field was dropped that somebody else set.
    dropped: bool,
}

impl Merge {
    fn value(&mut self, live: &Value, wanted: &Value, owners: Owners<'_>) -> Value {
        match (live, wanted) {
            (Value::Object(live), Value::Object(wanted)) if wanted.is_empty() || !owners.is_atomic() => {
                self.object(live, wanted, owners)
            }
            (Value::Array(live), Value::Array(wanted))
                if let Some(keys) = owners.item_keys()
                    && is_unique(wanted, &keys) =>
            {
                self.list(live, wanted, &keys, owners)
            }
            (live, wanted) => {
                self.dropped |= owners.others.is_some() && contains(live, wanted) && !contains(wanted, live);
                wanted.clone()
            }
        }
    }

    fn object(&mut self, live: &Map<String, Value>, wanted: &Map<String, Value>, owners: Owners<'_>) -> Value {
        let mut merged = Map::new();
        for (key, value) in wanted {
            let value = match live.get(key) {
                Some(found) => self.value(found, value, owners.field(key)),
                None => value.clone(),
            };
            merged.insert(key.clone(), value);
        }
        for (key, value) in live.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            if let Some(kept) = self.unset(value, owners.field(key)) {
                merged.insert(key.clone(), kept);
            }
        }
        Value::Object(merged)
    }

    /// The wanted items in their order; items that nobody set keep their place.
    fn list(&mut self, live: &[Value], wanted: &[Value], keys: &[String], owners: Owners<'_>) -> Value {
        let mut merged: Vec<Value> = wanted
            .iter()
            .map(|item| match live.iter().find(|found| is_same_item(found, item, keys)) {
                Some(found) => self.value(found, item, owners.item(found)),
                None => item.clone(),
            })
            .collect();
        for (place, item) in live.iter().enumerate() {
            if wanted.iter().any(|wanted| is_same_item(item, wanted, keys)) {
                continue;
            }
            let owners = owners.item(item);
            if owners.any.is_none() {
                merged.insert(place.min(merged.len()), item.clone());
            } else {
                self.dropped |= owners.others.is_some();
            }
        }
        Value::Array(merged)
    }

    /// What stays of a live value that is not wanted: what nobody set.
    fn unset(&mut self, value: &Value, owners: Owners<'_>) -> Option<Value> {
        if owners.any.is_none() {
            return Some(value.clone());
        }
        let kept = match value {
            _ if owners.is_whole() => None,
            Value::Object(map) => {
                let kept =
                    map.iter().filter_map(|(key, value)| Some((key.clone(), self.unset(value, owners.field(key))?)));
                let kept: Map<String, Value> = kept.collect();
                (!kept.is_empty()).then_some(Value::Object(kept))
            }
            Value::Array(list) => {
                let kept: Vec<Value> = list.iter().filter(|item| owners.item(item).any.is_none()).cloned().collect();
                (!kept.is_empty()).then_some(Value::Array(kept))
            }
            _ => None,
        };
        self.dropped |= owners.others.is_some() && kept.as_ref() != Some(value);
        kept
    }
}

fn is_same_item(a: &Value, b: &Value, keys: &[String]) -> bool {
    if keys.is_empty() { a == b } else { keys.iter().all(|key| a.get(key) == b.get(key)) }
}

/// Whether each item of a list is there once. Names of environment variables, for one, may be there twice.
fn is_unique(list: &[Value], keys: &[String]) -> bool {
    list.iter().enumerate().all(|(n, item)| !list[..n].iter().any(|other| is_same_item(item, other, keys)))
}

/// The entries of `managedFields` when the engine's apply of earlier days has become an update; nothing when there was none.
fn as_updated(live: &Value) -> Option<Value> {
    let all = live.pointer("/metadata/managedFields").and_then(Value::as_array)?;
    let is_applied = |entry: &&Value| is_engine(entry) && text(entry, "/operation") == "Apply";
    let applied = all.iter().find(is_applied)?;
    let is_updated = |entry: &&Value| {
        is_engine(entry)
            && text(entry, "/operation") == "Update"
            && text(entry, "/subresource").is_empty()
            && entry.get("apiVersion") == applied.get("apiVersion")
    };
    let mut entry = applied.clone();
    entry["operation"] = json!("Update");
    if let Some(updated) = all.iter().find(is_updated).and_then(|updated| updated.get("fieldsV1")?.as_object())
        && let Some(fields) = entry.get_mut("fieldsV1").and_then(Value::as_object_mut)
    {
        unite(fields, updated);
    }
    let others = all.iter().filter(|entry| !is_applied(entry) && !is_updated(entry)).cloned();
    Some(others.chain([entry]).collect())
}

/// Unites two sets of fields.
fn unite(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (field, below) in from {
        match into.get_mut(field).and_then(Value::as_object_mut) {
            Some(there) => below.as_object().into_iter().for_each(|below| unite(there, below)),
            None => {
                into.insert(field.clone(), below.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
