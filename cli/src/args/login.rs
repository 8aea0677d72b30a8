//! Flags of `lap login` and `lap logout`.

use std::path::PathBuf;

use clap::Args;

// Flags of `lap login`.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// User name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,

    /// Password; other users of this machine can see it: --password-stdin is better
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,

    /// Print the name of who is logged in
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    pub(crate) get_login: bool,

    #[command(flatten)]
    pub(crate) place: LoginPlace,

    /// Whether certificates are checked and plain http is refused; loopback is never asked for either
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true)]
    pub(crate) tls_verify: bool,
}

// Flags of `lap logout`.
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// Out of all registries
    #[arg(short, long, conflicts_with = "server")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) place: LoginPlace,
}

// Which login.
#[derive(Debug, Args)]
pub(crate) struct LoginPlace {
    /// File with logins in podman's form [env: REGISTRY_AUTH_FILE] [default: Docker's config.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,

    /// The registry, as HOST[:PORT] [default: Docker Hub]
    pub(crate) server: Option<String>,
}
