//! Credential helpers: programs named `docker-credential-NAME` that keep secrets (Docker's protocol: a verb as the
//! argument, a server's address or a JSON document on standard input, an answer on standard output).

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::RegistryError;
use super::config::without_port;

/// How long a helper may take: it may have to ask a person.
const LIMIT: Duration = Duration::from_secs(60);

/// What a helper is asked to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Get,
    Store,
    Erase,
    List,
}

/// What a helper answers; nothing where it has no login for the registry.
pub(super) async fn call(
    helper: &str,
    verb: Verb,
    input: &[u8],
    registry: &str,
) -> Result<Option<String>, RegistryError> {
    let program = format!("docker-credential-{helper}");
    let failed = |message: String| RegistryError::Helper {
        program: program.clone(),
        registry: without_port(registry).to_owned(),
        message,
    };
    if helper.contains('/') {
        return Err(failed("the name of a helper has no slash".to_owned()));
    }
    let mut child = tokio::process::Command::new(&program)
        .arg(match verb {
            Verb::Get => "get",
            Verb::Store => "store",
            Verb::Erase => "erase",
            Verb::List => "list",
        })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing closes its end; its answer tells.
        drop(stdin.write_all(input).await);
    }
    let output = match tokio::time::timeout(LIMIT, child.wait_with_output()).await {
        Ok(result) => result.map_err(|error| failed(error.to_string()))?,
        Err(_) => {
            let registry = registry.to_owned();
            return Err(RegistryError::HelperSilent { program, registry, limit: LIMIT });
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(Some(text.into_owned()));
    }
    // The protocol's way to say that there is none.
    if text.contains("credentials not found") {
        return Ok(None);
    }
    Err(failed(text.trim().chars().filter(|letter| !letter.is_control()).take(200).collect()))
}
