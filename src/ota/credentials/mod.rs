//! Access keys: from a Kubernetes Secret, the operator's environment, or a role; never shown (ota-api: section 11).
//!
//! Here belongs turning what was read into keys and keeping them out of sight. Fetching a Secret, and who may use whose
//! keys, never comes in.

pub mod environment;
pub mod sts;

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// The Secret's key of the access key id.
pub const ID_KEY: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
/// The Secret's key of the access key secret.
pub const SECRET_KEY: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
/// The Secret's optional key of an STS token.
pub const TOKEN_KEY: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// What is wrong with a Secret. Names keys, never shows values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The key is not there.
    #[error("the Secret has no key {0}")]
    Missing(&'static str),
    /// The key's value is empty.
    #[error("the Secret's key {0} is empty")]
    Empty(&'static str),
    /// The key's value is no text, or has control characters or spaces in it.
    #[error("the Secret's key {0} is not plain text: was it encoded twice, or does it hold several lines?")]
    NotText(&'static str),
}

/// An access key, or with a token a temporary one.
#[derive(Clone)]
pub struct Credentials {
    id: String,
    secret: SecretString,
    token: Option<SecretString>,
    principal: Option<String>,
}

impl Credentials {
    /// Takes the parts as they are.
    pub fn new(id: impl Into<String>, secret: SecretString, token: Option<SecretString>) -> Self {
        Self { id: id.into(), secret, token, principal: None }
    }

    /// The same, as keys that a principal is given for a while: what it is called stays when the keys change.
    #[must_use]
    pub fn of(self, principal: &str) -> Self {
        Self { principal: Some(principal.to_owned()), ..self }
    }

    /// Reads a Secret's data. One newline at the end of a value is cut off, as people make Secrets from files. An empty
    /// token counts as none.
    ///
    /// # Errors
    /// Names the first key that is missing, empty, or not plain text.
    pub fn from_secret_data(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, CredentialError> {
        let required = |key| {
            let value = text(data, key)?.ok_or(CredentialError::Missing(key))?;
            if value.is_empty() { Err(CredentialError::Empty(key)) } else { Ok(value) }
        };
        let id = required(ID_KEY)?.to_owned();
        let secret = SecretString::from(required(SECRET_KEY)?);
        let token = text(data, TOKEN_KEY)?.filter(|t| !t.is_empty()).map(SecretString::from);
        Ok(Self::new(id, secret, token))
    }

    /// The access key id. It goes to the cloud; people and the API server see [`Credentials::digest`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The access key secret.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// The STS token of temporary credentials.
    pub fn token(&self) -> Option<&SecretString> {
        self.token.as_ref()
    }

    /// Which key this is: the first 16 hexadecimal digits of the id's SHA-256.
    pub fn digest(&self) -> String {
        digest(&self.id)
    }

    /// Whom the key belongs to: the digest of the principal's name, else of the id.
    pub fn principal(&self) -> String {
        digest(self.principal.as_deref().unwrap_or(&self.id))
    }

    /// Whether two are the same in every part: whether a client can stay.
    pub fn same_as(&self, other: &Self) -> bool {
        let tokens_match = match (&self.token, &other.token) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.expose_secret() == theirs.expose_secret(),
            _ => false,
        };
        self.id == other.id
            && self.principal == other.principal
            && self.secret.expose_secret() == other.secret.expose_secret()
            && tokens_match
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("digest", &self.digest()).finish_non_exhaustive()
    }
}

fn text<'a>(data: &'a BTreeMap<String, Vec<u8>>, key: &'static str) -> Result<Option<&'a str>, CredentialError> {
    let Some(bytes) = data.get(key) else { return Ok(None) };
    let value = std::str::from_utf8(bytes).map_err(|_| CredentialError::NotText(key))?;
    let value = value.strip_suffix('\n').map_or(value, |line| line.strip_suffix('\r').unwrap_or(line));
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(CredentialError::NotText(key));
    }
    Ok(Some(value))
}

fn digest(text: &str) -> String {
    hex(Sha256::digest(text.as_bytes()).into_iter().take(8))
}

/// Lower-case hexadecimal.
pub(in crate::ota) fn hex(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes.into_iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), v.to_vec())).collect()
    }

    fn error(pairs: &[(&str, &[u8])]) -> CredentialError {
        Credentials::from_secret_data(&data(pairs)).unwrap_err()
    }

    #[test]
    fn reads_two_keys_or_three_and_cuts_one_newline() {
        let two = Credentials::from_secret_data(&data(&[(ID_KEY, b"id\n"), (SECRET_KEY, b"s3cret\r\n")])).unwrap();
        assert_eq!((two.id(), two.secret().expose_secret()), ("id", "s3cret"));
        assert!(two.token().is_none());
        let with = |token: &[u8]| data(&[(ID_KEY, b"id"), (SECRET_KEY, b"s3cret"), (TOKEN_KEY, token)]);
        let three = Credentials::from_secret_data(&with(b"tok")).unwrap();
        assert_eq!(three.token().map(|t| t.expose_secret()), Some("tok"));
        assert!(Credentials::from_secret_data(&with(b"\n")).unwrap().token().is_none());
        assert!(two.same_as(&two.clone()) && !two.same_as(&three));
    }

    #[test]
    fn errors_name_the_key_and_show_no_value() {
        assert_eq!(error(&[]), CredentialError::Missing(ID_KEY));
        assert_eq!(error(&[(ID_KEY, b"id")]), CredentialError::Missing(SECRET_KEY));
        assert_eq!(error(&[(ID_KEY, b"id"), (SECRET_KEY, b"\n")]), CredentialError::Empty(SECRET_KEY));
        assert_eq!(error(&[(ID_KEY, b"\xff")]), CredentialError::NotText(ID_KEY));
        let two_lines = error(&[(ID_KEY, b"id"), (SECRET_KEY, b"hush\nhush\n")]);
        assert_eq!(two_lines, CredentialError::NotText(SECRET_KEY));
        assert!(!two_lines.to_string().contains("hush"));
    }

    #[test]
    fn debug_shows_only_which_key_it_is() {
        let secret = SecretString::from("hush");
        let credentials = Credentials::new("testAccessKeyId", secret, Some(SecretString::from("hush-token")));
        // printf testAccessKeyId | sha256sum
        assert_eq!(credentials.digest(), "4d3530982fc68ab9");
        assert_eq!(format!("{credentials:?}"), r#"Credentials { digest: "4d3530982fc68ab9", .. }"#);
    }
}
