//! The tags of a repository (distribution spec, "Content discovery").

use reqwest::header::LINK;
use reqwest::{Method, Response, Url};

use super::transport::{Call, Scope, read_limited, shown};
use super::{Client, RegistryError};
use crate::image::Reference;

/// Largest page that is read, in bytes.
const PAGE_LIMIT: u64 = 4 << 20;
/// Pages that are read; registries give at least 50 tags in one.
const PAGES: usize = 1000;

#[derive(serde::Deserialize)]
struct Page {
    /// None in a repository that has lost its last one.
    tags: Option<Vec<String>>,
}

impl Client {
    /// Every tag of the repository of `reference`, in the registry's order.
    ///
    /// # Errors
    /// Where the registry does not have it or refuses, or its answer is no list of tags.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<Reference>, RegistryError> {
        let (endpoint, repository) = self.transport.home(reference.registry(), reference.repository()).await?;
        let scope = Scope::pull(&repository);
        let mut next = Some(endpoint.url(&repository, "tags/list")?);
        let mut tags = Vec::new();
        for _ in 0..PAGES {
            let Some(url) = next.take() else { break };
            let response = self.transport.expect(&endpoint, &scope, &Call::new(Method::GET, url.clone())).await?;
            // Another host has no business here.
            next = next_page(&response).filter(|next| next.origin() == endpoint.base.origin() && *next != url);
            let malformed = || RegistryError::Tags { url: shown(&url) };
            let page: Page =
                serde_json::from_slice(&read_limited(response, PAGE_LIMIT).await?).map_err(|_| malformed())?;
            for tag in page.tags.unwrap_or_default() {
                let tagged = reference.with_tag(&tag).map_err(|_| malformed())?;
                if !tags.contains(&tagged) {
                    tags.push(tagged);
                }
            }
        }
        if tags.is_empty() {
            return Err(RegistryError::NotFound { reference: reference.name() });
        }
        Ok(tags)
    }
}

/// The address of the next page (RFC 8288); may be relative.
fn next_page(response: &Response) -> Option<Url> {
    let text = response.headers().get(LINK)?.to_str().ok()?;
    let (target, parameters) = text.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|one| matches!(one.trim(), "rel=\"next\"" | "rel=next"));
    if is_next { response.url().join(target).ok() } else { None }
}
