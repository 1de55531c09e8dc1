//! The gateway program as a child process.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use super::TIMEOUT;

pub(crate) struct GatewayProcess {
    pub(crate) child: Child,
    pub(crate) base: String,
    /// The log so far.
    pub(crate) log: Arc<Mutex<String>>,
}

impl GatewayProcess {
    /// A command that runs the program in `dir` with only this environment and `PATH`.
    pub(crate) fn command(dir: &Path, environment: &[(&str, &str)]) -> Command {
        Self::command_of(&Self::program(), dir, environment)
    }

    /// The program under test.
    pub(crate) fn program() -> PathBuf {
        PathBuf::from(env!("CARGO_BIN_EXE_image2model-gateway"))
    }

    fn command_of(program: &Path, dir: &Path, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the service on a free port and waits until it logs its address.
    pub(crate) fn start(dir: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_program(&Self::program(), dir, &[], environment)
    }

    /// [`Self::start`] with arguments.
    pub(crate) fn start_with(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_program(&Self::program(), dir, arguments, environment)
    }

    /// [`Self::start_with`] for another program, such as an older version.
    pub(crate) fn start_program(
        program: &Path,
        dir: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Self::command_of(program, dir, environment);
        command.args(arguments);
        command.env("I2M__SERVER__LISTEN", "127.0.0.1:0").env("I2M__LOG__FORMAT", "json");
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = String::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                let mut errors = String::new();
                child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
                panic!("the service stopped: {errors}");
            };
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            log += &line;
            log.push('\n');
            if entry["message"] == "listening" {
                break entry["address"].as_str().unwrap().to_owned();
            }
        };
        // The log must be read further, or the service would block on a full pipe.
        let log = Arc::new(Mutex::new(log));
        let shared_log = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = shared_log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, base: format!("http://{address}"), log }
    }

    /// Runs the program until it exits.
    pub(crate) fn output(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        Self::command(dir, environment).args(arguments).output().unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the service does not stop");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
