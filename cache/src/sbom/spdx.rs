//! An inventory as an SPDX 2.3 document in JSON.
//!
//! Nothing in it is random or of today: its namespace is made of the image's digest, and it was made when the image was.

use serde_json::{Value, json};

use super::Inventory;
use crate::digest::Digest;

/// What a document is about.
#[derive(Debug, Clone)]
pub struct Described<'a> {
    /// What the image is called.
    pub name: &'a str,
    /// Of its manifest; none for a tree of files without one.
    pub digest: Option<Digest>,
    /// RFC 3339; `1970-01-01T00:00:00Z` where it is not known.
    pub created: &'a str,
    /// `lapstrake-0.1.0`
    pub tool: &'a str,
}

/// The document.
#[must_use]
pub fn document(inventory: &Inventory, described: &Described<'_>) -> Value {
    let none = "NOASSERTION";
    let root = "SPDXRef-DocumentRoot";
    let mut image = json!({
        "SPDXID": root,
        "name": described.name,
        "downloadLocation": none,
        "filesAnalyzed": false,
        "licenseConcluded": none,
        "licenseDeclared": none,
        "copyrightText": none,
        "primaryPackagePurpose": if described.digest.is_some() { "CONTAINER" } else { "FILE" },
    });
    if let Some(digest) = described.digest {
        image["versionInfo"] = digest.to_string().into();
        image["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": digest.hex()}]);
    }
    let mut packages = vec![image];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": root,
    })];
    for (purl, package) in &inventory.packages {
        let id = format!("SPDXRef-Package-{}-{}", id_part(&package.purl.kind, &package.name), hash(purl));
        packages.push(json!({
            "SPDXID": id,
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": none,
            "filesAnalyzed": false,
            "licenseConcluded": none,
            "licenseDeclared": none,
            "copyrightText": none,
            "sourceInfo": format!("found in {}", package.found_in),
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl},
            ],
        }));
        relationships.push(json!({
            "spdxElementId": root, "relationshipType": "CONTAINS", "relatedSpdxElement": id,
        }));
    }
    let unique = described.digest.map_or_else(|| hash(&inventory_key(inventory)), |digest| digest.hex());
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": described.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/lapstrake-{unique}"),
        "creationInfo": {"created": whole_seconds(described.created), "creators": [format!("Tool: {}", described.tool)]},
        "packages": packages,
        "relationships": relationships,
    });
    if !inventory.notes.is_empty() {
        document["comment"] = format!("Not everything could be read:\n{}", inventory.notes.join("\n")).into();
    }
    document
}

/// Letters, digits, dots and dashes, which an SPDX identifier may have.
fn id_part(kind: &str, name: &str) -> String {
    let part: String = format!("{kind}-{name}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(80)
        .collect();
    part
}

fn hash(text: &str) -> String {
    Digest::of(text.as_bytes()).hex()[..16].to_owned()
}

fn inventory_key(inventory: &Inventory) -> String {
    inventory.packages.keys().map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// SPDX has no fractions of a second and no offsets.
fn whole_seconds(time: &str) -> String {
    match time.get(..19) {
        Some(seconds) if seconds.as_bytes()[10] == b'T' && time.ends_with('Z') => format!("{seconds}Z"),
        _ => "1970-01-01T00:00:00Z".to_owned(),
    }
}
