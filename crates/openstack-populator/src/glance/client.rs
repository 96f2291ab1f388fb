//! `GET /v2/images/{id}`, the URL of the data, and what refusals mean.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use net::{Repeat, Request, Rest};
use transfer::{Error, Kind};
use url::Url;

use super::Image;
use crate::{answer, path};

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The client of one Glance.
#[derive(Debug, Clone)]
pub struct Glance {
    rest: Rest,
    base: Url,
}

/// The id of an image, fit to stand in a path. Normally a UUID; clouds may hand out others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageId(String);

impl Glance {
    /// `base` ends in `/v2`, as [`crate::keystone::Catalog::image_url`] gives it.
    #[must_use]
    pub const fn new(rest: Rest, base: Url) -> Self {
        Self { rest, base }
    }

    /// Where the data is.
    #[must_use]
    pub fn data_url(&self, image: &ImageId) -> Url {
        self.url(&format!("images/{image}/file"))
    }

    /// Reads the record of an image.
    ///
    /// # Errors
    /// [`Kind::Missing`], [`Kind::Permission`], [`Kind::Credentials`] when Glance does not accept the
    /// fresh token, [`Kind::Exhausted`], [`Kind::Tls`], [`Kind::Protocol`].
    pub async fn image(
        &self,
        image: &ImageId,
        token: &HeaderMap,
        retry: Repeat,
    ) -> Result<Image, Error> {
        let mut headers = token.clone();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let answer = self
            .rest
            .send(Request {
                method: Method::GET,
                url: self.url(&format!("images/{image}")),
                headers,
                body: Bytes::new(),
                timeout: TIMEOUT,
                retry,
            })
            .await
            .map_err(|error| {
                answer::unanswered(format!("{self} does not show the image"), error)
            })?;

        let request = answer::request_id(&answer.headers);
        let wrong = |kind, why: String| Error::new(kind, format!("{self} {why}{request}"));
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(wrong(
                    Kind::Credentials,
                    "does not accept the token that Keystone has just given; do both belong to the same cloud, and do the access rules of the application credential, if it has some, allow to read images?".into(),
                ));
            }
            StatusCode::FORBIDDEN => {
                return Err(wrong(
                    Kind::Permission,
                    format!("forbids image {image} to this user"),
                ));
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(wrong(
                    Kind::Missing,
                    format!(
                        "has no image {image}: it does not exist, or belongs to another project than the one that the secret names"
                    ),
                ));
            }
            status => {
                return Err(wrong(
                    answer::kind_of(status),
                    format!("answered {status} to the request for image {image}"),
                ));
            }
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            Error::with_source(
                Kind::Protocol,
                format!("{self} does not describe image {image} as the Image API v2 says{request}"),
                answer::position(&error),
            )
        })
    }

    /// A refusal of the data, in Glance's terms.
    #[must_use]
    pub fn explain(&self, image: &ImageId, error: Error) -> Error {
        let why = match error.kind() {
            Kind::Permission => {
                "forbids the download: the user's role on the project may only look at images, or the image was deactivated"
            }
            Kind::Missing => "no longer has the image; it was deleted",
            Kind::Unusable => {
                "lists the image as active, but does not have its data: its store has lost it, or a part of it"
            }
            Kind::Credentials => "no longer accepts the credentials",
            Kind::Hash if self.base.scheme() == "http" => {
                "gives its data over plain http, where nothing protects bytes on their way: check the network, or use https"
            }
            _ => return error,
        };
        Error::with_source(error.kind(), format!("{self} {why} (image {image})"), error)
    }

    fn url(&self, below: &str) -> Url {
        path::join(&self.base, below)
    }
}

impl fmt::Display for Glance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glance at {}", answer::origin(&self.base))
    }
}

impl FromStr for ImageId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(safe) || text.starts_with('.') {
            return Err(
                "an image id is a UUID, such as b815a36a-feef-49e0-85c6-ef61bc83c15f".into(),
            );
        }
        // UUIDs are written in either case, and stored in lower case.
        let is_uuid = |b: u8| b == b'-' || b.is_ascii_hexdigit();
        if text.len() == 36 && text.bytes().all(is_uuid) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_the_same_in_either_case() {
        let id = "B815A36A-FEEF-49E0-85C6-EF61BC83C15F".parse::<ImageId>();
        assert_eq!(
            id.unwrap().to_string(),
            "b815a36a-feef-49e0-85c6-ef61bc83c15f"
        );
        assert_eq!("Disk".parse::<ImageId>().unwrap().to_string(), "Disk");
    }

    #[test]
    fn ids_cannot_leave_their_place_in_the_path() {
        for text in [
            "b815a36a-feef-49e0-85c6-ef61bc83c15f",
            "disk_1.raw",
            " x \n",
        ] {
            assert_eq!(text.parse::<ImageId>().unwrap().to_string(), text.trim());
        }
        for text in [
            "",
            "..",
            ".",
            "a/b",
            "a?b",
            "a#b",
            "a%2fb",
            "ü",
            &"x".repeat(256),
        ] {
            assert!(text.parse::<ImageId>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_table_of_timers_is_right() {
        assert_eq!(testkit::timers::stated("control call"), [TIMEOUT]);
    }
}
