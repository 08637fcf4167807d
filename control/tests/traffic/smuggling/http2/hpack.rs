//! Header compression (RFC 7541): literals out, everything in. Written for the tests, so that no
//! check of a library stands between a case and the wire.

/// Bits of each octet's code (appendix B); the code itself follows, as it is a canonical one.
const BITS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];

/// Appendix A, from index 1 on.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Name and value as they are, whatever they are.
pub fn encode(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        // A literal that enters no table, its name spelt out.
        out.push(0);
        for text in [name, value] {
            integer(text.len(), &mut out);
            out.extend_from_slice(text);
        }
    }
    out
}

/// With a prefix of seven bits, the eighth 0.
fn integer(number: usize, out: &mut Vec<u8>) {
    if number < 127 {
        return out.push(u8::try_from(number).expect("less than 127"));
    }
    out.push(127);
    let mut rest = number - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).expect("seven bits") | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).expect("seven bits"));
}

/// The reading end of one connection's direction.
#[derive(Default)]
pub struct Decoder {
    /// The latest first.
    dynamic: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Decoder {
    /// `None`: no header block.
    pub fn decode(&mut self, mut block: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                fields.push(self.entry(number(&mut block, 7)?)?);
            } else if first & 0x40 != 0 {
                let field = self.literal(&mut block, 6)?;
                self.dynamic.insert(0, field.clone());
                self.evict();
                fields.push(field);
            } else if first & 0x20 != 0 {
                if number(&mut block, 5)? == 0 {
                    self.dynamic.clear();
                }
            } else {
                fields.push(self.literal(&mut block, 4)?);
            }
        }
        Some(fields)
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let name = match number(block, prefix)? {
            0 => string(block)?,
            index => self.entry(index)?.0,
        };
        Some((name, string(block)?))
    }

    fn entry(&self, index: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        match STATIC.get(index.checked_sub(1)?) {
            Some((name, value)) => Some((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.dynamic.get(index - 1 - STATIC.len()).cloned(),
        }
    }

    /// Nobody here offers another size than the initial 4096 octets.
    fn evict(&mut self) {
        let mut size = 0;
        let fits = |(name, value): &(Vec<u8>, Vec<u8>)| {
            size += name.len() + value.len() + 32;
            size <= 4096
        };
        let kept = self.dynamic.iter().map(fits).take_while(|fits| *fits).count();
        self.dynamic.truncate(kept);
    }
}

fn number(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let most = (1 << prefix) - 1;
    let mut number = usize::from(block.first()? & most);
    *block = &block[1..];
    if number < usize::from(most) {
        return Some(number);
    }
    for shift in (0..28).step_by(7) {
        let octet = *block.first()?;
        *block = &block[1..];
        number += usize::from(octet & 127) << shift;
        if octet & 128 == 0 {
            return Some(number);
        }
    }
    None
}

fn string(block: &mut &[u8]) -> Option<Vec<u8>> {
    let huffman = block.first()? & 128 != 0;
    let length = number(block, 7)?;
    let octets = block.get(..length)?;
    *block = &block[length..];
    if huffman { Some(unpack(octets)) } else { Some(octets.to_vec()) }
}

fn unpack(octets: &[u8]) -> Vec<u8> {
    let mut codes: Vec<(u8, u8)> = (0..=255).zip(BITS).map(|(octet, bits)| (bits, octet)).collect();
    codes.sort_unstable();
    let mut out = Vec::new();
    let (mut code, mut bits) = (0_u32, 0_u8);
    for bit in octets.iter().flat_map(|octet| (0..8).rev().map(move |at| octet >> at & 1)) {
        code = code << 1 | u32::from(bit);
        bits += 1;
        // A canonical code: count up through the shorter ones.
        let (mut next, mut at) = (0_u32, codes[0].0);
        for (length, octet) in &codes {
            next <<= length - at;
            at = *length;
            if at > bits {
                break;
            }
            if at == bits && next == code {
                out.push(*octet);
                (code, bits) = (0, 0);
                break;
            }
            next += 1;
        }
    }
    // What is left are the padding's ones.
    out
}

#[test]
fn reads_what_it_wrote_and_the_standards_examples() {
    let fields = vec![(b":path".to_vec(), vec![b'a'; 300]), (b"x\0".to_vec(), Vec::new())];
    assert_eq!(Decoder::default().decode(&encode(&fields)), Some(fields));
    // RFC 7541 appendix C.4.1 and C.4.2, on one connection.
    let mut decoder = Decoder::default();
    for (hex, last) in [
        ("828684418cf1e3c2e5f23a6ba0ab90f4ff", (":authority", "www.example.com")),
        ("828684be5886a8eb10649cbf", ("cache-control", "no-cache")),
    ] {
        let block: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let fields = decoder.decode(&block).unwrap();
        assert_eq!(fields.last().unwrap(), &(last.0.as_bytes().to_vec(), last.1.as_bytes().to_vec()));
    }
}
