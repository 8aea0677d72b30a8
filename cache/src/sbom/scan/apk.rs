//! Alpine's packages: `lib/apk/db/installed`, paragraphs of one-letter fields.

use lap_solver::purl::Purl;

use super::super::record::paragraphs;
use super::{Distribution, Malformed, Package};

pub(super) fn fits(path: &str, _: bool) -> bool {
    matches!(path, "lib/apk/db/installed" | "usr/lib/apk/db/installed")
}

pub(super) fn scan(text: &str, _: &str, distribution: &Distribution) -> Result<Vec<Package>, Malformed> {
    let mut packages = Vec::new();
    for fields in paragraphs(text) {
        let (Some(name), Some(version)) = (fields.get("P"), fields.get("V")) else { continue };
        let purl = Purl::new("apk", name, version)
            .within(distribution.id_or("alpine"))
            .with("arch", fields.get("A").unwrap_or(&""))
            .with("distro", &distribution.qualifier())
            .with("upstream", fields.get("o").filter(|origin| *origin != name).unwrap_or(&""));
        packages.extend(Package::new(purl, name, version));
    }
    Ok(packages)
}
