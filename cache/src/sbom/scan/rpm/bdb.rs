//! The hash tables of Berkeley DB (RHEL 8, Amazon Linux 2, CentOS and older): `Packages`.
//!
//! Pages of one size; pairs of key and value lie on hash pages, values that are too large on chains of overflow pages
//! (Berkeley DB's `dbinc/db_page.h`). Every page is looked at once, so neither buckets nor keys are needed. Numbers
//! are in the order of the machine that wrote them.

use super::{HEADER, PACKAGES};
use crate::sbom::scan::ReadAt;

const MAGIC: u32 = 0x0006_1561;
/// Of the header that every page has.
const PAGE_HEADER: usize = 26;
/// Kinds of pages.
const HASH_UNSORTED: u8 = 2;
const OVERFLOW: u8 = 7;
const HASH_META: u8 = 8;
const HASH: u8 = 13;
/// Kinds of items.
const ON_PAGE: u8 = 1;
const OFF_PAGE: u8 = 3;

/// Whether a file begins as one, in either order of bytes.
pub(super) fn is_one(start: &[u8; 16]) -> bool {
    Order::of(start).is_some()
}

/// The order of bytes in numbers.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn of(start: &[u8]) -> Option<Self> {
        [Self::Little, Self::Big].into_iter().find(|order| order.u32(start, 12) == Some(MAGIC))
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        })
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(usize::from(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }))
    }
}

/// Hands out every value; nothing where the file is damaged.
pub(super) fn headers(read_at: ReadAt<'_>, size: u64, take: &mut dyn FnMut(&[u8])) -> Option<()> {
    let mut meta = [0; 72];
    if !read_at(0, &mut meta) {
        return None;
    }
    let order = Order::of(&meta)?;
    let page_size = order.u32(&meta, 20)? as usize;
    let encrypted = meta[24] != 0;
    if !(512..=64 << 10).contains(&page_size) || !page_size.is_power_of_two() || meta[25] != HASH_META || encrypted {
        return None;
    }
    let mut table = Table { read_at, order, page_size, left: size, taken: 0 };
    let pages = u32::try_from(size / page_size as u64).unwrap_or(u32::MAX);
    for number in 1..pages {
        let page = table.page(number)?;
        if matches!(page[25], HASH_UNSORTED | HASH) {
            table.values(&page, take)?;
        }
    }
    Some(())
}

struct Table<'a> {
    read_at: ReadAt<'a>,
    order: Order,
    page_size: usize,
    /// Bytes of values that can still be in the file: chains that share pages end here.
    left: u64,
    taken: usize,
}

impl Table<'_> {
    fn page(&self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; self.page_size];
        (self.read_at)(u64::from(number) * self.page_size as u64, &mut page).then_some(page)
    }

    /// Hands out the values of a page: every second item.
    fn values(&mut self, page: &[u8], take: &mut dyn FnMut(&[u8])) -> Option<()> {
        let items = self.order.u16(page, 20)?;
        let order = self.order;
        let at = |item: usize| order.u16(page, PAGE_HEADER + 2 * item);
        for item in (1..items).step_by(2) {
            // Items lie from the end of the page downwards.
            let (start, end) = (at(item)?, at(item - 1)?);
            let bytes = page.get(start..end)?;
            self.taken += 1;
            if self.taken > PACKAGES {
                return None;
            }
            match *bytes.first()? {
                ON_PAGE => take(&bytes[1..]),
                OFF_PAGE => {
                    let (first, length) = (self.order.u32(bytes, 4)?, self.order.u32(bytes, 8)?);
                    take(&self.chain(first, length as usize)?);
                }
                // Several values of one key, which this table does not have.
                _ => {}
            }
        }
        Some(())
    }

    /// A value on pages of its own.
    fn chain(&mut self, mut number: u32, length: usize) -> Option<Vec<u8>> {
        if length > HEADER {
            return None;
        }
        self.left = self.left.checked_sub(length as u64)?;
        let mut value = Vec::new();
        while value.len() < length {
            let page = self.page(number)?;
            let here = self.order.u16(&page, 22)?;
            // All pages but the last are full: a chain that goes on and on with next to nothing is none.
            let full = (length - value.len()).min(self.page_size - PAGE_HEADER);
            if page[25] != OVERFLOW || here < full {
                return None;
            }
            value.extend_from_slice(page.get(PAGE_HEADER..PAGE_HEADER + here)?);
            number = self.order.u32(&page, 16)?;
        }
        value.truncate(length);
        Some(value)
    }
}
