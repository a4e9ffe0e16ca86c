//! A round that brings an instance forward, step by step, until nothing is left to do now. *IO.*

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use crate::api::KarmadaInstance;
use crate::chart::{self, Component, Inputs, Names, Stage};
use crate::instance::{keys, plane};
use crate::pki::{Entry, Keyring};
use crate::runtime::planes::Plane;

use super::InstanceController;
use super::error::InstanceError;
use super::install_steps::{Progress, Step, next_step};
use super::observe::ObservedInstance;
use super::plan::{self, Addresses, DesiredHost};
use super::rollout::{all_available, rollout_status};
use super::{apply_plane, observe_plane, plane_plan};

/// What a round has found and done.
#[derive(Clone, Debug)]
pub struct ReconcileState {
    /// How far the instance is.
    pub progress: Progress,
    /// The step at which the round stopped.
    pub step: Step,
    /// The keys, once they are there.
    pub keyring: Keyring,
    /// What was written.
    pub changes: Vec<String>,
    /// Version that the plane reports.
    pub kubernetes_version: Option<String>,
    /// The plane, once there is a client for it.
    pub plane: Option<Arc<Plane>>,
}

impl ReconcileState {
    /// A round that has done nothing yet.
    #[must_use]
    pub fn begin(observed: &ObservedInstance) -> Self {
        Self {
            progress: Progress::begin(observed),
            step: Step::Base,
            keyring: Keyring::default(),
            changes: Vec::new(),
            kubernetes_version: None,
            plane: None,
        }
    }
}

impl InstanceController {
    /// Goes through the steps. After an error the state still says how far the round came, for the status.
    pub(super) async fn install(
        &self,
        observed: &ObservedInstance,
        state: &mut ReconcileState,
    ) -> Result<(), InstanceError> {
        let instance = observed.instance.as_ref();
        let mut desired = None;
        loop {
            state.step = next_step(&state.progress);
            match (state.step, &desired) {
                (Step::Base, _) => {
                    desired = Some(self.base(observed, state).await?);
                    state.progress.base = true;
                    let found = self.observe_api(instance, state.progress.started).await?;
                    state.progress.api = found.api;
                    state.kubernetes_version = found.kubernetes_version;
                    state.plane = found.plane;
                }
                (Step::Plane, _) => {
                    state.progress.unserved = self.plane(instance, state).await?;
                    state.progress.plane = true;
                }
                (Step::Components, Some(desired)) => {
                    self.components(observed, desired, state).await?;
                    state.progress.started = true;
                    state.progress.components = true;
                }
                (Step::Prune, Some(desired)) => {
                    let superfluous = plan::superfluous(instance, &observed.host, desired);
                    self.delete_all(instance, superfluous, "removed", &mut state.changes).await?;
                    state.progress.pruned = true;
                    self.availability(instance, state).await?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Services, keys, etcd and the API server.
    async fn base(
        &self,
        observed: &ObservedInstance,
        state: &mut ReconcileState,
    ) -> Result<DesiredHost, InstanceError> {
        let instance = observed.instance.as_ref();
        let services = plan::services(instance, &self.context.image)?;
        let addresses = Addresses::of(instance, &self.apply_all(observed, &services, &mut state.changes).await?);

        let entries = keys::entries(instance, &addresses.api_server)?;
        state.keyring = self.keyring(observed, &entries).await?;
        let secrets = plan::secrets(instance, &entries, &state.keyring);
        self.apply_all(observed, &secrets, &mut state.changes).await?;

        let digests = keys::digests(&state.keyring.secrets);
        let manifests = chart::host(&Inputs {
            instance,
            engine_image: &self.context.image,
            secret_digests: &digests,
            ca: plan::ca(&state.keyring),
            etcd_addresses: &addresses.etcd,
        })?;
        plan::check_claims(instance, &self.observe_claims(observed).await?)?;
        self.apply_all(observed, &plan::of_stage(&manifests, Stage::Base), &mut state.changes).await?;
        let stale = plan::pods_of_another_ca(&observed.host, digests.get(&Names::of(instance).object("etcd-ca")));
        // Their StatefulSet makes the pods anew.
        self.delete_all(instance, stale, "restarted", &mut state.changes).await?;
        Ok(DesiredHost { entries, manifests })
    }

    /// The keys as they are to be. What would be made anew is first looked for in the cluster itself, since a watch
    /// may lag behind, and a key that is made twice voids the first.
    async fn keyring(&self, observed: &ObservedInstance, entries: &[Entry]) -> Result<Keyring, InstanceError> {
        let instance = observed.instance.as_ref();
        let now = Timestamp::now();
        let ring = plan::keyring(instance, entries, observed.host.secrets.values().map(AsRef::as_ref), now)?;
        if ring.replaced.is_empty() {
            return Ok(ring);
        }
        let ring = plan::keyring(instance, entries, &self.observe_secrets(instance).await?, now)?;
        if !ring.replaced.is_empty() {
            let issued: Vec<String> = ring.replaced.iter().map(|(what, why)| format!("{what} ({why:?})")).collect();
            tracing::info!(issued = issued.join(", "), "issuing keys and certificates");
        }
        Ok(ring)
    }

    /// The objects inside the plane. Returns which kinds it does not serve yet.
    async fn plane(
        &self,
        instance: &KarmadaInstance,
        state: &mut ReconcileState,
    ) -> Result<Vec<String>, InstanceError> {
        let Some(plane) = state.plane.clone() else { return Ok(Vec::new()) };
        let inputs = Inputs {
            instance,
            engine_image: &self.context.image,
            secret_digests: &BTreeMap::new(),
            ca: plan::ca(&state.keyring),
            etcd_addresses: &[],
        };
        let inputs_digest = plan::inputs_digest(&inputs);
        if self.plane_records.are_settled(&plane, &inputs_digest) {
            return Ok(Vec::new());
        }
        let _permit = self.plane_records.permit().await;
        let definitions = self.observe_definitions(instance, &plane).await?;
        let desired = plane::manifests(&inputs, &definitions)?;
        let verification = self.plane_records.begin(&plane, &inputs_digest, &desired);

        let live = observe_plane::objects(&plane.cache, &desired).await?;
        let mut changes = Vec::new();
        for group in plane_plan::unverified(&desired, &live, &verification.verified()) {
            changes.extend(apply_plane::apply_all(&verification, group).await?);
        }
        let superfluous = plane_plan::superfluous(&desired, &live);
        changes.extend(apply_plane::delete_all(&verification.applier, superfluous).await?);
        state.changes.extend(changes.into_iter().map(|change| format!("{change} in the plane")));

        let unserved = observe_plane::unserved(&plane.client, &desired).await;
        let now = Timestamp::now();
        let overdue = plane_plan::not_established(&desired, &live, &unserved, now);
        apply_plane::request_establishing(&verification.applier, overdue, now).await?;
        if unserved.is_empty() {
            self.plane_records.settle(&verification);
        }
        Ok(unserved)
    }

    /// The components that need the plane.
    async fn components(
        &self,
        observed: &ObservedInstance,
        desired: &DesiredHost,
        state: &mut ReconcileState,
    ) -> Result<(), InstanceError> {
        let instance = observed.instance.as_ref();
        let mut components = plan::of_stage(&desired.manifests, Stage::Plane);
        let api_server = rollout_status(Component::ApiServer, instance, &self.caches.host(instance)?);
        if !api_server.is_available(&Component::ApiServer.image(instance, &self.context.image)) {
            plan::keep_image(&mut components, &observed.host, Component::KubeControllerManager);
        }
        self.apply_all(observed, &components, &mut state.changes).await?;
        Ok(())
    }

    /// Whether every component is available, and what they serve through the plane is served.
    async fn availability(&self, instance: &KarmadaInstance, state: &mut ReconcileState) -> Result<(), InstanceError> {
        state.progress.available = all_available(instance, &self.caches.host(instance)?, &self.context.image);
        let Some(plane) = state.plane.as_ref().filter(|_| state.progress.available) else { return Ok(()) };
        let unserved = observe_plane::unserved_forwarded(plane, instance).await;
        if !unserved.is_empty() {
            state.progress.available = false;
            state.progress.unserved = unserved;
        }
        Ok(())
    }
}
