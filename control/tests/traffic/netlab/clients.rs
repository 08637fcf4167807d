//! Clients inside namespaces, and what they can tell: an answer, silence, or a refusal.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::{LIMIT, Lab, Namespace};

/// How long a probe that should meet silence waits for an answer. The same probe against an allowed
/// target waits [`LIMIT`]; each silent one stands beside an answered one, so patience decides nothing.
pub const SILENCE: Duration = Duration::from_millis(1200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Answered,
    /// Nothing came back: dropped on the way.
    Silent,
    /// A reset or an ICMP error came back.
    Refused,
}

/// What curl saw.
#[derive(Debug)]
pub struct Reply {
    /// 0: no response.
    pub status: u16,
    /// `1.1`, `2`.
    pub version: String,
    pub body: String,
    /// `name: value` lines.
    pub headers: String,
    /// curl's exit code: 0 done, 7 refused, 28 timed out, 52 closed without a response, 56 reset.
    pub exit: i32,
}

impl Reply {
    /// The description of the request that `server.py` sent back.
    #[track_caller]
    pub fn mirrored(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no mirrored request ({e}): {self:?}"))
    }
}

/// `http://ADDRESS:PORT/PATH`, with brackets where needed.
pub fn url(to: SocketAddr, path: &str) -> String {
    format!("http://{to}{path}")
}

impl Namespace {
    /// curl with a limit; extra arguments as given.
    pub fn curl(&self, limit: Duration, url: &str, args: &[&str]) -> Reply {
        let max_time = format!("{:.1}", limit.as_secs_f32());
        let fixed = ["-sS", "--globoff", "--path-as-is", "-D", "/dev/stderr", "-m", &max_time, "-w"];
        let form = ["\n%{http_code} %{http_version}", url];
        let finished = self.run("curl", &[&fixed[..], &form, args].concat());
        let (body, last) = finished.stdout.rsplit_once('\n').unwrap_or(("", "0 0"));
        let (status, version) = last.split_once(' ').unwrap_or(("0", "0"));
        Reply {
            status: status.parse().unwrap_or(0),
            version: version.to_owned(),
            body: body.to_owned(),
            headers: finished.stderr.to_lowercase(),
            exit: finished.code.unwrap_or(-1),
        }
    }

    /// A request that must be answered with this status.
    #[track_caller]
    pub fn expect_status(&self, status: u16, to: SocketAddr, path: &str, args: &[&str]) -> Reply {
        let reply = self.curl(LIMIT, &url(to, path), args);
        assert_eq!(reply.status, status, "{}: {to}{path} {args:?}: {reply:?}", self.name());
        reply
    }

    /// A connection that must meet silence.
    #[track_caller]
    pub fn expect_silence(&self, to: SocketAddr) {
        let seen = self.tcp(to, SILENCE);
        assert_eq!(seen, Reach::Silent, "{} to {to}", self.name());
    }

    /// A connection that must open.
    #[track_caller]
    pub fn expect_open(&self, to: SocketAddr) {
        let seen = self.tcp(to, LIMIT);
        assert_eq!(seen, Reach::Answered, "{} to {to}", self.name());
    }

    /// Whether a TCP connection opens.
    pub fn tcp(&self, to: SocketAddr, limit: Duration) -> Reach {
        self.tcp_from(None, to, limit)
    }

    /// The same from one of several addresses of the namespace.
    pub fn tcp_from(&self, source: Option<IpAddr>, to: SocketAddr, limit: Duration) -> Reach {
        self.inside(|| {
            let open = || {
                let socket = bound(Type::STREAM, source, to)?;
                socket.connect_timeout(&to.into(), limit)
            };
            reach(open())
        })
    }

    /// Whether a datagram comes back from an echo server. Sent again and again within the limit:
    /// datagrams may get lost.
    pub fn udp(&self, to: SocketAddr, limit: Duration) -> Reach {
        self.udp_from(None, to, limit)
    }

    /// The same from one of several addresses of the namespace.
    pub fn udp_from(&self, source: Option<IpAddr>, to: SocketAddr, limit: Duration) -> Reach {
        let end = Instant::now() + limit;
        self.inside(|| {
            let echo = || {
                let socket: UdpSocket = bound(Type::DGRAM, source, to)?.into();
                socket.connect(to)?;
                socket.set_read_timeout(Some(Duration::from_millis(400)))?;
                loop {
                    socket.send(b"probe")?;
                    match socket.recv(&mut [0; 64]) {
                        Err(e) if is_timeout(&e) && Instant::now() < end => (),
                        other => return other.map(drop),
                    }
                }
            };
            reach(echo())
        })
    }

    /// Whether an echo request is answered.
    pub fn ping(&self, to: IpAddr, limit: Duration) -> Reach {
        self.ping_from(None, to, limit)
    }

    /// The same from one of several addresses of the namespace.
    pub fn ping_from(&self, source: Option<IpAddr>, to: IpAddr, limit: Duration) -> Reach {
        // ping counts in whole seconds.
        let (wait, to) = (limit.as_millis().div_ceil(1000).to_string(), to.to_string());
        let source = source.map(|ip| ip.to_string());
        let mut args = vec!["-n", "-c", "1", "-i", "0.3", "-w", &wait];
        args.extend(source.iter().flat_map(|ip| ["-I", ip]));
        args.push(&to);
        let finished = self.run("ping", &args);
        match finished.code {
            Some(0) => Reach::Answered,
            Some(1) if finished.stdout.contains("errors") => Reach::Refused,
            Some(1) if finished.stdout.contains("100% packet loss") => Reach::Silent,
            _ => panic!("{finished:?}"),
        }
    }
}

fn bound(kind: Type, source: Option<IpAddr>, to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), kind, None)?;
    if let Some(ip) = source {
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    Ok(socket)
}

fn reach(result: io::Result<()>) -> Reach {
    match result {
        Ok(()) => Reach::Answered,
        Err(e) if is_timeout(&e) => Reach::Silent,
        Err(_) => Reach::Refused,
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Sends `text` on a connection to an echo server and reads it back. `Ok(false)`: silence.
pub fn echoes(stream: &mut TcpStream, text: &str, limit: Duration) -> io::Result<bool> {
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(text.as_bytes())?;
    let mut back = vec![0; text.len()];
    match stream.read_exact(&mut back) {
        Ok(()) => Ok(back == text.as_bytes()),
        Err(e) if is_timeout(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// One GET on an open HTTP/1.1 connection: the answer's status, `None` for silence.
pub fn ask(stream: &mut TcpStream, path: &str, limit: Duration) -> io::Result<Option<u16>> {
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: lab\r\n\r\n")?;
    let head = match read_head(stream) {
        Err(e) if is_timeout(&e) => return Ok(None),
        head => head?.to_ascii_lowercase(),
    };
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)])?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.map(Some).ok_or_else(|| io::Error::other(format!("no status line: {head}")))
}

/// A response head, octet by octet so that nothing behind it is taken.
pub fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet)?;
        head.push(octet[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

/// One keep-alive connection of Python's `http.client`.
pub struct KeepAlive {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl KeepAlive {
    pub fn connect(lab: &Lab, ns: &Namespace, to: SocketAddr) -> Self {
        let script = lab.dir().join("keep_alive.py");
        std::fs::write(&script, include_str!("keep_alive.py")).expect("the client's script");
        let mut command = ns.command("python3");
        command.arg(script).args([to.ip().to_string(), to.port().to_string()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("nsenter starts python3");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut client = Self { child, stdin, stdout };
        assert_eq!(client.line(), "connected", "to {to}");
        client
    }

    /// `STATUS LOCAL_PORT`, or `closed …` once the connection is gone.
    pub fn request(&mut self, method: &str, path: &str) -> String {
        writeln!(self.stdin, "{method} {path}").expect("the client runs");
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the client answers");
        line.trim().to_owned()
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
