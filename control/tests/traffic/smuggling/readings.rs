//! What others would make of the octets that the server got: a reader of our own in all its careless
//! moods, Python's `http.server`, and a real nginx.

mod careless;

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use super::{
    http2::{self, frames::PREFACE},
    policy::Read,
    report::Report,
    stage::Stage,
};
use crate::netlab::{LIMIT, eventually};

/// Requests by the client whose connection they were read in.
pub struct Reader {
    pub name: &'static str,
    pub requests: Vec<(IpAddr, Read)>,
}

/// What came on one connection, up to a switch of protocols.
type Stream = (IpAddr, Vec<u8>);

/// Where nginx listens, unseen by Tektin: on the server's own loopback.
const NGINX: u16 = 8081;
const NGINX_HTTP2: u16 = 8082;

impl Stage {
    /// Has everything that came so far read by each reader.
    pub fn read_leniently(&self, report: &mut Report) {
        let all = self.recorder.all().into_iter().map(|(client, one)| (client, one.octets));
        let (http2, streams): (Vec<Stream>, Vec<Stream>) =
            all.partition(|(_, octets)| octets.starts_with(PREFACE));
        let mut strict = careless::strict(&streams);
        let requests = http2.iter().flat_map(|(client, octets)| {
            http2::read(octets).into_iter().map(|read| (*client, read)).collect::<Vec<_>>()
        });
        strict.requests.extend(requests);
        report.reading(&careless::all_moods(&streams));
        report.reading(&self.python(&streams));
        let streams = [streams, http2].concat();
        let nginx = self.nginx_reads(&streams);
        for (client, _) in &streams {
            let (expected, found) = (targets(&strict, *client), targets(&nginx, *client));
            if expected != found {
                report.disagreement(format!("nginx reads {found:?} of {client}, not {expected:?}"));
            }
        }
        report.reading(&strict);
        report.reading(&nginx);
    }

    fn python(&self, streams: &[Stream]) -> Reader {
        let script = self.lab.dir().join("lenient.py");
        std::fs::write(&script, include_str!("lenient.py")).expect("the reader's script");
        let mut command = Command::new("python3");
        let mut child =
            command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 starts");
        let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
        let lines: String =
            streams.iter().map(|(client, octets)| format!("{client} {}\n", hex(octets))).collect();
        let mut stdin = child.stdin.take().expect("a pipe");
        let writing = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
        let output = child.wait_with_output().expect("python3 ends");
        writing.join().expect("no panic").expect("python3 reads");
        assert!(output.status.success(), "lenient.py failed");
        let parse = |line: &str| -> (IpAddr, Read) {
            let read: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let fields = read["fields"].as_array().expect("a list");
            let fields = fields.iter().map(|pair| (text(&pair[0]).to_lowercase(), text(&pair[1]))).collect();
            let client = text(&read["client"]).parse().expect("an address");
            (client, Read { method: text(&read["method"]), target: text(&read["target"]), fields })
        };
        let requests = String::from_utf8_lossy(&output.stdout).lines().map(parse).collect();
        Reader { name: "http.server", requests }
    }

    fn nginx_reads(&self, streams: &[Stream]) -> Reader {
        let dir = self.lab.dir().join("nginx");
        std::fs::create_dir(&dir).expect("nginx's directory");
        let d = dir.display();
        let config = format!(
            "daemon off; master_process off; pid {d}/pid; error_log {d}/error.log;
             events {{ worker_connections 256; }}
             http {{
               log_format read escape=json '$server_port:$remote_port\\t$request_method\\t$request_uri'
                 '\\t$http_host\\t$http_x_token\\t$http_x_role';
               access_log {d}/access.log read;
               client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
               uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi; client_max_body_size 0;
               underscores_in_headers on; ignore_invalid_headers off; large_client_header_buffers 4 128k;
               keepalive_requests 100000;
               server {{ listen 127.0.0.1:{NGINX}; listen 127.0.0.1:{NGINX_HTTP2} http2; location / {{ return 200; }} }}
             }}"
        );
        std::fs::write(dir.join("nginx.conf"), config).expect("nginx's configuration");
        let mut command = self.web.ns.command("nginx");
        command
            .arg("-p")
            .arg(&dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .arg("-e")
            .arg(dir.join("error.log"));
        self.lab.background(command);
        self.lab.listening(&self.web.ns, NGINX);
        let to = |octets: &[u8]| {
            let port = if octets.starts_with(PREFACE) { NGINX_HTTP2 } else { NGINX };
            SocketAddr::from(([127, 0, 0, 1], port))
        };
        let mut streams = streams.to_vec();
        // nginx has one process: what it logs for this it logs last.
        let last = (IpAddr::from([0, 0, 0, 0]), b"GET /public/end HTTP/1.0\r\n\r\n".to_vec());
        streams.push(last);
        let clients = self.web.ns.inside(|| {
            let replay = |(client, octets): &Stream| {
                let mut stream = TcpStream::connect_timeout(&to(octets), LIMIT).expect("nginx listens");
                stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
                let port = stream.local_addr().expect("an address").port();
                let _ = stream.write_all(octets);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
                (format!("{}:{port}", to(octets).port()), *client)
            };
            streams.iter().map(replay).collect::<HashMap<String, IpAddr>>()
        });
        let log = eventually("nginx has logged all", || {
            let log = std::fs::read_to_string(dir.join("access.log")).unwrap_or_default();
            log.contains("\t/public/end\t").then_some(log)
        });
        let requests = log.lines().filter_map(|line| logged(line, &clients)).collect();
        Reader { name: "nginx", requests }
    }
}

/// One line of nginx's log; `None`: the last one, or a connection that ended inside a head.
fn logged(line: &str, clients: &HashMap<String, IpAddr>) -> Option<(IpAddr, Read)> {
    let mut words = line.split('\t');
    let client = *clients.get(words.next()?)?;
    let (method, target) = (words.next()?.to_owned(), words.next()?.replace("\\\"", "\""));
    let fields = ["host", "x-token", "x-role"].into_iter().zip(words);
    let fields = fields.filter(|(_, value)| !value.is_empty());
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (!method.is_empty() && !client.is_unspecified()).then_some((client, Read { method, target, fields }))
}

/// Methods and targets of one client's requests, in any order of its connections.
fn targets(reader: &Reader, client: IpAddr) -> Vec<String> {
    let of_client = reader.requests.iter().filter(|(ip, _)| *ip == client);
    let mut targets: Vec<String> =
        of_client.map(|(_, read)| format!("{} {}", read.method, read.target)).collect();
    targets.sort();
    targets
}
