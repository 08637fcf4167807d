//! Servers inside namespaces. They end with the lab.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use super::{Lab, Namespace, eventually};

const SERVER: &str = include_str!("server.py");

/// A real nginx: HTTP/1 on port 80, HTTP/2 without TLS on port 81.
pub struct Nginx {
    dir: PathBuf,
}

impl Nginx {
    /// What it logged so far: `CLIENT PROTOCOL METHOD URI STATUS` a line.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("access.log")).unwrap_or_default()
    }
}

impl Lab {
    /// Starts the Python servers; see `server.py` for the words. They listen when this returns.
    pub fn serve(&self, ns: &Namespace, what: &[&str]) {
        let script = self.dir().join("server.py");
        std::fs::write(&script, SERVER).expect("the server's script");
        let mut command = ns.command("python3");
        command.arg(script).args(what).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("nsenter starts python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        reap(child);
        assert_eq!(line.trim(), "ready", "python3 server.py {what:?} in {}", ns.name());
    }

    /// `/late/` is answered by what [`Lab::serve`] put on port 8080.
    pub fn nginx(&self, ns: &Namespace) -> Nginx {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let dir = self.dir().join(format!("nginx-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&dir).expect("nginx's directory");
        let d = dir.display();
        let config = format!(
            "daemon off; master_process off; pid {d}/pid; error_log {d}/error.log;
             events {{ worker_connections 12288; }}
             http {{
               log_format plain '$remote_addr $server_protocol $request_method $request_uri $status';
               access_log {d}/access.log plain;
               client_body_temp_path {d}/body; proxy_temp_path {d}/proxy; fastcgi_temp_path {d}/fastcgi;
               uwsgi_temp_path {d}/uwsgi; scgi_temp_path {d}/scgi; client_max_body_size 0;
               keepalive_requests 1000000;
               server {{
                 listen 80; listen [::]:80; listen 81 http2; listen [::]:81 http2;
                 add_header X-Client $remote_addr always;
                 location /late/ {{ proxy_pass http://127.0.0.1:8080; }}
                 location / {{ return 200 \"$request_method $request_uri from $remote_addr\\n\"; }}
               }}
             }}"
        );
        std::fs::write(dir.join("nginx.conf"), config).expect("nginx's configuration");
        // So many connections need as many open files.
        let mut command = ns.command("prlimit");
        command
            .args(["--nofile=20000:20000", "nginx", "-p"])
            .arg(&dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .arg("-e")
            .arg(dir.join("error.log"));
        self.background(command);
        self.listening(ns, 80);
        Nginx { dir }
    }

    /// A process that runs until the lab ends.
    pub fn background(&self, mut command: Command) {
        reap(command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")));
    }

    /// Waits until somebody listens on a TCP port of the namespace.
    pub fn listening(&self, ns: &Namespace, port: u16) {
        eventually("a server listens", || {
            let shown = ns.run("ss", &["-Hltn", "sport", "=", &format!(":{port}")]);
            (!shown.stdout.trim().is_empty()).then_some(())
        });
    }
}

/// Waits for the process in the background, so that it does not stay a zombie once it is killed.
fn reap(mut child: std::process::Child) {
    std::thread::spawn(move || child.wait());
}
