//! Flags of `lap copy`, which are skopeo's.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lap_cache::copy::Location;
use lap_cache::image::{Compression, Reference};

use crate::ui::Mode;

// Flags of `lap copy`.
#[derive(Debug, Args)]
#[command(after_long_help = PLACES)]
pub(crate) struct Copy {
    /// Copy all images of an index, and the index
    #[arg(short, long, conflicts_with = "multi_arch")]
    pub(crate) all: bool,

    /// What is copied of an index
    #[arg(long, value_name = "WHAT", value_enum)]
    pub(crate) multi_arch: Option<MultiArch>,

    /// Kind of manifest at the destination [default: that of the source]
    #[arg(short, long, value_name = "KIND", value_enum)]
    pub(crate) format: Option<Kind>,

    /// Fail rather than change a digest
    #[arg(long)]
    pub(crate) preserve_digests: bool,

    /// Compress layers that are not compressed so: gzip, zstd
    #[arg(long, value_name = "FORMAT", value_parser = compression)]
    pub(crate) dest_compress_format: Option<Compression>,

    /// Compress layers that are not compressed
    #[arg(long)]
    pub(crate) dest_compress: bool,

    /// Decompress layers
    #[arg(long, conflicts_with_all = ["dest_compress", "dest_compress_format", "dest_compress_level"])]
    pub(crate) dest_decompress: bool,

    /// Level of the compression
    #[arg(long, value_name = "LEVEL")]
    pub(crate) dest_compress_level: Option<i32>,

    /// Another name at the destination (docker-archive and store)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) additional_tag: Vec<Reference>,

    /// Write the digest of the manifest at the destination to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,

    /// Say nothing
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// How progress is shown [default: auto]
    #[arg(long, value_name = "MODE", value_enum)]
    pub(crate) progress: Option<Mode>,

    /// How often to try again where that may help [default: 4]
    #[arg(long, value_name = "TIMES")]
    pub(crate) retry_times: Option<u32>,

    /// Choose an image of an index by this system [default: this machine's]
    #[arg(long, value_name = "OS")]
    pub(crate) override_os: Option<String>,

    /// Choose an image of an index by this architecture [default: this machine's]
    #[arg(long, value_name = "ARCH")]
    pub(crate) override_arch: Option<String>,

    /// Choose an image of an index by this variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    pub(crate) override_variant: Option<String>,

    /// File with logins for both ends [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) from: SourceEnd,

    #[command(flatten)]
    pub(crate) to: DestinationEnd,

    /// Where the image is
    #[arg(value_name = "SOURCE")]
    pub(crate) source: Location,

    /// Where it goes
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: Location,
}

const PLACES: &str = "Places:
  docker://NAME                 a registry
  oci:PATH[:NAME]               an OCI layout in a directory
  oci-archive:PATH[:NAME]       an OCI layout in a tar
  docker-archive:PATH[:NAME]    what docker save writes
  dir:PATH                      a manifest beside its blobs
  store:NAME, or NAME alone     the store of lap";

/// What is copied of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MultiArch {
    /// The image for this machine
    System,
    /// The index with all of its images
    All,
    /// The index alone
    IndexOnly,
}

/// Kinds of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// OCI's
    Oci,
    /// Docker's, schema 2
    V2s2,
}

fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "gzip" => Ok(Compression::GZIP),
        "zstd" => Ok(Compression::ZSTD),
        _ => Err("write gzip or zstd".to_owned()),
    }
}

/// How a registry is reached.
#[derive(Debug, Clone, Default)]
pub(crate) struct End {
    pub(crate) creds: Option<String>,
    pub(crate) no_creds: bool,
    pub(crate) registry_token: Option<String>,
    pub(crate) tls_verify: bool,
    pub(crate) cert_dir: Option<PathBuf>,
    pub(crate) authfile: Option<PathBuf>,
}

macro_rules! end {
    ($name:ident, $creds:ident, $no_creds:ident, $username:ident, $password:ident, $token:ident, $tls:ident, $certs:ident, $authfile:ident, $which:literal) => {
        #[doc = concat!("How the registry of the ", $which, " is reached.")]
        #[derive(Debug, Clone, Args)]
        pub(crate) struct $name {
            #[doc = concat!("Login at the ", $which, "'s registry")]
            #[arg(long, value_name = "USER[:PASSWORD]", conflicts_with = stringify!($no_creds))]
            $creds: Option<String>,

            #[doc = concat!("No login at the ", $which, "'s registry")]
            #[arg(long)]
            $no_creds: bool,

            #[doc = concat!("User at the ", $which, "'s registry")]
            #[arg(long, value_name = "USER", requires = stringify!($password), conflicts_with_all = [stringify!($creds), stringify!($no_creds)])]
            $username: Option<String>,

            #[doc = concat!("Password at the ", $which, "'s registry")]
            #[arg(long, value_name = "PASSWORD", requires = stringify!($username))]
            $password: Option<String>,

            #[doc = concat!("Bearer token for the ", $which, "'s registry")]
            #[arg(long, value_name = "TOKEN", conflicts_with_all = [stringify!($creds), stringify!($no_creds), stringify!($username)])]
            $token: Option<String>,

            #[doc = concat!("Whether the ", $which, "'s registry must prove itself; one on this machine never need")]
            #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_default_value = true)]
            $tls: bool,

            #[doc = concat!("Directory with *.crt, *.cert and *.key for the ", $which, "'s registry")]
            #[arg(long, value_name = "DIR")]
            $certs: Option<PathBuf>,

            #[doc = concat!("File with logins for the ", $which, "'s registry")]
            #[arg(long, value_name = "FILE")]
            $authfile: Option<PathBuf>,
        }

        impl From<$name> for End {
            fn from(flags: $name) -> Self {
                let pair = flags.$username.zip(flags.$password).map(|(user, password)| format!("{user}:{password}"));
                Self {
                    creds: flags.$creds.or(pair),
                    no_creds: flags.$no_creds,
                    registry_token: flags.$token,
                    tls_verify: flags.$tls,
                    cert_dir: flags.$certs,
                    authfile: flags.$authfile,
                }
            }
        }
    };
}

end!(
    SourceEnd,
    src_creds,
    src_no_creds,
    src_username,
    src_password,
    src_registry_token,
    src_tls_verify,
    src_cert_dir,
    src_authfile,
    "source"
);
end!(
    DestinationEnd,
    dest_creds,
    dest_no_creds,
    dest_username,
    dest_password,
    dest_registry_token,
    dest_tls_verify,
    dest_cert_dir,
    dest_authfile,
    "destination"
);
