//! Which image of an index suits a platform.
//!
//! Follows containerd's `platforms.Only`: the wanted platform first, then older variants that the same machine runs
//! (`amd64/v3` takes `v2` and plain, `arm64` takes `arm/v8` to `v5` last).

use lap_solver::platform::Platform;
use oci_spec::image::Descriptor;

/// The entry of an index that suits `wanted` best.
///
/// Entries for `unknown/unknown` are attestations and never match. An entry without platform matches only where it
/// is alone.
#[must_use]
pub fn select<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let best = acceptable(wanted)
        .into_iter()
        .find_map(|platform| manifests.iter().find(|entry| platform_of(entry).as_ref() == Some(&platform)));
    match manifests {
        [only] if only.platform().is_none() => Some(only),
        _ => best,
    }
}

/// The normalised platform of an index entry.
#[must_use]
pub fn platform_of(entry: &Descriptor) -> Option<Platform> {
    let platform = entry.platform().as_ref()?;
    Some(normalise(&platform.os().to_string(), &platform.architecture().to_string(), platform.variant().as_deref()))
}

/// A platform from the three texts of a document, in its normal form where there is one.
#[must_use]
pub fn normalise(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    let variant = variant.filter(|text| !text.is_empty());
    let raw =
        Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) };
    Platform::parse(&raw.to_string(), &raw).unwrap_or(raw)
}

/// The platforms whose programs run on `wanted`, best first.
pub(super) fn acceptable(wanted: &Platform) -> Vec<Platform> {
    let of = |architecture: &str, variant: Option<String>| Platform {
        os: wanted.os.clone(),
        architecture: architecture.to_owned(),
        variant,
    };
    let number = |default: u8| match &wanted.variant {
        Some(variant) => variant.strip_prefix('v').and_then(|digits| digits.parse::<u8>().ok()),
        None => Some(default),
    };
    let mut list = vec![wanted.clone()];
    match wanted.architecture.as_str() {
        "amd64" => {
            if let Some(version) = number(1) {
                list.extend((2..version).rev().map(|older| of("amd64", Some(format!("v{older}")))));
                list.push(of("amd64", None));
            }
        }
        "arm" => {
            if let Some(version) = number(7) {
                list.extend((5..version).rev().map(|older| of("arm", Some(format!("v{older}")))));
            }
        }
        "arm64" => {
            if let Some(version) = number(8) {
                list.extend((9..version).rev().map(|older| of("arm64", Some(format!("v{older}")))));
                list.push(of("arm64", None));
            }
            list.extend((5..=8).rev().map(|older| of("arm", Some(format!("v{older}")))));
        }
        _ => {}
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, marker: u64) -> Descriptor {
        let mut parts = text.split('/');
        let mut json = serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": marker,
            "digest": "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b",
        });
        if !text.is_empty() {
            json["platform"] = serde_json::json!({"os": parts.next(), "architecture": parts.next()});
            if let Some(variant) = parts.next() {
                json["platform"]["variant"] = variant.into();
            }
        }
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_best_that_runs_is_taken() {
        let host = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        for (wanted, offered, want) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some(1)),
            ("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"], Some(1)),
            ("linux/amd64", &["linux/amd64/v2"], None),
            ("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], Some(1)),
            ("linux/arm64", &["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5"], Some(1)),
            ("linux/arm/v7", &["unknown/unknown", "linux/arm"], Some(1)),
            ("linux/amd64", &[""], Some(0)),
            ("linux/amd64", &["", ""], None),
            ("linux/amd64", &["unknown/unknown"], None),
            ("linux/amd64", &[], None),
        ] {
            let wanted = Platform::parse(wanted, &host).unwrap();
            let list: Vec<_> = offered.iter().zip(0..).map(|(text, marker)| entry(text, marker)).collect();
            assert_eq!(select(&list, &wanted).map(Descriptor::size), want, "{wanted} of {offered:?}");
        }
    }
}
