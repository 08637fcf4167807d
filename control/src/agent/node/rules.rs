//! The routing rules for marked packets.

use futures::TryStreamExt;
use netlink_packet_route::{
    AddressFamily,
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use rtnetlink::IpVersion;
use tektin_abi::maps::mark;

use super::{NodeError, TABLE_HOST, TABLE_MAIN, TABLE_STEERED};
use crate::agent::netlink::{self, Netlink, NetlinkError, PROTOCOL};

struct Rule {
    priority: u32,
    mark: u32,
    /// Only packets that this host sends itself.
    from_host: bool,
    table: u32,
}

/// The first one is a guard: with `src_valid_mark` or `tcp_fwmark_accept` the kernel looks up routes
/// of its own answers with the mark of what they answer, and would deliver them to itself.
const RULES: [Rule; 3] = [
    Rule { priority: 8, mark: mark::TO_PROXY, from_host: true, table: TABLE_MAIN },
    Rule { priority: 9, mark: mark::TO_PROXY, from_host: false, table: TABLE_STEERED },
    Rule { priority: 10, mark: mark::HOST_TO_PROXY, from_host: false, table: TABLE_HOST },
];

impl Rule {
    fn message(&self, family: AddressFamily) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family;
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Priority(self.priority),
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(mark::MASK),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(PROTOCOL),
        ];
        if self.from_host {
            message.attributes.push(RuleAttribute::Iifname("lo".to_owned()));
        }
        message
    }
}

pub(super) async fn ensure(netlink: &Netlink, family: AddressFamily) -> Result<(), NetlinkError> {
    for rule in &RULES {
        let mut request = netlink.handle().rule().add();
        *request.message_mut() = rule.message(family);
        netlink::present_is_fine(request.execute().await, &format!("add rule {}", rule.priority))?;
    }
    Ok(())
}

pub(super) async fn remove(netlink: &Netlink, family: AddressFamily) -> Result<(), NetlinkError> {
    for message in list(netlink, family).await? {
        if is_own(&message) {
            let result = netlink.handle().rule().del(message).execute().await;
            netlink::absent_is_fine(result, "delete a rule")?;
        }
    }
    Ok(())
}

/// Errors where a rule that is not Tektin's asks for a mark inside Tektin's bits.
pub(super) async fn refuse_foreign_marks(netlink: &Netlink) -> Result<(), NodeError> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        for message in list(netlink, family).await? {
            let fields = Fields::of(&message);
            let asked = fields.mark.unwrap_or(0) & fields.mask.unwrap_or(u32::MAX) & mark::MASK;
            if asked != 0 && !is_own(&message) {
                return Err(NodeError::MarkInUse { rule: fields.describe(family) });
            }
        }
    }
    Ok(())
}

fn is_own(message: &RuleMessage) -> bool {
    message.attributes.contains(&RuleAttribute::Protocol(PROTOCOL))
}

async fn list(netlink: &Netlink, family: AddressFamily) -> Result<Vec<RuleMessage>, NetlinkError> {
    let version = if family == AddressFamily::Inet { IpVersion::V4 } else { IpVersion::V6 };
    let rules = netlink.handle().rule().get(version).execute().try_collect().await;
    match rules {
        // A kernel without IPv6 has no IPv6 rules either.
        Err(error) if netlink::errno(&error) == Some(nix::libc::EOPNOTSUPP) => Ok(Vec::new()),
        other => other.map_err(netlink::refused("list rules")),
    }
}

/// The parts of a rule that matter here.
#[derive(Default)]
struct Fields {
    priority: Option<u32>,
    mark: Option<u32>,
    mask: Option<u32>,
    table: Option<u32>,
}

impl Fields {
    fn of(message: &RuleMessage) -> Self {
        let mut fields = Self::default();
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => fields.priority = Some(*priority),
                RuleAttribute::FwMark(mark) => fields.mark = Some(*mark),
                RuleAttribute::FwMask(mask) => fields.mask = Some(*mask),
                RuleAttribute::Table(table) => fields.table = Some(*table),
                _ => {}
            }
        }
        fields
    }

    /// As `ip rule` prints it.
    fn describe(&self, family: AddressFamily) -> String {
        let version = if family == AddressFamily::Inet { 4 } else { 6 };
        format!(
            "ip -{version} rule priority {} fwmark {:#x}/{:#x} lookup {}",
            self.priority.unwrap_or(0),
            self.mark.unwrap_or(0),
            self.mask.unwrap_or(u32::MAX),
            self.table.unwrap_or(0)
        )
    }
}
