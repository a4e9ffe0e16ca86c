//! Which hosts the operator calls because a tenant's object names them. Pure.
//!
//! It calls from within the platform's own network, so a tenant could reach through it what only the platform may:
//! the cloud's metadata service, local ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether addresses of the operator's own machine are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalEndpoints {
    /// They are refused: a tenant could make the operator talk to itself.
    #[default]
    Refused,
    /// Loopback is accepted, for development and tests on one machine.
    Loopback,
}

/// Why a host (a name or an address, as in a URL) is not called; nothing when it may be. What a name resolves to is
/// not looked at.
#[must_use]
pub fn refused_host(host: &str, local: LocalEndpoints) -> Option<&'static str> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let problem = bare.parse::<IpAddr>().map_or_else(|_| forbidden_name(bare), forbidden)?;
    (problem != LOOPBACK || local == LocalEndpoints::Refused).then_some(problem)
}

const LOOPBACK: &str = "is a loopback address";

fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| forbidden_v6(v6), forbidden_v4),
    }
}

/// Addresses of clouds' metadata services that lie outside the link-local ranges.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some(LOOPBACK)
    } else if address.octets()[0] == 0 {
        Some("is an unspecified address")
    } else if address.is_link_local() || METADATA_V4.contains(&address) {
        Some("is a link-local or metadata address")
    } else if address.is_multicast() || address.is_broadcast() {
        Some("is no single host's address")
    } else {
        None
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_loopback() {
        Some(LOOPBACK)
    } else if address.is_unspecified() {
        Some("is an unspecified address")
    } else if address.is_unicast_link_local() || address == METADATA_V6 {
        Some("is a link-local or metadata address")
    } else if address.is_multicast() {
        Some("is no single host's address")
    } else {
        None
    }
}

/// The IPv4 address inside an IPv6 one that leads to it: mapped, compatible, NAT64, 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

fn forbidden_name(host: &str) -> Option<&'static str> {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain" {
        return Some(LOOPBACK);
    }
    if name == "metadata.google.internal" {
        return Some("is a link-local or metadata address");
    }
    // Resolvers take 127.1, 2130706433 and 0x7f000001 for addresses, too.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit());
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    (numeric || hexadecimal).then_some("is an IP address in an unusual form")
}
