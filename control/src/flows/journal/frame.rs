//! How the journal lies in its files: a head, then frames of kind, length, checksum and payload.
//! Numbers are little-endian. A frame that was not written to its end, and all behind it, is nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use prost::bytes::Bytes;
use tektin_abi::maps::{Event, PIN_VERSION};

use super::Received;

const REQUESTS: u8 = 1;
const PACKETS: u8 = 2;
const KERNEL_LOST: u8 = 3;
const KNOWN: u8 = 4;
/// Kind, length, checksum.
const FRAME_HEAD: usize = 1 + 4 + 4;

#[derive(Debug)]
pub(super) enum Frame {
    /// A proxy's batch as it came.
    Requests {
        instance: u64,
        encoded: Bytes,
    },
    /// Events as the kernel has laid them out.
    Packets(Vec<Event>),
    KernelLost(u64),
    /// All that earlier frames, which are in another file or gone, have led to.
    Known(Known),
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) proxies: BTreeMap<u64, Received>,
    pub(super) proxies_lost: u64,
    pub(super) kernel_lost: u64,
}

/// How a file begins: another boot's, or one with another layout of events, is not read.
pub(super) fn head() -> Vec<u8> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("tektin flows {PIN_VERSION} {} {}\n", size_of::<Event>(), boot.trim()).into_bytes()
}

impl Frame {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Requests { instance, encoded } => {
                (REQUESTS, [&instance.to_le_bytes()[..], &encoded[..]].concat())
            }
            Self::Packets(events) => (PACKETS, octets(events).to_vec()),
            Self::KernelLost(total) => (KERNEL_LOST, total.to_le_bytes().to_vec()),
            Self::Known(known) => {
                let mut payload = [known.kernel_lost, known.proxies_lost].map(u64::to_le_bytes).concat();
                for (instance, received) in &known.proxies {
                    for number in [*instance, received.through, received.lost, received.order] {
                        payload.extend(number.to_le_bytes());
                    }
                }
                (KNOWN, payload)
            }
        };
        let mut frame = Vec::with_capacity(FRAME_HEAD + payload.len());
        frame.push(kind);
        frame.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        frame.extend(checksum(&payload).to_le_bytes());
        frame.extend(payload);
        frame
    }

    fn decode(kind: u8, payload: &Bytes) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(payload.get(at..at + 8)?.try_into().ok()?));
        Some(match kind {
            REQUESTS => Self::Requests { instance: number(0)?, encoded: payload.slice(8..) },
            PACKETS => Self::Packets(events(payload)),
            KERNEL_LOST => Self::KernelLost(number(0)?),
            KNOWN => {
                let mut known =
                    Known { kernel_lost: number(0)?, proxies_lost: number(8)?, ..Known::default() };
                for at in (16..payload.len()).step_by(32) {
                    let received = Received {
                        through: number(at + 8)?,
                        lost: number(at + 16)?,
                        order: number(at + 24)?,
                    };
                    known.proxies.insert(number(at)?, received);
                }
                Self::Known(known)
            }
            _ => return None,
        })
    }
}

/// The frames of a file that can be used.
pub(super) fn read(path: &Path) -> Vec<Frame> {
    let Ok(bytes) = fs::read(path) else { return Vec::new() };
    let mut frames = Vec::new();
    walk(bytes.into(), |frame| frames.push(frame));
    frames
}

/// The file, to write behind its last whole frame; `None` where there is no file to go on with.
pub(super) fn append_to(path: &Path) -> io::Result<Option<File>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let whole = walk(bytes.into(), drop);
    if whole == 0 {
        // Not this boot's, or damaged from its head on.
        fs::remove_file(path)?;
        return Ok(None);
    }
    let file = OpenOptions::new().append(true).open(path)?;
    file.set_len(whole as u64)?;
    Ok(Some(file))
}

/// Octets from the beginning to the end of the last whole frame; 0: another kind of file.
fn walk(bytes: Bytes, mut found: impl FnMut(Frame)) -> usize {
    let head = head();
    if !bytes.starts_with(&head) {
        return 0;
    }
    let mut at = head.len();
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    while let Some(kind) = bytes.get(at).copied()
        && let (Some(length), Some(sum)) = (word(at + 1), word(at + 5))
    {
        let (from, to) = (at + FRAME_HEAD, at + FRAME_HEAD + length as usize);
        if to > bytes.len() || checksum(&bytes[from..to]) != sum {
            break;
        }
        let Some(frame) = Frame::decode(kind, &bytes.slice(from..to)) else { break };
        found(frame);
        at = to;
    }
    at
}

/// FNV-1a, over words for speed: it tells a torn frame, not an enemy, who could write here anything.
fn checksum(octets: &[u8]) -> u32 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut words = octets.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("eight octets"));
        sum = (sum ^ word).wrapping_mul(0x0100_0000_01b3);
    }
    for octet in words.remainder() {
        sum = (sum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
    }
    (sum ^ sum >> 32) as u32
}

fn octets(events: &[Event]) -> &[u8] {
    // SAFETY: an Event is plain numbers with explicit padding.
    unsafe { std::slice::from_raw_parts(events.as_ptr().cast(), size_of_val(events)) }
}

fn events(octets: &[u8]) -> Vec<Event> {
    octets
        .chunks_exact(size_of::<Event>())
        // SAFETY: as long as an Event, which may hold any bit pattern and is read unaligned.
        .map(|octets| unsafe { std::ptr::read_unaligned(octets.as_ptr().cast()) })
        .collect()
}
