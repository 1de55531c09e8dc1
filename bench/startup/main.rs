//! How soon the service is ready after Redis answers, how large its program is, and what it holds when idle.
//! `make bench-startup` runs it.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "it is a program that prints")]

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
const TIMES: usize = 20;
/// Between looks, so that these take no processor from what is measured.
const LOOK: Duration = Duration::from_millis(1);

/// Gone with its value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn main() {
    let mut rss_kb = 0;
    let there = timed(|dir| {
        let _redis = redis(dir);
        until_it_answers(dir);
        let started = Instant::now();
        let (service, address) = service(dir);
        until_ready(&address);
        let took = started.elapsed();
        rss_kb = rss_kb.max(rss_kb_of(&service));
        took
    });
    let comes = timed(|dir| {
        let (_service, address) = service(dir);
        let _redis = redis(dir);
        until_it_answers(dir);
        let started = Instant::now();
        until_ready(&address);
        started.elapsed()
    });
    println!("{TIMES} starts, each with an empty Redis on a unix socket   median      max");
    println!("from exec to /readyz, Redis is there                  {}", spread(&there));
    println!("from Redis' first answer to /readyz, service was there {}", spread(&comes));
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mib = fs::metadata(PROGRAM).unwrap().len() as f64 / f64::from(1 << 20);
    println!(
        "program {mib:.1} MiB, resident when ready at most {:.1} MiB",
        f64::from(rss_kb) / 1024.0
    );
}

fn timed(mut once: impl FnMut(&Path) -> Duration) -> Vec<Duration> {
    let mut all: Vec<Duration> =
        (0..TIMES).map(|_| once(tempfile::tempdir().unwrap().path())).collect();
    all.sort();
    all
}

fn spread(sorted: &[Duration]) -> String {
    let ms = |it: Duration| it.as_secs_f64() * 1000.0;
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
    Process(child.expect("scripts/setup redis has installed it"))
}

fn until_it_answers(dir: &Path) {
    let asked = || {
        let mut socket = UnixStream::connect(dir.join("redis.sock"))?;
        socket.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).map(|()| answer == *b"+PONG")
    };
    while !asked().is_ok_and(|it| it) {
        sleep(LOOK);
    }
}

/// The service and where it listens.
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
        let said: serde_json::Value = serde_json::from_str(&line).ok()?;
        (said["message"] == "listening").then(|| said["address"].as_str().map(str::to_owned))?
    });
    // Somebody has to read on, or the service would wait for room in the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (Process(child), address.expect("it says where it listens"))
}

fn until_ready(address: &str) {
    let asked = || {
        let mut socket = TcpStream::connect(address)?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).map(|()| answer == *b"HTTP/1.1 200")
    };
    while !asked().is_ok_and(|it| it) {
        sleep(LOOK);
    }
}

fn rss_kb_of(service: &Process) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.0.id())).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
