//! What came of the cases, beside what should have.

use super::{
    readings::Reader,
    recorder::Connection,
    stage::{Played, Records, is_as_said},
};

#[derive(Default)]
pub struct Report {
    cases: usize,
    octets: usize,
    requests: usize,
    readers: Vec<(&'static str, usize)>,
    differences: Vec<String>,
}

impl Report {
    pub fn case(&mut self, played: &Played<'_>, connections: &[Connection], records: &Records) {
        let Played { case, from, exchange } = played;
        let responses = exchange.responses(case.send.starts_with(b"HEAD "));
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        let mut wrong = Vec::new();
        if exchange.hung {
            wrong.push("the connection hung".to_owned());
        }
        if statuses != case.statuses {
            wrong.push(format!(
                "statuses {statuses:?}, not {:?}: {:?}",
                case.statuses,
                text(&exchange.octets)
            ));
        }
        if let Some(bodies) = &case.bodies
            && !responses.iter().map(|response| &response.body).eq(bodies)
        {
            wrong.push(format!("bodies of {:?}", text(&exchange.octets)));
        }
        if !is_as_said(&case.saw, connections) {
            let saw: Vec<String> = connections.iter().map(|one| text(&one.octets)).collect();
            wrong.push(format!("the server got {saw:?}"));
        }
        let said = records.get(from).map(Vec::as_slice).unwrap_or_default();
        if said != case.records {
            wrong.push(format!("records {said:?}, not {:?}", case.records));
        }
        self.came_of(&case.name, case.send.len(), &wrong);
    }

    /// A case is over, and this was wrong with it.
    pub fn came_of(&mut self, name: &str, sent: usize, wrong: &[String]) {
        self.cases += 1;
        self.octets += sent;
        if !wrong.is_empty() {
            self.differences.push(format!("{name}\n    {}", wrong.join("\n    ")));
        }
    }

    /// What a reader found in everything that the server got.
    pub fn reading(&mut self, reader: &Reader) {
        self.readers.push((reader.name, reader.requests.len()));
        self.requests = self.requests.max(reader.requests.len());
        for (client, read) in &reader.requests {
            if !read.is_allowed() {
                self.differences
                    .push(format!("{} reads a denied request of {client}: {read:?}", reader.name));
            }
        }
    }

    /// A reader that must agree with another one does not.
    pub fn disagreement(&mut self, what: String) {
        self.differences.push(what);
    }

    pub fn close(self) {
        let readers: Vec<String> =
            self.readers.iter().map(|(name, requests)| format!("{name} {requests}")).collect();
        println!(
            "smuggling: {} cases, {} octets sent, {} requests at the server, read by {}; differences: {}",
            self.cases,
            self.octets,
            self.requests,
            readers.join(", "),
            self.differences.len()
        );
        assert!(self.differences.is_empty(), "\n{}", self.differences.join("\n"));
    }
}

pub fn text(octets: &[u8]) -> String {
    const MOST: usize = 600;
    let end = octets.len().min(MOST);
    let more = if octets.len() > MOST { format!("… ({})", octets.len()) } else { String::new() };
    format!("{}{more}", String::from_utf8_lossy(&octets[..end]))
}
