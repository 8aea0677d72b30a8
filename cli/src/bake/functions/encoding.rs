//! JSON, CSV, base64, URLs, hashes and UUIDs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{Function, exactly};
use crate::bake::source::Fault;
use crate::bake::types::csv;
use crate::bake::value::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    exactly("jsonencode", 1, |a| Ok(a[0].to_json().to_string().into())),
    exactly("jsondecode", 1, |a| {
        let json = serde_json::from_str(&a[0].to_text()?);
        json.map(|json| Value::from_json(&json)).map_err(|error| Fault::new(format!("no JSON: {error}")))
    }),
    exactly("csvdecode", 1, |a| {
        let text = a[0].to_text()?;
        let mut rows = text.lines().filter(|line| !line.is_empty()).map(csv);
        let header = rows.next().ok_or_else(|| Fault::new("the header is missing"))??;
        let mut all = Vec::new();
        for row in rows {
            let row = row?;
            if row.len() != header.len() {
                return Err(Fault::new("a row has not as many fields as the header"));
            }
            let fields = header.iter().cloned().zip(row.into_iter().map(Value::String));
            all.push(Value::Map(fields.collect::<BTreeMap<_, _>>()));
        }
        Ok(Value::List(all))
    }),
    exactly("base64encode", 1, |a| Ok(encode(a[0].to_text()?.as_bytes()).into())),
    exactly("base64decode", 1, |a| {
        let bytes = decode(&a[0].to_text()?).ok_or_else(|| Fault::new("no base64"))?;
        String::from_utf8(bytes).map(Into::into).map_err(|_| Fault::new("what it stands for is no text"))
    }),
    exactly("urlencode", 1, |a| {
        let mut out = String::new();
        for byte in a[0].to_text()?.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
                b' ' => out.push('+'),
                // Writing to a String cannot fail.
                byte => drop(write!(out, "%{byte:02X}")),
            }
        }
        Ok(out.into())
    }),
    exactly("md5", 1, |a| Ok(hex(&Md5::digest(a[0].to_text()?)).into())),
    exactly("sha1", 1, |a| Ok(hex(&Sha1::digest(a[0].to_text()?)).into())),
    exactly("sha256", 1, |a| Ok(hex(&Sha256::digest(a[0].to_text()?)).into())),
    exactly("sha512", 1, |a| Ok(hex(&Sha512::digest(a[0].to_text()?)).into())),
    exactly("uuidv4", 0, |_| {
        let mut bytes = [0u8; 16];
        let random = std::fs::File::open("/dev/urandom");
        random
            .and_then(|mut random| std::io::Read::read_exact(&mut random, &mut bytes))
            .map_err(|error| Fault::new(format!("no random bytes: {error}")))?;
        Ok(uuid(bytes, 4).into())
    }),
    exactly("uuidv5", 2, |a| {
        let namespace = match a[0].to_text()?.as_str() {
            "dns" => "6ba7b8109dad11d180b400c04fd430c8".to_owned(),
            "url" => "6ba7b8119dad11d180b400c04fd430c8".to_owned(),
            "oid" => "6ba7b8129dad11d180b400c04fd430c8".to_owned(),
            "x500" => "6ba7b8149dad11d180b400c04fd430c8".to_owned(),
            other => other.replace('-', ""),
        };
        let number = u128::from_str_radix(&namespace, 16).ok().filter(|_| namespace.len() == 32);
        let number = number.ok_or_else(|| Fault::new("the namespace is no UUID"))?;
        let digest = Sha1::new().chain_update(number.to_be_bytes()).chain_update(a[1].to_text()?).finalize();
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        Ok(uuid(bytes, 5).into())
    }),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn uuid(mut bytes: [u8; 16], version: u8) -> String {
    bytes[6] = (bytes[6] & 0x0f) | (version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0u8; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - letters.len() > 2 {
        return None;
    }
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for letter in letters.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = (bits << 6) | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(out)
}
