//! SUSE's `Packages.db`: slots of 16 bytes that say where in the file each header lies, little endian, in blocks of 16.

use super::{HEADER, PACKAGES};
use crate::sbom::scan::ReadAt;

/// Pages of slots; each holds 256.
const PAGES: u32 = 4096;

/// Hands out every header; nothing where the file is damaged.
pub(super) fn headers(read_at: ReadAt<'_>, size: u64, take: &mut dyn FnMut(&[u8])) -> Option<()> {
    let mut head = [0; 32];
    if !read_at(0, &mut head) || word(&head, 1)? != 0 {
        return None;
    }
    let pages = word(&head, 3)?;
    if pages == 0 || pages > PAGES {
        return None;
    }
    // The head takes the place of the first two.
    let mut slots = vec![0; pages as usize * 4096 - 32];
    if !read_at(32, &mut slots) {
        return None;
    }
    let mut taken = 0;
    for slot in slots.chunks_exact(16).filter(|slot| slot.starts_with(b"Slot") && slot[4..8] != [0; 4]) {
        taken += 1;
        if taken > PACKAGES {
            return None;
        }
        let offset = u64::from(word(slot, 2)?) * 16;
        let mut blob = [0; 16];
        if !read_at(offset, &mut blob) || !blob.starts_with(b"BlbS") || blob[4..8] != slot[4..8] {
            return None;
        }
        let length = word(&blob, 3)? as usize;
        if length > HEADER || offset.checked_add(16 + length as u64)? > size {
            return None;
        }
        let mut header = vec![0; length];
        if !read_at(offset + 16, &mut header) {
            return None;
        }
        take(&header);
    }
    Some(())
}

fn word(bytes: &[u8], number: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(number * 4..number * 4 + 4)?.try_into().ok()?))
}
