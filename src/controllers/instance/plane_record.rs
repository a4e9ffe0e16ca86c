//! What is remembered of planes whose objects were verified, so that they are looked at again only when one of them
//! changes. Memory alone: after a restart, everything is verified once.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::KarmadaInstance;
use crate::chart::Manifest;
use crate::machinery::object_version::object_version;
use crate::runtime::apply::Applier;
use crate::runtime::controller::Guarded;
use crate::runtime::planes::{InstanceKey, Plane, PlaneEvent};

use super::plane_plan::{Verified, digest, id_of, is_drift};

/// How long objects that were verified are not looked at again, when no event tells of them.
const VERIFIED_TTL: Duration = Duration::from_secs(300);

/// Planes that are verified with all their desired objects in memory: Karmada's definitions take some 15 MB each time.
const CONCURRENT_VERIFICATIONS: usize = 2;

/// How long a verification waits for its permit. A plane that keeps others waiting for longer is not to hold them up.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is remembered of the planes, by instance. What belongs to a plane that is gone is dropped.
#[derive(Clone)]
pub struct PlaneRecords {
    records: Arc<Mutex<HashMap<InstanceKey, Record>>>,
    permits: Arc<Semaphore>,
    permit_timeout: Duration,
}

impl Default for PlaneRecords {
    fn default() -> Self {
        Self {
            records: Arc::default(),
            permits: Arc::new(Semaphore::new(CONCURRENT_VERIFICATIONS)),
            permit_timeout: PERMIT_TIMEOUT,
        }
    }
}

struct Record {
    /// Digests of what the desired objects were made from, and of the objects.
    inputs: String,
    desired: String,
    plane: Weak<Plane>,
    applier: Applier,
    /// Kept also when a round is broken off half-way.
    verified: Arc<Mutex<Verified>>,
    /// When every object was last verified, and every kind served.
    settled: Option<Instant>,
    /// How many changes were seen that the controller did not make.
    drifts: u64,
}

/// A round over the objects of one plane.
pub struct Verification {
    /// The plane.
    pub plane: Arc<Plane>,
    /// Writes there.
    pub applier: Applier,
    verified: Arc<Mutex<Verified>>,
    drifts: u64,
}

impl Verification {
    /// Version at which each object was last verified.
    #[must_use]
    pub fn verified(&self) -> Verified {
        self.verified.lock().clone()
    }

    /// Records that a manifest was applied, and as what.
    pub fn record(&self, manifest: &Manifest, live: &DynamicObject) {
        self.verified.lock().insert(id_of(manifest), object_version(live));
    }
}

impl PlaneRecords {
    /// Waits for one of a few permits to hold the objects of a plane in memory; after ten seconds it goes on without one.
    /// The permit is given back when it is dropped.
    pub async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let permit = tokio::time::timeout(self.permit_timeout, self.permits.clone().acquire_owned()).await;
        permit.ok().and_then(Result::ok)
    }

    /// Whether a plane's objects, made from these inputs, were verified a short while ago.
    #[must_use]
    pub fn are_settled(&self, plane: &Arc<Plane>, inputs: &str) -> bool {
        let records = self.records.lock();
        records.get(&plane.key).is_some_and(|record| {
            record.inputs == inputs
                && record.is_of(plane)
                && record.settled.is_some_and(|at| at.elapsed() < VERIFIED_TTL)
        })
    }

    /// Begins a round in which a plane's objects are brought to what is desired. It continues the last one, unless the
    /// plane or what is desired of it is new.
    #[must_use]
    pub fn begin(&self, plane: &Arc<Plane>, inputs: &str, desired: &[Manifest]) -> Verification {
        let desired = digest(desired);
        let mut records = self.records.lock();
        records.retain(|_, record| record.plane.strong_count() > 0);
        let is_current = |record: &Record| record.inputs == inputs && record.desired == desired && record.is_of(plane);
        if !records.get(&plane.key).is_some_and(is_current) {
            let record = Record {
                inputs: inputs.to_owned(),
                desired,
                plane: Arc::downgrade(plane),
                applier: Applier::new(plane.client.clone(), "airdock.dev/instance"),
                verified: Arc::default(),
                settled: None,
                drifts: 0,
            };
            records.insert(plane.key.clone(), record);
        }
        let record = &records[&plane.key];
        Verification {
            plane: plane.clone(),
            applier: record.applier.clone(),
            verified: record.verified.clone(),
            drifts: record.drifts,
        }
    }

    /// Records that every object was verified, unless one has changed since the round began.
    pub fn settle(&self, verification: &Verification) {
        let mut records = self.records.lock();
        let record = records.get_mut(&verification.plane.key);
        if let Some(record) = record.filter(|record| record.drifts == verification.drifts) {
            record.settled = Some(Instant::now());
        }
    }

    /// The instance to be looked at, when an object of its installation is not as it was verified.
    pub fn drifted(&self, event: &PlaneEvent<'_>) -> Option<ObjectRef<Guarded<KarmadaInstance>>> {
        let mut records = self.records.lock();
        let record = records.get_mut(event.instance)?;
        if !is_drift(event, &record.verified.lock()) {
            return None;
        }
        record.drifts += 1;
        record.settled = None;
        Some(ObjectRef::new(&event.instance.name).within(&event.instance.namespace))
    }

    /// Forgets a plane.
    pub fn forget(&self, key: &InstanceKey) {
        self.records.lock().remove(key);
    }
}

impl Record {
    fn is_of(&self, plane: &Arc<Plane>) -> bool {
        std::ptr::eq(self.plane.as_ptr(), Arc::as_ptr(plane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn few_planes_are_verified_together_and_one_that_hangs_holds_up_nobody() {
        let records = PlaneRecords { permit_timeout: Duration::ZERO, ..PlaneRecords::default() };
        let held = [records.permit().await, records.permit().await];
        assert!(held.iter().all(Option::is_some));
        assert!(records.permit().await.is_none(), "it goes on without");
        drop(held);
        assert!(records.permit().await.is_some());
    }
}
