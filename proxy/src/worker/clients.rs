//! How many connections each client has on one thread.

use std::{cell::RefCell, collections::HashMap, net::IpAddr};

#[derive(Default)]
pub(crate) struct Clients(RefCell<HashMap<IpAddr, usize>>);

impl Clients {
    /// Counts one more connection, to be followed by one [`Clients::leave`]. `None`: it has `most`.
    pub(crate) fn enter(&self, client: IpAddr, most: usize) -> Option<()> {
        let mut clients = self.0.borrow_mut();
        let open = clients.entry(client).or_insert(0);
        if *open >= most {
            return None;
        }
        *open += 1;
        Some(())
    }

    pub(crate) fn leave(&self, client: IpAddr) {
        let mut clients = self.0.borrow_mut();
        if let Some(open) = clients.get_mut(&client) {
            *open -= 1;
            if *open == 0 {
                clients.remove(&client);
            }
        }
    }
}
