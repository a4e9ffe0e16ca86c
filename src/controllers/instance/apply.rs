//! Carries an instance forward, step by step, until nothing is left to do now. *IO.*

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;

use crate::api::{INSTANCE_LABEL, KarmadaInstance};
use crate::chart::{
    self, Component, ETCD_CLIENT_SERVICE, Inputs, Manifest, Names, Stage, claim_names, component_of, enabled,
};
use crate::pki::secrets::Data;
use crate::pki::{Entry, Issuer, Keyring};
use crate::runtime::apply::typed;
use crate::runtime::error::chain;
use crate::runtime::planes::Plane;

use super::InstanceController;
use super::caches::Host;
use super::error::InstanceError;
use super::host::owned;
use super::observe::{self, Observed, Ownership, key, ownership};
use super::plan::{Progress, Step, all_available, next_step, rollout_status};
use super::{keys, plane};

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

/// What is wanted in the host cluster, once all that it depends on is known.
struct Wanted {
    entries: Vec<Entry>,
    manifests: Vec<Manifest>,
}

impl InstanceController {
    /// Goes through the steps. On an error the round so far is still told, for the status.
    pub(super) async fn advance(&self, observed: &Observed, state: &mut ReconcileState) -> Result<(), InstanceError> {
        let instance = &observed.instance;
        let mut wanted = None;
        loop {
            state.step = next_step(&state.progress);
            match state.step {
                Step::Base => {
                    wanted = Some(self.base(observed, state).await?);
                    state.progress.base = true;
                    self.look_at_api(observed, state).await?;
                }
                Step::Plane => {
                    state.progress.unserved = self.plane(instance, state).await?;
                    state.progress.plane = true;
                }
                Step::Components => {
                    self.components(observed, &wanted, state).await?;
                    state.progress.components = true;
                }
                Step::Prune => {
                    self.prune(observed, &wanted, state).await?;
                    state.progress.pruned = true;
                    let host = self.caches.host(instance)?;
                    state.progress.available = all_available(instance, &host, &self.context.image);
                    if state.progress.available {
                        self.look_at_forwarded_kinds(instance, state).await;
                    }
                }
                Step::AwaitApi | Step::AwaitKinds | Step::AwaitComponents | Step::Settled => return Ok(()),
            }
        }
    }

    /// Services, keys, etcd and the API server.
    async fn base(&self, observed: &Observed, state: &mut ReconcileState) -> Result<Wanted, InstanceError> {
        let instance = observed.instance.as_ref();
        let no_digests = BTreeMap::new();
        let services: Vec<Manifest> = self
            .render(instance, &no_digests, "", &[])?
            .into_iter()
            .filter(|manifest| matches!(manifest, Manifest::Service(_)))
            .collect();
        let applied = self.apply_all(observed, &services, &mut state.changes).await?;
        let names = Names::of(instance);
        let api_addresses = addresses_of(&applied, &names.component(Component::ApiServer));
        let etcd_addresses = addresses_of(&applied, &names.object(ETCD_CLIENT_SERVICE));

        let entries = keys::entries(instance, &api_addresses)?;
        state.keyring = self.keyring(observed, &entries).await?;
        let secrets: Vec<Manifest> = entries
            .iter()
            .filter_map(|entry| Some(keys::secret(instance, entry, state.keyring.secrets.get(&entry.name)?).into()))
            .collect();
        self.apply_all(observed, &secrets, &mut state.changes).await?;

        let digests = keys::digests(&state.keyring.secrets);
        let manifests = self.render(instance, &digests, authority(&state.keyring), &etcd_addresses)?;
        let wanted = Wanted { entries, manifests };
        self.refuse_foreign_claims(observed).await?;
        let base: Vec<Manifest> = of_stage(&wanted.manifests, Stage::Base).cloned().collect();
        self.apply_all(observed, &base, &mut state.changes).await?;
        self.restart_pods_of_another_ca(observed, &digests, state).await?;
        Ok(wanted)
    }

    /// Members of etcd under a new authority and those under the old one shut each other out, and a roll-out one by
    /// one would wait for ever: those left behind are restarted together.
    async fn restart_pods_of_another_ca(
        &self,
        observed: &Observed,
        digests: &BTreeMap<String, String>,
        state: &mut ReconcileState,
    ) -> Result<(), InstanceError> {
        let instance = observed.instance.as_ref();
        let pods = ApiResource::erase::<Pod>(&());
        for (name, uid) in pods_of_another_ca(&observed.host, digests.get(&Names::of(instance).object("etcd-ca"))) {
            let deleted = self.applier.delete(&pods, instance.namespace().as_deref(), &name, &uid).await;
            deleted.map_err(InstanceError::host)?;
            state.changes.push(format!("restarted Pod {name}"));
        }
        Ok(())
    }

    fn render(
        &self,
        instance: &KarmadaInstance,
        secret_digests: &BTreeMap<String, String>,
        authority: &str,
        etcd_addresses: &[String],
    ) -> Result<Vec<Manifest>, InstanceError> {
        let engine_image = &self.context.image;
        Ok(chart::host(&Inputs { instance, engine_image, secret_digests, authority, etcd_addresses })?)
    }

    /// The keys as they are to be. What would be made anew is first looked for in the cluster itself, since a watch
    /// may lag behind, and a key that is made twice voids the first.
    async fn keyring(&self, observed: &Observed, entries: &[Entry]) -> Result<Keyring, InstanceError> {
        let instance = observed.instance.as_ref();
        let lifetimes = keys::lifetimes(instance);
        let now = Timestamp::now();
        let present = own_data(instance, observed.host.secrets.values().map(AsRef::as_ref));
        let ring = Keyring::complete(entries, &present, lifetimes, now)?;
        if ring.replaced.is_empty() {
            return Ok(ring);
        }
        let secrets: Api<Secret> =
            Api::namespaced(self.context.host.0.clone(), &instance.namespace().unwrap_or_default());
        let params = ListParams::default().labels(&format!("{INSTANCE_LABEL}={}", instance.name_any()));
        let live = secrets.list(&params).await.map_err(|source| InstanceError::Read { what: "the Secrets", source })?;
        let ring = Keyring::complete(entries, &own_data(instance, &live.items), lifetimes, now)?;
        if !ring.replaced.is_empty() {
            let issued: Vec<String> = ring.replaced.iter().map(|(what, why)| format!("{what} ({why:?})")).collect();
            tracing::info!(issued = issued.join(", "), "issuing keys and certificates");
        }
        Ok(ring)
    }

    /// A StatefulSet takes up any claim of the right name; it must not take somebody else's.
    async fn refuse_foreign_claims(&self, observed: &Observed) -> Result<(), InstanceError> {
        let instance = observed.instance.as_ref();
        let set = Names::of(instance).component(Component::Etcd);
        if observed.host.stateful_sets.contains_key(&set) {
            return Ok(());
        }
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.context.host.0.clone(), &instance.namespace().unwrap_or_default());
        for name in claim_names(instance) {
            let found = claims
                .get_metadata_opt(&name)
                .await
                .map_err(|source| InstanceError::Read { what: "the volume claims", source })?;
            if found.is_some_and(|claim| claim.labels().get(INSTANCE_LABEL) != instance.metadata.name.as_ref()) {
                return Err(InstanceError::Taken { kind: "PersistentVolumeClaim".into(), name });
            }
        }
        Ok(())
    }

    /// Asks the API whether it is ready, once something runs that could answer.
    async fn look_at_api(&self, observed: &Observed, state: &mut ReconcileState) -> Result<(), InstanceError> {
        let instance = &observed.instance;
        let host = self.caches.host(instance)?;
        if rollout_status(Component::ApiServer, instance, &host).ready == 0 && !state.progress.started {
            return Ok(());
        }
        let Ok(plane) = self.context.planes.get(&key(instance)) else { return Ok(()) };
        state.progress.api = observe::probe(&plane.client).await;
        if state.progress.api == observe::Api::Ready {
            state.kubernetes_version = self.kubernetes_version(instance, &plane).await;
        }
        state.plane = Some(plane);
        Ok(())
    }

    /// The version is asked for only when it may have changed.
    async fn kubernetes_version(&self, instance: &KarmadaInstance, plane: &Plane) -> Option<String> {
        let known = instance.status.as_ref().and_then(|status| status.kubernetes_version.clone());
        let image = Component::ApiServer.image(instance, &self.context.image);
        if known.is_some() && known.as_deref() == chart::image_version(&image) {
            return known;
        }
        observe::version(&plane.client).await.or(known)
    }

    /// The objects inside the plane. Tells which kinds it does not serve yet.
    async fn plane(
        &self,
        instance: &KarmadaInstance,
        state: &mut ReconcileState,
    ) -> Result<Vec<String>, InstanceError> {
        let Some(plane) = state.plane.clone() else { return Ok(Vec::new()) };
        let no_digests = BTreeMap::new();
        let inputs = Inputs {
            instance,
            engine_image: &self.context.image,
            secret_digests: &no_digests,
            authority: authority(&state.keyring),
            etcd_addresses: &[],
        };
        let made_from = made_from(&inputs);
        if self.plane_objects.are_settled(&plane, &made_from) {
            return Ok(Vec::new());
        }
        let _turn = self.plane_objects.turn().await;
        let mut manifests = self.definitions(instance, &plane, inputs.authority).await?;
        manifests.append(&mut chart::plane(&inputs)?);
        plane::mark(&mut manifests);
        chart::seal(&mut manifests)?;
        let looked = self.plane_objects.ensure(&plane, &made_from, &manifests).await?;
        state.changes.extend(looked.changes.into_iter().map(|change| format!("{change} in the plane")));
        Ok(looked.unserved)
    }

    /// Kinds that the plane forwards to a component count as served only when they are.
    async fn look_at_forwarded_kinds(&self, instance: &KarmadaInstance, state: &mut ReconcileState) {
        let Some(plane) = &state.plane else { return };
        if Component::AggregatedApiServer.is_enabled(instance) && !plane::serves_clusters(plane).await {
            state.progress.available = false;
            state.progress.unserved = vec!["clusters.cluster.karmada.io".to_owned()];
        }
    }

    /// Karmada's definitions: built in for Compact, from the bundle for Full.
    async fn definitions(
        &self,
        instance: &KarmadaInstance,
        plane: &Plane,
        authority: &str,
    ) -> Result<Vec<Manifest>, InstanceError> {
        if Component::Engine.is_enabled(instance) {
            return Ok(crate::karmada::definitions().into_iter().map(Manifest::from).collect());
        }
        let sourced = match self.bundles.get(&self.context.host.0, instance).await {
            Ok(sourced) => sourced,
            // A source that is away for a while does not make a working plane a broken one.
            Err(error) => {
                let version = instance.spec.crds.as_ref().and_then(|crds| crds.source.sha256.clone());
                let version: String = version.unwrap_or_default().chars().take(20).collect();
                if !version.is_empty() && plane::holds_bundle(&plane.client, &version).await {
                    tracing::warn!(error = chain(&error), "the plane goes on with the definitions that it has");
                    return Ok(Vec::new());
                }
                return Err(error.into());
            }
        };
        let names = Names::of(instance);
        let webhook = names.component(Component::Webhook);
        let authority = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(authority)
        };
        let definitions = sourced.bundle.definitions(&webhook, names.namespace, &authority)?;
        let mut manifests: Vec<Manifest> = definitions.into_iter().map(Manifest::from).collect();
        for manifest in &mut manifests {
            manifest.annotate(plane::BUNDLE_ANNOTATION, sourced.version.clone());
        }
        Ok(manifests)
    }

    /// The components that need the plane.
    async fn components(
        &self,
        observed: &Observed,
        wanted: &Option<Wanted>,
        state: &mut ReconcileState,
    ) -> Result<(), InstanceError> {
        let Some(wanted) = wanted else { return Ok(()) };
        let instance = observed.instance.as_ref();
        let mut components: Vec<Manifest> = of_stage(&wanted.manifests, Stage::Plane).cloned().collect();
        let api_server = rollout_status(Component::ApiServer, instance, &self.caches.host(instance)?);
        if !api_server.is_available(&Component::ApiServer.image(instance, &self.context.image)) {
            keep_image(&mut components, &observed.host, Component::KubeControllerManager);
        }
        self.apply_all(observed, &components, &mut state.changes).await?;
        state.progress.started = true;
        Ok(())
    }

    /// Removes what this instance owns and no longer wants.
    async fn prune(
        &self,
        observed: &Observed,
        wanted: &Option<Wanted>,
        state: &mut ReconcileState,
    ) -> Result<(), InstanceError> {
        let Some(wanted) = wanted else { return Ok(()) };
        let instance = observed.instance.as_ref();
        let is_wanted = |kind: &str, name: &str| {
            (kind == "Secret" && wanted.entries.iter().any(|entry| entry.name == name))
                || wanted.manifests.iter().any(|m| m.resource().kind == kind && m.name() == name)
        };
        for (resource, name, uid) in owned(instance, &observed.host) {
            if is_wanted(&resource.kind, &name) {
                continue;
            }
            let namespace = instance.namespace();
            self.applier.delete(&resource, namespace.as_deref(), &name, &uid).await.map_err(InstanceError::host)?;
            state.changes.push(format!("removed {} {name}", resource.kind));
        }
        Ok(())
    }
}

/// Pods of an etcd of several members that run under another authority than the wanted one: name and uid. *Pure.*
fn pods_of_another_ca(host: &Host, authority: Option<&String>) -> Vec<(String, String)> {
    let members: Vec<_> =
        host.pods.values().filter(|pod| component_of(pod.as_ref()) == Some(Component::Etcd)).collect();
    if members.len() < 2 {
        return Vec::new();
    }
    members
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter(|pod| pod.annotations().get(chart::AUTHORITY_ANNOTATION) != authority)
        .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
        .collect()
}

/// Addresses of one of the Services that were applied. *Pure.*
fn addresses_of(applied: &[DynamicObject], name: &str) -> Vec<String> {
    let service = applied.iter().find(|object| object.name_any() == name);
    let service = service.and_then(|object| typed::<Service>(object.clone()).ok());
    service.map(|service| keys::service_addresses(&service)).unwrap_or_default()
}

/// Changes whenever the objects inside the plane might, apart from the bundle behind a ConfigMap. *Pure.*
fn made_from(inputs: &Inputs<'_>) -> String {
    let spec = serde_json::to_string(&inputs.instance.spec).unwrap_or_default();
    chart::digest([spec.as_bytes(), inputs.engine_image.as_bytes(), inputs.authority.as_bytes()])
}

fn authority(keyring: &Keyring) -> &str {
    keyring.authorities.get(&Issuer::Main).map_or("", String::as_str)
}

/// Data of the Secrets that are the instance's, or were left for it.
fn own_data<'a>(instance: &KarmadaInstance, secrets: impl IntoIterator<Item = &'a Secret>) -> BTreeMap<String, Data> {
    secrets
        .into_iter()
        .filter(|secret| ownership(&secret.metadata, instance) != Ownership::Foreign)
        .map(|secret| (secret.name_any(), keys::data(secret)))
        .collect()
}

/// The manifests of a stage, apart from Services.
fn of_stage(manifests: &[Manifest], stage: Stage) -> impl Iterator<Item = &Manifest> {
    manifests.iter().filter(move |manifest| {
        let component = manifest.label(chart::COMPONENT_LABEL).and_then(Component::named);
        !matches!(manifest, Manifest::Service(_)) && component.is_some_and(|component| component.stage() == stage)
    })
}

/// Controllers must not be newer than the API server: until it has been rolled out, they stay what they are.
fn keep_image(manifests: &mut [Manifest], host: &Host, component: Component) {
    for manifest in manifests {
        let Manifest::Deployment(wanted) = manifest else { continue };
        if component_of(wanted.as_ref()) != Some(component) {
            continue;
        }
        let live = host
            .deployments
            .get(&wanted.name_any())
            .and_then(|live| live.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone());
        let container = wanted
            .spec
            .as_mut()
            .and_then(|spec| spec.template.spec.as_mut())
            .and_then(|spec| spec.containers.first_mut());
        if let (Some(live), Some(container)) = (live, container) {
            container.image = Some(live);
        }
    }
}

/// A round that has done nothing yet.
pub(super) fn begin(observed: &Observed) -> ReconcileState {
    let instance = &observed.instance;
    let started = enabled(instance)
        .filter(|component| component.stage() == Stage::Plane)
        .any(|component| rollout_status(component, instance, &observed.host).exists);
    ReconcileState {
        progress: Progress {
            base: false,
            api: observe::Api::Starting,
            plane: false,
            unserved: Vec::new(),
            started,
            components: false,
            pruned: false,
            available: false,
        },
        step: Step::Base,
        keyring: Keyring::default(),
        changes: Vec::new(),
        kubernetes_version: None,
        plane: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn member(host: &mut Host, name: &str, authority: &str) {
        let pod = json!({ "metadata": { "name": name, "uid": name,
            "labels": { "app.kubernetes.io/component": "etcd" },
            "annotations": { "airdock.dev/authority": authority } } });
        host.pods.insert(name.to_owned(), Arc::new(serde_json::from_value(pod).unwrap()));
    }

    #[test]
    fn members_left_behind_by_a_new_authority_are_restarted_together() {
        let mut host = Host::default();
        let new = "new".to_owned();
        member(&mut host, "a", "old");
        assert!(pods_of_another_ca(&host, Some(&new)).is_empty(), "one alone is rolled out as any other");
        member(&mut host, "b", "old");
        member(&mut host, "c", "new");
        let names: Vec<String> = pods_of_another_ca(&host, Some(&new)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
