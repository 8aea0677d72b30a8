//! The table of rules.

use serde::Serialize;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it asks for.
    pub description: &'static str,
    /// Whether it must be asked for (`# check=experimental=…`).
    pub experimental: bool,
}

impl Rule {
    /// Where the rule is explained.
    #[must_use]
    pub fn url(&self) -> String {
        let mut slug = String::new();
        let mut previous = ' ';
        let letters: Vec<char> = self.name.chars().collect();
        for (at, letter) in letters.iter().enumerate() {
            let next_is_lower = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
            if at > 0 && letter.is_ascii_uppercase() && (previous.is_ascii_lowercase() || next_is_lower) {
                slug.push('-');
            }
            slug.push(letter.to_ascii_lowercase());
            previous = *letter;
        }
        format!("https://docs.docker.com/go/dockerfile/rule/{slug}/")
    }
}

macro_rules! rules {
    ($($constant:ident $name:literal $description:literal $($experimental:ident)?;)*) => {
        $(
            #[doc = $description]
            pub(crate) const $constant: Rule =
                Rule { name: $name, description: $description, experimental: rules!(@ $($experimental)?) };
        )*
        /// Every rule, by name.
        pub const RULES: &[Rule] = &[$($constant),*];
    };
    (@ experimental) => { true };
    (@) => { false };
}

rules! {
    CONSISTENT_INSTRUCTION_CASING "ConsistentInstructionCasing" "All commands within the Dockerfile should use the same casing (either upper or lower)";
    COPY_IGNORED_FILE "CopyIgnoredFile" "Attempting to Copy file that is excluded by .dockerignore";
    DUPLICATE_STAGE_NAME "DuplicateStageName" "Stage names should be unique";
    EXPOSE_INVALID_FORMAT "ExposeInvalidFormat" "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";
    EXPOSE_PROTO_CASING "ExposeProtoCasing" "Protocol in EXPOSE instruction should be lowercase";
    FROM_AS_CASING "FromAsCasing" "The 'as' keyword should match the case of the 'from' keyword";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED "FromPlatformFlagConstDisallowed" "FROM --platform flag should not use a constant value";
    INVALID_BASE_IMAGE_PLATFORM "InvalidBaseImagePlatform" "Base image platform does not match expected target platform";
    INVALID_DEFAULT_ARG_IN_FROM "InvalidDefaultArgInFrom" "Default value for global ARG results in an empty or invalid base image name";
    INVALID_DEFINITION_DESCRIPTION "InvalidDefinitionDescription" "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`" experimental;
    JSON_ARGS_RECOMMENDED "JSONArgsRecommended" "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    LEGACY_KEY_VALUE_FORMAT "LegacyKeyValueFormat" "Legacy key/value format with whitespace separator should not be used";
    MAINTAINER_DEPRECATED "MaintainerDeprecated" "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    MULTIPLE_INSTRUCTIONS_DISALLOWED "MultipleInstructionsDisallowed" "Multiple instructions of the same type should not be used in the same stage";
    NO_EMPTY_CONTINUATION "NoEmptyContinuation" "Empty continuation lines will become errors in a future release";
    REDUNDANT_TARGET_PLATFORM "RedundantTargetPlatform" "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    RESERVED_STAGE_NAME "ReservedStageName" "Reserved words should not be used as stage names";
    SECRETS_USED_IN_ARG_OR_ENV "SecretsUsedInArgOrEnv" "Sensitive data should not be used in the ARG or ENV commands";
    STAGE_NAME_CASING "StageNameCasing" "Stage names should be lowercase";
    UNDEFINED_ARG_IN_FROM "UndefinedArgInFrom" "FROM command must use declared ARGs";
    UNDEFINED_VAR "UndefinedVar" "Variables should be defined before their use";
    WORKDIR_RELATIVE_PATH "WorkdirRelativePath" "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_their_page() {
        assert_eq!(RULES.len(), 22);
        assert!(JSON_ARGS_RECOMMENDED.url().ends_with("/json-args-recommended/"));
        assert!(SECRETS_USED_IN_ARG_OR_ENV.url().ends_with("/secrets-used-in-arg-or-env/"));
        assert!(RULES.is_sorted_by_key(|rule| rule.name.to_lowercase()));
    }
}
