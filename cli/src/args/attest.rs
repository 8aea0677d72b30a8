//! What is attested of an image: `--provenance`, `--sbom` and `--attest`.

use lap_solver::provenance::Mode;

use super::fields;

/// What was asked for; nothing unless it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attestations {
    pub(crate) provenance: Option<Provenance>,
    pub(crate) sbom: bool,
}

/// How a provenance is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    pub(crate) mode: Mode,
    /// Says who built.
    pub(crate) builder_id: String,
    /// The user's word that the build yields the same bytes again.
    pub(crate) reproducible: bool,
}

impl Attestations {
    /// Reads the three flags. As with buildx, the short ones win.
    ///
    /// # Errors
    /// Where a value cannot be understood; tells the flag.
    pub(crate) fn read(attest: &[String], provenance: Option<&str>, sbom: Option<&str>) -> Result<Self, String> {
        let mut asked = Self::default();
        for text in attest {
            asked.flag(text).map_err(|error| format!("--attest {text}: {error}"))?;
        }
        if let Some(text) = provenance {
            asked.short("provenance", text).map_err(|error| format!("--provenance={text}: {error}"))?;
        }
        if let Some(text) = sbom {
            asked.short("sbom", text).map_err(|error| format!("--sbom={text}: {error}"))?;
        }
        Ok(asked)
    }

    pub(crate) const fn any(&self) -> bool {
        self.sbom || self.provenance.is_some()
    }

    /// `true`, `false`, `max`, or options.
    fn short(&mut self, kind: &str, text: &str) -> Result<(), String> {
        match (kind, text) {
            (_, "" | "true" | "1") => self.flag(&format!("type={kind}")),
            (_, "false" | "0") => self.flag(&format!("type={kind},disabled=true")),
            ("provenance", "min" | "max") => self.flag(&format!("type=provenance,mode={text}")),
            _ => self.flag(&format!("type={kind},{text}")),
        }
    }

    /// `type=provenance,mode=max`
    fn flag(&mut self, text: &str) -> Result<(), String> {
        let fields = fields(text)?;
        let value = |name: &str| fields.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_deref());
        let disabled = truth("disabled", value("disabled"), fields.iter().any(|(key, _)| key == "disabled"))?;
        match value("type") {
            Some("sbom") => {
                for (key, value) in &fields {
                    match (key.as_str(), value) {
                        ("type" | "disabled", _) => {}
                        ("generator", _) => {
                            return Err("generator images are not run: lap reads the packages itself".to_owned());
                        }
                        _ => return Err(format!("unknown option {key:?} of type=sbom")),
                    }
                }
                self.sbom = !disabled;
            }
            Some("provenance") => {
                let mut provenance = Provenance::default();
                for (key, value) in &fields {
                    match (key.as_str(), value.as_deref()) {
                        ("type" | "disabled", _) => {}
                        ("mode", Some("min")) => provenance.mode = Mode::Min,
                        ("mode", Some("max")) => provenance.mode = Mode::Max,
                        ("mode", other) => return Err(format!("mode={}: write min or max", other.unwrap_or_default())),
                        ("builder-id", Some(id)) => id.clone_into(&mut provenance.builder_id),
                        ("reproducible", value) => provenance.reproducible = truth(key, value, true)?,
                        // What it would hold back is held back anyway.
                        ("inline-only", value) => drop(truth(key, value, true)?),
                        ("version", Some("v1")) => {}
                        ("version", _) => return Err("only version=v1 of SLSA's provenance is written".to_owned()),
                        _ => {
                            return Err(format!(
                                "unknown option {key:?}: known are mode, builder-id, reproducible, version and disabled"
                            ));
                        }
                    }
                }
                self.provenance = (!disabled).then_some(provenance);
            }
            Some(other) => return Err(format!("unknown type {other:?}: known are provenance and sbom")),
            None => return Err("type= is missing: write type=provenance or type=sbom".to_owned()),
        }
        Ok(())
    }
}

fn truth(key: &str, value: Option<&str>, present: bool) -> Result<bool, String> {
    match value {
        None => Ok(present),
        Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(format!("{key}={other}: write true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attest: &[&str], provenance: Option<&str>, sbom: Option<&str>) -> Result<Attestations, String> {
        let attest: Vec<String> = attest.iter().map(|text| (*text).to_owned()).collect();
        Attestations::read(&attest, provenance, sbom)
    }

    #[test]
    fn nothing_is_attested_unless_asked_for() {
        assert!(!read(&[], None, None).unwrap().any());
        assert!(!read(&["type=sbom"], None, Some("false")).unwrap().any());
        assert!(!read(&["type=provenance,disabled=true"], None, None).unwrap().any());
    }

    #[test]
    fn flags_and_short_forms_mean_the_same() {
        let mode = |asked: Result<Attestations, String>| asked.unwrap().provenance.unwrap().mode;
        assert_eq!(mode(read(&["type=provenance,mode=min"], None, None)), Mode::Min);
        assert_eq!(mode(read(&["type=provenance,mode=min"], Some("mode=max"), None)), Mode::Max);
        assert_eq!(mode(read(&[], Some("max"), None)), Mode::Max);
        assert_eq!(mode(read(&[], Some("true"), None)), Mode::Min);
        assert!(read(&["type=sbom"], None, None).unwrap().sbom && read(&[], None, Some("")).unwrap().sbom);
        let full = read(&[], Some("mode=min,builder-id=https://ci/1,reproducible=true"), None).unwrap();
        let full = full.provenance.unwrap();
        assert!(full.reproducible && full.builder_id == "https://ci/1");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for bad in
            ["mode=min", "type=x", "type=provenance,mode=x", "type=sbom,generator=a", "type=provenance,version=v0.2"]
        {
            assert!(read(&[bad], None, None).is_err(), "{bad}");
        }
        assert!(read(&[], Some("perhaps"), None).is_err() && read(&[], None, Some("max")).is_err());
    }
}
