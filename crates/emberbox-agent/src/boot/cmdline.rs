//! What the host tells a guest on the kernel command line.

use std::net::Ipv4Addr;

/// Most read-only layers: with the scratch disk they are vda to vdz.
const LAYERS: usize = 25;

/// Why a command line cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CmdlineError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{name}={value} is not valid")]
    Invalid { name: &'static str, value: String },
}

/// What to boot into.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// Say that the kernel came up, and end.
    Probe,
    /// Serve.
    Run(Plan),
}

/// A guest's disks and network.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How many of the first disks are read-only layers; the next is scratch.
    pub(super) layers: usize,
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
    pub(super) gateway: Ipv4Addr,
    pub(super) gateway_mac: [u8; 6],
}

impl Boot {
    pub(super) fn parse(text: &str) -> Result<Self, CmdlineError> {
        if text.split_whitespace().any(|word| word == "emberbox.probe") {
            return Ok(Self::Probe);
        }
        let layers = value(text, "emberbox.layers", |value| {
            value
                .parse()
                .ok()
                .filter(|layers| (1..=LAYERS).contains(layers))
        })?;
        let (address, prefix) = value(text, "emberbox.address", |value| {
            let (address, prefix) = value.split_once('/')?;
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
            Some((address.parse().ok()?, prefix))
        })?;
        let gateway = value(text, "emberbox.gateway", |value| value.parse().ok())?;
        let gateway_mac = value(text, "emberbox.gateway_mac", mac)?;
        Ok(Self::Run(Plan {
            layers,
            address,
            prefix,
            gateway,
            gateway_mac,
        }))
    }
}

/// Whether the host ends this machine by a reboot.
pub(super) fn ends_by_reboot(text: &str) -> bool {
    text.split_whitespace().any(|word| word == "reboot=k")
}

fn value<T>(
    text: &str,
    name: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, CmdlineError> {
    let value = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .ok_or(CmdlineError::Missing(name))?;
    parse(value).ok_or_else(|| CmdlineError::Invalid {
        name,
        value: value.to_owned(),
    })
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|part| u8::from_str_radix(part, 16).ok())?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests;
