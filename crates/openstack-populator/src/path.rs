//! Paths of service URLs, which are typed and stated with or without an API version at their end.

use url::Url;

/// Cuts the API version (`v3`, `v2.0`) off the end of the path and returns it. Query, fragment and
/// empty segments go as well.
pub(crate) fn cut_version(url: &mut Url) -> Option<String> {
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().to_owned();
    let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let version = segments.pop_if(|last| is_version(last));
    url.set_path(&segments.join("/"));
    version.map(str::to_owned)
}

/// Cuts a project's id off the end of a path, if an API version stands before it, and returns it.
pub(crate) fn cut_project(url: &mut Url) -> Option<String> {
    let path = url.path().to_owned();
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let [before @ .., version, project] = segments.as_slice()
        && is_version(version)
        && is_project(project)
    {
        url.set_path(&[before, &[version]].concat().join("/"));
        return Some((*project).to_owned());
    }
    None
}

/// The URL with `below` behind its path.
pub(crate) fn join(url: &Url, below: &str) -> Url {
    let mut joined = url.clone();
    joined.set_path(&format!("{}/{below}", url.path().trim_end_matches('/')));
    joined
}

/// A UUID with or without dashes, or a number.
fn is_project(segment: &str) -> bool {
    let is_number = segment.bytes().all(|b| b.is_ascii_digit());
    let is_uuid = matches!(segment.len(), 32 | 36)
        && segment.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
    is_number || is_uuid
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_digit())
            && rest.chars().all(|c| c.is_ascii_digit() || c == '.')
    })
}
