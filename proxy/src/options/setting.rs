//! Bounds by name, as the command line and the configuration file give them: `head-time=10s`.

use std::{fmt, str::FromStr, time::Duration};

use super::Limits;

/// One bound's new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    place: usize,
    /// Milliseconds, octets or a number.
    value: u64,
    text: String,
}

/// Why a text is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("not NAME=VALUE")]
    Form,
    #[error("there is no limit of this name; there are: {}", names())]
    Name,
    #[error("{0} takes a time of at least 1ms: 500ms, 30s, 10m, 1h")]
    Time(&'static str),
    #[error("{0} takes a number of at least 1, or with k, m, g for octets: 100, 64k, 1g")]
    Number(&'static str),
}

enum Place {
    Time(fn(&mut Limits) -> &mut Duration),
    Number(fn(&mut Limits) -> &mut usize),
    Octets(fn(&mut Limits) -> &mut usize),
}

struct Named {
    name: &'static str,
    place: Place,
    help: &'static str,
}

const fn named(name: &'static str, place: Place, help: &'static str) -> Named {
    Named { name, place, help }
}

static NAMED: &[Named] = &[
    named("first-octet-time", Place::Time(|l| &mut l.first_octet_time), "from accept to the first octet"),
    named("head-time", Place::Time(|l| &mut l.head_time), "first to last octet of a request head"),
    named("idle-time", Place::Time(|l| &mut l.idle_time), "between two requests of a connection"),
    named("stall-time", Place::Time(|l| &mut l.stall_time), "without progress of a body at the client"),
    named("response-time", Place::Time(|l| &mut l.response_time), "request sent to response head"),
    named("stream-idle-time", Place::Time(|l| &mut l.stream_idle_time), "a server's body without an octet"),
    named("connect-time", Place::Time(|l| &mut l.connect_time), "to connect to a server"),
    named("linger-time", Place::Time(|l| &mut l.linger_time), "for the client to read a last answer"),
    named(
        "spare-time",
        Place::Time(|l| &mut l.spare_time),
        "a left client's server connection waits for another",
    ),
    named(
        "tunnel-idle-time",
        Place::Time(|l| &mut l.tunnel_idle_time),
        "an upgraded connection without an octet",
    ),
    named("head-octets", Place::Octets(|l| &mut l.http1.head_octets), "of a request head or trailer section"),
    named("head-fields", Place::Number(|l| &mut l.http1.fields), "of a request head or trailer section"),
    named("chunk-line-octets", Place::Octets(|l| &mut l.http1.chunk_line_octets), "of a chunk-size line"),
    named("drain-octets", Place::Octets(|l| &mut l.drain_octets), "read of a denied request's body"),
    named("streams", Place::Number(|l| &mut l.streams), "of one HTTP/2 connection at a time"),
    named("connections", Place::Number(|l| &mut l.connections_per_thread), "of a thread"),
    named("upstreams", Place::Number(|l| &mut l.upstreams_per_thread), "connections to servers, a thread"),
    named(
        "connections-per-source",
        Place::Number(|l| &mut l.connections_per_source),
        "of a workload, a thread",
    ),
    named("http2-per-source", Place::Number(|l| &mut l.http2_per_source), "of these, HTTP/2 ones"),
    named(
        "kafka-request-octets",
        Place::Octets(|l| &mut l.kafka_request_octets),
        "of a Kafka request, with its records",
    ),
    named("buffered", Place::Octets(|l| &mut l.buffered), "waiting in HTTP/2 and Kafka, of a thread"),
    named("buffered-per-source", Place::Octets(|l| &mut l.buffered_per_source), "of these, of one workload"),
    named("memory", Place::Octets(|l| &mut l.memory), "resident; above it only the modest may connect"),
    named("records", Place::Number(|l| &mut l.records), "that wait for the agent"),
];

fn names() -> String {
    NAMED.iter().map(|named| named.name).collect::<Vec<_>>().join(", ")
}

/// Every limit: its name, its default and what it bounds, a line each.
#[must_use]
pub fn settings() -> String {
    let mut defaults = Limits::default();
    let mut text = String::new();
    for Named { name, place, help } in NAMED {
        let default = match place {
            Place::Time(limit) => format!("{:?}", limit(&mut defaults)),
            Place::Number(limit) => limit(&mut defaults).to_string(),
            Place::Octets(limit) => octets(*limit(&mut defaults)),
        };
        text.push_str(&format!("  {name:24}{default:>8}  {help}\n"));
    }
    text
}

fn octets(number: usize) -> String {
    for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
        if number > 0 && number.is_multiple_of(1 << shift) {
            return format!("{}{unit}", number >> shift);
        }
    }
    number.to_string()
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (name, value) = text.split_once('=').ok_or(SettingError::Form)?;
        let place = NAMED.iter().position(|named| named.name == name).ok_or(SettingError::Name)?;
        let name = NAMED[place].name;
        let (units, wrong): (&[(&str, u64)], _) = match NAMED[place].place {
            Place::Time(_) => {
                (&[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)], SettingError::Time(name))
            }
            Place::Octets(_) => {
                (&[("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("", 1)], SettingError::Number(name))
            }
            Place::Number(_) => (&[("", 1)], SettingError::Number(name)),
        };
        let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        let (number, unit) = value.split_at(end);
        let unit = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let value =
            number.parse().ok().zip(unit).and_then(|(number, unit): (u64, u64)| number.checked_mul(unit));
        match value {
            // A year: no clock overflows.
            Some(value @ 1..=31_536_000_000) => Ok(Self { place, value, text: text.to_owned() }),
            _ => Err(wrong),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Limits {
    /// Changes one bound.
    pub fn set(&mut self, setting: &Setting) {
        let value = setting.value;
        match &NAMED[setting.place].place {
            Place::Time(limit) => *limit(self) = Duration::from_millis(value),
            Place::Number(limit) | Place::Octets(limit) => {
                *limit(self) = usize::try_from(value).unwrap_or(usize::MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_what_they_name() {
        let mut limits = Limits::default();
        for text in ["head-time=1500ms", "idle-time=2m", "buffered=3m", "streams=7"] {
            let setting: Setting = text.parse().unwrap();
            assert_eq!(setting.to_string(), text);
            limits.set(&setting);
        }
        assert_eq!(limits.head_time, Duration::from_millis(1500));
        assert_eq!(limits.idle_time, Duration::from_secs(120));
        assert_eq!((limits.buffered, limits.streams), (3 << 20, 7));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "head-time",
            "head-time=",
            "head-time=0s",
            "head-time=5",
            "head-time=-1s",
            "head-time=1d",
            "streams=1k",
            "streams=0",
            "streams= 1",
            "buffered=1x",
            "memory=99999999999999999999g",
            "head-time=999999h",
            "nothing=1",
        ] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
        let error = "nothing=1".parse::<Setting>().unwrap_err().to_string();
        assert!(error.contains("head-time, idle-time"), "{error}");
    }

    #[test]
    fn every_limit_shows_its_default() {
        let text = settings();
        assert_eq!(text.lines().count(), NAMED.len());
        assert!(text.contains("head-time") && text.contains("30s") && text.contains("64m"), "{text}");
    }
}
