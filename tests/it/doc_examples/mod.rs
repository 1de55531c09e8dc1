//! Runs every example of every document against the real service; CONTRIBUTING.md explains how to write one.

mod links;
mod page;

use std::{
    fmt::Write as _,
    fs::{self, File},
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use self::page::Block;
use crate::harness::GatewayProcess;

/// Blocks that this test does not run: the document, the first line, and the reason.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "README.md",
        "make run     # installs what is missing (and says so), builds, starts on a private Redis of its own",
        RUN,
    ),
    ("README.md", "I2M__CELERY__ENABLED=true make run", RUN),
    (
        "README.md",
        "python3 -m venv venv && . venv/bin/activate && pip install './clients/python-worker[celery]'",
        INSTALL,
    ),
    (
        "CONTRIBUTING.md",
        "make check    # format, lints, documentation, dependencies",
        "it runs the rest of CI",
    ),
    (
        "docs/API.md",
        "target/release/image2model-gateway --config gateway.toml       # make run has built it",
        RUN,
    ),
    (
        "docs/OPERATIONS.md",
        "scripts/redis-backup redis://:password@replica:6379 /backups/redis-$(date +%F).rdb    # from a replica: it forks",
        "tests/it/backup.rs runs it with its own replica",
    ),
    (
        "clients/python-worker/README.md",
        "pip install './clients/python-worker[celery]'   # in the root of the repository; without [celery]: HTTP only, no dependencies",
        INSTALL,
    ),
    (
        "clients/python-worker/README.md",
        "scripts/setup redis python && cargo build     # in the root of the repository",
        TESTS,
    ),
    (
        "clients/python-client/README.md",
        "pip install ./clients/python-client      # in the root of the repository; Python 3.9 or newer; needs httpx and nothing else",
        INSTALL,
    ),
    (
        "clients/python-client/README.md",
        "scripts/setup redis python && cargo build     # in the root of the repository",
        TESTS,
    ),
    (
        "clients/typescript/README.md",
        "npm install && npm run build     # in this directory; `dist/` holds plain ES modules, which a page may import",
        INSTALL,
    ),
    (
        "clients/typescript/README.md",
        "import { listenWithEventSource } from \"@image2model/client\";",
        "clients/typescript/test/browser.test.mjs runs it in a page of another origin",
    ),
    (
        "clients/typescript/README.md",
        "scripts/setup redis browser typescript && cargo build     # in the root of the repository",
        TESTS,
    ),
];

const RUN: &str = "each session starts the same service on a free port";
const INSTALL: &str = "it needs a package registry; scripts/setup installs the same";
const TESTS: &str = "tests/it/python.rs and tests/it/browser.rs run them";

/// The languages of blocks that are not examples.
const NO_EXAMPLES: [&str; 3] = ["", "text", "json"];

/// The address in the documents, which is replaced by that of the document's service.
const ADDRESS: &str = "127.0.0.1:8080";

/// The time limit for all examples of a document.
const TIMEOUT: Duration = Duration::from_secs(100);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents, by their paths from the root.
fn documents() -> Vec<String> {
    let pages = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        entries
            .map(move |entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    };
    let mut all: Vec<PathBuf> = pages("").chain(pages("docs")).collect();
    let clients = fs::read_dir(root().join("clients")).unwrap();
    all.extend(clients.map(|client| client.unwrap().path().join("README.md")));
    all.sort();
    all.iter().map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()).collect()
}

fn blocks(document: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let mut blocks = page::blocks(document, &text);
    blocks.retain(|block| !NO_EXAMPLES.contains(&block.language.as_str()));
    blocks
}

fn runs_elsewhere(document: &str, block: &Block) -> bool {
    ELSEWHERE.iter().any(|example| (example.0, example.1) == (document, block.first_line()))
}

#[test]
fn blocks_that_run_elsewhere_exist() {
    for (document, first_line, why) in ELSEWHERE {
        assert!(!why.is_empty());
        let count =
            blocks(document).iter().filter(|block| block.first_line() == *first_line).count();
        assert_eq!(count, 1, "{document} has {count} blocks that start with {first_line:?}");
    }
}

#[test]
fn every_example_works() {
    let dir = tempfile::tempdir().unwrap();
    let package = dir.path();
    compile_typescript_client(package);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = documents()
            .into_iter()
            .map(|document| scope.spawn(move || Session::run(&document, package)))
            .collect();
        running.into_iter().filter_map(|handle| handle.join().unwrap().err()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Compiles the package that `import … from "@image2model/client"` loads.
fn compile_typescript_client(modules: &Path) {
    let (source, package) =
        (root().join("clients/typescript"), modules.join("@image2model/client"));
    let compiled = Command::new(source.join("node_modules/.bin/tsc"))
        .arg("--outDir")
        .arg(package.join("dist"))
        .current_dir(&source)
        .output()
        .expect("make test has set up node");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stdout));
    fs::copy(source.join("package.json"), package.join("package.json")).unwrap();
}

/// The examples of a document, which run in order in one shell with their own service, as started by
/// `I2M__CELERY__ENABLED=true make run` starts.
struct Session {
    dir: tempfile::TempDir,
    service: GatewayProcess,
    /// The commands of the shell.
    script: String,
    /// Documented outputs: the location, the file with the actual output, the documented output.
    shown: Vec<(String, PathBuf, String)>,
}

impl Session {
    fn run(document: &str, modules: &Path) -> Result<(), String> {
        let mut blocks = blocks(document);
        blocks.retain(|block| !runs_elsewhere(document, block));
        if blocks.is_empty() {
            return Ok(());
        }
        let mut session = Self::start(&blocks, modules);
        if fs::read_to_string(root().join(document)).unwrap().contains("<!-- needs a worker -->") {
            session.add_worker();
        }
        for block in &blocks {
            session.add(block);
        }
        session.execute()
    }

    fn start(blocks: &[Block], modules: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("i2m-").tempdir().unwrap();
        for name in ["clients", "config", "docs", "scripts"] {
            symlink(root().join(name), dir.path().join(name)).unwrap();
        }
        symlink(modules, dir.path().join("node_modules")).unwrap();
        let own_config = blocks.iter().find(|block| block.first_line() == "# gateway.toml");
        let config = if let Some(block) = own_config {
            fs::write(dir.path().join("gateway.toml"), &block.text).unwrap();
            "gateway.toml"
        } else {
            "config/development.toml"
        };
        let service = GatewayProcess::start_with(
            dir.path(),
            &["--config", config],
            &[("I2M__CELERY__ENABLED", "true")],
        );
        Self { dir, service, script: String::new(), shown: Vec::new() }
    }

    fn address(&self) -> &str {
        self.service.base.strip_prefix("http://").unwrap()
    }

    /// Starts a Celery worker that runs all jobs.
    fn add_worker(&mut self) {
        let broker = self.dir.path().join("data/redis/redis.sock");
        _ = writeln!(
            self.script,
            "CELERY_BROKER_URL='redis+socket://{}?virtual_host=0' celery --workdir {} -A worker_app worker -Q batch_processing &",
            broker.display(),
            root().join("tests/python").display(),
        );
    }

    /// Adds the commands that run an example.
    fn add(&mut self, block: &Block) {
        let location = &block.location;
        let code = block.code().replace(ADDRESS, self.address());
        _ = writeln!(self.script, "echo '== {location}'");
        match block.language.as_str() {
            "sh" => _ = writeln!(self.script, "{CURL_THAT_FAILS}\n{code}"),
            "console" => self.add_console(block),
            "python" => match code.strip_prefix("# ").and_then(|code| code.split_once(".py\n")) {
                // Following commands use the file.
                Some((name, _)) => {
                    fs::write(self.dir.path().join(format!("{name}.py")), &code).unwrap();
                }
                None => self.add_program("python", "py", &code),
            },
            "js" if code.contains("new EventSource") => {
                let runner = root().join("tests/browser/in-page.mjs");
                let program = format!("node {} {}", runner.display(), self.service.base);
                self.add_program(&program, "js", &code);
            }
            "js" => self.add_program("node", "mjs", &code),
            "toml" => self.add_program("image2model-gateway check-config --config", "toml", &code),
            other => panic!("{location}: no way to run {other:?}"),
        }
    }

    fn add_program(&mut self, program: &str, extension: &str, code: &str) {
        let file = self.new_file(extension);
        fs::write(&file, code).unwrap();
        _ = writeln!(self.script, "{program} {}", file.display());
    }

    fn add_console(&mut self, block: &Block) {
        self.script += "unset -f curl\n";
        for command in page::commands(block) {
            let file = self.new_file("txt");
            let text = command.command.replace(ADDRESS, self.address());
            // The output is compared later, even that of a failure.
            _ = writeln!(self.script, "{{ {text}\n}} >{} 2>&1 || true", file.display());
            self.shown.push((
                format!("{}: $ {}", block.location, command.command),
                file,
                command.output,
            ));
        }
    }

    fn new_file(&self, extension: &str) -> PathBuf {
        let file_count = fs::read_dir(self.dir.path()).unwrap().count();
        let file = self.dir.path().join(format!("example-{file_count}.{extension}"));
        File::create(&file).unwrap();
        file
    }

    fn execute(&self) -> Result<(), String> {
        let log = self.dir.path().join("log");
        let output = File::create(&log).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let program = GatewayProcess::program();
        let folders = [program.parent().unwrap(), &root().join(".cache/venv/bin")];
        let [ours, venv] = folders.map(|folder| folder.display().to_string());
        let packages = ["clients/python-worker/src", "clients/python-client/src"]
            .map(|folder| root().join(folder).display().to_string());
        let mut shell = Command::new("bash")
            .args(["-eo", "pipefail", "-c", &self.script])
            .current_dir(self.dir.path())
            .env("PATH", format!("{ours}:{venv}:{}", path.display()))
            .env("PYTHONPATH", packages.join(":"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + TIMEOUT;
        let status = loop {
            match shell.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        // Background processes, such as a worker.
        let group = format!("-{}", shell.id());
        _ = Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        _ = shell.wait();
        if status.is_none_or(|status| !status.success()) {
            let output = fs::read_to_string(log).unwrap();
            return Err(format!("{status:?} after the last of these locations:\n{output}"));
        }
        self.compare()
    }

    fn compare(&self) -> Result<(), String> {
        let mut wrong = String::new();
        for (location, file, shown) in &self.shown {
            let actual = fs::read_to_string(file).unwrap().replace(self.address(), ADDRESS);
            if !page::is_as_shown(&actual, shown) {
                _ = writeln!(
                    wrong,
                    "{location}\ndocumented output:\n{shown}\nactual output:\n{actual}"
                );
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// An error status fails the example, unless the document shows the output.
const CURL_THAT_FAILS: &str = r#"curl() { command curl --fail-with-body "$@"; }"#;
