//! Origins: scheme, host and port, read so that a text means the same to everybody.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// The origin of a URL, in the one spelling it has here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    https: bool,
    /// In lower case; an IPv6 address without brackets.
    host: Box<str>,
    port: u16,
    address: Option<IpAddr>,
}

impl Origin {
    /// Reads a URL and its origin. A URL that different programs would read differently is refused.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence that begins with its name. The URL is not repeated.
    pub fn of_url(text: &str) -> Result<(Self, Url), String> {
        if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
            // Browsers drop tabs and line breaks, and map letters and dots of other scripts to plain ones.
            return Err(format!("has the character {odd:?}; write it percent-encoded"));
        }
        if text.contains('\\') {
            return Err("has a backslash, which some programs read as a slash; write it as %5C".to_owned());
        }
        let (scheme, rest) = text.split_once("://").ok_or("must start with https:// or http://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("must start with https:// or http://".to_owned()),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("holds a user name or password; put credentials into headers in the operator's file".to_owned());
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None if https => 443,
            None => 80,
            Some(port) => read_port(port)?,
        };
        let (host, address) = read_host(host)?;
        let url = Url::parse(text).map_err(|error| format!("can't be read: {error}"))?;
        // What is requested is what was checked above, or nothing.
        let agreed = url.scheme() == if https { "https" } else { "http" }
            && url.username().is_empty()
            && url.password().is_none()
            && url.port_or_known_default() == Some(port)
            && url.host_str().map(|read| read.trim_start_matches('[').trim_end_matches(']')) == Some(&*host);
        if !agreed {
            return Err("is spelled in a way that programs read differently; write host and port plainly".to_owned());
        }
        Ok((Self { https, host, port, address }, url))
    }

    /// The host, in lower case; an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also when the URL leaves it out.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The address, when the host is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_origin(f, self, "")
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn write_origin(f: &mut fmt::Formatter<'_>, origin: &Origin, prefix: &str) -> fmt::Result {
    let (scheme, default) = if origin.https { ("https", 443) } else { ("http", 80) };
    match origin.address {
        Some(IpAddr::V6(address)) => write!(f, "{scheme}://[{address}]")?,
        _ => write!(f, "{scheme}://{prefix}{}", origin.host)?,
    }
    if origin.port == default { Ok(()) } else { write!(f, ":{}", origin.port) }
}

/// The text of the host, with the brackets of an IPv6 address, and that of the port.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or("has [ without ]")?;
        let (host, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("has something other than a port after the address".to_owned()),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

fn read_port(text: &str) -> Result<u16, String> {
    let plain = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    let port = if plain { text.parse().ok() } else { None };
    port.ok_or_else(|| "has a port that is not a plain number from 1 to 65535".to_owned())
}

fn read_host(text: &str) -> Result<(Box<str>, Option<IpAddr>), String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| "has an IPv6 address that can't be read".to_owned())?;
        // The one spelling of RFC 5952, apart from the dotted form that some addresses have in Rust only.
        let plain = [address.to_string(), plain_ipv6(address)];
        if !plain.iter().any(|plain| plain.eq_ignore_ascii_case(inner)) {
            return Err(format!("has an unusual spelling of an IPv6 address; write [{address}]"));
        }
        return Ok((plain_ipv6(address).into(), Some(IpAddr::V6(address))));
    }
    let host = text.to_ascii_lowercase();
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    if host.len() > 253 {
        return Err("has a host of more than 253 characters".to_owned());
    }
    let valid = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if !host.split('.').all(valid) {
        return Err(
            "has a host that is not made of letters, digits and - between single dots (a dot at the end is refused too)"
                .to_owned(),
        );
    }
    // Whatever ends in a number is an address to browsers: 127.1, 0x7f000001, 017700000001, 2130706433.
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
        // This parser takes four decimal numbers without leading zeros, and nothing else.
        let address: Ipv4Addr = host
            .parse()
            .map_err(|_| "has an unusual spelling of an IPv4 address; write four decimal numbers".to_owned())?;
        return Ok((host.into(), Some(IpAddr::V4(address))));
    }
    Ok((host.into(), None))
}

/// The address in groups only, as URLs have it: Rust writes some with their last part dotted.
fn plain_ipv6(address: Ipv6Addr) -> String {
    let dotted = address.to_string();
    match Url::parse(&format!("http://[{address}]")) {
        Ok(url) => url.host_str().map_or(dotted, |host| host.trim_matches(['[', ']']).to_owned()),
        Err(_) => dotted,
    }
}

/// Which origins an entry of the allow-list is about: one, or those of all hosts below a domain.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OriginPattern {
    /// With a wildcard: of the domain itself, which it does not match.
    origin: Origin,
    wildcard: bool,
}

impl OriginPattern {
    /// Reads `https://host`, `https://host:port` or `https://*.domain`.
    ///
    /// # Errors
    /// What is wrong, as the rest of a sentence that begins with the path of the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (plain, wildcard) = match text.split_once("://*.") {
            Some((scheme, domain)) => (format!("{scheme}://{domain}"), true),
            None => (text.to_owned(), false),
        };
        if plain.contains('*') {
            return Err("has a * in another place than for all hosts below a domain: https://*.example.com".to_owned());
        }
        let (origin, url) = Origin::of_url(&plain)?;
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("has more than scheme, host and port; write {origin}"));
        }
        if wildcard && (origin.address.is_some() || !origin.host.contains('.')) {
            return Err("has a * above an address or a top-level domain; name a domain such as https://*.example.com"
                .to_owned());
        }
        Ok(Self { origin, wildcard })
    }

    /// Whether the entry is about this origin.
    #[must_use]
    pub fn matches(&self, origin: &Origin) -> bool {
        if !self.wildcard {
            return self.origin == *origin;
        }
        let below = |host: &str| {
            host.strip_suffix(&*self.origin.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        };
        self.origin.https == origin.https
            && self.origin.port == origin.port
            && origin.address.is_none()
            && below(&origin.host)
    }

    /// Of several entries that match, the one with the highest counts.
    pub(crate) fn exactness(&self) -> (bool, usize) {
        (!self.wildcard, self.origin.host.len())
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_origin(f, &self.origin, if self.wildcard { "*." } else { "" })
    }
}

impl fmt::Debug for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
