//! Debian's packages: `/var/lib/dpkg/status`, and `status.d` of images made without dpkg.

use lap_solver::purl::Purl;

use super::super::record::paragraphs;
use super::{Distribution, Malformed, Package};

pub(super) fn fits(path: &str, _: bool) -> bool {
    path == "var/lib/dpkg/status"
        || path.strip_prefix("var/lib/dpkg/status.d/").is_some_and(|name| {
            !name.is_empty() && !name.contains('/') && !name.ends_with(".md5sums") && !name.ends_with(".preinst")
        })
}

pub(super) fn scan(text: &str, _: &str, distribution: &Distribution) -> Result<Vec<Package>, Malformed> {
    let mut packages = Vec::new();
    for fields in paragraphs(text) {
        // Those that were removed keep a paragraph; those of `status.d` have no status.
        let installed = fields.get("Status").is_none_or(|status| status.ends_with(" installed"));
        let (Some(name), Some(version)) = (fields.get("Package"), fields.get("Version")) else { continue };
        if !installed {
            continue;
        }
        // `Source: name (version)` where it differs.
        let source = fields.get("Source").and_then(|source| source.split(' ').next()).unwrap_or_default();
        let purl = Purl::new("deb", name, version)
            .within(distribution.id_or("debian"))
            .with("arch", fields.get("Architecture").unwrap_or(&""))
            .with("distro", &distribution.qualifier())
            .with("upstream", source);
        packages.extend(Package::new(purl, name, version));
    }
    Ok(packages)
}
