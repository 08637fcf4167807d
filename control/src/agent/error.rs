//! Why the agent refuses or fails, named by who can do something about it.

use super::{
    datapath::DatapathError, identities::IdentityError, ipam::IpamError, netlink::NetlinkError,
    netns::NetnsError, state_file::StateFileError, veth::VethError,
};

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The request itself makes no sense.
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotFound(String),
    /// Somebody else has what the request asks for.
    #[error("{reason}")]
    Conflict { reason: String, details: Vec<String> },
    /// Documents that are not put in force.
    #[error("{reason}")]
    Refused { reason: String, details: Vec<String> },
    /// No room.
    #[error("{0}")]
    Full(String),
    /// This machine did not do it.
    #[error("{0}")]
    System(String),
}

impl AgentError {
    pub fn conflict(reason: impl Into<String>) -> Self {
        Self::Conflict { reason: reason.into(), details: Vec::new() }
    }
}

impl AgentError {
    /// The reason with its details in one line.
    pub fn with_details(&self) -> String {
        match self {
            Self::Conflict { details, .. } | Self::Refused { details, .. } if !details.is_empty() => {
                format!("{self}: {}", details.join("; "))
            }
            _ => self.to_string(),
        }
    }

    /// With its details, for a last word.
    pub fn in_full(self) -> anyhow::Error {
        anyhow::anyhow!("{}", self.with_details())
    }
}

impl From<IpamError> for AgentError {
    fn from(error: IpamError) -> Self {
        match error {
            IpamError::Exhausted(_) => Self::Full(error.to_string()),
            IpamError::InUse(_) => Self::conflict(error.to_string()),
            IpamError::Node(_) | IpamError::Unusable(_) => Self::Invalid(error.to_string()),
        }
    }
}

impl From<DatapathError> for AgentError {
    fn from(error: DatapathError) -> Self {
        match error {
            DatapathError::Map(tektin_loader::MapError::Full { .. }) => {
                Self::Full(format!("{error}; what was in force stays in force"))
            }
            _ => Self::System(error.to_string()),
        }
    }
}

impl From<tektin_loader::MapError> for AgentError {
    fn from(error: tektin_loader::MapError) -> Self {
        DatapathError::Map(error).into()
    }
}

impl From<VethError> for AgentError {
    fn from(error: VethError) -> Self {
        match error {
            VethError::Netns(error) => error.into(),
            VethError::NoDevice(_) => Self::NotFound(error.to_string()),
            VethError::NotVeth(..) | VethError::PeerElsewhere(_) => Self::Invalid(error.to_string()),
            VethError::HasDevice => Self::conflict(error.to_string()),
            VethError::Netlink(_) | VethError::Random(_) => Self::System(error.to_string()),
        }
    }
}

impl From<NetnsError> for AgentError {
    fn from(error: NetnsError) -> Self {
        match error {
            NetnsError::Unknown(_) => Self::NotFound(error.to_string()),
            NetnsError::Open { .. } | NetnsError::NotOne(_) => Self::Invalid(error.to_string()),
            NetnsError::Enter { .. } | NetnsError::Inside { .. } => Self::System(error.to_string()),
        }
    }
}

impl From<IdentityError> for AgentError {
    fn from(error: IdentityError) -> Self {
        Self::Full(error.to_string())
    }
}

macro_rules! system {
    ($($error:ty),*) => { $(
        impl From<$error> for AgentError {
            fn from(error: $error) -> Self {
                Self::System(error.to_string())
            }
        }
    )* };
}
system!(NetlinkError, StateFileError, tektin_loader::AttachError, tektin_loader::LoadError);
