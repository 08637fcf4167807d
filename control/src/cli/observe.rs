//! `tektin observe`.

use clap::Args;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::{
    client::Client,
    error::CliError,
    output::{Format, Out, tell},
};
use crate::{
    api::{FlowFilter, FlowLine, FlowQuery, LostAt, route},
    flows::{
        compact,
        filter::{Filter, parse_prefix},
        record::{FlowRecord, Layer, Verdict},
        table,
    },
};

/// See each verdict, with the rule that decided
///
/// Without --follow shows the newest records that the agent keeps; with it goes on as verdicts fall.
/// Packets are shown once a flow (drops once a second a flow), requests each. Filters of different
/// kinds must all hold; of one kind, given several times, one must.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin observe --last 50
  tektin observe --follow --verdict dropped --verdict denied
  tektin observe --follow --to-endpoint prod/web --port 80 --path '/v1/.*' --method GET
  tektin observe --follow --protocol grpc --path '/shop\\.Orders/.*'
  tektin observe --since 5m --label app=web --output json | jq -r .rule | sort | uniq -c")]
pub struct ObserveCommand {
    /// Go on with new records until interrupted
    #[arg(long, short)]
    follow: bool,
    /// So many of the newest records [default: 20; with --follow 0; with --since all]
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Args, Debug)]
struct FilterArgs {
    /// What was decided
    #[arg(long, value_name = "VERDICT")]
    verdict: Vec<Verdict>,
    /// Packets (l4) or requests (l7)
    #[arg(long, value_name = "LAYER")]
    layer: Vec<Layer>,
    /// Either end's endpoint
    #[arg(long, visible_alias = "pod", value_name = "[NAMESPACE/]NAME")]
    endpoint: Vec<String>,
    /// The source's endpoint
    #[arg(long, visible_alias = "from-pod", value_name = "[NAMESPACE/]NAME")]
    from_endpoint: Vec<String>,
    /// The destination's endpoint
    #[arg(long, visible_alias = "to-pod", value_name = "[NAMESPACE/]NAME")]
    to_endpoint: Vec<String>,
    /// A label of either end
    #[arg(long, short, value_name = "[SOURCE:]KEY[=VALUE]")]
    label: Vec<String>,
    /// A label of the source
    #[arg(long, value_name = "[SOURCE:]KEY[=VALUE]")]
    from_label: Vec<String>,
    /// A label of the destination
    #[arg(long, value_name = "[SOURCE:]KEY[=VALUE]")]
    to_label: Vec<String>,
    /// Address or prefix of either end
    #[arg(long, value_name = "ADDRESS|PREFIX", value_parser = parse_prefix)]
    ip: Vec<IpNet>,
    /// Address or prefix of the source
    #[arg(long, value_name = "ADDRESS|PREFIX", value_parser = parse_prefix)]
    from_ip: Vec<IpNet>,
    /// Address or prefix of the destination
    #[arg(long, value_name = "ADDRESS|PREFIX", value_parser = parse_prefix)]
    to_ip: Vec<IpNet>,
    /// Identity number of either end
    #[arg(long, value_name = "NUMBER")]
    identity: Vec<u32>,
    /// Destination port
    #[arg(long, value_name = "PORT")]
    port: Vec<u16>,
    /// tcp, udp, sctp, icmp, icmpv6, http, grpc, kafka, or a protocol number
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Vec<String>,
    /// HTTP method
    #[arg(long, visible_alias = "http-method", value_name = "METHOD")]
    method: Vec<String>,
    /// Regular expression for the whole HTTP path with its query
    #[arg(long, visible_alias = "http-path", value_name = "REGEX")]
    path: Vec<String>,
    /// HTTP host
    #[arg(long, visible_alias = "http-host", value_name = "HOST")]
    host: Vec<String>,
    /// HTTP status, such as 404 or 4xx
    #[arg(long, visible_alias = "http-status", value_name = "STATUS")]
    status: Vec<String>,
    /// Only what is not older (a duration such as 5m, or a time as RFC 3339)
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<Timestamp>,
    /// Only what is older (as --since)
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<Timestamp>,
}

fn when(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago: SignedDuration = text
        .parse()
        .map_err(|_| "write a duration such as 90s, 5m or 2h, or a time such as 2026-01-31T10:00:00Z")?;
    Timestamp::now().checked_sub(ago.abs()).map_err(|error| error.to_string())
}

impl ObserveCommand {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        let last = match self.last {
            Some(last) => Some(last),
            None if self.filter.since.is_some() => None,
            None => Some(if self.follow { 0 } else { 20 }),
        };
        let query = FlowQuery { last, follow: self.follow, filter: self.filter.into() };
        // Wrong here is wrong usage; the agent would call it a refusal.
        Filter::new(&query.filter).map_err(|error| CliError::Usage(error.to_string()))?;
        let mut lines = client.post_for_lines(route::FLOWS, &query).await?;
        if out.format == Format::Table {
            out.line(&table::heading(out.style))?;
        }
        while let Some(line) = lines.next().await? {
            match line {
                FlowLine::Flow(record) => show(&record, out)?,
                FlowLine::Lost { lost, at } => tell(&format!("{lost} records lost {}", place(at))),
            }
        }
        Ok(())
    }
}

fn show(record: &FlowRecord, out: &Out) -> Result<(), CliError> {
    match out.format {
        Format::Table => out.line(&table::line(record, out.style)),
        Format::Compact => out.line(&compact::line(record, out.style)),
        Format::Json => out.json_line(record),
    }
}

fn place(at: LostAt) -> &'static str {
    match at {
        LostAt::Kernel => "in the kernel (its buffer was full)",
        LostAt::Proxy => "in the proxy (its buffer was full)",
        LostAt::Reader => "on the way here (this reader is too slow)",
    }
}

impl From<FilterArgs> for FlowFilter {
    fn from(args: FilterArgs) -> Self {
        let FilterArgs {
            verdict,
            layer,
            endpoint,
            from_endpoint,
            to_endpoint,
            label,
            from_label,
            to_label,
            ip,
            from_ip,
            to_ip,
            identity,
            port,
            protocol,
            method,
            path,
            host,
            status,
            since,
            until,
        } = args;
        FlowFilter {
            verdict,
            layer,
            endpoint,
            from_endpoint,
            to_endpoint,
            label,
            from_label,
            to_label,
            ip,
            from_ip,
            to_ip,
            identity,
            port,
            protocol,
            method,
            path,
            host,
            status,
            since,
            until,
        }
    }
}
