//! Flags of other builders that have no meaning here, taken so that scripts go on working.

use clap::Args;

// What is accepted and does nothing.
#[derive(Debug, Args)]
pub(crate) struct Ignored {
    /// There is one builder
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,

    /// Contexts are read where they lie
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    compress: Option<bool>,

    /// Nothing is left of a step
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    rm: Option<bool>,

    /// Nothing is left of a step
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    force_rm: Option<bool>,

    /// Errors always tell all their causes
    #[arg(short = 'D', long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    debug: Option<bool>,

    /// A squashed image shares nothing with others
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    squash: Option<bool>,

    /// Containers are isolated in the one way that Linux has
    #[arg(long, value_name = "TECHNOLOGY", hide = true)]
    isolation: Option<String>,

    /// Walls are left out with --allow, and by the Dockerfile
    #[arg(long, value_name = "OPTION", hide = true)]
    security_opt: Vec<String>,
}

impl Ignored {
    /// What the user should know: somebody who asks for these expects an effect.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.squash == Some(true) {
            warnings.push(
                "--squash has no effect: copy the result of one stage into another, or write it with -o".to_owned(),
            );
        }
        if let Some(isolation) = self.isolation.as_deref().filter(|kind| !matches!(*kind, "" | "default" | "process")) {
            warnings.push(format!("--isolation {isolation} has no effect: it is one of Windows"));
        }
        for option in &self.security_opt {
            warnings.push(format!(
                "--security-opt {option} has no effect on builds: RUN --security and --allow security.insecure do that"
            ));
        }
        if let Some(name) = self.builder.as_deref().filter(|name| !matches!(*name, "" | "default")) {
            warnings.push(format!("--builder {name} has no effect: there is no daemon to choose"));
        }
        warnings
    }
}
