//! Kafka requests as questions describe them. What a request names, and which rule covers it, is known to
//! who knows the protocol: that one is given along with the question ([`Judge`]).

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::model::KafkaRule;

/// A request; `role` or `apiKey` says which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaRequest {
    /// `produce` or `consume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The name of a request, as in rules.
    #[serde(rename = "apiKey", skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// `None`: the newest.
    #[serde(rename = "apiVersion", skip_serializing_if = "Option::is_none", deserialize_with = "version")]
    pub api_version: Option<i16>,
    #[serde(rename = "clientID")]
    pub client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(rename = "transactionalId", skip_serializing_if = "Option::is_none")]
    pub transactional_id: Option<String>,
}

/// A number, or one in quotes as rules have it.
fn version<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i16),
        Text(String),
    }
    match Written::deserialize(from).map_err(|_| D::Error::custom("apiVersion is no version"))? {
        Written::Number(number) => Ok(Some(number)),
        Written::Text(text) => text
            .parse()
            .map(Some)
            .map_err(|_| D::Error::custom(format!("apiVersion: {text:?} is no version"))),
    }
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KafkaVerdict {
    /// By the rule at this place.
    Allowed(usize),
    /// Nobody is asked about requests of this kind.
    AlwaysAllowed,
    Denied,
}

/// What is wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where one field is at fault.
    pub field: Option<&'static str>,
    pub reason: String,
}

/// Judges a request by rules of which one has to match each name in it.
pub type Judge = fn(&[KafkaRule], &KafkaRequest) -> Result<KafkaVerdict, Fault>;
