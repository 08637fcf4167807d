//! Finds a field in the encoder's table by its hash.

/// As many as the largest table has entries, and more than twice a usual one's.
const SLOTS: usize = 128;

/// Places where a field may be.
const WINDOW: usize = 8;

/// A cache, not an index: entries that leave the table are not taken out, and where all places of a hash
/// are taken the oldest is forgotten. So whoever asks must compare; a field that is not found is only
/// written at length.
///
/// A slot has 16 bits of the hash, and the low 16 bits of the entry's number.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Option<Box<[u32; SLOTS]>>,
    /// Number of the next entry.
    next: u16,
}

impl Slots {
    /// The place in the table (the newest entry is 0), below `count`, for which `is` holds.
    #[inline]
    pub(super) fn find(&self, hash: u32, count: usize, is: impl Fn(usize) -> bool) -> Option<usize> {
        let slots = self.slots.as_deref()?;
        for step in 0..WINDOW {
            let slot = slots[(hash as usize).wrapping_add(step) % SLOTS];
            let place = self.place(slot);
            if slot >> 16 == hash >> 16 && place < count && is(place) {
                return Some(place);
            }
        }
        None
    }

    /// Notes the entry that has just been added to a table that has `count` with it.
    pub(super) fn added(&mut self, hash: u32, count: usize) {
        let number = self.next;
        self.next = number.wrapping_add(1);
        let slots = self.slots.get_or_insert_with(|| Box::new([0; SLOTS]));
        let (mut at, mut oldest) = (hash as usize % SLOTS, 0);
        for step in 0..WINDOW {
            let slot = (hash as usize).wrapping_add(step) % SLOTS;
            let place = usize::from(number.wrapping_sub(slots[slot] as u16));
            if place == 0 || place >= count {
                at = slot;
                break;
            }
            if place > oldest {
                (at, oldest) = (slot, place);
            }
        }
        slots[at] = hash & 0xffff_0000 | u32::from(number);
    }

    #[inline]
    fn place(&self, slot: u32) -> usize {
        usize::from(self.next.wrapping_sub(1).wrapping_sub(slot as u16))
    }
}
