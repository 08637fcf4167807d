//! `tektin map`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::Value;

use super::{
    client::{Client, filled},
    error::CliError,
    output::{Format, Out, Tone, cell, or_dash, toned},
};
use crate::api::{MapDump, MapInfo, route};

/// The kernel's tables
#[derive(Args, Debug)]
pub struct MapCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(List),
    Get(Get),
}

/// All tables, with how full they are
#[derive(Args, Debug)]
struct List {}

/// A table's entries, decoded
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tektin map get ct
  tektin map get verdicts --output json | jq '.entries[] | select(.denied > 0)'")]
struct Get {
    /// Its name, as `map list` shows it
    name: String,
}

impl MapCommand {
    pub async fn run(self, client: &Client, out: &Out) -> Result<(), CliError> {
        match self.command {
            Command::List(_) => {
                let maps: Vec<MapInfo> = client.get(route::MAPS).await?;
                out.list(&maps, &MAP_COLUMNS, "No maps.", map_row)
            }
            Command::Get(get) => {
                let dump: MapDump = client.get(&filled(route::MAP, &get.name)).await?;
                show(&dump, out)
            }
        }
    }
}

pub const MAP_COLUMNS: [&str; 5] = ["NAME", "KIND", "ENTRIES", "ROOM", "FILL"];

pub fn map_row(map: &MapInfo) -> Vec<Cell> {
    let percent = map.entries.map(|entries| (entries * 100).checked_div(map.max_entries).unwrap_or(0));
    let fill = or_dash(percent.map(|percent| format!("{percent}%")));
    vec![
        cell(&map.name),
        cell(&map.kind),
        cell(or_dash(map.entries)),
        cell(map.max_entries),
        match percent {
            Some(percent) if percent >= 90 => toned(fill, Tone::Bad),
            Some(percent) if percent >= 70 => toned(fill, Tone::Note),
            _ => cell(fill),
        },
    ]
}

fn show(dump: &MapDump, out: &Out) -> Result<(), CliError> {
    if out.format == Format::Json {
        return out.json(dump);
    }
    let headings: Vec<_> = dump.columns.iter().map(|name| name.to_ascii_uppercase()).collect();
    let headings: Vec<_> = headings.iter().map(String::as_str).collect();
    out.list(&dump.entries, &headings, "No entries.", |entry| {
        dump.columns
            .iter()
            .map(|name| match entry.get(name) {
                None | Some(Value::Null) => cell("-"),
                Some(Value::String(text)) => cell(text),
                Some(other) => cell(other),
            })
            .collect()
    })
}
