//! One member: its connection, a cheap probe, and what runs while it can be reached.
//!
//! A member that goes away costs nobody else anything: its watches and workers stop, its queue keeps what is to be done,
//! and all is looked at again when it returns. Nothing is written as a sign of life; the plane hears of changes only.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Uri};
use kube::Client;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use super::cluster::{MemberStatus, Readiness, write_status};
use super::discovery::{Served, discover};
use super::key::ClusterName;
use super::member_kinds::{CapacityMirror, follow_definitions, follow_kinds};
use super::session::Session;
use super::summary::{Node, Pod};
use super::watch::mirror;
use super::{Engine, dispatch, panicked};
use crate::machinery::error::chain;

/// How often a member is asked whether it is well.
const PROBE_INTERVAL: Duration = Duration::from_secs(3);

/// How soon a member that cannot be used is probed again, at first and at most: twice as long each time.
const PROBE_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long it may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many times in a row it must fail to answer before it counts as away.
const FAILURE_THRESHOLD: u32 = 2;

/// How often a member is asked which kinds it serves, besides when its definitions change.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(600);

/// How long changes of definitions are gathered: they come in crowds.
const DEFINITIONS_DEBOUNCE: Duration = Duration::from_secs(1);

/// How soon a kind that is missing is asked for again, at first and at most: twice as long each time. Definitions that
/// change are asked about at once.
const DISCOVERY_BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// A pause that doubles with each attempt.
fn pause((first, longest): (Duration, Duration), attempts: u32) -> Duration {
    first.saturating_mul(1 << attempts.min(16)).min(longest)
}

/// Runs the work on a member until it is dropped.
pub(super) async fn run_member(engine: Arc<Engine>, cluster: ClusterName, changed: Arc<Notify>) {
    loop {
        let connection = engine.connection(&cluster).await.unwrap_or_else(|error| {
            let message = format!("the Secret that spec.secretRef names cannot be read: {}", chain(&error));
            Err(Readiness::unusable("CredentialsUnreadable", message))
        });
        let session = match &connection {
            Ok(connection) => match engine.factory.connect(connection) {
                Ok(client) => Ok(Session::new(cluster.clone(), client)),
                Err(error) => Err(Readiness::unusable("CredentialsInvalid", chain(&error))),
            },
            Err(problem) => Err(problem.clone()),
        };
        // Until the address or the credentials are others.
        let other = async {
            loop {
                tokio::select! {
                    () = changed.notified() => {}
                    // What a Secret outside the watched namespace holds is looked up now and then.
                    () = sleep(Duration::from_secs(30)) => {}
                }
                if is_other(&connection, &engine.connection(&cluster).await) {
                    return;
                }
            }
        };
        match session {
            Ok(session) => {
                tokio::select! {
                    () = probe_loop(engine.clone(), session) => {
                        engine.change(|index| index.set_reachable(&cluster, false));
                        sleep(PROBE_BACKOFF.1).await;
                    }
                    () = other => {}
                }
            }
            Err(problem) => {
                engine.change(|index| index.set_reachable(&cluster, false));
                report(&engine, &cluster, problem).await;
                other.await;
            }
        }
    }
}

/// Whether a connection that was just looked up is another one than that in use. What could not be read may well be what it
/// was: the session goes on.
fn is_other<C: PartialEq, E>(in_use: &C, now: &Result<C, E>) -> bool {
    now.as_ref().is_ok_and(|now| now != in_use)
}

async fn report(engine: &Engine, cluster: &ClusterName, readiness: Readiness) {
    let mut pause = Duration::from_secs(1);
    while let Err(error) = write_status(engine, cluster, &MemberStatus::with_readiness(readiness.clone())).await {
        tracing::warn!(%cluster, error = chain(&error), "cluster status was not written; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

/// Probes a member until something panics that runs while it can be reached; whatever does starts and stops here.
async fn probe_loop(engine: Arc<Engine>, session: Arc<Session>) {
    let mut up: Option<MemberTasks> = None;
    let mut failures = 0;
    let mut unusable = 0;
    let mut reported: Option<Readiness> = None;
    loop {
        let readiness = probe(session.rest.client()).await;
        if readiness.is_reached() {
            failures = 0;
            if up.is_none() {
                match MemberTasks::start(&engine, &session, readiness.clone()).await {
                    Ok(begun) => up = Some(begun),
                    Err(error) => {
                        tracing::debug!(cluster = %session.cluster, error = chain(&error), "member is not usable yet");
                        // It may have been, by a session before this one.
                        engine.change(|index| index.set_reachable(&session.cluster, false));
                        let problem = match &error {
                            kube::Error::Api(status) if status.code == 401 || status.code == 403 => {
                                Readiness::unusable("CredentialsRejected", chain(&error))
                            }
                            error => Readiness::unusable("StatusCollectionFailed", chain(error)),
                        };
                        if reported.as_ref() != Some(&problem) {
                            report(&engine, &session.cluster, problem.clone()).await;
                            reported = Some(problem);
                        }
                    }
                }
            }
            if let Some(up) = &up {
                up.member_status.set_readiness(readiness);
                reported = None;
            }
        } else {
            failures += 1;
            if failures >= FAILURE_THRESHOLD || up.is_none() {
                if up.take().is_some() {
                    tracing::info!(cluster = %session.cluster, why = readiness.message, "member is away");
                }
                engine.change(|index| index.set_reachable(&session.cluster, false));
                if reported.as_ref() != Some(&readiness) {
                    report(&engine, &session.cluster, readiness.clone()).await;
                    reported = Some(readiness);
                }
            }
        }
        let wait = if failures > 0 || up.is_none() {
            unusable += 1;
            pause(PROBE_BACKOFF, unusable - 1)
        } else {
            unusable = 0;
            PROBE_INTERVAL
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = session.probe.notified() => {}
            error = member_task_panicked(&mut up) => {
                let (cluster, error) = (&session.cluster, chain(&error));
                tracing::error!(%cluster, error, "a task of the member panicked; its session begins anew");
                return;
            }
        }
    }
}

async fn member_task_panicked(up: &mut Option<MemberTasks>) -> JoinError {
    match up {
        Some(up) => panicked(&mut up.tasks).await,
        None => std::future::pending().await,
    }
}

/// Whether a member answers, and is well.
async fn probe(client: &Client) -> Readiness {
    let mut request = Request::new(Vec::new());
    *request.uri_mut() = Uri::from_static("/readyz");
    match timeout(PROBE_TIMEOUT, client.request_text(request)).await {
        Err(_) => Readiness::unreachable(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
        Ok(Ok(_)) => Readiness::ready(),
        Ok(Err(kube::Error::Api(status))) if status.code == 401 => {
            Readiness::unusable("CredentialsRejected", "the cluster does not accept the token".to_owned())
        }
        Ok(Err(kube::Error::Api(status))) => Readiness::unhealthy(&status),
        Ok(Err(error)) => Readiness::unreachable(chain(&error)),
    }
}

/// What runs while a member can be reached; it stops when this is dropped.
struct MemberTasks {
    member_status: Arc<MemberStatus>,
    tasks: JoinSet<()>,
}

impl MemberTasks {
    async fn start(engine: &Arc<Engine>, session: &Arc<Session>, readiness: Readiness) -> Result<Self, kube::Error> {
        let client = session.rest.client();
        let (served, version) = tokio::try_join!(discover(client), client.apiserver_version())?;
        let member_status = Arc::new(MemberStatus::new(readiness, version.git_version));
        set_served(session, &member_status, served);
        engine.change(|index| index.set_reachable(&session.cluster, true));
        tracing::info!(cluster = %session.cluster, "member is reached");

        let mut tasks = JoinSet::new();
        tasks.spawn(keep_discovering(session.clone(), member_status.clone()));
        tasks.spawn(follow_definitions(session.clone()));
        tasks.spawn(mirror(session.rest.clone(), CapacityMirror::<Node>::new(member_status.clone())));
        tasks.spawn(mirror(session.rest.clone(), CapacityMirror::<Pod>::new(member_status.clone())));
        tasks.spawn(follow_kinds(engine.clone(), session.clone()));
        tasks.spawn(keep_reporting(engine.clone(), session.cluster.clone(), member_status.clone()));
        let queue = engine.queue_of(&session.cluster);
        let (e, s) = (engine.clone(), session.clone());
        let work = move |key| dispatch::run(e.clone(), s.clone(), key);
        tasks.spawn(queue.work("engine-dispatch", engine.settings.member_concurrency, engine.metrics.clone(), work));
        Ok(Self { member_status, tasks })
    }
}

/// Remembers which kinds are served; tells whether they are others than before.
fn set_served(session: &Session, member_status: &MemberStatus, mut served: Served) -> bool {
    member_status.set_served(std::mem::take(&mut served.enablements), &served.stale);
    let differs = {
        let mut known = session.served();
        let differs =
            known.kinds.len() != served.kinds.len() || served.kinds.keys().any(|kind| !known.kinds.contains_key(kind));
        *known = served;
        differs
    };
    session.discovered.notify_one();
    differs
}

async fn keep_discovering(session: Arc<Session>, member_status: Arc<MemberStatus>) {
    let mut misses = 0;
    loop {
        let wait = pause(DISCOVERY_BACKOFF, misses);
        let missing = async {
            session.kind_missing.notified().await;
            sleep(wait).await;
        };
        tokio::select! {
            () = sleep(DISCOVERY_INTERVAL) => {}
            () = session.definitions_changed.notified() => {
                misses = 0;
                sleep(DEFINITIONS_DEBOUNCE).await;
            }
            () = missing => misses += 1,
        }
        match timeout(Duration::from_secs(30), discover(session.rest.client())).await {
            Ok(Ok(served)) => {
                if set_served(&session, &member_status, served) {
                    misses = 0;
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(cluster = %session.cluster, error = chain(&error), "kinds are not known")
            }
            Err(_) => tracing::debug!(cluster = %session.cluster, "kinds are not known: no answer"),
        }
    }
}

async fn keep_reporting(engine: Arc<Engine>, cluster: ClusterName, member_status: Arc<MemberStatus>) {
    loop {
        let mut wait = Duration::ZERO;
        if let Err(error) = write_status(&engine, &cluster, &member_status).await {
            tracing::debug!(%cluster, error = chain(&error), "cluster status was not written; trying again");
            wait = Duration::from_secs(2);
        }
        if wait.is_zero() {
            member_status.changed().await;
        } else {
            sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_cannot_be_read_is_no_other() {
        type Found = Result<&'static str, &'static str>;
        let in_use: Found = Ok("token");
        for (case, now, other) in [
            ("the same", Ok(Ok("token")), false),
            ("another token", Ok(Ok("new")), true),
            ("no Secret", Ok(Err("CredentialsMissing")), true),
            ("not read", Err("timeout"), false),
        ] {
            assert_eq!(is_other::<Found, &str>(&in_use, &now), other, "{case}");
        }
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let seconds = |limits| [0, 1, 2, 3, 4, 5, 6, 1000].map(|attempts| pause(limits, attempts).as_secs());
        assert_eq!(seconds(PROBE_BACKOFF), [1, 2, 4, 8, 10, 10, 10, 10]);
        assert_eq!(seconds(DISCOVERY_BACKOFF), [2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
