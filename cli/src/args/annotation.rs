//! Annotations and what they are attached to.

use lap_solver::platform::Platform;

/// What an annotation is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Manifest,
    Index,
    /// The entry of a manifest in an index.
    ManifestDescriptor,
    /// The entry of an index in a layout.
    IndexDescriptor,
}

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    pub(crate) level: Level,
    /// Only for the image of this platform.
    pub(crate) platform: Option<Platform>,
    pub(crate) key: String,
    pub(crate) value: String,
}

impl Annotation {
    /// `KEY` of `-o ...,KEY=VALUE`: `annotation[-LEVEL][[PLATFORM]].NAME`. Nothing where it is no annotation.
    pub(crate) fn of_output(key: &str, value: &str) -> Option<Result<Self, String>> {
        let rest = key.strip_prefix("annotation")?;
        if !rest.starts_with(['.', '-', '[']) {
            return None;
        }
        // A platform has no `].`, a level no `.`.
        let split = if rest.contains('[') && rest.find('[') < rest.find('.') {
            rest.split_once("].").map(|(place, name)| (format!("{place}]"), name))
        } else {
            rest.split_once('.').map(|(place, name)| (place.to_owned(), name))
        };
        let Some((place, name)) = split else { return Some(Err(format!("{key}: the annotation has no name"))) };
        let place = place.strip_prefix('-').unwrap_or(&place);
        Some(Self::new(place, name, value))
    }

    /// `[LEVEL[[PLATFORM]],...:]NAME=VALUE` of `--annotation`.
    pub(crate) fn of_flag(text: &str) -> Result<Vec<Self>, String> {
        let (key, value) =
            text.split_once('=').ok_or_else(|| format!("{text:?} is no annotation: write [LEVEL:]NAME=VALUE"))?;
        let level = key.split_once(':').filter(|(places, _)| places.split(',').all(|place| level_of(place).is_ok()));
        match level {
            Some((places, name)) => places.split(',').map(|place| Self::new(place, name, value)).collect(),
            None => Ok(vec![Self::new("", key, value)?]),
        }
    }

    fn new(place: &str, key: &str, value: &str) -> Result<Self, String> {
        let (level, platform) = level_of(place)?;
        if key.is_empty() {
            return Err(format!("an annotation with the value {value:?} has no name"));
        }
        if platform.is_some() && matches!(level, Level::Index | Level::IndexDescriptor) {
            return Err(format!("{place}: an index has no platform"));
        }
        Ok(Self { level, platform, key: key.to_owned(), value: value.to_owned() })
    }
}

fn level_of(place: &str) -> Result<(Level, Option<Platform>), String> {
    let (level, platform) = match place.split_once('[') {
        Some((level, platform)) => {
            let platform = platform.strip_suffix(']').ok_or_else(|| format!("{place}: ] is missing"))?;
            let platform = Platform::parse(platform, &Platform::host()).map_err(|error| error.to_string())?;
            (level, Some(platform))
        }
        None => (place, None),
    };
    let level = match level {
        "" | "manifest" => Level::Manifest,
        "index" => Level::Index,
        "manifest-descriptor" => Level::ManifestDescriptor,
        "index-descriptor" => Level::IndexDescriptor,
        other => {
            return Err(format!(
                "unknown level {other:?} of an annotation: known are manifest, manifest-descriptor, index and index-descriptor"
            ));
        }
    };
    Ok((level, platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_platforms_are_read() {
        let arm = Some(Platform::parse("linux/arm64", &Platform::host()).unwrap());
        for (key, level, platform, name) in [
            ("annotation.a.b", Level::Manifest, None, "a.b"),
            ("annotation-manifest.a", Level::Manifest, None, "a"),
            ("annotation-index.org.x", Level::Index, None, "org.x"),
            ("annotation[linux/arm64].a", Level::Manifest, arm.clone(), "a"),
            ("annotation-manifest-descriptor[linux/arm64].a.[b].c", Level::ManifestDescriptor, arm.clone(), "a.[b].c"),
            ("annotation-index-descriptor.a", Level::IndexDescriptor, None, "a"),
        ] {
            let annotation = Annotation::of_output(key, "v").unwrap().unwrap();
            assert_eq!(
                (annotation.level, annotation.platform, annotation.key.as_str()),
                (level, platform, name),
                "{key}"
            );
        }
        assert!(Annotation::of_output("annotations", "").is_none());
        for bad in ["annotation.", "annotation-what.a", "annotation-index[linux/arm64].a", "annotation[linux/arm64.a"] {
            assert!(Annotation::of_output(bad, "v").unwrap().is_err(), "{bad}");
        }
        let both = Annotation::of_flag("index,manifest[linux/arm64]:a=b=c").unwrap();
        assert_eq!((both[0].level, both[1].level, both[1].value.as_str()), (Level::Index, Level::Manifest, "b=c"));
        assert_eq!(Annotation::of_flag("com.example:x=y").unwrap()[0].key, "com.example:x");
        assert!(Annotation::of_flag("novalue").is_err());
    }
}
