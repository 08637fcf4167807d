//! One Apache Kafka broker, its own controller, on loopback.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Where `bootstrap.sh test` puts the broker and the clients.
pub(crate) fn installed() -> PathBuf {
    // The test runs from <target>/<profile>/deps.
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let folder = target.join("kafka");
    assert!(folder.join("lib").is_dir(), "{} has no broker: ./bootstrap.sh test", folder.display());
    folder
}

pub(crate) fn java(heap: &str) -> Command {
    let mut command = Command::new("java");
    command
        .arg(format!("-Xmx{heap}"))
        .args(["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"])
        .arg("-cp")
        .arg(format!("{}/lib/*", installed().display()));
    command
}

/// Listeners; all on 127.0.0.1.
pub(crate) struct Ports {
    /// Everything is allowed here.
    pub(crate) admin: u16,
    controller: u16,
    /// Clients by SASL/PLAIN, judged by ACLs.
    pub(crate) direct: u16,
    /// The same, but it tells clients to come to `relay`.
    pub(crate) via: u16,
    pub(crate) relay: u16,
}

pub(crate) struct Broker {
    child: Child,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) ports: Ports,
}

impl Broker {
    /// # Panics
    /// If it is not up within a minute.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports();
        let config = folder.path().join("server.properties");
        fs::write(&config, configuration(folder.path(), &ports)).unwrap();
        let formatted = java("128m")
            .args(["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA", "-c"])
            .arg(&config)
            .output()
            .unwrap();
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = java("512m")
            .arg("kafka.Kafka")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut broker = Self { child, folder, ports };
        broker.wait();
        broker
    }

    fn wait(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
                panic!("the broker did not start: {ended:?}\n{log}");
            }
            let up = [self.ports.admin, self.ports.direct, self.ports.via]
                .iter()
                .all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok());
            if up {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> Ports {
    let held: Vec<_> = (0..5).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let port = |at: usize| held[at].local_addr().unwrap().port();
    Ports { admin: port(0), controller: port(1), direct: port(2), via: port(3), relay: port(4) }
}

fn configuration(folder: &Path, ports: &Ports) -> String {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/kafka/server.properties");
    let at = |port: u16| format!("127.0.0.1:{port}");
    [
        ("@admin@", at(ports.admin)),
        ("@direct@", at(ports.direct)),
        ("@via@", at(ports.via)),
        ("@advertised@", at(ports.relay)),
        ("@controller@", ports.controller.to_string()),
        ("@data@", folder.join("data").display().to_string()),
    ]
    .iter()
    .fold(fs::read_to_string(template).unwrap(), |text, (place, what)| text.replace(place, what))
}
