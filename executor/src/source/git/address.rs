//! Addresses of repositories: which ones git is given.

use super::GitError;
use crate::source::http::shown;

/// Refuses what is no network address, or could be taken for an option of git or ssh.
pub(super) fn check(url: &str) -> Result<(), GitError> {
    let refuse = |why| Err(GitError::Address { url: shown(url).chars().take(200).collect(), why });
    if url.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return refuse("it has control characters");
    }
    let host = match url.split_once("://") {
        Some(("http" | "https" | "git" | "ssh", rest)) => rest.split('/').next().unwrap_or_default(),
        Some(_) => return refuse("only http, https, git and ssh are spoken"),
        None if url.contains("::") => return refuse("only http, https, git and ssh are spoken"),
        // `user@host:path`; anything else would be a path of this machine.
        None => match url.split_once(':') {
            Some((host, path)) if host.contains('@') && !host.contains('/') && !path.is_empty() => host,
            _ => return refuse("it is no address on the network"),
        },
    };
    let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
    if host.is_empty() {
        return refuse("it names no host");
    }
    if user.starts_with('-') || host.starts_with('-') {
        return refuse("it could be taken for an option");
    }
    Ok(())
}

/// The address that a submodule's text stands for (`git submodule`: relative ones begin with `./` or `../`).
pub(super) fn of_submodule(parent: &str, text: &str) -> String {
    if !text.starts_with("./") && !text.starts_with("../") {
        return text.to_owned();
    }
    let (mut base, mut rest) = (parent.trim_end_matches('/').to_owned(), text);
    loop {
        if let Some(next) = rest.strip_prefix("../") {
            rest = next;
            // Up to the host at most.
            let path =
                base.find("://").map_or_else(|| base.find(':'), |at| base[at + 3..].find('/').map(|to| at + 3 + to));
            let cut = base.rfind('/').filter(|at| path.is_some_and(|path| *at >= path)).or(path);
            base.truncate(cut.map_or(base.len(), |at| if base[at..].starts_with(':') { at + 1 } else { at }));
        } else if let Some(next) = rest.strip_prefix("./") {
            rest = next;
        } else {
            break;
        }
    }
    let separator = if base.ends_with([':', '/']) { "" } else { "/" };
    format!("{base}{separator}{}", rest.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_on_the_network_will_do() {
        for url in ["https://h/r.git", "http://u:p@h:1/r", "git://h/r", "ssh://git@h/r", "git@h:a/b"] {
            check(url).unwrap();
        }
        for url in [
            "file:///r",
            "/r",
            "./r",
            "r",
            "ext::sh -c x",
            "fd::3",
            "https::x",
            "ssh://-oProxyCommand=x/r",
            "ssh://git@-oProxyCommand=x/r",
            "ssh://-x@h/r",
            "-x@h:r",
            "u@-x:r",
            "https:///r",
            "https://h/\n",
            "a/b@c:d",
        ] {
            assert!(check(url).is_err(), "{url}");
        }
    }

    #[test]
    fn submodules_may_be_relative() {
        for (parent, text, want) in [
            ("https://h/a/b.git", "../c.git", "https://h/a/c.git"),
            ("https://h/a/b.git/", "./c", "https://h/a/b.git/c"),
            ("https://h/a/b.git", "../../c", "https://h/c"),
            ("https://h/a", "../../../../c", "https://h/c"),
            ("git@h:a/b", "../c", "git@h:a/c"),
            ("git@h:b", "../c", "git@h:c"),
            ("https://h/a", "https://other/x", "https://other/x"),
        ] {
            assert_eq!(of_submodule(parent, text), want, "{parent} {text}");
        }
    }
}
