//! The real program as a child process.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use super::PATIENCE;

pub(crate) struct ServiceProcess {
    pub(crate) child: Child,
    pub(crate) base: String,
    /// What it has logged.
    pub(crate) log: Arc<Mutex<String>>,
}

impl ServiceProcess {
    /// The program with nothing of the test's own environment, in `dir`.
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

    /// Starts the service on a free port and waits until it says where it listens.
    pub(crate) fn start(dir: &Path, environment: &[(&str, &str)]) -> Self {
        Self::start_program(&Self::program(), dir, &[], environment)
    }

    /// The same with arguments.
    pub(crate) fn start_with(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_program(&Self::program(), dir, arguments, environment)
    }

    /// The same with a program of another version.
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
                let mut said = String::new();
                child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("the service ended: {said}");
            };
            let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            log += &line;
            log.push('\n');
            if said["message"] == "listening" {
                break said["address"].as_str().unwrap().to_owned();
            }
        };
        // Somebody has to read on, or the service would wait for room in the pipe.
        let log = Arc::new(Mutex::new(log));
        let logged = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = logged.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, base: format!("http://{address}"), log }
    }

    /// Runs a command that ends by itself.
    pub(crate) fn output(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        Self::command(dir, environment).args(arguments).output().unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the service does not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
