//! Controllers that can be killed.

use std::sync::Arc;

use airdock::controllers::{Context, HostClient};
use airdock::runtime::client::{ClientFactory, RequestHook};
use airdock::runtime::controller::Caches;
use airdock::runtime::host_cache::HostCache;
use airdock::runtime::leadership::Leadership;
use airdock::runtime::metrics::Metrics;
use airdock::runtime::planes::{Planes, ServiceAccess};
use airdock::runtime::shard::Shard;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::ApiServer;

/// Controllers on a runtime of their own. Dropped, they are gone as after kill -9: nothing is finished.
pub struct Operator {
    runtime: Option<Runtime>,
}

impl Operator {
    /// Starts an operator of a host cluster. `hook` sees its requests; `start` is given the context and spawns the controllers.
    pub fn start(host: &ApiServer, hook: &Arc<impl RequestHook>, start: impl FnOnce(Context)) -> Self {
        Self::start_by(ServiceAccess::Dns, host, hook, start)
    }

    /// Starts one that reaches Services in a certain way.
    pub fn start_by(
        access: ServiceAccess,
        host: &ApiServer,
        hook: &Arc<impl RequestHook>,
        start: impl FnOnce(Context),
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let guard = runtime.enter();
        let factory = ClientFactory::default().with_hook(hook.clone());
        let host = host.client_of(&factory);
        let shutdown = CancellationToken::new();
        let cache = HostCache::start(&host, Shard::default(), &shutdown);
        let metrics = Metrics::new();
        let (planes, plane_clients) =
            Planes::start(cache.clone(), factory.clone(), access, metrics.clone(), shutdown.clone());
        runtime.spawn(plane_clients);
        start(Context {
            host: HostClient(host),
            factory,
            planes,
            cache,
            leadership: Leadership::always(),
            metrics,
            shutdown,
            caches: Caches::default(),
            image: "airdock".to_owned(),
        });
        drop(guard);
        Self { runtime: Some(runtime) }
    }

    /// Ends it as kill -9 would.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
