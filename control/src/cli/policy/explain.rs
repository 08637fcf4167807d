//! `tektin policy explain`.

use clap::Args;
use policy_engine::{
    grpc::{GrpcCall, Service},
    kafka::KafkaRequest,
};

use super::files;
use crate::{
    api::{DirectionExplanation, ExplainRequest, Explanation, HttpRequest, route},
    cli::{
        client::Client,
        error::CliError,
        output::{Format, Out, Tone, cell, toned},
    },
    flows::record::Action,
};

/// Which rule decides, and why the others do not
///
/// Asks the policy in force about a packet, or with --method or --path about an HTTP request,
/// with --grpc about a gRPC call, with --kafka about a Kafka request. An end
/// is an endpoint (NAME or NAMESPACE/NAME), an address, a prefix, or an entity such as world.
#[derive(Args, Debug)]
#[command(after_help = "Exit codes:
  0  answered, whatever the verdict
  1  not answered; the reason is on standard error

Examples:
  tektin policy explain --from client --to web --port 80/TCP
  tektin policy explain --from client --to web --port 80/TCP --method DELETE --path /v1/orders
  tektin policy explain --from client --to web --port 50051/TCP --grpc shop.Orders/Get
  tektin policy explain --from app --to broker --port 9092/TCP --kafka produce --topic orders
  tektin policy explain --from world --to 10.244.0.7 --port 8/ICMP --output json")]
pub struct Explain {
    /// Who sends
    #[arg(long, value_name = "END")]
    from: String,
    /// Who receives
    #[arg(long, value_name = "END")]
    to: String,
    /// Number or name, and protocol; without it any port
    #[arg(long, value_name = "PORT/PROTOCOL")]
    port: Option<String>,
    /// HTTP method [default with --path: GET]
    #[arg(long, requires = "port", value_name = "METHOD")]
    method: Option<String>,
    /// HTTP path with its query [default with --method: /]
    #[arg(long, requires = "port", value_name = "PATH")]
    path: Option<String>,
    /// gRPC call, instead of method and path
    #[arg(long, requires = "port", conflicts_with_all = ["method", "path"], value_name = "SERVICE/METHOD")]
    grpc: Option<String>,
    /// HTTP host
    #[arg(long, requires = "port", value_name = "HOST")]
    host: Option<String>,
    /// HTTP header; repeatable
    #[arg(long = "header", short = 'H', requires = "port", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    kafka: Kafka,
}

/// A Kafka request. Each name that is given is judged.
#[derive(Args, Debug)]
struct Kafka {
    /// Kafka request: produce, consume, or an apiKey as in rules
    #[arg(long, requires = "port", conflicts_with_all = ["method", "path", "grpc", "host", "headers"], value_name = "REQUEST")]
    kafka: Option<String>,
    /// Its topic
    #[arg(long, requires = "kafka", value_name = "NAME")]
    topic: Option<String>,
    /// Its consumer group
    #[arg(long, requires = "kafka", value_name = "NAME")]
    group: Option<String>,
    /// Its transactional id
    #[arg(long, requires = "kafka", value_name = "NAME")]
    transactional_id: Option<String>,
    /// Its client id
    #[arg(long, requires = "kafka", value_name = "NAME")]
    client_id: Option<String>,
    /// Its version [default: the newest]
    #[arg(long, requires = "kafka", value_name = "NUMBER")]
    api_version: Option<i16>,
}

impl Kafka {
    fn into_request(self) -> Option<KafkaRequest> {
        let what = self.kafka?;
        let is_role = ["produce", "consume"].iter().any(|role| what.eq_ignore_ascii_case(role));
        let (role, api_key) = if is_role { (Some(what), None) } else { (None, Some(what)) };
        Some(KafkaRequest {
            role,
            api_key,
            api_version: self.api_version,
            client_id: self.client_id.unwrap_or_default(),
            topic: self.topic,
            group: self.group,
            transactional_id: self.transactional_id,
        })
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').or_else(|| text.split_once('=')).ok_or("write NAME: VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

impl Explain {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        let request = self.into_request()?;
        let explanation: Explanation = client.post(route::EXPLAIN, &request).await?;
        match out.format {
            Format::Json => out.json(&explanation),
            Format::Compact => out.line(&format!("{}\t{}", explanation.verdict, explanation.rule)),
            Format::Table => show(&explanation, out),
        }
    }

    fn into_request(mut self) -> Result<ExplainRequest, CliError> {
        let is_http = self.method.is_some()
            || self.path.is_some()
            || self.grpc.is_some()
            || self.host.is_some()
            || !self.headers.is_empty();
        if let Some(call) = self.grpc.take() {
            self.path = Some(call_path(&call).map_err(CliError::Failed)?);
            self.method = Some("POST".to_owned());
            if !self.headers.iter().any(|(name, _)| name == "content-type") {
                self.headers.push(("content-type".to_owned(), "application/grpc".to_owned()));
            }
        }
        let path = self.path.as_deref().unwrap_or("/");
        let path = files::path_as_judged(path).map_err(CliError::Failed)?;
        Ok(ExplainRequest {
            from: self.from,
            to: self.to,
            port: self.port,
            http: is_http.then(|| HttpRequest {
                method: self.method.unwrap_or_else(|| "GET".to_owned()),
                path,
                host: self.host.unwrap_or_default(),
                headers: self.headers.into_iter().collect(),
            }),
            kafka: self.kafka.into_request(),
        })
    }
}

/// The path of the call's request.
fn call_path(call: &str) -> Result<String, String> {
    let (service, method) =
        call.rsplit_once('/').ok_or_else(|| format!("{call:?} is no call; write pkg.Service/Method"))?;
    let named = GrpcCall::new(Some(service.trim_start_matches('/')), Some(method))
        .map_err(|error| format!("--grpc: {error}"))?;
    match (named.service, named.method) {
        (Service::Named(service), Some(method)) => Ok(format!("/{service}/{method}")),
        _ => Err(format!("--grpc: {call:?} names several calls; ask about one")),
    }
}

fn show(explanation: &Explanation, out: &Out) -> Result<(), CliError> {
    let end = |end: &crate::api::explain::ExplainedEnd| {
        cell(format!("{} (identity {}: {})", end.name, end.identity, end.labels.join(" ")))
    };
    let tone = match explanation.verdict {
        Action::Deny => Tone::Bad,
        Action::Redirect => Tone::Note,
        Action::Allow | Action::None => Tone::Good,
    };
    out.item(
        explanation,
        vec![
            ("From", end(&explanation.from)),
            ("To", end(&explanation.to)),
            ("Port", cell(&explanation.port)),
            ("Verdict", toned(explanation.verdict, tone)),
            ("Rule", cell(&explanation.rule)),
            ("Revision", cell(explanation.revision)),
        ],
    )?;
    direction("EGRESS of the source", &explanation.egress, out)?;
    direction("INGRESS of the destination", &explanation.ingress, out)
}

fn direction(name: &str, answer: &DirectionExplanation, out: &Out) -> Result<(), CliError> {
    let rule = if answer.rule.is_empty() { "not an endpoint of this node" } else { &answer.rule };
    out.line(&format!("\n{}: {} ({rule})", out.style.heading(name), answer.action))?;
    out.table(
        None,
        answer.others.iter().map(|other| vec![cell(format!("  {}", other.rule)), cell(&other.why)]),
    )
}
