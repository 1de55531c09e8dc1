//! A real Celery worker, running `tests/python/worker_app.py`.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{TestRedis, wait_until};

/// Killed on drop, with its child processes.
pub(crate) struct CeleryWorker {
    child: Child,
}

impl CeleryWorker {
    /// Starts a worker on the broker in `redis` and waits until it accepts tasks.
    pub(crate) async fn start(redis: &TestRedis, name: &str, concurrency: usize) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let log = redis.dir().join(format!("{name}.log"));
        let file = File::create(&log).unwrap();
        let child = Command::new(root.join(".cache/venv/bin/python"))
            .args(["-m", "celery", "-A", "worker_app", "worker", "--loglevel=INFO"])
            .args(["--without-gossip", "--without-mingle", "-Q", "batch_processing"])
            .args(["-n", &format!("{name}@test"), &format!("--concurrency={concurrency}")])
            .current_dir(root.join("tests/python"))
            .env("PYTHONPATH", root.join("clients/python-worker/src"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CELERY_BROKER_URL", redis.celery_url())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect("make test has set up .cache/venv");
        let mut worker = Self { child };
        wait_until("the worker is ready", async || {
            let log = std::fs::read_to_string(&log).unwrap();
            assert!(worker.child.try_wait().unwrap().is_none(), "the worker ended: {log}");
            log.contains(" ready.")
        })
        .await;
        worker
    }

    /// Kills the worker and its child processes.
    pub(crate) fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        _ = self.child.wait();
    }
}

impl Drop for CeleryWorker {
    fn drop(&mut self) {
        self.kill();
    }
}
