//! The composition root: builds each part once, runs them, and takes them down in order.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::{
        router::{Router, router},
        state::{AppState, Handles},
    },
    auth::{self, ApiKeys, Tickets},
    cache::Cache,
    celery::Celery,
    cleanup::{Lifetimes, Maintenance},
    config::Config,
    counters::Counters,
    health::Health,
    http::{Server, Tls},
    jobs::Jobs,
    locks::Locks,
    migrations::Schema,
    models::Models,
    progress::Progress,
    rate_limit::RateLimiter,
    settings::Environment,
    sse::Hub,
    store::{JobRetention, Redis},
    tasks::Tasks,
    webhooks::Webhooks,
    workers::Workers,
};

/// The service, bound to its port and not yet serving.
pub struct App {
    server: Server,
    router: Router,
    state: AppState,
    tasks: Tasks,
    shutdown_delay: Duration,
    shutdown_timeout: Duration,
}

/// Takes over what may change without a restart: keys, ticket secrets, the certificate.
pub struct Reloader {
    keys: ApiKeys,
    tickets: Tickets,
    tls: Option<Tls>,
}

impl Reloader {
    /// Takes over the keys and secrets of `config`; connections stay as they are.
    ///
    /// # Errors
    ///
    /// If it makes no sense; then all stays as it was.
    pub fn reload(&self, config: &Config) -> Result<()> {
        if let Some(tls) = &self.tls {
            tls.reload(&config.server)?;
        }
        self.keys.reload(&config.auth);
        self.tickets.reload(&config.auth);
        Ok(())
    }
}

impl App {
    /// Takes the port, begins to connect to Redis, and builds the rest.
    ///
    /// # Errors
    ///
    /// If the port is taken, the embedded Redis does not start, or a setting makes no sense.
    pub async fn bind(config: Config) -> Result<Self> {
        let proxies = config.rate_limit.trusted_proxies.iter().map(|it| it.net()).collect();
        let server = Server::bind(&config.server, proxies)?;
        let tasks = Tasks::default();
        let redis = Redis::start(&config.redis, &tasks).await?;
        let refused = redis.metrics().refused_connections.clone();
        let server = server.on_connection_rejected(move || _ = refused.inc());
        let state = Self::build(&config, &redis, &tasks)?;
        if config.auth.mode == auth::Mode::Open {
            warn!("auth.mode is \"open\": any key is let in, with all roles");
        }
        if config.environment == Environment::Production
            && config.cors.origins.iter().any(|it| it == "*")
        {
            warn!("cors.origins is \"*\": any site may call");
        }
        Ok(Self {
            router: router(state.clone(), &config)?,
            server,
            state,
            tasks,
            shutdown_delay: config.server.shutdown_delay,
            shutdown_timeout: config.server.shutdown_timeout,
        })
    }

    /// The routes and all that stands around them, for whoever brings requests of another kind.
    #[cfg(feature = "bench-internals")]
    #[doc(hidden)]
    pub fn into_routes(self) -> Router {
        self.router
    }

    fn build(config: &Config, redis: &Redis, tasks: &Tasks) -> Result<AppState> {
        let retention = JobRetention {
            ttl_secs: config.jobs.ttl.as_secs(),
            stream_length: config.progress.stream_length,
        };
        let celery = Celery::start(&config.celery, &config.redis, redis, tasks)?;
        let jobs = Jobs::new(redis.clone(), config.jobs.clone(), retention, celery.clone());
        jobs.keep_listed(tasks);
        let progress = Progress::new(redis.clone(), retention, config.jobs.max_files);
        let cache = Cache::new(redis.clone(), config.cache.clone(), tasks.clone());
        let locks = Self::locks(config, redis, tasks);
        let workers = celery
            .map(|it| Workers::start(it, jobs.clone(), progress.clone(), locks.clone(), tasks));
        let schema = Schema::new(redis.clone(), locks.clone(), retention, config.maintenance.pace);
        schema.start(tasks);
        let maintenance = Maintenance::new(
            (redis.clone(), locks.clone()),
            &config.maintenance,
            Lifetimes {
                jobs: retention,
                cached_status: config.jobs.status_cache_ttl,
                metrics: config.metrics.ttl,
            },
            tasks,
        );
        maintenance.start();
        let drain_spread = config.server.drain_spread;
        let keys = ApiKeys::new(&config.auth, redis.clone());
        let tickets = Tickets::new(&config.auth, redis.clone());
        let watch = auth::watch(
            keys.clone(),
            tickets.clone(),
            redis.subscriber().clone(),
            tasks.shutdown(),
        );
        tasks.spawn("keys", watch);
        Ok(AppState::new(Handles {
            keys,
            tickets,
            progress,
            workers,
            hub: Hub::start(redis.clone(), jobs.clone(), config.sse.clone(), drain_spread, tasks)?,
            webhooks: Webhooks::start(redis.clone(), config.webhooks.clone(), retention, tasks)?,
            counters: Counters::start(redis.clone(), config.metrics.clone(), tasks),
            metrics: redis.metrics().clone(),
            health: Health::new(redis.clone(), config.health.clone()),
            limiter: RateLimiter::new(
                &config.rate_limit,
                config.jobs.max_files,
                config.sse.retry,
                redis.clone(),
            ),
            schema,
            maintenance,
            jobs,
            locks,
            models: Models::new(cache.clone(), config.models.clone())?,
            cache,
        }))
    }

    fn locks(config: &Config, redis: &Redis, tasks: &Tasks) -> Locks {
        let mut of_callers = config.locks.clone();
        // Who waits has to be answered before the request's time is up.
        let answered_by =
            config.server.request_timeout.saturating_sub(config.redis.command_timeout);
        of_callers.max_wait = of_callers.max_wait.min(answered_by);
        Locks::new(redis.clone(), of_callers, tasks.clone())
    }

    /// What can take over other settings while the service runs.
    pub fn reloader(&self) -> Reloader {
        Reloader {
            keys: self.state.keys.clone(),
            tickets: self.state.tickets.clone(),
            tls: self.server.tls(),
        }
    }

    /// Where the service listens, with the port that port 0 became.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.server.local_addr()?)
    }

    /// Serves until `stop` completes, or a part of the service dies; then drains: not ready, streams closed,
    /// requests finished, connections to Redis closed. All of it is bounded.
    ///
    /// # Errors
    ///
    /// If something had to be cut off, or a part of the service died.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let Self { server, router, state, tasks, shutdown_delay, shutdown_timeout } = self;
        let stop_accepting = CancellationToken::new();
        let serving = server.run(router, &tasks, stop_accepting.clone(), shutdown_timeout);
        tokio::pin!(serving);

        let died = tasks.shutdown();
        let a_part_died = tokio::select! {
            () = stop => false,
            () = died.cancelled() => true,
            _ = &mut serving => true,
        };
        info!("stopping");
        state.health.drain();
        let leave = async {
            tokio::time::sleep(shutdown_delay).await;
            // While Redis is still there to be told.
            state.locks.drain().await;
            state.hub.drain();
            stop_accepting.cancel();
        };
        let (all_finished, ()) = tokio::join!(serving, leave);
        if let Err(error) = state.counters.flush().await {
            warn!(%error, "shared metrics of the last moments are lost");
        }
        let all_ended = tasks.drain(shutdown_timeout).await;
        if let Some(failure) = state.schema.failure() {
            bail!("{failure}");
        }
        if a_part_died {
            bail!("a part of the service ended unexpectedly; see the log");
        }
        if !all_finished || !all_ended {
            warn!("some requests or tasks had to be cut off");
        }
        info!("stopped");
        Ok(())
    }
}
