//! Writing what a membership wants, in the member and in the plane. IO.

use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::Error;
use super::observe::{Access, LiveCluster};
use super::plan::{
    self, IMPERSONATOR, IdentityObjects, MEMBER_LABEL, MEMBER_NAMESPACE_LABEL, Tokens, USER_ANNOTATION_PREFIX,
};
use crate::api::member::MemberClusterJoin;
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::karmada::{CLUSTER_NAMESPACE, Cluster, SYSTEM_LABEL};
use crate::runtime::apply::{Applied, Applier, ApplyError, anybodys, labelled, typed};
use crate::runtime::error::{is_conflict, is_not_found};
use crate::runtime::planes::{InstanceKey, Plane};

/// What the member has given so far.
#[derive(Debug)]
pub enum Issued {
    /// Tokens of the plane's identity.
    Tokens(Tokens),
    /// Its token controller has not issued them yet.
    NotYet,
    /// The namespace for them is still being deleted after an earlier membership.
    NamespaceEnding,
}

/// Makes the plane's identity in the member. Returns its tokens once the member has issued them.
pub async fn identity(access: &Access, join: &MemberClusterJoin, instance: &InstanceKey) -> Result<Issued, Error> {
    match made(access, join, instance).await {
        Ok(Some(tokens)) => Ok(Issued::Tokens(tokens)),
        Ok(None) => Ok(Issued::NotYet),
        Err(Error::MemberNamespaceEnding) => Ok(Issued::NamespaceEnding),
        Err(error) => Err(error),
    }
}

async fn made(access: &Access, join: &MemberClusterJoin, instance: &InstanceKey) -> Result<Option<Tokens>, Error> {
    let IdentityObjects { account, role, binding, token, impersonator_token } =
        plan::identity(join, instance, plan::Access::Full);
    let applier = &access.applier;
    hold_namespace(access, join).await?;
    // A token Secret whose account is not there would be deleted at once, so the accounts come first.
    let (shared, account, role, binding) = tokio::join!(
        hold_impersonator(access, join),
        applier.apply(&account, labelled),
        applier.apply(&role, labelled),
        applier.apply(&binding, labelled),
    );
    shared?;
    for written in [account, role, binding] {
        written.map_err(|e| access.write_failure(e))?;
    }
    let (token, impersonator_token) =
        tokio::try_join!(applier.apply(&token, labelled), applier.apply(&impersonator_token, labelled))
            .map_err(|e| access.write_failure(e))?;
    let (token, impersonator_token) = (secret(access, token)?, secret(access, impersonator_token)?);
    Ok(plan::tokens(&token, &impersonator_token, access.authority.as_deref()))
}

fn secret(access: &Access, applied: Applied) -> Result<Secret, Error> {
    typed(applied.object).map_err(|e| access.failure(kube::Error::SerdeError(e)))
}

/// Takes the verb `delete` from the plane's identity.
pub async fn withhold_delete(access: &Access, join: &MemberClusterJoin, instance: &InstanceKey) -> Result<(), Error> {
    let role = plan::identity(join, instance, plan::Access::WithoutDelete).role;
    access.applier.apply(&role, labelled).await.map(|_| ()).map_err(|e| access.write_failure(e))
}

async fn hold_namespace(access: &Access, join: &MemberClusterJoin) -> Result<(), Error> {
    let api = Api::<Namespace>::all(access.client());
    // What is put into it now would go with it.
    let found = api.get_metadata_opt(CLUSTER_NAMESPACE).await.map_err(|e| access.failure(e))?;
    if found.is_some_and(|found| found.metadata.deletion_timestamp.is_some()) {
        return Err(Error::MemberNamespaceEnding);
    }
    claim(&api, access, join, CLUSTER_NAMESPACE, |metadata| Namespace { metadata, ..Namespace::default() }).await
}

async fn hold_impersonator(access: &Access, join: &MemberClusterJoin) -> Result<(), Error> {
    let api = Api::<ServiceAccount>::namespaced(access.client(), CLUSTER_NAMESPACE);
    claim(&api, access, join, IMPERSONATOR, |metadata| ServiceAccount { metadata, ..ServiceAccount::default() }).await
}

/// Makes an object that several memberships share, or holds on to the one that is there: each user has an annotation
/// of its own on it. One that somebody else made is used, and never deleted.
async fn claim<K>(
    api: &Api<K>,
    access: &Access,
    join: &MemberClusterJoin,
    name: &str,
    new: impl Fn(kube::core::ObjectMeta) -> K,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let key = plan::user_annotation(join);
    let user = format!("{}/{}", join.namespace().unwrap_or_default(), join.name_any());
    match api.get_opt(name).await.map_err(|e| access.failure(e))? {
        Some(found) if found.annotations().contains_key(&key) => Ok(()),
        Some(found) => {
            let body = json!({"metadata": {"uid": found.uid(), "annotations": {key: user}}});
            let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(&body)).await;
            patched.map(|_| ()).map_err(|source| written(access, "patch", name, source))
        }
        None => {
            let object = new(kube::core::ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(
                    [(MANAGED_BY_LABEL, MANAGED_BY), (SYSTEM_LABEL, "true")]
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
                annotations: Some([(key, user)].into()),
                ..kube::core::ObjectMeta::default()
            });
            let created = api.create(&PostParams::default(), &object).await;
            created.map(|_| ()).map_err(|source| written(access, "create", name, source))
        }
    }
}

fn written(access: &Access, verb: &'static str, name: &str, source: kube::Error) -> Error {
    access.write_failure(ApplyError::Api { verb, kind: "shared object".to_owned(), name: name.to_owned(), source })
}

/// Registers the member in the plane: namespace, credentials, Cluster.
pub async fn register(
    plane: &Plane,
    join: &MemberClusterJoin,
    tokens: &Tokens,
    wanted: Value,
    live: Option<&LiveCluster>,
) -> Result<Cluster, Error> {
    let applier = Applier::new(plane.client.clone(), "airdock.dev/member");
    let namespace: Namespace = Namespace {
        metadata: kube::core::ObjectMeta {
            name: Some(CLUSTER_NAMESPACE.to_owned()),
            labels: Some([(SYSTEM_LABEL.to_owned(), "true".to_owned())].into()),
            ..kube::core::ObjectMeta::default()
        },
        ..Namespace::default()
    };
    plane.apply(&applier, &namespace, anybodys).await.map_err(Error::PlaneWrite)?;
    let [credentials, impersonator] = plan::plane_secrets(join, tokens);
    tokio::try_join!(plane.apply(&applier, &credentials, labelled), plane.apply(&applier, &impersonator, labelled))
        .map_err(Error::PlaneWrite)?;
    let resource = ApiResource::erase::<Cluster>(&());
    let live = live.map(|live| live.object.clone());
    let place = (None, join.spec.cluster_name.as_str());
    let applied =
        plane.apply_over(&applier, &resource, place, wanted, live, anybodys).await.map_err(Error::PlaneWrite)?;
    typed(applied.object)
        .map_err(|e| Error::Plane { instance: plane.key.to_string(), source: kube::Error::SerdeError(e) })
}

/// Writes the annotations by which the plane knows how to let a member go.
pub async fn annotate(plane: &Plane, join: &MemberClusterJoin, live: &LiveCluster, force: bool) -> Result<(), Error> {
    let mut annotations = json!({ plan::UNJOIN_POLICY_ANNOTATION: plan::unjoin_policy(join) });
    if force {
        annotations[plan::FORCE_UNJOIN_ANNOTATION] = json!("true");
    }
    let body = json!({"metadata": {"uid": live.typed.uid(), "annotations": annotations}});
    patch_cluster(plane, live, &body).await
}

async fn patch_cluster(plane: &Plane, live: &LiveCluster, body: &Value) -> Result<(), Error> {
    let api = Api::<Cluster>::all(plane.client.clone());
    match api.patch_metadata(&live.typed.name_any(), &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(source) => Err(Error::Plane { instance: plane.key.to_string(), source }),
    }
}

/// Deletes the Cluster, if it still is the same.
pub async fn delete_cluster(plane: &Plane, live: &LiveCluster) -> Result<(), Error> {
    let applier = Applier::new(plane.client.clone(), "airdock.dev/member");
    let resource = ApiResource::erase::<Cluster>(&());
    let uid = live.typed.uid().unwrap_or_default();
    applier.delete(&resource, None, &live.typed.name_any(), &uid).await.map(|_| ()).map_err(Error::PlaneWrite)
}

/// Upstream's Works for a member (profile Full).
pub struct Works(Api<kube::api::DynamicObject>);

impl Works {
    /// Those of a cluster.
    #[must_use]
    pub fn of(plane: &Plane, cluster: &str) -> Self {
        let resource = ApiResource {
            group: "work.karmada.io".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "work.karmada.io/v1alpha1".to_owned(),
            kind: "Work".to_owned(),
            plural: "works".to_owned(),
        };
        Self(Api::namespaced_with(plane.client.clone(), &format!("karmada-es-{cluster}"), &resource))
    }

    async fn list(&self) -> Result<Vec<kube::api::DynamicObject>, kube::Error> {
        match self.0.list(&ListParams::default()).await {
            Ok(list) => Ok(list.items),
            Err(error) if is_not_found(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Names of those that take their objects with them when they go.
    pub async fn unpreserved(&self) -> Result<Vec<String>, kube::Error> {
        let works = self.list().await?;
        let preserved = |work: &kube::api::DynamicObject| {
            work.data.pointer("/spec/preserveResourcesOnDeletion").and_then(Value::as_bool) == Some(true)
        };
        Ok(works.iter().filter(|work| !preserved(work)).map(ResourceExt::name_any).collect())
    }

    /// Makes them leave their objects.
    pub async fn preserve(&self) -> Result<(), kube::Error> {
        for name in self.unpreserved().await? {
            self.patch(&name, json!({"spec": {"preserveResourcesOnDeletion": true}})).await?;
        }
        Ok(())
    }

    /// Strips their finalizers, as upstream's `unjoin --force` does.
    pub async fn release(&self) -> Result<(), kube::Error> {
        for work in self.list().await?.iter().filter(|work| !work.finalizers().is_empty()) {
            self.patch(&work.name_any(), json!({"metadata": {"finalizers": null}})).await?;
        }
        Ok(())
    }

    async fn patch(&self, name: &str, body: Value) -> Result<(), kube::Error> {
        match self.0.patch(name, &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Strips upstream's finalizer from the Cluster.
pub async fn release_cluster(plane: &Plane, live: &LiveCluster) -> Result<(), Error> {
    Works::of(plane, &live.typed.name_any())
        .release()
        .await
        .map_err(|source| Error::Plane { instance: plane.key.to_string(), source })?;
    let body = json!({"metadata": {"uid": live.typed.uid(), "finalizers": null}});
    patch_cluster(plane, live, &body).await
}

/// Removes everything that this membership made in the member. What it shares goes with the last user.
pub async fn remove_identity(access: &Access, join: &MemberClusterJoin) -> Result<(), Error> {
    let name = plan::identity_name(join);
    let impersonator_token = plan::impersonator_token_name(join);
    let namespace = Some(CLUSTER_NAMESPACE);
    let namespaced = async {
        remove::<Secret>(&access.applier, join, namespace, &name).await?;
        remove::<Secret>(&access.applier, join, namespace, &impersonator_token).await?;
        remove::<ServiceAccount>(&access.applier, join, namespace, &name).await
    };
    tokio::try_join!(
        remove::<ClusterRoleBinding>(&access.applier, join, None, &name),
        remove::<ClusterRole>(&access.applier, join, None, &name),
        namespaced,
    )
    .map_err(|e| access.write_failure(e))?;
    let accounts = Api::<ServiceAccount>::namespaced(access.client(), CLUSTER_NAMESPACE);
    release(&accounts, access, join, IMPERSONATOR, async { Ok(true) }).await?;
    remove_impersonation(access, &accounts).await?;
    let others_there = async {
        let list = accounts.list_metadata(&ListParams::default()).await?;
        Ok(list.items.iter().all(|account| account.name_any() == "default"))
    };
    release(&Api::<Namespace>::all(access.client()), access, join, CLUSTER_NAMESPACE, others_there).await
}

/// Removes the rules that upstream (profile Full) gave the impersonator, once that is gone. Upstream does so itself,
/// except where its objects were told to stay in the member.
async fn remove_impersonation(access: &Access, accounts: &Api<ServiceAccount>) -> Result<(), Error> {
    if accounts.get_metadata_opt(IMPERSONATOR).await.map_err(|e| access.failure(e))?.is_some() {
        return Ok(());
    }
    for resource in [ApiResource::erase::<ClusterRoleBinding>(&()), ApiResource::erase::<ClusterRole>(&())] {
        let api = access.applier.api(&resource, None);
        let Some(found) = api.get_metadata_opt(IMPERSONATOR).await.map_err(|e| access.failure(e))? else { continue };
        if found.labels().get(SYSTEM_LABEL).is_some_and(|value| value == "true") {
            let uid = found.uid().unwrap_or_default();
            access.applier.delete(&resource, None, IMPERSONATOR, &uid).await.map_err(|e| access.write_failure(e))?;
        }
    }
    Ok(())
}

/// Deletes an object if it was made for this membership.
async fn remove<K>(
    applier: &Applier,
    join: &MemberClusterJoin,
    namespace: Option<&str>,
    name: &str,
) -> Result<(), ApplyError>
where
    K: Resource<DynamicType = ()>,
{
    let resource = ApiResource::erase::<K>(&());
    let found = applier.api(&resource, namespace).get_metadata_opt(name).await.map_err(|source| ApplyError::Api {
        verb: "get",
        kind: resource.kind.clone(),
        name: name.to_owned(),
        source,
    })?;
    let Some(found) = found else { return Ok(()) };
    let labels = plan::labels(join);
    let ours = [MANAGED_BY_LABEL, MEMBER_LABEL, MEMBER_NAMESPACE_LABEL]
        .iter()
        .all(|key| found.labels().get(*key) == labels.get(*key));
    if ours {
        applier.delete(&resource, namespace, name, &found.uid().unwrap_or_default()).await?;
    }
    Ok(())
}

/// Lets go of a shared object, and deletes it when nobody holds it any more, Airdock made it and `unused` agrees.
async fn release<K>(
    api: &Api<K>,
    access: &Access,
    join: &MemberClusterJoin,
    name: &str,
    unused: impl Future<Output = Result<bool, kube::Error>>,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let key = plan::user_annotation(join);
    let Some(mut found) = api.get_metadata_opt(name).await.map_err(|e| access.failure(e))? else { return Ok(()) };
    if found.annotations().contains_key(&key) {
        let body = json!({"metadata": {"uid": found.uid(), "annotations": {key: null}}});
        found = match api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(patched) => patched,
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(source) => return Err(written(access, "patch", name, source)),
        };
    }
    let held = found.annotations().keys().any(|key| key.starts_with(USER_ANNOTATION_PREFIX));
    let ours = found.labels().get(MANAGED_BY_LABEL).is_some_and(|value| value == MANAGED_BY);
    if held || !ours || found.metadata.deletion_timestamp.is_some() || !unused.await.map_err(|e| access.failure(e))? {
        return Ok(());
    }
    // The version makes sure that nobody took hold of it meanwhile.
    let preconditions = Preconditions { uid: found.uid(), resource_version: found.resource_version() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_not_found(&error) => Ok(()),
        Err(source) if is_conflict(&source) => Err(Error::MemberWrite(ApplyError::Api {
            verb: "delete",
            kind: "shared object".to_owned(),
            name: name.to_owned(),
            source,
        })),
        Err(source) => Err(written(access, "delete", name, source)),
    }
}

/// Removes the member's credentials from the plane.
pub async fn remove_secrets(plane: &Plane, join: &MemberClusterJoin) -> Result<(), Error> {
    let applier = Applier::new(plane.client.clone(), "airdock.dev/member");
    for name in plan::plane_secret_names(join) {
        remove::<Secret>(&applier, join, Some(CLUSTER_NAMESPACE), &name).await.map_err(Error::PlaneWrite)?;
    }
    Ok(())
}
