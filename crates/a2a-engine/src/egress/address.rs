//! What kind of address an address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who can be reached at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A host of the internet.
    Public,
    /// This machine, or a host of a private network; the text says which.
    Private(&'static str),
    /// Nobody whom a webhook is meant for; the text says why.
    Never(&'static str),
}

/// Metadata services of cloud machines, which hand out credentials to whoever asks from inside.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Says what kind of address this is, by the registries of special addresses of the IANA (RFC 6890).
#[must_use]
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    if METADATA_V4.contains(&address) {
        return Reach::Never("cloud metadata");
    }
    match address.octets() {
        [0, ..] => Reach::Never("unspecified"),
        [10, ..] | [192, 168, ..] => Reach::Private("private"),
        [172, second, ..] if second & 0xf0 == 16 => Reach::Private("private"),
        [127, ..] => Reach::Private("loopback"),
        [100, second, ..] if second & 0xc0 == 64 => Reach::Private("carrier-grade NAT"),
        // Some proxies on the own machine hand these out for every name.
        [198, 18 | 19, ..] => Reach::Private("benchmarking"),
        [169, 254, ..] => Reach::Never("link-local"),
        [192, 0, 0, _] | [192, 88, 99, _] => Reach::Never("reserved"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Reach::Never("documentation"),
        [224..=239, ..] => Reach::Never("multicast"),
        [240..=255, ..] => Reach::Never("reserved"),
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    if METADATA_V6.contains(&address) {
        return Reach::Never("cloud metadata");
    }
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Never("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private("loopback"),
        // The operating system connects to the IPv4 address in it.
        [0, 0, 0, 0, 0, 0xffff, high, low] => embedded(high, low),
        [0, 0, 0, 0, 0, 0, ..] => Reach::Never("IPv4-compatible"),
        // A gateway connects to the IPv4 address in it; networks without IPv4 reach the rest of the world so.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x64, 0xff9b, 1, ..] => Reach::Private("local NAT64"),
        [0x2002, ..] => Reach::Never("6to4"),
        [0x2001, second, ..] if second < 0x200 => Reach::Never("reserved"),
        [0x2001, 0xdb8, ..] => Reach::Never("documentation"),
        [0x3fff, second, ..] if second < 0x1000 => Reach::Never("documentation"),
        // ISATAP: a router connects to the IPv4 address in it.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Reach::Never("ISATAP"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Reach::Private("private"),
        [first, ..] if first & 0xffc0 == 0xfe80 => Reach::Never("link-local"),
        [first, ..] if first & 0xff00 == 0xff00 => Reach::Never("multicast"),
        [first, ..] if first & 0xe000 == 0x2000 => Reach::Public,
        _ => Reach::Never("reserved"),
    }
}
