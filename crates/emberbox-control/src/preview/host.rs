//! Which preview a host name means. Pure: names in, names out.
//!
//! ```text
//! 5173-abcdefgh.sandbox.example.com:8080
//! port-slug     ^       domain      ignored
//! ```
//!
//! A slug begins with a letter, so a label that begins with a digit names a
//! port, and no label can be read in two ways.

/// The label between a sandbox's own and the domain.
const MARK: &str = "sandbox";

/// Longest name DNS carries (RFC 1035, 2.3.4), without the last dot.
const NAME_MAX: usize = 253;

/// Longest label DNS carries (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;

/// What a host name means to this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing of previews.
    Elsewhere,
    /// In the domain of previews, and yet no preview can have this name.
    Malformed,
    /// A preview.
    Preview(PreviewName),
}

/// The parts of a preview's host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PreviewName {
    /// The sandbox's slug.
    pub(crate) slug: String,
    /// The port, if the name has one.
    pub(crate) port: Option<u16>,
    /// What follows `.sandbox.`, in lower case.
    pub(crate) domain: String,
}

/// Reads a `Host` header or `:authority`. Names below another domain than the
/// platform's are previews only if a tenant has that domain: ask the store.
pub(crate) fn read(host: &str, platform: &str) -> Meaning {
    let Some(name) = normal(host) else {
        return Meaning::Elsewhere;
    };
    let ours = name
        .strip_suffix(platform)
        .and_then(|rest| rest.strip_suffix('.'))
        .and_then(|rest| rest.strip_suffix(MARK))
        .and_then(|rest| rest.strip_suffix('.'));
    if let Some(label) = ours {
        return match read_label(label) {
            Some((slug, port)) => preview(slug, port, platform),
            None => Meaning::Malformed,
        };
    }
    let labels = name.split_once('.').and_then(|(label, rest)| {
        let domain = rest.strip_prefix(MARK)?.strip_prefix('.')?;
        Some((read_label(label)?, domain))
    });
    match labels {
        Some(((slug, port), domain)) if is_domain(domain) => preview(slug, port, domain),
        Some(_) | None => Meaning::Elsewhere,
    }
}

/// The host name of a preview, without scheme and port.
pub(crate) fn name(slug: &str, port: Option<u16>, domain: &str) -> String {
    match port {
        Some(port) => format!("{port}-{slug}.{MARK}.{domain}"),
        None => format!("{slug}.{MARK}.{domain}"),
    }
}

/// Whether previews can be served below this domain: a DNS name in lower case
/// with room for the longest label in front.
pub(crate) fn is_domain(text: &str) -> bool {
    let room = NAME_MAX - LABEL_MAX - MARK.len() - 2;
    text.len() <= room
        && text.split('.').all(|label| {
            (1..=LABEL_MAX).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(is_label_byte)
        })
}

fn preview(slug: &str, port: Option<u16>, domain: &str) -> Meaning {
    Meaning::Preview(PreviewName {
        slug: slug.to_owned(),
        port,
        domain: domain.to_owned(),
    })
}

/// The name of a `Host` in lower case, without port and last dot.
pub(crate) fn normal(host: &str) -> Option<String> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) => return None,
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let legal = !name.is_empty() && name.len() <= NAME_MAX && name.is_ascii();
    legal.then(|| name.to_ascii_lowercase())
}

fn read_label(label: &str) -> Option<(&str, Option<u16>)> {
    if label.len() > LABEL_MAX {
        return None;
    }
    let (port, slug) = if label.starts_with(|c: char| c.is_ascii_digit()) {
        let (digits, slug) = label.split_once('-')?;
        // One port, one name: no leading zeros.
        let all_digits = !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        let port: u16 = all_digits.then(|| digits.parse().ok()).flatten()?;
        (Some(port), slug)
    } else {
        (None, label)
    };
    let legal = slug.starts_with(|c: char| c.is_ascii_lowercase())
        && !slug.ends_with('-')
        && slug.bytes().all(is_label_byte);
    legal.then_some((slug, port))
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

#[cfg(test)]
mod tests;
