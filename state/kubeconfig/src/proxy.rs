//! The proxy for a server: `proxy-url` of the cluster, otherwise HTTPS_PROXY and NO_PROXY by the rules of Go, as in kubectl.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

use crate::Error;

const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// Returns the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY choose for `server`.
///
/// # Errors
/// If the proxy is not a URL with a supported scheme.
pub fn environment_proxy(server: &Uri) -> Result<Option<Uri>, Error> {
    choose(server, None, variable)
}

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the proxy for `server`; `variable` returns the value of an environment variable.
///
/// # Errors
/// If the proxy is not a URL with a supported scheme.
pub(crate) fn choose(
    server: &Uri,
    proxy_url: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Uri>, Error> {
    if let Some(written) = proxy_url.filter(|url| !url.is_empty()) {
        return parse(written, "`proxy-url` of the kubeconfig").map(Some);
    }
    let either = |upper: &str| {
        let lower = upper.to_ascii_lowercase();
        [upper, &lower].into_iter().find_map(|name| variable(name).filter(|value| !value.trim().is_empty()))
    };
    let name = if server.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    let Some(written) = either(name) else { return Ok(None) };
    if !uses_proxy(server, &either("NO_PROXY").unwrap_or_default()) {
        return Ok(None);
    }
    // `proxy.example.org:3128` is an HTTP proxy.
    let written = written.trim();
    let has_scheme = SCHEMES.iter().any(|scheme| written.starts_with(&format!("{scheme}://")));
    let url = if has_scheme || written.contains("://") { written.to_owned() } else { format!("http://{written}") };
    parse(&url, &format!("the environment variable {name}")).map(Some)
}

/// Parses the URL of a proxy. An error does not show the URL, which can contain a password.
fn parse(written: &str, place: &str) -> Result<Uri, Error> {
    let wrong = || {
        Error::unusable(format!("{place} is not a valid proxy URL"))
            .help("use the form http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")
    };
    let (scheme, rest) = written.trim().split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    if !SCHEMES.contains(&scheme.as_str()) {
        return Err(wrong());
    }
    // With both schemes, the proxy resolves the name of the server.
    let scheme = if scheme == "socks5h" { "socks5" } else { &scheme };
    let uri: Uri = format!("{scheme}://{rest}").parse().map_err(|_| wrong())?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
    let port = match (scheme, authority.port_u16()) {
        ("socks5", None) => ":1080",
        _ => "",
    };
    format!("{scheme}://{authority}{port}").parse().map_err(|_| wrong())
}

/// Whether requests to `server` use the proxy of the environment. Requests to this machine never do.
fn uses_proxy(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let ip: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return false;
    }
    let entries = no_proxy.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty());
    !entries.into_iter().any(|entry| is_exempt(&entry, &host, port, ip))
}

/// Whether an entry of NO_PROXY covers the host.
fn is_exempt(entry: &str, host: &str, port: u16, ip: Option<IpAddr>) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(range) = entry.parse::<IpNet>() {
        return ip.is_some_and(|ip| range.contains(&ip));
    }
    let bare: Option<IpAddr> = entry.trim_matches(['[', ']']).parse().ok();
    let (name, of_port) = match entry.rsplit_once(':') {
        Some((name, digits)) if bare.is_none() => (name.trim_matches(['[', ']']), Some(digits)),
        _ => (entry.trim_matches(['[', ']']), None),
    };
    if of_port.is_some_and(|digits| digits.parse() != Ok(port)) {
        return false;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return ip == Some(address);
    }
    // `example.org` covers itself and its subdomains, `.example.org` and `*.example.org` only the subdomains.
    let (domain, is_below_only) = match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(domain) => (domain, true),
        None => (name, false),
    };
    if domain.is_empty() {
        return false;
    }
    let is_below = host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    is_below || !is_below_only && host == domain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(server: &str, proxy_url: Option<&str>, variables: &[(&str, &str)]) -> Result<String, String> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        match choose(&server.parse().unwrap(), proxy_url, variable) {
            Ok(proxy) => Ok(proxy.map_or_else(|| "none".to_owned(), |p| p.to_string())),
            Err(error) => Err(error.summary),
        }
    }

    #[test]
    fn the_kubeconfig_has_priority_over_the_environment() {
        let (api, p) = ("https://10.0.0.1:6443", "http://p:1/");
        let no = ("NO_PROXY", "10.0.0.1");
        type Case<'c> = (&'c str, Option<&'c str>, &'c [(&'c str, &'c str)], &'c str);
        let cases: [Case; 11] = [
            (api, None, &[], "none"),
            (api, None, &[("HTTPS_PROXY", "http://p:1")], p),
            (api, None, &[("https_proxy", "p:1")], p),
            (api, None, &[("HTTPS_PROXY", "http://p:1"), ("https_proxy", "http://q:1")], p),
            (api, None, &[("HTTPS_PROXY", ""), ("https_proxy", "http://p:1")], p),
            (api, None, &[("HTTP_PROXY", "http://p:1")], "none"),
            ("http://10.0.0.1", None, &[("HTTP_PROXY", "http://p:1")], p),
            (api, None, &[("HTTPS_PROXY", "http://q:1"), no], "none"),
            (api, Some("http://p:1"), &[("HTTPS_PROXY", "http://q:1"), no], p),
            (api, Some("socks5h://p"), &[], "socks5://p:1080/"),
            (api, Some(""), &[("HTTPS_PROXY", "socks5://p:1")], "socks5://p:1/"),
        ];
        for (server, proxy_url, variables, expected) in cases {
            assert_eq!(
                chosen(server, proxy_url, variables).as_deref(),
                Ok(expected),
                "{server} {proxy_url:?} {variables:?}"
            );
        }
        let wrong = chosen(api, Some("ftp://user:secret@p"), &[]).unwrap_err();
        assert_eq!(wrong, "`proxy-url` of the kubeconfig is not a valid proxy URL");
    }

    #[test]
    fn no_proxy_is_read_as_go_reads_it() {
        let cases = [
            ("https://10.213.1.1:8443", "10.213.1.1", true),
            ("https://10.213.1.1:8443", "10.213.0.0/16", true),
            ("https://10.213.1.1:8443", "10.214.0.0/16", false),
            ("https://10.213.1.1:8443", "10.213.1.1:8443", true),
            ("https://10.213.1.1:8443", "10.213.1.1:443", false),
            ("https://10.213.1.1:8443", " a.org , 10.213.1.1 ,", true),
            ("https://10.213.1.1:8443", "*", true),
            ("https://10.213.1.1:8443", "10.213.1", false),
            ("https://api.example.org", "example.org", true),
            ("https://api.example.org", ".example.org", true),
            ("https://api.example.org", "*.example.org", true),
            ("https://api.example.org", "EXAMPLE.org:443", true),
            ("https://api.example.org", "example.org:6443", false),
            ("https://API.Example.org", "api.example.org", true),
            ("https://example.org", ".example.org", false),
            ("https://badexample.org", "example.org", false),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://127.0.0.1:6443", "", true),
            ("https://localhost:6443", "", true),
            ("https://[::1]:6443", "", true),
            ("https://10.0.0.1", "", false),
            ("https://10.0.0.1", ":443", false),
        ];
        for (server, no_proxy, is_direct) in cases {
            let found = !uses_proxy(&server.parse().unwrap(), no_proxy);
            assert_eq!(found, is_direct, "{server} {no_proxy:?}");
        }
    }
}
