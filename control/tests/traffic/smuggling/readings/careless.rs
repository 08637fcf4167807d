//! A reader of HTTP/1 that takes anything for a request, in each combination of the liberties that
//! servers have been seen to take.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Reader, Stream};
use crate::smuggling::policy::Read;

#[derive(Clone, Copy, Default)]
struct Mood {
    /// A lone CR ends a line, too.
    bare_cr: bool,
    /// Content-Length counts though there is a Transfer-Encoding.
    length_wins: bool,
    /// Of several Content-Length fields the last one counts.
    last_length: bool,
    /// `_` in names is `-`, as where fields become variables.
    underscores: bool,
    /// What is no request line is skipped until one comes.
    skips_junk: bool,
}

/// As the standard says, which is good enough where nothing is ambiguous.
pub(super) fn strict(streams: &[Stream]) -> Reader {
    let read = |(client, octets): &Stream| {
        let requests = read(octets, Mood::default()).into_iter();
        requests.map(|request| (*client, request)).collect::<Vec<_>>()
    };
    Reader { name: "the standard", requests: streams.iter().flat_map(read).collect() }
}

/// What any mood finds, each finding once.
pub(super) fn all_moods(streams: &[Stream]) -> Reader {
    let mut seen = BTreeSet::new();
    let mut requests: Vec<(IpAddr, Read)> = Vec::new();
    for (client, octets) in streams {
        for mood in moods() {
            for request in read(octets, mood) {
                if seen.insert((*client, format!("{request:?}"))) {
                    requests.push((*client, request));
                }
            }
        }
    }
    Reader { name: "32 careless moods", requests }
}

fn moods() -> impl Iterator<Item = Mood> {
    (0..32_u8).map(|bits| Mood {
        bare_cr: bits & 1 != 0,
        length_wins: bits & 2 != 0,
        last_length: bits & 4 != 0,
        underscores: bits & 8 != 0,
        skips_junk: bits & 16 != 0,
    })
}

fn read(octets: &[u8], mood: Mood) -> Vec<Read> {
    let mut stream = Octets { rest: octets, mood };
    let mut requests = Vec::new();
    while let Some(line) = stream.line() {
        if line.trim().is_empty() {
            continue;
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let method = words.next().unwrap_or_default();
        let Some(target) = words.next() else {
            if mood.skips_junk {
                continue;
            }
            break;
        };
        let mut fields = stream.fields();
        // Trailers are taken for fields of the head.
        fields.extend(stream.body(&fields));
        requests.push(Read { method, target, fields });
    }
    requests
}

struct Octets<'a> {
    rest: &'a [u8],
    mood: Mood,
}

impl Octets<'_> {
    fn line(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            return None;
        }
        let ends = |octet: &u8| *octet == b'\n' || self.mood.bare_cr && *octet == b'\r';
        let end = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let line = String::from_utf8_lossy(&self.rest[..end]).into_owned();
        let mut behind = &self.rest[(end + 1).min(self.rest.len())..];
        if self.rest.get(end) == Some(&b'\r') && behind.first() == Some(&b'\n') {
            behind = &behind[1..];
        }
        self.rest = behind;
        Some(line.strip_suffix('\r').map_or(line.clone(), str::to_owned))
    }

    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        while let Some(line) = self.line() {
            if line.trim().is_empty() {
                break;
            }
            if let (true, Some((_, value))) = (line.starts_with([' ', '\t']), fields.last_mut()) {
                value.push_str(line.trim());
                continue;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            let mut name = name.trim().to_lowercase();
            if self.mood.underscores {
                name = name.replace('_', "-");
            }
            fields.push((name, value.trim().to_owned()));
        }
        fields
    }

    /// Skips a body; its trailers.
    fn body(&mut self, fields: &[(String, String)]) -> Vec<(String, String)> {
        let values = |wanted: &'static str| {
            fields.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let chunked = values("transfer-encoding").any(|value| value.to_lowercase().contains("chunked"));
        let length = if self.mood.last_length {
            values("content-length").next_back()
        } else {
            values("content-length").next()
        };
        match length {
            Some(length) if !chunked || self.mood.length_wins => {
                self.skip(number(length, 10));
                Vec::new()
            }
            _ if chunked => self.chunks(),
            _ => Vec::new(),
        }
    }

    fn chunks(&mut self) -> Vec<(String, String)> {
        while let Some(line) = self.line() {
            match number(&line, 16) {
                0 => return self.fields(),
                size => {
                    self.skip(size);
                    // The line end behind the data.
                    self.line();
                }
            }
        }
        Vec::new()
    }

    fn skip(&mut self, octets: usize) {
        self.rest = &self.rest[octets.min(self.rest.len())..];
    }
}

/// The number that a text begins with, whatever stands around it.
fn number(text: &str, radix: u32) -> usize {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '+' || c == '-');
    let digits = text.strip_prefix("0x").unwrap_or(text).replace('_', "");
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    usize::from_str_radix(&digits[..end], radix).unwrap_or(0)
}

#[test]
fn careless_moods_find_hidden_requests() {
    let finds = |octets: &str| {
        let reader = all_moods(&[(IpAddr::from([0, 0, 0, 0]), octets.as_bytes().to_vec())]);
        reader.requests.iter().any(|(_, read)| read.target == "/secret")
    };
    let hidden = "GET /secret HTTP/1.1\r\n\r\n";
    let post = "POST /public/a HTTP/1.1\r\nHost: a\r\n";
    for slip in [
        format!("GET /public/a HTTP/1.1\nHost: a\n\n{hidden}"),
        format!("GET /public/a HTTP/1.1\rHost: a\r\r{hidden}"),
        format!("{post}Content-Length: 28\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n18\r\n{hidden}\r\n0\r\n\r\n"),
        format!("{post}Content-Length: 0\r\nContent-Length: 24\r\n\r\n{hidden}"),
        format!("{post}Content-Length: 29\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: x, chunked\r\nContent-Length: 29\r\n\r\n0\r\n\r\n{hidden}"),
    ] {
        assert!(finds(&slip), "{slip:?}");
    }
    assert!(!finds(&format!("{post}Content-Length: 24\r\n\r\n{hidden}")));
    assert!(!finds(&format!("{post}Transfer-Encoding: chunked\r\n\r\n18\r\n{hidden}\r\n0\r\n\r\n")));
}
