//! Restarts that nobody notices: agents that are killed and proxies that are replaced or killed, under
//! a load of requests of which every single one is accounted for.

mod agents;
mod proxies;
mod under_load;
