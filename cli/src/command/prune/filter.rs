//! Docker's filters of images and containers: by time and by label.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use crate::args::duration;
use crate::ui::table::seconds_of_rfc3339;

/// What must all hold.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// Made before this time, in seconds since 1970.
    until: Option<i64>,
    labels: Vec<Label>,
    /// Whether only images without a name go.
    pub(super) dangling: Option<bool>,
}

#[derive(Debug)]
struct Label {
    name: String,
    value: Option<String>,
    wanted: bool,
}

impl Filters {
    /// Reads the texts after `--filter`.
    ///
    /// # Errors
    /// Where there is no such filter.
    pub(super) fn parse(texts: &[String]) -> anyhow::Result<Self> {
        let mut filters = Self::default();
        for text in texts {
            let (name, value) = text.split_once('=').with_context(|| format!("filter {text:?} has no value"))?;
            match name {
                "until" => {
                    if filters.until.replace(time(value)?).is_some() {
                        bail!("more than one filter until");
                    }
                }
                "label" | "label!" => {
                    let (name_of, value) =
                        value.split_once('=').map_or((value, None), |(name, value)| (name, Some(value)));
                    let (wanted, value) = (name == "label", value.map(str::to_owned));
                    filters.labels.push(Label { name: name_of.to_owned(), value, wanted });
                }
                "dangling" => {
                    filters.dangling = Some(match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => bail!("filter dangling is true or false, not {value:?}"),
                    });
                }
                _ => bail!("invalid filter '{name}': there are until, label, label! and dangling"),
            }
        }
        Ok(filters)
    }

    /// Whether something with these labels, made at this time in seconds since 1970, fits.
    pub(super) fn match_all(&self, created: i64, labels: &BTreeMap<String, String>) -> bool {
        let label = |label: &Label| {
            let has = labels.get(&label.name).is_some_and(|own| label.value.as_ref().is_none_or(|value| value == own));
            has == label.wanted
        };
        self.until.is_none_or(|until| created < until) && self.labels.iter().all(label)
    }
}

/// A time as Docker reads it: a duration before now, seconds since 1970, RFC 3339 or a part of it, in UTC.
fn time(text: &str) -> anyhow::Result<i64> {
    if let Some(ago) = duration(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        return Ok(i64::try_from(now.saturating_sub(ago).as_secs()).unwrap_or(i64::MAX));
    }
    if let Some(seconds) = text.split('.').next().and_then(|whole| whole.parse().ok()) {
        return Ok(seconds);
    }
    const WHOLE: &str = "0000-01-01T00:00:00Z";
    let padded = format!("{text}{}", WHOLE.get(text.len()..).unwrap_or_default());
    let found = seconds_of_rfc3339(text).or_else(|| seconds_of_rfc3339(&padded));
    found.with_context(|| format!("{text:?} is no time: write a duration such as 24h, or 2026-01-31T12:00:00Z"))
}

/// Whole seconds of nanoseconds since 1970.
pub(super) fn whole(nanos: u64) -> i64 {
    i64::try_from(Duration::from_nanos(nanos).as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_labels_are_dockers() {
        assert_eq!(time("1700000000").unwrap(), 1_700_000_000);
        assert_eq!(time("2023-11-14T22:13:20Z").unwrap(), 1_700_000_000);
        assert_eq!(time("2023-11-14").unwrap(), 1_699_920_000);
        assert!(time("yesterday").is_err());
        let filters =
            |texts: &[&str]| Filters::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap();
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert!(filters(&["label=a"]).match_all(0, &labels) && filters(&["label=a=1"]).match_all(0, &labels));
        assert!(!filters(&["label=a=2"]).match_all(0, &labels) && !filters(&["label!=a"]).match_all(0, &labels));
        assert!(filters(&["label!=b", "until=2023-11-14"]).match_all(0, &labels));
        assert!(!filters(&["until=1970-01-01"]).match_all(5, &labels));
    }
}
