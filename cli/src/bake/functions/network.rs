//! Address blocks (`10.0.0.0/8`), of both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Function, at_least, exactly};
use crate::bake::source::Fault;
use crate::bake::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    exactly("cidrhost", 2, |a| {
        let block = Block::parse(&a[0].to_text()?)?;
        let number = a[1].to_integer()?;
        let size = block.size(block.prefix);
        let distance = u128::from(number.unsigned_abs());
        let at = if number < 0 { size.unwrap_or(0).checked_sub(distance) } else { Some(distance) };
        let at = at
            .filter(|at| size.is_none_or(|size| *at < size))
            .ok_or_else(|| Fault::new("the block has no such host"))?;
        Ok(block.address(block.start + at).to_string().into())
    }),
    exactly("cidrnetmask", 1, |a| {
        let block = Block::parse(&a[0].to_text()?)?;
        if block.width != 32 {
            return Err(Fault::new("only blocks of version 4 have a mask"));
        }
        Ok(block.address(block.mask(block.prefix)).to_string().into())
    }),
    exactly("cidrsubnet", 3, |a| {
        let (block, number) = (Block::parse(&a[0].to_text()?)?, a[2].to_integer()?);
        let prefix = block.deeper(a[1].to_integer()?)?;
        let number = u128::try_from(number).map_err(|_| Fault::new("the number is negative"))?;
        if prefix - block.prefix < 127 && number >> (prefix - block.prefix) != 0 {
            return Err(Fault::new("the block has no such part"));
        }
        let size = block.size(prefix).unwrap_or_default();
        Ok(format!("{}/{prefix}", block.address(block.start + number * size)).into())
    }),
    at_least("cidrsubnets", 1, |a| {
        let block = Block::parse(&a[0].to_text()?)?;
        let mut at = block.start;
        let mut parts = Vec::new();
        for bits in &a[1..] {
            let prefix = block.deeper(bits.to_integer()?)?;
            let size = block.size(prefix).unwrap_or(u128::MAX);
            // A part begins where its size allows.
            at = at.checked_next_multiple_of(size).unwrap_or(u128::MAX);
            let end = block.start.saturating_add(block.size(block.prefix).unwrap_or(u128::MAX));
            if at.checked_add(size).is_none_or(|next| next > end) {
                return Err(Fault::new("the parts do not fit into the block"));
            }
            parts.push(Value::from(format!("{}/{prefix}", block.address(at))));
            at += size;
        }
        Ok(Value::List(parts))
    }),
];

struct Block {
    /// First address.
    start: u128,
    prefix: u32,
    /// Bits of an address.
    width: u32,
}

impl Block {
    fn parse(text: &str) -> Result<Self, Fault> {
        let refuse = || Fault::new(format!("{text:?} is no address block, such as 10.0.0.0/8"));
        let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
        let (start, width) = match address.parse().map_err(|_| refuse())? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= width).ok_or_else(refuse)?;
        let mut block = Self { start, prefix, width };
        block.start &= block.mask(prefix);
        Ok(block)
    }

    const fn mask(&self, prefix: u32) -> u128 {
        let all = u128::MAX >> (128 - self.width);
        if prefix == 0 { 0 } else { (u128::MAX << (self.width - prefix)) & all }
    }

    /// Addresses of a part; none where there are 2^128.
    const fn size(&self, prefix: u32) -> Option<u128> {
        1u128.checked_shl(self.width - prefix)
    }

    fn deeper(&self, bits: i64) -> Result<u32, Fault> {
        let prefix = u32::try_from(bits).ok().and_then(|bits| self.prefix.checked_add(bits));
        prefix.filter(|prefix| *prefix <= self.width).ok_or_else(|| Fault::new("the prefix gets too long"))
    }

    fn address(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(number) if self.width == 32 => Ipv4Addr::from(number).into(),
            _ => Ipv6Addr::from(number).into(),
        }
    }
}
