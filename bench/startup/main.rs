//! Measures the time from the start of the service, or from the first reply of Redis, until `/readyz` returns 200, the
//! size of the executable and its idle memory. `make bench-startup` runs it.

#![expect(clippy::unwrap_used, reason = "a failed step fails the measurement")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its results")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_image2model-gateway");
const START_COUNT: usize = 20;
/// A pause between polls, so that polling takes no CPU time from the service.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A child process, killed on drop.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn main() {
    let mut rss_kib = 0;
    let redis_first = measure(|dir| {
        let _redis = redis(dir);
        wait_for_redis(dir);
        let started = Instant::now();
        let (service, address) = service(dir);
        wait_until_ready(&address);
        let elapsed = started.elapsed();
        rss_kib = rss_kib.max(rss_kib_of(&service));
        elapsed
    });
    let service_first = measure(|dir| {
        let (_service, address) = service(dir);
        let _redis = redis(dir);
        wait_for_redis(dir);
        let started = Instant::now();
        wait_until_ready(&address);
        started.elapsed()
    });
    let heading = format!("{START_COUNT} starts, each with an empty Redis on a Unix socket");
    println!("{heading:<55} median       max");
    println!("{:<52} {}", "from exec to /readyz, Redis is running", median_and_max(&redis_first));
    println!(
        "{:<52} {}",
        "from the first reply of Redis to /readyz",
        median_and_max(&service_first)
    );
    #[expect(clippy::cast_precision_loss, reason = "rounded for display")]
    let mib = fs::metadata(PROGRAM).unwrap().len() as f64 / f64::from(1 << 20);
    println!(
        "executable {mib:.1} MiB, resident memory when ready at most {:.1} MiB",
        f64::from(rss_kib) / 1024.0
    );
}

fn measure(mut run_once: impl FnMut(&Path) -> Duration) -> Vec<Duration> {
    let mut times: Vec<Duration> =
        (0..START_COUNT).map(|_| run_once(tempfile::tempdir().unwrap().path())).collect();
    times.sort();
    times
}

fn median_and_max(sorted: &[Duration]) -> String {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    format!("{:>6.1} ms {:>6.1} ms", ms(sorted[sorted.len() / 2]), ms(sorted[sorted.len() - 1]))
}

fn redis(dir: &Path) -> Process {
    let child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(dir.join("redis.sock"))
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::null())
        .spawn();
    Process(child.expect("redis-server is not installed; run scripts/setup redis"))
}

fn wait_for_redis(dir: &Path) {
    let ping = || {
        let mut socket = UnixStream::connect(dir.join("redis.sock"))?;
        socket.write_all(b"PING\r\n")?;
        let mut reply = [0; 5];
        socket.read_exact(&mut reply).map(|()| reply == *b"+PONG")
    };
    while !ping().is_ok_and(|answered| answered) {
        sleep(POLL_INTERVAL);
    }
}

/// Starts the service and returns its address.
fn service(dir: &Path) -> (Process, String) {
    let mut child = Command::new(PROGRAM)
        .current_dir(dir)
        .env_clear()
        .env("I2M__SERVER__LISTEN", "127.0.0.1:0")
        .env("I2M__LOG__FORMAT", "json")
        .env("I2M__REDIS__URL", format!("redis+unix://{}", dir.join("redis.sock").display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let address = lines.find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(&line).ok()?;
        (entry["message"] == "listening").then(|| entry["address"].as_str().map(str::to_owned))?
    });
    // Keep reading the log, or the service would block when the pipe is full.
    std::thread::spawn(move || lines.for_each(drop));
    (Process(child), address.expect("the service logs its address"))
}

fn wait_until_ready(address: &str) {
    let probe = || {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")?;
        let mut response = [0; 12];
        socket.read_exact(&mut response).map(|()| response == *b"HTTP/1.1 200")
    };
    while !probe().is_ok_and(|ready| ready) {
        sleep(POLL_INTERVAL);
    }
}

fn rss_kib_of(service: &Process) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
