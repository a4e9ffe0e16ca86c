//! A round that takes an instance down. *IO.*

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::runtime::finalizer;

use super::InstanceController;
use super::error::InstanceError;
use super::observe::ObservedInstance;
use super::ownership::key;
use super::removal_steps::{Removal, next_removal};

/// Keeps the object until everything of it is gone.
pub const FINALIZER: &str = "airdock.dev/instance";

impl InstanceController {
    /// Does what is next to take an instance down.
    pub(super) async fn remove(&self, observed: &ObservedInstance) -> Result<Removal, InstanceError> {
        let instance = observed.instance.as_ref();
        if !instance.finalizers().iter().any(|f| f == FINALIZER) {
            return Ok(Removal::Finished);
        }
        let users = self.observe_users(instance).await?;
        if users.is_empty() {
            // From here on nobody is to work with the plane.
            self.plane_records.forget(&key(instance));
        }
        let removal = next_removal(instance, &observed.host, &users, Timestamp::now());
        match &removal {
            Removal::InUse(_) | Removal::Await(_) => {}
            Removal::Delete(targets) => {
                for target in targets {
                    if !self.retain(observed, target).await? {
                        self.delete(instance, target).await?;
                        tracing::info!(kind = target.resource.kind, object = target.name, "removed");
                    }
                }
            }
            Removal::Finished => {
                finalizer::remove(&self.context.host.0, instance, FINALIZER).await.map_err(|source| {
                    InstanceError::Read { what: "(and change the finalizers of) the instance", source }
                })?
            }
        }
        Ok(removal)
    }
}
