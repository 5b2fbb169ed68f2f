//! What happened to a frame, and why. Every exit has a reason; per CPU and interface the
//! sum of the reasons equals the frames received.

/// What happens to the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// Dropped.
    Drop = 1,
    /// Passed to the host's network stack, untouched.
    Pass = 2,
    /// Sent out of the interface it came in.
    Tx = 3,
    /// Sent out of another interface.
    Redirect = 4,
}

/// Declares the reasons of a program: number, name and verdict of each.
macro_rules! reasons {
    (
        $(#[$meta:meta])*
        pub enum $reason:ident;
        $($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $verdict:ident;)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum $reason {
            $($(#[$doc])* $name = $number,)*
        }

        impl $reason {
            /// All reasons, by number.
            pub const ALL: &'static [$reason] = &[$($reason::$name,)*];

            /// Returns the name used in counters, metrics and the API.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($reason::$name => $text,)* }
            }

            /// Returns what happens to a frame with this reason.
            #[must_use]
            #[inline(always)]
            pub const fn verdict(self) -> $crate::reason::Verdict {
                match self { $($reason::$name => $crate::reason::Verdict::$verdict,)* }
            }
        }
    };
}

pub(crate) use reasons;

reasons! {
    /// An exit of the data path.
    pub enum Reason;

    /// Forwarded, out of the interface it came in.
    ForwardedTx = 0, "forwarded_tx", Tx;
    /// Forwarded, out of another interface.
    ForwardedRedirect = 1, "forwarded_redirect", Redirect;
    /// An echo request to a VIP, answered.
    EchoReply = 2, "echo_reply", Tx;
    /// Neither IPv4 nor IPv6 (ARP, VLAN-tagged, ...).
    NotIp = 3, "not_ip", Pass;
    /// IP for an address, port and protocol of no VIP.
    NotVip = 4, "not_vip", Pass;
    /// Neither TCP nor UDP nor an echo request nor an ICMP error about a VIP's flow.
    OtherProtocol = 5, "other_protocol", Pass;
    /// Too short or contradicting itself.
    Malformed = 6, "malformed", Pass;
    /// A fragment, for no VIP or of a packet that is neither TCP nor UDP nor SCTP.
    Fragment = 7, "fragment", Pass;
    /// More IPv6 extension headers than are walked.
    TooManyHeaders = 8, "too_many_headers", Pass;
    /// For a VIP that has no real that takes flows.
    NoReal = 9, "no_real", Drop;
    /// The real's next hop is not known (yet).
    NoNextHop = 10, "no_next_hop", Drop;
    /// TTL or hop limit used up.
    TtlExpired = 11, "ttl_expired", Drop;
    /// The driver gave no room for the outer header.
    NoHeadroom = 12, "no_headroom", Drop;
    /// The tables contradict each other; a defect of the agent.
    BadTables = 13, "bad_tables", Drop;
    /// Too large for the way to its real, with the outer header if there is one, and not answered: its sender
    /// allows fragments or gets enough answers already.
    TooLarge = 14, "too_large", Drop;
    /// Part of a running flow whose real is dead; answered with a reset.
    ResetDownReal = 15, "reset_down_real", Tx;
    /// For a VIP that has no real that takes flows; answered with a reset.
    ResetNoReal = 16, "reset_no_real", Tx;
    /// IP for another station's MAC address, a multicast or a broadcast.
    OtherStation = 17, "other_station", Pass;
    /// Would be answered, but its source is no address that a host has.
    Martian = 18, "martian", Drop;
    /// Would be answered, but the checksum of its IPv4 header is wrong.
    BadChecksum = 19, "bad_checksum", Drop;
    /// Too large for the way to its real; its sender is told by ICMP which size is not.
    TooLargeAnswered = 20, "too_large_answered", Tx;
    /// TTL or hop limit used up; its sender is told by ICMP.
    TtlExpiredAnswered = 21, "ttl_expired_answered", Tx;
    /// UDP for a VIP that has no real that takes flows; its sender is told by ICMP that nothing serves the port.
    UnreachableNoReal = 22, "unreachable_no_real", Tx;
    /// TCP for a VIP with flags that no host sends: none of SYN, ACK and RST ("null", "FIN" and "Xmas" scans), or SYN
    /// with FIN or RST.
    BadFlags = 23, "bad_flags", Drop;
    /// A SYN for a VIP from the VIP's own address.
    Land = 24, "land", Drop;
    /// In a tunnel that ends here, with congestion marked on the outer header, which the inner packet cannot carry.
    Congestion = 25, "congestion", Drop;
    /// A real's answer (mode `nat`), translated back and sent to its client out of the interface it came in.
    NatAnswerTx = 26, "nat_answer_tx", Tx;
    /// The same, out of another interface.
    NatAnswerRedirect = 27, "nat_answer_redirect", Redirect;
    /// Opens a connection for which no source port is free (mode `nat`).
    NatNoPort = 28, "nat_no_port", Drop;
    /// Opens a connection for which the table of translated connections has no room.
    NatTableFull = 29, "nat_table_full", Drop;
    /// For a real of mode `nat`, and no source address of its family is configured.
    NatNoSource = 30, "nat_no_source", Drop;
    /// Cannot be translated into the other address family.
    NatUntranslatable = 31, "nat_untranslatable", Drop;
    /// Opens a TCP connection that exceeds a limit of its VIP.
    FlowLimited = 32, "flow_limited", Drop;
    /// The same; answered with a reset.
    FlowLimitedReset = 33, "flow_limited_reset", Tx;
    /// For a VIP from a source that its rules deny.
    SourceDenied = 34, "source_denied", Drop;
    /// A fragment for a VIP whose first fragment did not come before it, or too long ago, or whose header it would write over.
    FragmentUnknown = 35, "fragment_unknown", Drop;
}

/// How a packet's real was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ChosenBy {
    /// Nothing was chosen.
    Nothing = 0,
    /// A settled slot of the ring.
    Ring = 1,
    /// The flow table.
    Flow = 2,
    /// An unsettled slot's new real, for a new flow.
    NewFlow = 3,
    /// An unsettled slot's previous real, for a flow that was running.
    Previous = 4,
    /// The packet itself, by a server id ([`crate::server_ids`]).
    ServerId = 5,
    /// A rule of the service about the packet's source ([`crate::tables::source_rule`]).
    SourceRule = 6,
}

impl ChosenBy {
    /// The name used in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ChosenBy::Nothing => "nothing",
            ChosenBy::Ring => "ring",
            ChosenBy::Flow => "flow",
            ChosenBy::NewFlow => "new_flow",
            ChosenBy::Previous => "previous",
            ChosenBy::ServerId => "server_id",
            ChosenBy::SourceRule => "source_rule",
        }
    }

    /// The value with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<ChosenBy> {
        Some(match number {
            0 => ChosenBy::Nothing,
            1 => ChosenBy::Ring,
            2 => ChosenBy::Flow,
            3 => ChosenBy::NewFlow,
            4 => ChosenBy::Previous,
            5 => ChosenBy::ServerId,
            6 => ChosenBy::SourceRule,
            _ => return None,
        })
    }
}
