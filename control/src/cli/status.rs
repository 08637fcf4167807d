//! `tektin status`.

use clap::Args;
use comfy_table::Cell;

use super::{
    client::Client,
    error::CliError,
    map::{MAP_COLUMNS, map_row},
    output::{Format, Out, Tone, cell, or_dash, toned},
};
use crate::api::{DrainingProxy, FlowsStatus, ProxyHealth, Status, route};

/// How agent, kernel programs and proxy are
///
/// Shows the agent, the node, what the kernel offers, the programs in force, how full the kernel's
/// tables are, the proxy's health, the policy files with their errors, and what needs a person.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes:
  0  the agent answered, whatever it said
  1  it did not answer, or with --check there are problems

Examples:
  tektin status
  tektin status --check --output compact || mail -s 'tektin on this node' me
  tektin status --output json | jq .proxy")]
pub struct StatusCommand {
    /// Exit with 1 when there are problems
    #[arg(long)]
    check: bool,
}

impl StatusCommand {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        let status: Status = client.get(route::STATUS).await?;
        match out.format {
            Format::Json => out.json(&status)?,
            Format::Compact => out.item(&status, summary(&status))?,
            Format::Table => show(&status, out)?,
        }
        if self.check && !status.problems.is_empty() {
            return Err(CliError::Failed(status.problems.join("\n  ")));
        }
        Ok(())
    }
}

fn show(status: &Status, out: &Out) -> Result<(), CliError> {
    let section = |name: &str| out.line(&format!("\n{}", out.style.heading(name)));
    out.item(&(), summary(status))?;

    section("KERNEL")?;
    let features = status.features.iter().map(|feature| {
        let present = if feature.present { toned("yes", Tone::Good) } else { toned("no", Tone::Note) };
        vec![cell(&feature.name), present, cell(&feature.note)]
    });
    out.table(None, features)?;
    section("PROGRAMS")?;
    out.table(
        None,
        status.programs.iter().map(|p| vec![cell(&p.name), cell(or_none(&p.attached.join(", ")))]),
    )?;
    section("MAPS")?;
    out.table(Some(&MAP_COLUMNS), status.maps.iter().map(map_row))?;
    section("PACKETS")?;
    let counted = status.counters.iter().filter(|(_, count)| **count > 0);
    out.table(None, counted.map(|(name, count)| vec![cell(name), cell(count)]))?;
    if !status.policy.files.is_empty() {
        section("POLICY FILES")?;
        let files = status.policy.files.iter().map(|file| {
            let state = match &file.error {
                None => toned(file.documents.join("\n"), Tone::Good),
                Some(error) => toned(error, Tone::Bad),
            };
            vec![cell(&file.path), state]
        });
        out.table(None, files)?;
    }
    if !status.problems.is_empty() {
        section("PROBLEMS")?;
        out.table(None, status.problems.iter().map(|problem| vec![toned(problem, Tone::Bad)]))?;
    }
    Ok(())
}

fn summary(status: &Status) -> Vec<(&'static str, Cell)> {
    let Status { agent, node, policy, flows, .. } = status;
    let problems = status.problems.len();
    vec![
        ("Agent", cell(format!("{} (process {}, since {:.0})", agent.version, agent.pid, agent.started))),
        ("Node", cell(format!("{} (Linux {})", node.name, node.kernel))),
        ("Addresses", cell(format!("{}  {}", or_dash(node.ipv4), or_dash(node.ipv6)))),
        (
            "Pools",
            cell(format!(
                "{} ({} used)  {} ({} used)",
                or_dash(node.pool4),
                node.pool4_used,
                or_dash(node.pool6),
                node.pool6_used
            )),
        ),
        ("Endpoints", cell(status.endpoints)),
        ("Identities", cell(status.identities)),
        ("Policy", cell(format!("{} documents, revision {}", policy.documents, policy.revision))),
        ("Proxy", proxy(&status.proxy)),
        ("Requests", cell(requests(&status.proxy))),
        ("Flows", cell(self::flows(flows, &status.proxy))),
        ("Problems", if problems == 0 { toned("none", Tone::Good) } else { toned(problems, Tone::Bad) }),
    ]
}

fn proxy(proxy: &ProxyHealth) -> Cell {
    if !proxy.connected {
        return toned(
            format!("not connected (restarts: {}); L7 rules fail closed", proxy.restarts),
            Tone::Bad,
        );
    }
    cell(format!(
        "{} (process {}, {} threads, revision {}, {} MiB, restarts: {}){}",
        proxy.version,
        proxy.pid,
        proxy.threads,
        proxy.revision,
        proxy.rss_bytes >> 20,
        proxy.restarts,
        proxy.draining.iter().map(draining).collect::<String>(),
    ))
}

fn draining(proxy: &DrainingProxy) -> String {
    format!("\nprocess {} ({}) drains: {} connections", proxy.pid, proxy.version, proxy.connections_open)
}

fn flows(flows: &FlowsStatus, proxy: &ProxyHealth) -> String {
    let FlowsStatus { seen, restored, kept, lost_kernel, lost_proxy, lost_readers } = flows;
    let mut text = format!("{seen} seen, {restored} of earlier agents, {kept} kept");
    if proxy.waiting_records > 0 {
        text += &format!(", {} wait in the proxy", proxy.waiting_records);
    }
    match lost_kernel + lost_proxy + lost_readers {
        0 => text += ", none lost",
        lost => {
            text += &format!(
                ", {lost} lost (kernel's buffer full: {lost_kernel}, proxy: {lost_proxy}, slow readers: {lost_readers})"
            );
        }
    }
    text
}

fn requests(proxy: &ProxyHealth) -> String {
    format!(
        "{} allowed, {} denied, {} refused, {} failed upstream; {} connections open",
        proxy.requests_allowed,
        proxy.requests_denied,
        proxy.requests_refused,
        proxy.upstream_failures,
        proxy.connections_open,
    )
}

fn or_none(text: &str) -> String {
    or_dash(Some(text).filter(|text| !text.is_empty()))
}
