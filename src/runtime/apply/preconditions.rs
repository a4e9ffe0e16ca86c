//! Writes that can only hit the state that was seen: what was not there is created, what was there is written only while
//! it is the same. Whoever comes second is refused (409), and looks again.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::{Applied, Applier, ApplyError, Change, api_error, full_name, settled_key, typed_value};
use crate::machinery::error::is_not_found;

impl Applier {
    /// Applies an object over the state that was seen in the API server (`None`: it was not there). What a cache has is
    /// not enough, since it lacks `managedFields`.
    ///
    /// # Errors
    /// The object was made, changed or deleted since ([`ApplyError::is_conflict`]), or the API server refuses it.
    pub async fn apply_seen(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
        wanted: Value,
        seen: Option<DynamicObject>,
    ) -> Result<Applied, ApplyError> {
        let wanted = typed_value(resource, wanted);
        let Some(seen) = seen else { return self.create(resource, namespace, name, wanted).await };
        if self.is_applied(resource, &wanted, &seen) {
            return Ok(Applied { object: seen, change: Change::None });
        }
        let seen = self.taken_over(resource, namespace, name, seen).await?;
        let mut guarded = wanted.clone();
        guarded["metadata"]["uid"] = json!(seen.metadata.uid);
        guarded["metadata"]["resourceVersion"] = json!(seen.metadata.resource_version);
        let applied = self
            .api(resource, namespace)
            .patch(name, &PatchParams::apply(&self.manager).force(), &Patch::Apply(&guarded))
            .await
            .map_err(|source| api_error("apply", resource, namespace, name, source))?;
        let same = seen.resource_version() == applied.resource_version();
        self.settle(resource, namespace, name, &wanted, &applied);
        Ok(Applied { object: applied, change: if same { Change::None } else { Change::Updated } })
    }

    async fn create(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
        wanted: Value,
    ) -> Result<Applied, ApplyError> {
        let object: DynamicObject = serde_json::from_value(wanted.clone()).map_err(|source| ApplyError::Serialize {
            kind: resource.kind.clone(),
            name: full_name(namespace, name),
            source,
        })?;
        let params = PostParams { field_manager: Some(self.manager.clone()), ..PostParams::default() };
        let created = self.api(resource, namespace).create(&params, &object).await;
        let object = created.map_err(|source| api_error("create", resource, namespace, name, source))?;
        self.settle(resource, namespace, name, &wanted, &object);
        Ok(Applied { object, change: Change::Created })
    }

    /// Changes parts of the metadata of the object as it was seen, and nothing else of it.
    ///
    /// # Errors
    /// The object was changed or deleted since ([`ApplyError::is_conflict`]), or the API server refuses it.
    pub async fn patch_metadata(
        &self,
        resource: &ApiResource,
        seen: &DynamicObject,
        mut metadata: Value,
    ) -> Result<DynamicObject, ApplyError> {
        metadata["uid"] = json!(seen.metadata.uid);
        metadata["resourceVersion"] = json!(seen.metadata.resource_version);
        let params = PatchParams { field_manager: Some(self.manager.clone()), ..PatchParams::default() };
        let (namespace, name) = (seen.namespace(), seen.name_any());
        self.api(resource, namespace.as_deref())
            .patch(&name, &params, &Patch::Merge(&json!({ "metadata": metadata })))
            .await
            .map_err(|source| api_error("patch", resource, namespace.as_deref(), &name, source))
    }

    /// Deletes the object as it was seen: for decisions that rest on what it says. One that is gone is no error.
    ///
    /// # Errors
    /// The object was changed or made anew since ([`ApplyError::is_conflict`]), or the API server refuses.
    pub async fn delete_seen(&self, resource: &ApiResource, seen: &DynamicObject) -> Result<(), ApplyError> {
        let preconditions = Preconditions { uid: seen.uid(), resource_version: seen.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let (namespace, name) = (seen.namespace(), seen.name_any());
        match self.api(resource, namespace.as_deref()).delete(&name, &params).await {
            // A serialization error is about the object in the answer, which cannot be read.
            Ok(_) | Err(kube::Error::SerdeError(_)) => {
                self.settled.lock().remove(&settled_key(resource, namespace.as_deref(), &name));
                Ok(())
            }
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(api_error("delete", resource, namespace.as_deref(), &name, source)),
        }
    }

    /// The object, whose fields the manager owns as if they had been applied from the start: fields that were created and
    /// are wanted no more would stay otherwise.
    async fn taken_over(
        &self,
        resource: &ApiResource,
        namespace: Option<&str>,
        name: &str,
        seen: DynamicObject,
    ) -> Result<DynamicObject, ApplyError> {
        let entries = seen.metadata.managed_fields.as_deref().unwrap_or_default();
        let Some(entries) = as_applied(entries, &self.manager) else { return Ok(seen) };
        let patch = json!({"metadata": {
            "uid": seen.metadata.uid, "resourceVersion": seen.metadata.resource_version, "managedFields": entries,
        }});
        self.api(resource, namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(|source| api_error("patch", resource, namespace, name, source))
    }
}

/// The entries with what the manager created as what it applied; nothing when there is nothing to change.
fn as_applied(entries: &[ManagedFieldsEntry], manager: &str) -> Option<Vec<ManagedFieldsEntry>> {
    let is_its = |entry: &ManagedFieldsEntry, operation: &str| {
        entry.manager.as_deref() == Some(manager)
            && entry.operation.as_deref() == Some(operation)
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    };
    if entries.iter().any(|entry| is_its(entry, "Apply")) {
        return None;
    }
    let mut entries = entries.to_vec();
    let created = entries.iter_mut().find(|entry| is_its(entry, "Update"))?;
    created.operation = Some("Apply".to_owned());
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_created_becomes_what_was_applied() {
        let entry = |manager: &str, operation: &str, subresource: Option<&str>| ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            operation: Some(operation.to_owned()),
            subresource: subresource.map(str::to_owned),
            ..ManagedFieldsEntry::default()
        };
        let operations = |entries: Vec<ManagedFieldsEntry>| {
            as_applied(&entries, "m").map(|entries| {
                entries.into_iter().map(|entry| entry.operation.unwrap_or_default()).collect::<Vec<_>>().join(" ")
            })
        };
        for (name, entries, want) in [
            ("created", vec![entry("other", "Update", None), entry("m", "Update", None)], Some("Update Apply")),
            ("applied before", vec![entry("m", "Apply", None)], None),
            ("applied, and patched since", vec![entry("m", "Apply", None), entry("m", "Update", None)], None),
            ("only its status", vec![entry("m", "Update", Some("status"))], None),
            ("somebody else's", vec![entry("other", "Update", None)], None),
        ] {
            assert_eq!(operations(entries).as_deref(), want, "{name}");
        }
    }
}
