//! `rpmdb.sqlite`: as much of SQLite's file format (fileformat2.html) as it takes to walk one table.
//!
//! A write-ahead log beside the file is not looked at; it is empty once the program that wrote has ended.

use super::{HEADER, PACKAGES};
use crate::sbom::scan::ReadAt;

/// Depth of a tree; SQLite's own is 20.
const DEPTH: usize = 20;
const LEAF: u8 = 0x0d;
const INTERIOR: u8 = 0x05;

struct File<'a> {
    read_at: ReadAt<'a>,
    page_size: usize,
    /// Bytes of a page that hold content.
    usable: usize,
    pages: u32,
}

/// Hands out every header; nothing where the file is damaged.
pub(super) fn headers(read_at: ReadAt<'_>, size: u64, take: &mut dyn FnMut(&[u8])) -> Option<()> {
    let mut head = [0; 100];
    if !read_at(0, &mut head) {
        return None;
    }
    let page_size = match u16::from_be_bytes([head[16], head[17]]) {
        1 => 65_536,
        size => usize::from(size),
    };
    let usable = page_size.checked_sub(usize::from(head[20])).filter(|usable| *usable >= 480)?;
    let pages = u32::try_from(size / page_size as u64).ok()?;
    let file = File { read_at, page_size, usable, pages };
    let mut root = None;
    file.table(1, &mut |record| {
        let columns = columns(record)?;
        if let [kind, name, _, page, ..] = &columns[..]
            && *kind == b"table"
            && *name == b"Packages"
        {
            root = page.iter().try_fold(0u32, |number, byte| number.checked_mul(256)?.checked_add(u32::from(*byte)));
        }
        Some(())
    })?;
    let mut taken = 0;
    file.table(root?, &mut |record| {
        taken += 1;
        // The number of the package is the row's own, so that the column is empty.
        take(columns(record)?.get(1)?);
        (taken <= PACKAGES).then_some(())
    })
}

impl File<'_> {
    /// Hands out every record of a table.
    fn table(&self, root: u32, take: &mut dyn FnMut(&[u8]) -> Option<()>) -> Option<()> {
        let mut stack = vec![(root, 0)];
        let mut seen = 0u32;
        while let Some((number, depth)) = stack.pop() {
            seen += 1;
            // A sound tree has each page once: one that leads back into itself ends here.
            if depth > DEPTH || seen > self.pages {
                return None;
            }
            let page = self.page(number)?;
            let head = if number == 1 { 100 } else { 0 };
            let kind = *page.get(head)?;
            let cells = usize::from(u16_at(&page, head + 3)?);
            let pointers = head + if kind == INTERIOR { 12 } else { 8 };
            let cell = |number: usize| Some(usize::from(u16_at(&page, pointers + 2 * number)?));
            match kind {
                INTERIOR => {
                    stack.push((u32_at(&page, head + 8)?, depth + 1));
                    for number in (0..cells).rev() {
                        stack.push((u32_at(&page, cell(number)?)?, depth + 1));
                    }
                }
                LEAF => {
                    for number in 0..cells {
                        take(&self.record(page.get(cell(number)?..self.usable)?)?)?;
                    }
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// A page; they are counted from 1.
    fn page(&self, number: u32) -> Option<Vec<u8>> {
        if number == 0 || number > self.pages {
            return None;
        }
        let mut page = vec![0; self.page_size];
        (self.read_at)(u64::from(number - 1) * self.page_size as u64, &mut page).then_some(page)
    }

    /// The record of a cell, with what lies on further pages.
    fn record(&self, cell: &[u8]) -> Option<Vec<u8>> {
        let (length, rest) = varint(cell)?;
        let (_, rest) = varint(rest)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= HEADER)?;
        let most = self.usable - 35;
        if length <= most {
            return Some(rest.get(..length)?.to_vec());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let fitting = least + (length - least) % (self.usable - 4);
        let local = if fitting <= most { fitting } else { least };
        let mut record = rest.get(..local)?.to_vec();
        let mut next = u32_at(rest, local)?;
        while record.len() < length {
            let page = self.page(next)?;
            next = u32_at(&page, 0)?;
            let part = (length - record.len()).min(self.usable - 4);
            record.extend_from_slice(page.get(4..4 + part)?);
        }
        Some(record)
    }
}

/// The values of a record as they lie there.
fn columns(record: &[u8]) -> Option<Vec<&[u8]>> {
    let (length, _) = varint(record)?;
    let length = usize::try_from(length).ok()?;
    let mut types = record.get(..length)?;
    (_, types) = varint(types)?;
    let mut values = record.get(length..)?;
    let mut columns = Vec::new();
    while !types.is_empty() {
        let (kind, rest) = varint(types)?;
        types = rest;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let (value, rest) = values.split_at_checked(usize::try_from(size).ok()?)?;
        columns.push(value);
        values = rest;
    }
    Some(columns)
}

/// Up to nine bytes, seven bits each, highest first; the ninth has eight.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for number in 0..9 {
        let byte = *bytes.get(number)?;
        if number == 8 {
            return Some((value << 8 | u64::from(byte), &bytes[9..]));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[number + 1..]));
        }
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
