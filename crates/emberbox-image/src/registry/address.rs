//! Where registries may be.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// A mirror's URL: whether it is plain HTTP, its host, and what goes before
/// the names of its repositories.
pub(super) fn of_mirror(url: &str) -> (bool, String, String) {
    let (plain, rest) = match url.strip_prefix("http://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("https://").unwrap_or(url)),
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    let prefix = if path.is_empty() {
        String::new()
    } else {
        format!("{path}/")
    };
    (plain, host.to_owned(), prefix)
}

/// Whether a host a user named is outside of all private networks: this
/// machine must not be made to speak to its neighbours.
pub(super) async fn is_public(host: &str) -> io::Result<bool> {
    /// Only for looking the name up.
    const PORT: u16 = 443;
    let found = if host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        tokio::net::lookup_host(host).await?.collect::<Vec<_>>()
    } else {
        tokio::net::lookup_host((host, PORT)).await?.collect()
    };
    Ok(!found.is_empty() && found.iter().all(|address| is_global(address.ip())))
}

pub(super) fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => match address.to_ipv4() {
            Some(inner) => is_global_v4(inner),
            // Global unicast, of which 2001:db8::/32 is for documents.
            None => {
                let [first, second, ..] = address.segments();
                first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0xdb8)
            }
        },
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let benchmark = a == 198 && (18..20).contains(&b);
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || shared
        || benchmark
        || a == 0
        || a >= 240)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_taken_apart() {
        let expected = |plain, host: &str, prefix: &str| (plain, host.into(), prefix.into());
        for (url, expected) in [
            (
                "http://127.0.0.1:5000",
                expected(true, "127.0.0.1:5000", ""),
            ),
            (
                "https://m.example/a/b/",
                expected(false, "m.example", "a/b/"),
            ),
            ("m.example", expected(false, "m.example", "")),
        ] {
            assert_eq!(of_mirror(url), expected, "{url}");
        }
    }

    #[test]
    fn private_addresses_are_told_apart() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "2001:db8::1",
        ] {
            assert!(!is_global(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "2606:4700::1111"] {
            assert!(is_global(public.parse().unwrap()), "{public}");
        }
    }
}
