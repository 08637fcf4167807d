//! The floods of HTTP/2's known weaknesses: bounded memory, everybody else is served, and each
//! connection ends with a record that names the limit.

use crate::siege::{Attack, Siege};

const LIMITS: &[&str] = &[
    "head-time=3s",
    "first-octet-time=3s",
    "idle-time=3s",
    "stall-time=3s",
    "response-time=8s",
    "linger-time=500ms",
];

const SERVED: u16 = 81;
/// Large files at `/big`.
const LARGE: u16 = 82;
const DEAF: u16 = 83;
const SILENT: u16 = 84;

const fn h2(name: &'static str, port: u16, reasons: &'static [&'static str]) -> Attack {
    Attack { script: "http2.py", name, port, connections: 4, reasons }
}

const RESETS: &[&str] = &["too many requests given up"];
const ERRORS: &[&str] = &["too many stream errors", "too many requests given up"];

/// Those that end at once, by number.
const FLOODS: &[Attack] = &[
    // CVE-2023-44487
    h2("rapid_reset", SERVED, RESETS),
    h2("reset_later", DEAF, RESETS),
    // CVE-2025-8671
    h2("made_you_reset", SERVED, ERRORS),
    h2("too_many_streams", SILENT, ERRORS),
    // VU#421644
    h2("continuation", SERVED, &["request head far too large"]),
    h2("empty_continuation", SERVED, &["too many CONTINUATION frames"]),
    // CVE-2019-9515
    h2("settings", SERVED, &["too many SETTINGS frames"]),
    h2("settings_acknowledged", SERVED, &["too many SETTINGS frames"]),
    // CVE-2019-9512
    h2("ping", SERVED, &["too many PING frames"]),
    h2("ping_unread", SERVED, &["too many PING frames"]),
    // CVE-2019-9513
    h2("priority", SERVED, &["too many PRIORITY frames"]),
    h2("unknown", SERVED, &["too many unknown frames"]),
    // CVE-2019-9518
    h2("empty_data", DEAF, &["too many empty DATA frames"]),
    h2("small_data", DEAF, &["request body stalled", "no response within"]),
    // CVE-2019-9511
    h2("window_drip", LARGE, &["too many WINDOW_UPDATE frames"]),
    h2("window_overflow", SERVED, &["flow-control"]),
    h2("header_bomb", SERVED, &["too many stream errors"]),
    // CVE-2019-9516
    h2("empty_headers", SERVED, &["too many stream errors"]),
];

/// Those that wait.
const SIEGES: &[Attack] = &[
    // CVE-2019-9517
    h2("unread", LARGE, &["client does not read"]),
    h2("no_window", LARGE, &["client does not read"]),
    h2("one_octet_window", LARGE, &["client does not read"]),
    h2("slow_head", SERVED, &["request head not complete in time"]),
    h2("idle", SERVED, &["idle for too long"]),
    h2("mute", SERVED, &["keep-alive timed out", "idle for too long"]),
];

#[test]
fn http2_floods_end_with_a_reason_and_harm_nobody() {
    let siege = Siege::new(LIMITS, &[80, SERVED, LARGE, DEAF, SILENT]);
    siege.serve(&[&format!("deaf:{DEAF}"), &format!("silent:{SILENT}")]);
    let root = siege.lab.dir().join("htdocs");
    std::fs::create_dir(&root).expect("a folder");
    std::fs::write(root.join("big"), vec![b'x'; 4 << 20]).expect("a file");
    let mut server = siege.web.ns.command("nghttpd");
    server.args(["--no-tls", "-d", &root.to_string_lossy(), &LARGE.to_string()]);
    siege.lab.background(server);
    siege.lab.listening(&siege.web.ns, LARGE);
    for attacks in FLOODS.chunks(6) {
        siege.withstand(attacks);
    }
    siege.withstand(SIEGES);
}

#[test]
fn a_body_that_stops_ends_its_stream_only() {
    let siege = Siege::new(LIMITS, &[80, SERVED, SILENT]);
    siege.serve(&[&format!("silent:{SILENT}")]);
    // The stream gets 408 and its record; the connection goes on, and ends as idle.
    siege.withstand(&[h2("slow_body", SILENT, &["request body stalled"])]);
}
