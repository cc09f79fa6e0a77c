//! Where calls may go: parsing an endpoint and holding it against what the operator's flags allow (ota-api: section 1).
//!
//! An account's endpoint is written by whoever may write an `OTAAccount`; signed requests, and with them access to the
//! cloud account, go there. So everything is judged on the parsed host, and whatever can be read in two ways is refused.
//! Talking to the endpoint never comes in.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// Why an endpoint, or a pattern of endpoints, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `host`, `host:port` or a URL of nothing but these.
    #[error("endpoint {0:?} is not a host, host:port, or https://host[:port]/ without user, path, query and fragment")]
    Malformed(String),
    /// Not a region id.
    #[error("region {0:?} is not a region id such as cn-shanghai")]
    Region(String),
    /// `http://` without the flag for it.
    #[error("endpoint {0:?} is not https; --allow-insecure-endpoints is for simulated clouds only")]
    Insecure(String),
    /// Not on the list.
    #[error("endpoint host {0:?} is not among --allowed-endpoints")]
    NotAllowed(String),
    /// Not a pattern.
    #[error("{0:?} is not a host, host:port, or *.domain")]
    Pattern(String),
}

/// Hosts that signed calls may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedEndpoints {
    patterns: Vec<Pattern>,
    allow_insecure: bool,
    any_host: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// Lower case; `None` port is any port.
    host: String,
    subdomains: bool,
    port: Option<u16>,
}

impl Default for AllowedEndpoints {
    /// `*.aliyuncs.com`, HTTPS only.
    fn default() -> Self {
        let vendor = Pattern { host: "aliyuncs.com".to_owned(), subdomains: true, port: None };
        Self { patterns: vec![vendor], allow_insecure: false, any_host: false }
    }
}

impl AllowedEndpoints {
    /// Reads patterns: `*.domain` is every subdomain (not the domain itself), `host` that host, `host:port` that host at
    /// that port only.
    ///
    /// With `allow_insecure` every host is accepted, over plain HTTP too: for simulated clouds.
    ///
    /// # Errors
    /// [`EndpointError::Pattern`] with the first pattern that is none of these.
    pub fn new<T: AsRef<str>>(
        patterns: impl IntoIterator<Item = T>,
        allow_insecure: bool,
    ) -> Result<Self, EndpointError> {
        let patterns = patterns.into_iter().map(|text| Pattern::parse(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { patterns, allow_insecure, any_host: allow_insecure })
    }

    /// As [`AllowedEndpoints::new`], but only the hosts listed, over plain HTTP too with `allow_insecure`.
    ///
    /// # Errors
    /// [`EndpointError::Pattern`] with the first pattern that is none.
    pub fn listed<T: AsRef<str>>(
        patterns: impl IntoIterator<Item = T>,
        allow_insecure: bool,
    ) -> Result<Self, EndpointError> {
        Ok(Self { any_host: false, ..Self::new(patterns, allow_insecure)? })
    }

    /// The vendor's endpoint of a region: `https://iot.<region>.aliyuncs.com/`.
    ///
    /// # Errors
    /// [`EndpointError::Region`], or [`EndpointError::NotAllowed`] where flags leave the vendor out.
    pub fn region(&self, region: &str) -> Result<Endpoint, EndpointError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if region.is_empty() || region.len() > 63 || !region.chars().all(plain) || region.starts_with('-') {
            return Err(EndpointError::Region(shown(region)));
        }
        Ok(self.endpoint(&format!("iot.{region}.aliyuncs.com"))?.with_region(region))
    }

    /// A place of the vendor's object storage: a URL like an endpoint's, and perhaps a path.
    ///
    /// # Errors
    /// As [`AllowedEndpoints::endpoint`].
    pub fn storage(&self, text: &str) -> Result<Url, EndpointError> {
        let start = text.find("://").map_or(0, |at| at + 3);
        let (authority, path) = match text.get(start..).and_then(|rest| rest.find('/')) {
            Some(at) => text.split_at(start + at),
            None => (text, "/"),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        if !path.chars().all(plain) || path.contains("..") || path.contains("//") {
            return Err(EndpointError::Malformed(shown(text)));
        }
        let mut url = self.endpoint(authority)?.url;
        url.set_path(path);
        Ok(url)
    }

    /// An endpoint written as `host`, `host:port` (both HTTPS) or a URL of scheme, host and port.
    ///
    /// # Errors
    /// [`EndpointError::Malformed`], [`EndpointError::Insecure`], or [`EndpointError::NotAllowed`].
    pub fn endpoint(&self, text: &str) -> Result<Endpoint, EndpointError> {
        let malformed = || EndpointError::Malformed(shown(text));
        // URL parsers forgive tabs, backslashes and foreign letters, each in its own way. Nobody needs them here.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/[]".contains(c);
        if text.is_empty() || text.len() > 300 || !text.chars().all(plain) {
            return Err(malformed());
        }
        let rest = match text.split_once("://") {
            Some(("https" | "http", rest)) => rest,
            Some(_) => return Err(malformed()),
            None => text,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        // Judged before the parser sees it: it would drop the default port, and collapse slashes.
        if authority.is_empty() || authority.contains('/') || authority.ends_with(':') {
            return Err(malformed());
        }
        let secure = !text.starts_with("http://");
        let url = Url::parse(&format!("{}://{authority}/", if secure { "https" } else { "http" }));
        let url = url.map_err(|_| malformed())?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !bare || url.path() != "/" || url.fragment().is_some() {
            return Err(malformed());
        }
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(malformed)?.to_owned();
        if !secure && !self.allow_insecure {
            return Err(EndpointError::Insecure(shown(text)));
        }
        let port = url.port_or_known_default();
        if !self.any_host && !self.patterns.iter().any(|pattern| pattern.fits(&host, port)) {
            return Err(EndpointError::NotAllowed(shown(&host)));
        }
        Ok(Endpoint { url, host, region: None })
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError::Pattern(shown(text));
        let (subdomains, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // The colons of an IPv6 host are inside its brackets.
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| wrong())?)),
            _ => (rest, None),
        };
        // Read as an endpoint's host is read, so that `[0::1]` and `LOCALHOST` match what they mean.
        let any = AllowedEndpoints { patterns: Vec::new(), allow_insecure: true, any_host: true };
        let host = any.endpoint(host).map_err(|_| wrong())?.host;
        if subdomains && (host.starts_with('[') || host.parse::<IpAddr>().is_ok()) {
            return Err(wrong());
        }
        Ok(Self { host, subdomains, port })
    }

    fn fits(&self, host: &str, port: Option<u16>) -> bool {
        let named = if self.subdomains {
            host.strip_suffix(&self.host).and_then(|sub| sub.strip_suffix('.')).is_some_and(|sub| !sub.is_empty())
        } else {
            host == self.host
        };
        named && (self.port.is_none() || self.port == port)
    }
}

/// Where calls go: a scheme, a host and a port that were allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    host: String,
    region: Option<String>,
}

impl Endpoint {
    /// The same endpoint; calls name this region (`RegionId`).
    pub fn with_region(mut self, region: &str) -> Self {
        self.region = (!region.is_empty()).then(|| region.to_owned());
        self
    }

    /// Its URL: scheme, host, port, `/`.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What the `Host` header says: the host, and the port unless it is the scheme's own.
    pub fn host_header(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The region that calls name, if one is known.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())
    }
}

/// User info may hold a password: of a text with `@` only the rest is shown.
fn shown(text: &str) -> String {
    let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    super::outcome::clean(text, 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vendor() -> AllowedEndpoints {
        AllowedEndpoints::default()
    }

    fn insecure() -> AllowedEndpoints {
        AllowedEndpoints::new(["*.aliyuncs.com"], true).unwrap()
    }

    #[test]
    fn a_storage_place_may_have_a_path_and_no_other_host() {
        let text = |all: &AllowedEndpoints, text: &str| all.storage(text).map(|url| url.to_string());
        for (given, url) in [
            ("https://b.oss-cn-shanghai.aliyuncs.com", "https://b.oss-cn-shanghai.aliyuncs.com/"),
            ("b.oss-cn-shanghai.aliyuncs.com/", "https://b.oss-cn-shanghai.aliyuncs.com/"),
            ("https://oss.aliyuncs.com/a/b", "https://oss.aliyuncs.com/a/b"),
        ] {
            assert_eq!(text(&vendor(), given).unwrap(), url);
        }
        assert_eq!(text(&insecure(), "http://127.0.0.1:80/_oss").unwrap(), "http://127.0.0.1/_oss");
        for wrong in [
            "",
            "https://",
            "https:///a",
            "http://oss.aliyuncs.com/",
            "https://elsewhere.example/oss.aliyuncs.com",
            "https://u:p@oss.aliyuncs.com/",
            "https://oss.aliyuncs.com/a?b=c",
            "https://oss.aliyuncs.com/../a",
            "https://oss.aliyuncs.com//a",
            "https://oss.aliyuncs.com/a#b",
        ] {
            assert!(text(&vendor(), wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_region_becomes_the_vendors_host() {
        let endpoint = vendor().region("cn-shanghai").unwrap();
        assert_eq!(endpoint.to_string(), "https://iot.cn-shanghai.aliyuncs.com/");
        assert_eq!(endpoint.region(), Some("cn-shanghai"));
        for region in ["", "evil.test/", "evil.test#", "cn shanghai", "CN", "a@b", "-x", "x.y"] {
            assert_eq!(vendor().region(region).unwrap_err(), EndpointError::Region(shown(region)), "{region}");
        }
        let elsewhere = AllowedEndpoints::new(["iot.example"], false).unwrap();
        assert!(matches!(elsewhere.region("cn-shanghai"), Err(EndpointError::NotAllowed(_))));
    }

    #[test]
    fn hosts_ports_and_urls_are_read() {
        for (text, url) in [
            ("iot.cn-shanghai.aliyuncs.com", "https://iot.cn-shanghai.aliyuncs.com/"),
            ("IoT.cn-shanghai.ALIYUNCS.com:8443", "https://iot.cn-shanghai.aliyuncs.com:8443/"),
            ("https://iot.aliyuncs.com", "https://iot.aliyuncs.com/"),
            ("https://iot.aliyuncs.com:443/", "https://iot.aliyuncs.com/"),
        ] {
            assert_eq!(vendor().endpoint(text).unwrap().to_string(), url, "{text}");
        }
        for (text, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("http://[::1]:8080/", "http://[::1]:8080/"),
            ("localhost:8080", "https://localhost:8080/"),
            ("http://cloud.fota.svc:80", "http://cloud.fota.svc/"),
        ] {
            assert_eq!(insecure().endpoint(text).unwrap().to_string(), url, "{text}");
        }
    }

    #[test]
    fn whoever_only_looks_allowed_is_not() {
        for text in [
            "https://aliyuncs.com.evil.test",
            "aliyuncs.com.evil.test",
            "aliyuncs.com",
            "evilaliyuncs.com",
            ".aliyuncs.com",
            "iot.aliyuncs.com.",
            "evil.test",
            "127.0.0.1",
            "[::1]",
        ] {
            let error = vendor().endpoint(text).unwrap_err();
            assert!(matches!(error, EndpointError::NotAllowed(_) | EndpointError::Malformed(_)), "{text}: {error}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_malformed_even_where_all_hosts_are_allowed() {
        for text in [
            "",
            "/",
            "https://",
            "https:///evil.test",
            "https://evil.test/.aliyuncs.com",
            "https://evil.test//",
            "https://iot.aliyuncs.com@evil.test",
            "https://user:pass@iot.aliyuncs.com/",
            "https://evil.test\\@iot.aliyuncs.com",
            "https://evil.test?.aliyuncs.com",
            "https://evil.test#.aliyuncs.com",
            "https://evil.test%2f.aliyuncs.com",
            "https://evil.test\t.aliyuncs.com",
            "https://evil.test .aliyuncs.com",
            "https://iot。aliyuncs.com",
            "https://iot.aliyuncs.com:",
            "iot.aliyuncs.com:port",
            "iot.aliyuncs.com:99999",
            "https:iot.aliyuncs.com",
            "ftp://iot.aliyuncs.com",
            "HTTP://iot.aliyuncs.com",
            "https://https://iot.aliyuncs.com",
            "[::1",
            "::1",
        ] {
            let error = insecure().endpoint(text).unwrap_err();
            assert!(matches!(error, EndpointError::Malformed(_)), "{text}: {error}");
            assert!(!error.to_string().contains("pass@"), "{error}");
        }
    }

    #[test]
    fn plain_http_needs_the_flag_even_for_an_allowed_host() {
        let error = vendor().endpoint("http://iot.aliyuncs.com").unwrap_err();
        assert_eq!(error, EndpointError::Insecure("http://iot.aliyuncs.com".into()));
        assert!(insecure().endpoint("http://anywhere.test").is_ok());
        assert!(insecure().endpoint("anywhere.test").is_ok());
    }

    #[test]
    fn a_list_is_a_list_over_plain_http_too() {
        let listed = AllowedEndpoints::listed(["127.0.0.1"], true).unwrap();
        assert!(listed.endpoint("http://127.0.0.1:8080").is_ok());
        assert!(matches!(listed.endpoint("http://127.0.0.2:8080"), Err(EndpointError::NotAllowed(_))));
        let secure = AllowedEndpoints::listed(["127.0.0.1"], false).unwrap();
        assert!(matches!(secure.endpoint("http://127.0.0.1:8080"), Err(EndpointError::Insecure(_))));
    }

    #[test]
    fn patterns_match_hosts_subdomains_and_ports() {
        let allowed =
            AllowedEndpoints::new(["iot.example:8443", "*.Fleet.example", "[0::1]", "[::2]:90"], false).unwrap();
        for (text, ok) in [
            ("iot.example:8443", true),
            ("iot.example", false),
            ("a.iot.example:8443", false),
            ("a.fleet.example", true),
            ("a.b.fleet.example:1", true),
            ("fleet.example", false),
            ("[::1]:7", true),
            ("[::2]:90", true),
            ("[::2]", false),
        ] {
            assert_eq!(allowed.endpoint(text).is_ok(), ok, "{text}");
        }
        for pattern in ["*", "", "*.", "a.*.b", "*a.b", "https://x/y", "x:y", "*.127.0.0.1", "*.[::1]", "x@y"] {
            assert!(AllowedEndpoints::new([pattern], false).is_err(), "{pattern}");
        }
    }

    #[test]
    fn the_host_header_names_a_port_only_where_it_matters() {
        let header = |text: &str| insecure().endpoint(text).unwrap().host_header();
        assert_eq!(header("https://IoT.aliyuncs.com:443/"), "iot.aliyuncs.com");
        assert_eq!(header("iot.aliyuncs.com:8443"), "iot.aliyuncs.com:8443");
        assert_eq!(header("http://[::1]:80"), "[::1]");
        assert_eq!(header("http://[::1]:8080"), "[::1]:8080");
    }

    #[test]
    fn this_machine_is_recognised() {
        for (text, loopback) in [
            ("localhost:1", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:1", true),
            ("127.1", true),
            ("10.0.0.1", false),
            ("localhost.evil.test", false),
        ] {
            assert_eq!(insecure().endpoint(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
