//! Which containers `--filter` leaves.

use anyhow::{Context as _, bail};
use lap_cache::store::Store;
use lap_executor::container::{Container, NetworkMode, State, VolumeSource};
use regex::Regex;

use super::ps::parse_port;
use crate::args::KeyValue;
use crate::image::find;

/// What a container can be by Docker's words; not all of them happen here.
const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// Leaves those that fit. Of several values for one name any will do; of labels, all must be there.
///
/// # Errors
/// Where there is no such filter, or a value makes no sense.
pub(super) fn filter(store: &Store, list: &mut Vec<Container>, filters: &[KeyValue]) -> anyhow::Result<()> {
    let every = list.clone();
    let mut tests: Vec<(&str, Test)> = Vec::new();
    for KeyValue { key, value } in filters {
        let value = value.as_deref().with_context(|| format!("--filter {key}: write {key}=VALUE"))?;
        tests.push((key, test(store, &every, key, value)?));
    }
    list.retain(|container| {
        tests.iter().all(|(key, test)| {
            // A value that does not fit is made up for by another of the same name.
            let others = || tests.iter().filter(|(other, _)| other == key).any(|(_, other)| other(container));
            test(container) || (*key != "label" && others())
        })
    });
    Ok(())
}

type Test = Box<dyn Fn(&Container) -> bool>;

fn test(store: &Store, every: &[Container], key: &str, value: &str) -> anyhow::Result<Test> {
    let one_of = |words: &[&str]| match words.contains(&value) {
        true => Ok(value.to_owned()),
        false => bail!("invalid filter '{key}={value}': there are {}", words.join(", ")),
    };
    let pattern = || Regex::new(value).with_context(|| format!("--filter {key}={value}: no regular expression"));
    Ok(match key {
        "id" => {
            let pattern = pattern()?;
            Box::new(move |container| pattern.is_match(container.id()))
        }
        "name" => {
            // With and without the slash that names have in Docker's API.
            let pattern = pattern()?;
            Box::new(move |container| {
                let name = &container.config.name;
                pattern.is_match(name) || pattern.is_match(&format!("/{name}"))
            })
        }
        "ancestor" => {
            let found = find(store, value)?;
            Box::new(move |container| {
                let of_it = found.as_ref().zip(container.config.image_digest);
                of_it.is_some_and(|(found, digest)| digest == found.entry.digest || digest == found.image.digest())
            })
        }
        "status" => {
            let state = one_of(&STATES)?;
            Box::new(move |container| container.state.name() == state)
        }
        "exited" => {
            let code: i32 = value.parse().with_context(|| format!("--filter exited={value}: write an exit code"))?;
            Box::new(move |container| matches!(&container.state, State::Exited(ended) if ended.code == code))
        }
        "label" => {
            let (name, wanted) = value.split_once('=').map_or((value, None), |(name, v)| (name, Some(v)));
            let (name, wanted) = (name.to_owned(), wanted.map(str::to_owned));
            Box::new(move |container| {
                let own = container.config.labels.get(&name);
                own.is_some_and(|own| wanted.as_ref().is_none_or(|wanted| wanted == own))
            })
        }
        "before" | "since" => {
            let other = every.iter().find(|other| other.config.name == value || other.id().starts_with(value));
            let other = other.with_context(|| format!("No such container: {value}"))?.config.created;
            let is_before = key == "before";
            Box::new(move |container| {
                let created = container.config.created;
                if is_before { created < other } else { created > other }
            })
        }
        "volume" => {
            let wanted = value.to_owned();
            Box::new(move |container| {
                container.config.volumes.iter().any(|volume| {
                    let source = match &volume.source {
                        VolumeSource::Named(name) => *name == wanted,
                        VolumeSource::Path(path) => path.as_os_str() == wanted.as_str(),
                    };
                    source || volume.target == wanted
                })
            })
        }
        "network" => {
            let wanted = value.to_owned();
            Box::new(move |container| {
                wanted
                    == match container.config.network {
                        NetworkMode::Default => "bridge",
                        NetworkMode::None => "none",
                        NetworkMode::Host => "host",
                    }
            })
        }
        "expose" => {
            let ports =
                Ports::parse(value).with_context(|| format!("--filter {key}={value}: write PORT[-PORT][/PROTOCOL]"))?;
            Box::new(move |container| container.config.exposed_ports.iter().any(|port| ports.has(port)))
        }
        "publish" => {
            Ports::parse(value).with_context(|| format!("--filter {key}={value}: write PORT[-PORT][/PROTOCOL]"))?;
            // No container of ours publishes any.
            Box::new(|_| false)
        }
        "health" => {
            // Checks of health are not run, so there is none to tell of.
            let none = one_of(&HEALTH)? == "none";
            Box::new(move |_| none)
        }
        key => bail!(
            "invalid filter '{key}': there are id, name, label, ancestor, status, exited, before, since, \
             volume, network, publish, expose and health"
        ),
    })
}

/// `80`, `80/udp` or `8000-8010/tcp`.
struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

impl Ports {
    fn parse(text: &str) -> Option<Self> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && matches!(protocol, "tcp" | "udp" | "sctp")).then(|| Self {
            first,
            last,
            protocol: protocol.to_owned(),
        })
    }

    fn has(&self, port: &str) -> bool {
        parse_port(port)
            .is_some_and(|(port, protocol)| (self.first..=self.last).contains(&port) && protocol == self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_single_or_ranges() {
        let has = |filter: &str, port: &str| Ports::parse(filter).unwrap().has(port);
        assert!(has("80", "80/tcp") && has("80-90/tcp", "81/tcp") && has("53/udp", "53/udp"));
        assert!(!has("80", "80/udp") && !has("80-90", "91/tcp") && !has("80", "x/tcp"));
        for bad in ["", "x", "90-80", "80/nope", "70000", "-1"] {
            assert!(Ports::parse(bad).is_none(), "{bad}");
        }
    }
}
