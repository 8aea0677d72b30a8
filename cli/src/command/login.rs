//! `lap login` and `lap logout`

use std::io::{BufRead as _, Read as _};

use anyhow::{Context as _, bail};
use lap_cache::image::Reference;
use lap_cache::registry::{Credentials, Kept, Login, LoginFile, RegistryError};

use crate::args;
use crate::command::App;
use crate::exit::FAILED;
use crate::registry::{block_on, client_as};
use crate::terminal;
use crate::ui::error::Hint as _;

/// Longest password that is read.
const LONGEST: u64 = 1 << 20;

pub(super) fn login(app: &App, args: &args::Login) -> anyhow::Result<i32> {
    let registry = registry(args.place.server.as_deref())?;
    let file = file(app, &args.place)?;
    if args.get_login {
        let Some(Login::Password { username, .. }) = known(&file, &registry)? else {
            bail!("not logged in to {registry}");
        };
        outln!("{username}")?;
        return Ok(0);
    }
    let asked_for_nothing = args.username.is_none() && args.password.is_none();
    if asked_for_nothing && let Some(login) = known(&file, &registry)? {
        eprintln!("Authenticating with existing credentials...");
        check(app, &registry, login, args.tls_verify)?;
        outln!("Login Succeeded")?;
        return Ok(0);
    }
    if args.password.is_some() {
        eprintln!("lap: others on this machine can see a password on the command line: --password-stdin is better");
    }
    let (username, password) = ask(args)?;
    let login = Login::Password { username: username.clone(), password: password.clone() };
    check(app, &registry, login, args.tls_verify)?;
    let kept = block_on(async { Ok(file.store(&registry, &username, &password).await?) })?;
    if kept == Kept::InFile {
        eprintln!(
            "lap: the password lies unencrypted in {}; a credential helper (credsStore there) would hide it",
            file.path.display()
        );
    }
    outln!("Login Succeeded")?;
    Ok(0)
}

pub(super) fn logout(app: &App, args: &args::Logout) -> anyhow::Result<i32> {
    let file = file(app, &args.place)?;
    let registries = match args.all {
        true => block_on(async { Ok(file.registries().await?) })?,
        false => vec![registry(args.place.server.as_deref())?],
    };
    let mut code = 0;
    for registry in registries {
        match block_on(async { Ok(file.erase(&registry).await?) }) {
            Ok(true) => outln!("Removing login credentials for {registry}")?,
            Ok(false) => outln!("Not logged in to {registry}")?,
            Err(error) => {
                eprint!("{}", crate::ui::error::render(&error, app.settings.color));
                code = FAILED;
            }
        }
    }
    Ok(code)
}

/// `HOST[:PORT]` of an address as users write it; Docker Hub where there is none.
fn registry(server: Option<&str>) -> anyhow::Result<String> {
    let Some(server) = server.filter(|server| !server.is_empty()) else { return Ok("docker.io".to_owned()) };
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or(rest);
    if matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        return Ok("docker.io".to_owned());
    }
    let names_itself = format!("{host}/x").parse::<Reference>().is_ok_and(|name| name.registry() == host);
    if !names_itself {
        return Err(anyhow::anyhow!("{server:?} is no registry")).hint("write HOST or HOST:PORT, such as ghcr.io");
    }
    Ok(host.to_owned())
}

fn file(app: &App, place: &args::LoginPlace) -> anyhow::Result<LoginFile> {
    let settings = &app.settings;
    if let Some(path) = place.authfile.clone().or_else(|| settings.auth_file.clone()) {
        return Ok(LoginFile { path, is_podmans: true });
    }
    let dir = settings
        .docker_config
        .as_ref()
        .context("no place for logins: set HOME or DOCKER_CONFIG, or give --authfile")?;
    Ok(LoginFile { path: dir.join("config.json"), is_podmans: false })
}

fn known(file: &LoginFile, registry: &str) -> anyhow::Result<Option<Login>> {
    let credentials = Credentials { files: vec![file.read()?], ..Credentials::default() };
    block_on(async { Ok(credentials.find(registry, "").await?) })
}

fn check(app: &App, registry: &str, login: Login, tls_verify: bool) -> anyhow::Result<()> {
    let client = client_as(&app.settings, registry, login, tls_verify)?;
    let asked = block_on(async { Ok(client.check_login(registry).await) })?;
    match asked {
        Err(error @ RegistryError::LoginRefused { .. }) => {
            Err(error).hint("check name and password; some registries want an access token in place of the password")
        }
        asked => asked.with_context(|| format!("cannot ask {registry} about the login")),
    }
}

/// Name and password: of the flags, of standard input, or of who sits at the terminal.
fn ask(args: &args::Login) -> anyhow::Result<(String, String)> {
    let is_terminal = terminal::is_input_terminal();
    let missing = args.username.is_none() || (args.password.is_none() && !args.password_stdin);
    if missing && !is_terminal {
        return Err(anyhow::anyhow!("nobody is there to ask for name and password: standard input is no terminal"))
            .hint("lap login -u NAME --password-stdin < FILE");
    }
    let username = match &args.username {
        Some(username) => username.clone(),
        None => {
            eprint!("Username: ");
            line()?
        }
    };
    if username.is_empty() {
        bail!("no user name was given");
    }
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => {
            let mut text = String::new();
            std::io::stdin().take(LONGEST).read_to_string(&mut text).context("cannot read the password")?;
            let text = text.strip_suffix('\n').unwrap_or(&text);
            text.strip_suffix('\r').unwrap_or(text).to_owned()
        }
        None => {
            eprint!("Password: ");
            let quiet = terminal::Quiet::enter();
            let password = line();
            drop(quiet);
            eprintln!();
            password?
        }
    };
    if password.is_empty() {
        bail!("no password was given");
    }
    if username.contains(':') {
        bail!("the user name {username:?} has a colon in it, which separates it from the password");
    }
    Ok((username, password))
}

fn line() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(LONGEST).read_line(&mut text).context("cannot read standard input")?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_hosts() {
        for (server, host) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("https://reg.example:5000/v2/"), "reg.example:5000"),
            (Some("localhost:5000"), "localhost:5000"),
            (Some("ghcr.io/team"), "ghcr.io"),
        ] {
            assert_eq!(registry(server).unwrap(), host);
        }
        for bad in ["a b", "-x", "http://", "../x", "reg.example:port"] {
            assert!(registry(Some(bad)).is_err(), "{bad}");
        }
    }
}
