//! What a simulated member stores: bodies as bytes, one version for all of them, and a log of changes for watches.

use std::collections::{BTreeMap, HashMap, VecDeque};

use axum::body::Bytes;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use airdock::karmada::MANAGED_LABEL;

/// Changes of a kind that are kept for watches that begin late.
const LOG: usize = 4096;

/// Group, version and plural, as a path has them: `v1/pods`, `apps/v1/deployments`.
pub type KindPath = String;

/// Namespace (empty for objects of the cluster) and name.
pub type ObjectName = (String, String);

/// Why a request is refused: code, reason, kind and name.
#[derive(Debug)]
pub struct Refusal {
    pub code: u16,
    pub reason: &'static str,
    pub kind: String,
    pub name: String,
}

impl Refusal {
    fn new(code: u16, reason: &'static str, kind: &str, name: &str) -> Self {
        let plural = kind.rsplit('/').next().unwrap_or(kind);
        Self { code, reason, kind: plural.to_owned(), name: name.to_owned() }
    }

    /// As an API server sends it.
    pub fn status(&self) -> Value {
        let message = format!("{} {:?}: {}", self.kind, self.name, self.reason);
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": self.reason, "code": self.code, "details": {"name": self.name, "kind": self.kind}})
    }
}

/// One object.
#[derive(Clone)]
pub struct Stored {
    pub version: u64,
    pub managed: bool,
    pub body: Bytes,
}

/// A change as a watch tells it.
#[derive(Clone)]
pub struct Change {
    pub type_: &'static str,
    pub object: Stored,
}

/// Objects of one kind.
#[derive(Default)]
pub struct Collection {
    pub objects: BTreeMap<ObjectName, Stored>,
    /// How many carry the label of managed objects.
    pub managed: usize,
    log: VecDeque<Change>,
    /// The newest version that is no longer in the log.
    forgotten: u64,
    newest: watch::Sender<u64>,
}

impl Collection {
    /// Changes after a version; nothing when the log does not reach back that far.
    pub fn since(&self, version: u64) -> Option<Vec<Change>> {
        if version < self.forgotten {
            return None;
        }
        let from = self.log.partition_point(|change| change.object.version <= version);
        Some(self.log.range(from..).cloned().collect())
    }

    /// Tells when there is a newer version.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn record(&mut self, type_: &'static str, object: Stored) {
        let version = object.version;
        self.log.push_back(Change { type_, object });
        if self.log.len() > LOG
            && let Some(oldest) = self.log.pop_front()
        {
            self.forgotten = oldest.object.version;
        }
        self.newest.send_replace(version);
    }

    fn put(&mut self, name: ObjectName, object: Stored) {
        self.managed += usize::from(object.managed);
        let before = self.objects.insert(name, object.clone());
        self.managed -= usize::from(before.as_ref().is_some_and(|object| object.managed));
        self.record(if before.is_some() { "MODIFIED" } else { "ADDED" }, object);
    }
}

/// How a patch changes an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// Creates what is not there. Fields that are no longer applied stay, unlike in a real API server.
    Apply,
    Merge,
}

/// All objects of a member.
#[derive(Default)]
pub struct Store {
    pub version: u64,
    created: u64,
    collections: HashMap<KindPath, Collection>,
}

impl Store {
    /// The objects of a kind.
    pub fn collection(&mut self, kind: &str) -> &mut Collection {
        if !self.collections.contains_key(kind) {
            self.collections.insert(kind.to_owned(), Collection::default());
        }
        self.collections.entry(kind.to_owned()).or_default()
    }

    pub fn get(&mut self, kind: &str, name: &ObjectName) -> Result<Stored, Refusal> {
        let found = self.collection(kind).objects.get(name).cloned();
        found.ok_or_else(|| Refusal::new(404, "NotFound", kind, &name.1))
    }

    /// Creates an object; its namespace has to be there.
    pub fn create(&mut self, kind: &str, namespace: &str, object: Value, manager: &str) -> Result<Bytes, Refusal> {
        self.insert(kind, namespace, object, manager, "Update")
    }

    fn insert(
        &mut self,
        kind: &str,
        namespace: &str,
        mut object: Value,
        manager: &str,
        operation: &str,
    ) -> Result<Bytes, Refusal> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let in_namespace = (String::new(), namespace.to_owned());
        if !namespace.is_empty() && !self.collection("v1/namespaces").objects.contains_key(&in_namespace) {
            return Err(Refusal::new(404, "NotFound", "v1/namespaces", namespace));
        }
        let key = (namespace.to_owned(), name);
        if self.collection(kind).objects.contains_key(&key) {
            return Err(Refusal::new(409, "AlreadyExists", kind, &key.1));
        }
        self.created += 1;
        let entry = manager_entry(&object, manager, operation);
        let uid = format!("{:08x}-0000-4000-8000-{:012x}", self.created, self.created);
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uid);
        metadata["creationTimestamp"] = json!(now());
        metadata["generation"] = json!(1);
        metadata["managedFields"] = json!([entry]);
        Ok(self.save(kind, key, object))
    }

    /// Replaces an object, or patches it, unless it has another version than the body asks for.
    pub fn change(
        &mut self,
        kind: &str,
        name: &ObjectName,
        manager: &str,
        body: Value,
        patch: Option<PatchKind>,
    ) -> Result<Bytes, Refusal> {
        let Some(stored) = self.collection(kind).objects.get(name).cloned() else {
            return match patch {
                Some(PatchKind::Apply) => self.insert(kind, &name.0, body, manager, "Apply"),
                _ => Err(Refusal::new(404, "NotFound", kind, &name.1)),
            };
        };
        let before: Value = serde_json::from_slice(&stored.body).unwrap();
        let asked = body.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        if asked.is_some_and(|asked| asked != stored.version.to_string()) {
            return Err(Refusal::new(409, "Conflict", kind, &name.1));
        }
        let operation = if patch == Some(PatchKind::Apply) { "Apply" } else { "Update" };
        let mut entry = manager_entry(&body, manager, operation);
        let mut after = before.clone();
        match patch {
            Some(_) => json_patch::merge(&mut after, &body),
            None => after = body,
        }
        after["metadata"]["managedFields"] = before["metadata"]["managedFields"].clone();
        for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
            after["metadata"][field] = before["metadata"][field].clone();
        }
        let applies_other_fields = patch == Some(PatchKind::Apply) && !has_entry(&before, &entry);
        if after == before && !applies_other_fields {
            return Ok(stored.body);
        }
        // Who replaces an object or applies to it sets all that it sends; a merge patch only adds to what its manager set.
        if patch != Some(PatchKind::Merge) {
            let entries = before.pointer("/metadata/managedFields").and_then(Value::as_array).cloned();
            let mut entries = entries.unwrap_or_default();
            entries.retain(|other| !is_by_same(other, &entry));
            entries.push(entry.take());
            after["metadata"]["managedFields"] = Value::Array(entries);
        }
        if after.get("spec") != before.get("spec") {
            after["metadata"]["generation"] = json!(before["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
        }
        Ok(self.save(kind, name.clone(), after))
    }

    /// Deletes an object, unless it has another uid than was asked for.
    pub fn delete(&mut self, kind: &str, name: &ObjectName, uid: Option<&str>) -> Result<(), Refusal> {
        let mut stored = self.get(kind, name)?;
        let mut object: Value = serde_json::from_slice(&stored.body).unwrap();
        if uid.is_some_and(|uid| object["metadata"]["uid"] != uid) {
            return Err(Refusal::new(409, "Conflict", kind, &name.1));
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        stored.version = self.version;
        stored.body = object.to_string().into();
        let collection = self.collection(kind);
        collection.objects.remove(name);
        collection.managed -= usize::from(stored.managed);
        collection.record("DELETED", stored);
        Ok(())
    }

    fn save(&mut self, kind: &str, name: ObjectName, mut object: Value) -> Bytes {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let labels = object.pointer("/metadata/labels");
        let managed = labels.and_then(|labels| labels.get(MANAGED_LABEL)).is_some_and(|value| value == "true");
        let body = Bytes::from(object.to_string());
        let version = self.version;
        self.collection(kind).put(name, Stored { version, managed, body: body.clone() });
        body
    }
}

/// Whether two entries of `managedFields` are one manager's, for one way of writing.
fn is_by_same(one: &Value, other: &Value) -> bool {
    one["manager"] == other["manager"] && one["operation"] == other["operation"]
}

fn has_entry(object: &Value, entry: &Value) -> bool {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(|other| is_by_same(other, entry) && other["fieldsV1"] == entry["fieldsV1"])
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The entry of `managedFields` for what a request sets, about as large as a real one.
fn manager_entry(object: &Value, manager: &str, operation: &str) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": object["apiVersion"], "time": now(),
        "fieldsType": "FieldsV1", "fieldsV1": fields(object, true)})
}

fn fields(value: &Value, top: bool) -> Value {
    let Some(map) = value.as_object() else { return json!({}) };
    let set = map.iter().filter(|(name, _)| !top || !matches!(name.as_str(), "apiVersion" | "kind"));
    Value::Object(set.map(|(name, below)| (format!("f:{name}"), fields(below, false))).collect::<Map<_, _>>())
}
