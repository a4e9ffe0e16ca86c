//! Provisions volumes of the storage class `standard`: a directory each on the
//! machine, which all of the lab's nodes share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::failure::report;
use crate::layout::{self, make_dir};

/// Names the provisioner in the storage class and on its volumes.
pub const PROVISIONER: &str = "lab.airdock.dev/directories";
const CLASS: &str = "standard";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

enum Change {
    Claim(PersistentVolumeClaim),
    Volume(PersistentVolume),
}

/// Follows claims and volumes.
pub async fn run(client: Client, folder: PathBuf) -> Result<()> {
    let claims = watcher(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .filter_map(|event| async { event.ok().map(Change::Claim) })
        .boxed();
    let volumes = watcher(Api::<PersistentVolume>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .applied_objects()
        .filter_map(|event| async { event.ok().map(Change::Volume) })
        .boxed();
    let mut changes = stream::select(claims, volumes);
    while let Some(change) = changes.next().await {
        let outcome = match change {
            Change::Claim(claim) => provision(&client, &folder, &claim).await,
            Change::Volume(volume) => reclaim(&client, &folder, &volume).await,
        };
        if let Err(error) = outcome {
            tracing::warn!("{}", report(&error));
        }
    }
    Ok(())
}

async fn provision(client: &Client, folder: &Path, claim: &PersistentVolumeClaim) -> Result<()> {
    let Some(volume) = volume_for(claim, folder) else { return Ok(()) };
    let name = volume.name_any();
    let directory = folder.join(&name);
    make_dir(&directory)?;
    // Any pod's account may write, as with a fresh disk and fsGroup.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777))
        .with_context(|| format!("opening {} to all accounts", directory.display()))?;
    match Api::<PersistentVolume>::all(client.clone()).create(&PostParams::default(), &volume).await {
        Ok(_) => {
            tracing::info!(volume = name, "provisioned");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("making the volume {name}")),
    }
}

/// The volume that an unbound claim of our class asks for.
fn volume_for(claim: &PersistentVolumeClaim, folder: &Path) -> Option<PersistentVolume> {
    let spec = claim.spec.as_ref()?;
    let bound = spec.volume_name.as_deref().is_some_and(|name| !name.is_empty());
    if bound || spec.storage_class_name.as_deref() != Some(CLASS) || claim.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let size = spec.resources.as_ref()?.requests.as_ref()?.get("storage")?;
    let uid = claim.uid()?;
    let name = format!("pvc-{uid}");
    serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": spec.access_modes.clone().unwrap_or_else(|| vec!["ReadWriteOnce".into()]),
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "volumeMode": "Filesystem",
            "hostPath": {"path": folder.join(&name), "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": claim.namespace()?,
                "name": claim.name_any(),
                "uid": uid,
            },
        },
    }))
    .ok()
}

async fn reclaim(client: &Client, folder: &Path, volume: &PersistentVolume) -> Result<()> {
    if !is_released(volume) {
        return Ok(());
    }
    let name = volume.name_any();
    layout::remove(&folder.join(&name))?;
    let same =
        DeleteParams::default().preconditions(kube::api::Preconditions { uid: volume.uid(), ..Default::default() });
    match Api::<PersistentVolume>::all(client.clone()).delete(&name, &same).await {
        Ok(_) => {
            tracing::info!(volume = name, "reclaimed");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("deleting the volume {name}")),
    }
}

/// Whether a volume of ours lost its claim and is to go with it.
fn is_released(volume: &PersistentVolume) -> bool {
    let ours = volume.annotations().get(PROVISIONED_BY).is_some_and(|p| p == PROVISIONER);
    let released = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Released");
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    ours && released && policy == Some("Delete") && volume.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(class: &str, volume: Option<&str>) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "data-etcd-0", "namespace": "fleet", "uid": "u-1"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": class,
                "volumeName": volume,
                "resources": {"requests": {"storage": "5Gi"}},
            },
        }))
        .unwrap()
    }

    #[test]
    fn only_unbound_claims_of_the_class_get_a_volume() {
        let volume = volume_for(&claim(CLASS, None), Path::new("/v")).unwrap();
        assert_eq!(volume.name_any(), "pvc-u-1");
        let spec = volume.spec.unwrap();
        assert_eq!(spec.host_path.unwrap().path, "/v/pvc-u-1");
        assert_eq!(spec.capacity.unwrap()["storage"].0, "5Gi");
        assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("u-1"));
        for other in [claim("fast", None), claim(CLASS, Some("pv-9"))] {
            assert!(volume_for(&other, Path::new("/v")).is_none());
        }
    }

    #[test]
    fn only_our_released_volumes_are_reclaimed() {
        let volume = |by: &str, phase: &str, policy: &str| -> PersistentVolume {
            serde_json::from_value(json!({
                "metadata": {"name": "v", "annotations": {PROVISIONED_BY: by}},
                "spec": {"persistentVolumeReclaimPolicy": policy},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        for (by, phase, policy, expected) in [
            (PROVISIONER, "Released", "Delete", true),
            (PROVISIONER, "Bound", "Delete", false),
            (PROVISIONER, "Released", "Retain", false),
            ("other", "Released", "Delete", false),
        ] {
            assert_eq!(is_released(&volume(by, phase, policy)), expected, "{by} {phase} {policy}");
        }
    }
}
