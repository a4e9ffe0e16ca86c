//! A plane and three real members, what is in the plane, and what must be in the members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::Client;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use airdock::karmada::MANAGED_LABEL;

use crate::engine_process::EngineProcess;
use crate::harness::{ApiServer, eventually, objects};
use crate::plane::Plane;
use crate::report::Memory;
use crate::templates::{KINDS, Kind};

const MEMBERS: [&str; 3] = ["alpha", "beta", "gamma"];
const NAMESPACES: [&str; 3] = ["soak-a", "soak-b", "soak-c"];

/// Names of templates, by kind and namespace.
const NAMES: u32 = 50;

/// How soon all must be right after everything is ready.
const RIGHT_WITHIN: Duration = Duration::from_secs(180);

/// Kind, namespace and name of a template.
type Id = (usize, &'static str, String);

pub struct Fleet {
    engine: EngineProcess,
    servers: Vec<ApiServer>,
    clients: Vec<Client>,
    plane: Plane,
    wanted: BTreeMap<Id, String>,
    placed: BTreeSet<usize>,
    pub engine_kills: u32,
    pub member_kills: u32,
}

impl Fleet {
    pub async fn start() -> Self {
        let plane = Plane::start().await;
        let mut servers: Vec<ApiServer> = MEMBERS.iter().map(|name| ApiServer::start(&plane.etcd, name)).collect();
        for server in &mut servers {
            server.ready().await;
            objects::join(&plane.client, &server.name, &server.url(), &server.ca, "soak").await;
        }
        for namespace in NAMESPACES {
            objects::namespace(&plane.client, namespace).await;
        }
        plane.propagate(&KINDS.map(|kind| (kind.api_version, kind.kind))).await;
        let engine = EngineProcess::start(&plane.server).await;
        let clients = servers.iter().map(ApiServer::client).collect();
        let placed = (0..MEMBERS.len()).collect();
        Self { engine, servers, clients, plane, wanted: BTreeMap::new(), placed, engine_kills: 0, member_kills: 0 }
    }

    pub fn templates(&self) -> usize {
        self.wanted.len()
    }

    pub fn engine_memory(&self) -> Memory {
        self.engine.memory()
    }

    fn any(&self, random: &mut StdRng) -> Option<Id> {
        let all: Vec<&Id> = self.wanted.keys().collect();
        all.choose(random).map(|id| (*id).clone())
    }

    /// Creates or changes a template.
    pub async fn write(&mut self, random: &mut StdRng) {
        let kind = random.random_range(0..KINDS.len());
        let namespace = NAMESPACES[random.random_range(0..NAMESPACES.len())];
        let name = format!("object-{:03}", random.random_range(0..NAMES));
        let value = format!("value-{}", random.random_range(0..1_000_000));
        objects::apply(&self.plane.client, KINDS[kind].template(namespace, &name, &value)).await;
        self.wanted.insert((kind, namespace, name), value);
    }

    /// Deletes a template.
    pub async fn delete(&mut self, random: &mut StdRng) {
        let Some(id) = self.any(random) else { return };
        let Kind { api_version, kind, .. } = KINDS[id.0];
        objects::delete(&self.plane.client, api_version, kind, id.1, &id.2).await;
        self.wanted.remove(&id);
    }

    /// Changes an object in a member, if it is there.
    pub async fn change_in_member(&self, random: &mut StdRng) {
        let (Some(id), member) = (self.any(random), random.random_range(0..MEMBERS.len())) else { return };
        let Kind { api_version, kind, .. } = KINDS[id.0];
        let api = objects::api(&self.clients[member], api_version, kind, id.1);
        let patch = Patch::Merge(KINDS[id.0].patch("changed in the member"));
        let _ = api.patch(&id.2, &PatchParams::default(), &patch).await;
    }

    /// Deletes an object in a member, if it is there.
    pub async fn delete_in_member(&self, random: &mut StdRng) {
        let (Some(id), member) = (self.any(random), random.random_range(0..MEMBERS.len())) else { return };
        let Kind { api_version, kind, .. } = KINDS[id.0];
        let api = objects::api(&self.clients[member], api_version, kind, id.1);
        let _ = api.delete(&id.2, &DeleteParams::default()).await;
    }

    /// Places everything in other members.
    pub async fn place(&mut self, random: &mut StdRng) {
        let chosen: BTreeSet<usize> = (0..MEMBERS.len()).filter(|_| random.random_bool(0.6)).collect();
        if chosen.is_empty() {
            return;
        }
        self.placed = chosen;
        let names: Vec<&str> = self.placed.iter().map(|member| MEMBERS[*member]).collect();
        let placement = json!({"spec": {"placement": {"clusterAffinity": {"clusterNames": names}}}});
        let (group, kind) = ("policy.karmada.io/v1alpha1", "ClusterPropagationPolicy");
        objects::merge(&self.plane.client, group, kind, "", "bench", placement).await;
    }

    pub fn kill_member(&mut self, random: &mut StdRng) {
        let member = random.random_range(0..MEMBERS.len());
        if self.servers[member].is_running() {
            self.servers[member].kill();
            self.member_kills += 1;
        }
    }

    pub fn restart_members(&mut self) {
        self.servers.iter_mut().filter(|server| !server.is_running()).for_each(ApiServer::restart);
    }

    pub async fn restart_engine(&mut self) {
        self.engine.kill();
        self.engine = EngineProcess::start(&self.plane.server).await;
        self.engine_kills += 1;
    }

    /// Brings back what is away.
    pub async fn heal(&mut self) {
        self.restart_members();
        for server in &mut self.servers {
            server.ready().await;
        }
    }

    /// Waits until each member holds exactly what it must.
    pub async fn until_right(&self) {
        for (member, name) in MEMBERS.iter().enumerate() {
            eventually(&format!("member {name} is right"), RIGHT_WITHIN, async || {
                match self.first_difference(member).await {
                    None => Ok(()),
                    Some(difference) => Err(format!("{difference}; the engine's log:\n{}", self.engine.log())),
                }
            })
            .await;
        }
        self.engine.until_quiet(RIGHT_WITHIN).await;
    }

    /// What is not in a member as it must be.
    async fn first_difference(&self, member: usize) -> Option<String> {
        let placed = self.placed.contains(&member);
        let mut wanted = if placed { self.wanted.clone() } else { BTreeMap::new() };
        for (index, kind) in KINDS.iter().enumerate() {
            let managed = ListParams::default().labels(&format!("{MANAGED_LABEL}=true"));
            let api = objects::api(&self.clients[member], kind.api_version, kind.kind, "");
            let list = match api.list(&managed).await {
                Ok(list) => list,
                Err(error) => return Some(error.to_string()),
            };
            for object in list.items {
                let Some((id, value)) = described(index, &object) else {
                    return Some(format!("an object that comes from no template: {:?}", object.metadata));
                };
                match wanted.remove(&id) {
                    Some(expected) if value.as_deref() == Some(expected.as_str()) => {}
                    Some(expected) => return Some(format!("{id:?} is {value:?} and not {expected}")),
                    None => return Some(format!("{id:?} is there and must not be")),
                }
            }
        }
        wanted.into_keys().next().map(|id| format!("{id:?} is missing"))
    }
}

/// Which template an object of a member comes from, and its value.
fn described(kind: usize, object: &DynamicObject) -> Option<(Id, Option<String>)> {
    let object: Value = serde_json::to_value(object).unwrap();
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str)?;
    let namespace = NAMESPACES.into_iter().find(|known| *known == namespace)?;
    let name = object.pointer("/metadata/name").and_then(Value::as_str)?.to_owned();
    Some(((kind, namespace, name), KINDS[kind].value(&object).map(str::to_owned)))
}
