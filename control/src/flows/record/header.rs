//! What a record keeps of a packet's headers, as small as it stood there; text only where it is shown.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An Ethernet address, `aa:bb:cc:dd:ee:ff` in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let octets: Option<Vec<u8>> =
            text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
        let mac = octets.and_then(|octets| octets.try_into().ok());
        mac.map(Self).ok_or_else(|| D::Error::custom(format!("{text:?} is no MAC address")))
    }
}

/// The flags octet of a TCP header (RFC 9293 §3.1); in text the names of those that are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

/// From bit 0 on.
const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

impl TcpFlags {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..8).filter(move |bit| self.0 & (1 << bit) != 0).map(|bit| NAMES[bit])
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl Serialize for TcpFlags {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.names())
    }
}

impl<'de> Deserialize<'de> for TcpFlags {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut flags = 0;
        for name in Vec::<String>::deserialize(from)? {
            let bit = NAMES.iter().position(|known| *known == name);
            flags |= 1 << bit.ok_or_else(|| D::Error::custom(format!("{name:?} is no TCP flag")))?;
        }
        Ok(Self(flags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_names_in_json() {
        let flags = TcpFlags(0x12);
        assert_eq!(serde_json::to_string(&flags).unwrap(), r#"["SYN","ACK"]"#);
        assert_eq!(flags.to_string(), "SYN,ACK");
        for value in 0..=255 {
            let json = serde_json::to_string(&TcpFlags(value)).unwrap();
            assert_eq!(serde_json::from_str::<TcpFlags>(&json).unwrap(), TcpFlags(value));
        }
        assert!(serde_json::from_str::<TcpFlags>(r#"["SYM"]"#).is_err());
    }

    #[test]
    fn a_mac_is_its_usual_text_in_json() {
        let mac = Mac([2, 0, 0xab, 0, 0, 1]);
        let json = serde_json::to_string(&mac).unwrap();
        assert_eq!(json, r#""02:00:ab:00:00:01""#);
        assert_eq!(serde_json::from_str::<Mac>(&json).unwrap(), mac);
        for wrong in [r#""02:00""#, r#""02:00:ab:00:00:01:07""#, r#""zz:00:ab:00:00:01""#] {
            assert!(serde_json::from_str::<Mac>(wrong).is_err(), "{wrong}");
        }
    }
}
