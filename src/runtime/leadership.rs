//! One leader among several processes, by a `Lease` (coordination.k8s.io).
//!
//! A claim holds for [`LEASE_SECONDS`] from its last renewal. The leader renews every [`RENEW_EVERY`] and gives up
//! at [`RENEW_DEADLINE`], well before anybody else may take over; the process then ends, so that nothing of it goes
//! on writing. On a clean end the Lease is released, and a standby takes over at once.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::{LeaseLabel, Metrics};
use crate::machinery::error::{chain, is_conflict, is_not_found};

/// How long a claim holds.
pub const LEASE_SECONDS: i32 = 15;

/// How often the leader renews, and a standby looks.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);

/// How long the leader may fail to renew before it gives up.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// How long it may take to release the Lease.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this process leads.
#[derive(Clone, Debug)]
pub struct Leadership {
    state: watch::Receiver<bool>,
}

impl Leadership {
    /// For processes that are alone.
    #[must_use]
    pub fn always() -> Self {
        Self { state: watch::channel(true).1 }
    }

    /// Waits until this process leads.
    pub async fn acquired(&self) {
        // An error means that the elector ended, and the process with it: wait for that.
        if self.state.clone().wait_for(|leading| *leading).await.is_err() && !*self.state.borrow() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether this process leads now.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        *self.state.borrow()
    }
}

/// Why leadership ended.
#[derive(thiserror::Error, Debug)]
pub enum LeadershipError {
    /// Renewing failed for too long, or somebody else took over.
    #[error("leadership of lease {0} is lost")]
    Lost(String),
}

/// Who wants to lead what.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Unique name of this process.
    pub identity: String,
}

/// Runs until leadership is lost, which is an error, or until shutdown.
pub type ElectionTask = BoxFuture<'static, Result<(), LeadershipError>>;

/// Starts an election; without one, this process always leads.
#[must_use]
pub fn start(
    client: Client,
    election: Option<Election>,
    metrics: &Metrics,
    shutdown: CancellationToken,
) -> (Leadership, ElectionTask) {
    let Some(election) = election else {
        return (Leadership::always(), shutdown.cancelled_owned().map(Ok).boxed());
    };
    let (sender, state) = watch::channel(false);
    let gauge = metrics.leader.get_or_create(&LeaseLabel { name: election.name.clone() }).clone();
    let elector = Elector { api: Api::namespaced(client, &election.namespace), election };
    let task = async move {
        let result = elector.run(&sender, &shutdown, |leading| {
            gauge.set(i64::from(leading));
        });
        result.await
    };
    (Leadership { state }, task.boxed())
}

/// Ends an election, and waits until the Lease is released: a standby need not wait for its end then.
pub async fn release(election: ElectionTask, shutdown: &CancellationToken) {
    shutdown.cancel();
    // Whoever cannot release it in time has lost it soon anyway.
    let _ = tokio::time::timeout(RELEASE_TIMEOUT, election).await;
}

struct Elector {
    api: Api<Lease>,
    election: Election,
}

/// What a standby knows of the claim that it sees: it is expired when it has not changed for as long as it holds, by
/// this process' own clock. No two clocks are compared.
struct Seen {
    resource_version: Option<String>,
    since: Instant,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewal {
    /// The Lease holds the new time.
    Done,
    /// It does not, and nobody else has it.
    Missed,
    /// Somebody else has it.
    Taken,
}

/// How long this process may call itself the leader. A standby counts from the moment at which it sees the renewal, which
/// may be long before its answer arrives here: what counts is when it was sent.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// When the last renewal that succeeded was sent.
    sent: Instant,
}

impl Claim {
    fn left(self, now: Instant) -> Duration {
        RENEW_DEADLINE.saturating_sub(now.saturating_duration_since(self.sent))
    }

    /// Takes in what became of a renewal, and tells whether this process still leads.
    fn after(&mut self, renewal: Renewal, sent: Instant, now: Instant) -> bool {
        match renewal {
            Renewal::Taken => return false,
            Renewal::Done => self.sent = sent,
            Renewal::Missed => {}
        }
        !self.left(now).is_zero()
    }
}

impl Elector {
    async fn run(
        &self,
        state: &watch::Sender<bool>,
        shutdown: &CancellationToken,
        gauge: impl Fn(bool),
    ) -> Result<(), LeadershipError> {
        gauge(false);
        let mut seen: Option<Seen> = None;
        let mut claim = loop {
            let sent = Instant::now();
            if self.try_acquire(&mut seen).await {
                break Claim { sent };
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(RENEW_EVERY / 2) => {}
            }
        };
        tracing::info!(lease = self.election.name, identity = self.election.identity, "leading");
        gauge(true);
        state.send_replace(true);
        let mut held = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.release().await;
                    return Ok(());
                }
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
            let sent = Instant::now();
            let renewal = match tokio::time::timeout(claim.left(sent), self.renew(&mut held)).await {
                Ok(Ok(renewal)) => renewal,
                Ok(Err(error)) => {
                    tracing::warn!(error = chain(&error), "lease was not renewed; trying again");
                    Renewal::Missed
                }
                Err(_) => Renewal::Missed,
            };
            if !claim.after(renewal, sent, Instant::now()) {
                return Err(LeadershipError::Lost(self.election.name.clone()));
            }
        }
    }

    /// Takes the Lease if nobody holds it.
    async fn try_acquire(&self, seen: &mut Option<Seen>) -> bool {
        match self.api.get_opt(&self.election.name).await {
            Ok(None) => self.api.create(&PostParams::default(), &self.lease(None)).await.is_ok(),
            Ok(Some(lease)) => {
                if !self.is_free(&lease, seen) {
                    return false;
                }
                // The resourceVersion makes this a compare-and-swap: of several standbys one succeeds.
                self.api.replace(&self.election.name, &PostParams::default(), &self.lease(Some(&lease))).await.is_ok()
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "lease cannot be read; trying again");
                false
            }
        }
    }

    fn is_free(&self, lease: &Lease, seen: &mut Option<Seen>) -> bool {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder.is_empty() || holder == self.election.identity {
            return true;
        }
        let holds =
            Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(LEASE_SECONDS)).unwrap_or(15));
        match seen {
            Some(known) if known.resource_version == lease.resource_version() => known.since.elapsed() >= holds,
            _ => {
                *seen = Some(Seen { resource_version: lease.resource_version(), since: Instant::now() });
                false
            }
        }
    }

    /// Renews. `held` is the Lease as this process wrote it the last time, which
    /// spares the reading while nobody else writes it.
    async fn renew(&self, held: &mut Option<Lease>) -> Result<Renewal, kube::Error> {
        let lease = match held.take() {
            Some(lease) => lease,
            None => match self.api.get(&self.election.name).await {
                Ok(lease) => lease,
                Err(error) if is_not_found(&error) => {
                    *held = Some(self.api.create(&PostParams::default(), &self.lease(None)).await?);
                    return Ok(Renewal::Done);
                }
                Err(error) => return Err(error),
            },
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        if holder != Some(&self.election.identity) {
            return Ok(Renewal::Taken);
        }
        match self.api.replace(&self.election.name, &PostParams::default(), &self.lease(Some(&lease))).await {
            Ok(lease) => {
                *held = Some(lease);
                Ok(Renewal::Done)
            }
            // It was deleted: the next round makes it anew.
            Err(error) if is_not_found(&error) => Ok(Renewal::Missed),
            // Somebody wrote in between; the next round sees whether it still is ours.
            Err(error) if is_conflict(&error) => Ok(Renewal::Missed),
            Err(error) => Err(error),
        }
    }

    /// Lets go, so that a standby need not wait.
    async fn release(&self) {
        let Ok(mut lease) = self.api.get(&self.election.name).await else { return };
        if let Some(spec) =
            lease.spec.as_mut().filter(|s| s.holder_identity.as_deref() == Some(&self.election.identity))
        {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            if let Err(error) = self.api.replace(&self.election.name, &PostParams::default(), &lease).await {
                tracing::warn!(error = chain(&error), "lease was not released; a standby will wait for its end");
            }
        }
    }

    fn lease(&self, over: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = over.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(&self.election.identity);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.election.name.clone()),
                namespace: Some(self.election.namespace.clone()),
                resource_version: over.and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.identity.clone()),
                lease_duration_seconds: Some(LEASE_SECONDS),
                acquire_time: if ours { old.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!ours && over.is_some())),
                ..LeaseSpec::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leadership_counts_from_the_sending_of_the_renewal() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut claim = Claim { sent: start };
        // Sent after two seconds, answered after nine: it holds until twelve, and not until nineteen.
        assert!(claim.after(Renewal::Done, at(2), at(9)));
        assert_eq!(claim.left(at(9)), Duration::from_secs(3));
        assert!(claim.after(Renewal::Missed, at(9), at(11)));
        assert!(!claim.after(Renewal::Missed, at(11), at(12)));
        // An answer that comes when a standby may have taken over is too late.
        assert!(!Claim { sent: start }.after(Renewal::Done, at(2), at(12)));
        assert!(!Claim { sent: start }.after(Renewal::Taken, at(1), at(1)));
    }

    #[test]
    fn the_claim_ends_before_a_standby_may_take_over() {
        let holds = Duration::from_secs(u64::try_from(LEASE_SECONDS).unwrap());
        assert!(RENEW_DEADLINE + RENEW_EVERY < holds);
    }
}
